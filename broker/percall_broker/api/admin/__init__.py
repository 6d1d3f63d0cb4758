"""The administrator's door: signed like every request, and open to administrators' grants alone.

FastAPI reads the forms; each route hands one thing to `pipeline.administration`. A module for each subject, which is
given who asks: for a GET an administrator, for anything else also the person's presence, or an automation that may
change the subject's area. That is asked of a subject as a whole, so that a route that is added needs it, whether or not
its author thought of it.
"""

# No postponed annotations here: FastAPI reads those of `asks`.
from collections.abc import Awaitable, Callable

from fastapi import APIRouter, Depends, Request

from percall_broker.api.admin import (
    devices,
    freezes,
    grants,
    groups,
    keys,
    passkeys,
    people,
    pins,
    policies,
    record,
    review,
    servers,
    status,
    webhooks,
)
from percall_broker.api.admin.forms import Administrator
from percall_broker.model.errors import InvalidInput
from percall_broker.model.records import Identity
from percall_broker.pipeline.administration import Administration
from percall_broker.pipeline.administration.status import Status
from percall_broker.pipeline.console.presence import PasskeyPresence
from percall_broker.pipeline.webhooks import Webhooks


def router(
    administration: Administration,
    sending: Webhooks,
    at_a_glance: Status,
    presence: PasskeyPresence,
    reader: Callable[[Request], Awaitable[Identity]],
    changer: Callable[[Request, str], Awaitable[Identity]],
) -> APIRouter:
    """The routes under /v1/admin. `reader` says which administrator signed a request, `changer` who may change an
    area; both raise.
    """

    def asking(area: str) -> Administrator:
        async def asks(request: Request) -> Identity:
            if request.method == "GET":
                return await reader(request)
            if request.url.query:  # no signature covers it
                raise InvalidInput("request.query", "A request that changes something has no query.")
            return await changer(request, area)

        return asks

    routes = APIRouter(prefix="/v1/admin")

    def include(who: Administrator, *subjects: APIRouter) -> None:
        for subject in subjects:
            routes.include_router(subject, dependencies=[Depends(who)])

    who = asking("people")
    include(who, people.router(administration.people, who), devices.router(administration.devices, who))
    include(who, groups.router(administration.groups, who), freezes.router(administration.freezes, who))
    who = asking("grants")
    include(who, grants.router(administration.grants, who), groups.grants_router(administration.groups, who))
    include(who, review.router(administration.review, who))
    who = asking("servers")
    include(who, servers.router(administration.servers, who), pins.router(administration.pins, who))
    who = asking("secrets")
    include(who, servers.keys_router(administration.servers, who), keys.router(administration.keys))
    who = asking("webhooks")
    include(who, webhooks.router(administration.webhooks, sending, who))
    who = asking("policies")
    include(who, policies.router(administration.policies, who))
    who = asking("")
    include(who, passkeys.router(presence, who), status.router(at_a_glance))
    # What is read, though it is no GET.
    include(reader, record.router(administration.record, reader))
    include(reader, policies.trials_router(administration.policies, reader))
    return routes
