"""The door of those who answer: routes under /v1/inbox, for whoever is in a group that is asked, and administrators.

A GET needs the device's signature; so does opening a call's arguments, which is recorded. Whatever answers needs the
person's presence over the request, which names the approval's digest.
"""

# No postponed annotations here: FastAPI reads those of `By`.
import time
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query, Request
from pydantic import Field

from percall import wire
from percall_broker.api.admin.forms import Form
from percall_broker.asgi import signed_request
from percall_broker.model.errors import InvalidInput
from percall_broker.model.records import APPROVAL_STATES, Identity
from percall_broker.model.standing import barred, require
from percall_broker.pipeline.approvals import Approvals
from percall_broker.pipeline.approvals.answers import Answer
from percall_broker.pipeline.approvals.inbox import MOST_LISTED, Filters
from percall_broker.pipeline.signed import Signed
from percall_broker.store.protocol import Statement


class AnswerForm(Form):
    """A person's answer; `digest` is the approval's, as they have seen it."""

    answer: Literal["allow", "deny", "never"]
    digest: str
    scope: Literal["once", "shape", "session"] = "once"
    seconds: int = 0
    varying: list[str] = Field(default_factory=list)


def router(approvals: Approvals, signed: Signed) -> APIRouter:
    """The routes."""

    async def looks(request: Request) -> Identity:
        now = time.time()
        identity = await signed.identify_once(signed_request(dict(request.scope), await request.body()), now)
        require(barred(identity.grant, now))
        return identity

    async def answers(request: Request) -> tuple[Identity, str]:
        if request.url.query:  # no signature covers it
            raise InvalidInput("request.query", "A request that changes something has no query.")
        return await signed.present(signed_request(dict(request.scope), await request.body()), time.time())

    return _routes(approvals, Depends(looks), Depends(answers))


def _routes(approvals: Approvals, looks: Any, answers: Any) -> APIRouter:
    routes = APIRouter(prefix=wire.PATH_INBOX)
    By = Annotated[Identity, looks]  # noqa: N806 - a type
    ByPresent = Annotated[tuple[Identity, str], answers]  # noqa: N806

    @routes.get("")
    async def listed(
        by: By,
        *,
        state: str = "",
        kind: str = "",
        person: str = "",
        agent: str = "",
        server: str = "",
        mine: bool = False,
        before: Annotated[int, Query(ge=0)] = 0,
        limit: Annotated[int, Query(ge=1, le=MOST_LISTED)] = 100,
    ) -> list[dict[str, Any]]:
        if state and state not in APPROVAL_STATES:
            raise InvalidInput("approval.state", f"{state!r} is no state.", f"There are: {', '.join(APPROVAL_STATES)}.")
        found = Filters(state, kind, person, agent, server, mine, before, limit)
        return await approvals.inbox.listed(by, found)

    @routes.get("/{approval}")
    async def show(by: By, approval: str) -> dict[str, Any]:
        return await approvals.inbox.show(by, approval)

    @routes.post("/{approval}/arguments")
    async def opened(by: By, approval: str) -> dict[str, Any]:
        return await approvals.inbox.open(by, approval)

    @routes.post("/{approval}/answer")
    async def answer(by: ByPresent, approval: str, form: AnswerForm) -> dict[str, Any]:
        given = Answer(form.answer, form.digest, form.scope, form.seconds, tuple(form.varying))
        return await approvals.answers.answer(by[0], approval, given, _still(by))

    @routes.post("/{approval}/lift")
    async def lift(by: ByPresent, approval: str) -> dict[str, Any]:
        return await approvals.answers.lift(by[0], approval, _still(by))

    return routes


def _still(by: tuple[Identity, str]) -> tuple[Statement, ...]:
    """The passphrase that has signed is still the person's."""
    identity, key = by
    return (Statement("is_presence_key", {"person": identity.grant.person, "public_key": key}, required=True),)
