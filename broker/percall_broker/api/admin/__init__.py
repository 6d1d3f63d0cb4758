"""The administrator's door: signed like every request, and open to administrators' grants alone.

FastAPI reads the forms; each route hands one thing to `pipeline.administration`. A module for each subject, which is
given who asks: for a GET an administrator, for anything else also the person's presence, or an automation that may
change the subject's area. So a route that is added needs presence, whether or not its author thought of it.
"""

# No postponed annotations here: FastAPI reads those of `asks`.
from collections.abc import Awaitable, Callable

from fastapi import APIRouter, Request

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
    routes.include_router(people.router(administration.people, asking("people")))
    routes.include_router(devices.router(administration.devices, asking("people")))
    routes.include_router(groups.router(administration.groups, asking("people")))
    routes.include_router(groups.grants_router(administration.groups, asking("grants")))
    routes.include_router(freezes.router(administration.freezes, asking("people")))
    routes.include_router(grants.router(administration.grants, asking("grants")))
    routes.include_router(servers.router(administration.servers, asking("servers")))
    routes.include_router(servers.keys_router(administration.servers, asking("secrets")))
    routes.include_router(keys.router(administration.keys, asking("secrets")))
    routes.include_router(pins.router(administration.pins, asking("servers")))
    routes.include_router(record.router(administration.record, asking(""), reader))
    routes.include_router(policies.router(administration.policies, asking("policies"), reader))
    routes.include_router(webhooks.router(administration.webhooks, sending, asking("webhooks")))
    routes.include_router(status.router(at_a_glance, asking("")))
    routes.include_router(review.router(administration.review, asking("grants")))
    routes.include_router(passkeys.router(presence, asking("")))
    return routes
