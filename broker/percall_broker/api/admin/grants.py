"""Routes of grants."""

# No postponed annotations here: FastAPI reads them, and `By` below is local.
from typing import Annotated, Any

from fastapi import APIRouter, Depends
from pydantic import Field

from percall_broker.api.admin.forms import Administrator, Form, ScopeForm, Seconds, scopes
from percall_broker.model.errors import InvalidInput
from percall_broker.model.records import Identity
from percall_broker.pipeline.administration.grants import Grants, Invite, NewGrant


class GrantForm(Form):
    """A grant to be made."""

    person: str
    servers: dict[str, ScopeForm]
    agent: str = ""
    expires_at: Seconds = 0
    administrator: bool = False
    automation: bool = False
    may: list[str] = Field(default_factory=list)


def made(invite: Invite) -> dict[str, Any]:
    """A grant that was made, with its invite, or that it waits for a device of the person's."""
    return {
        "grant": invite.grant,
        "person": invite.person,
        "waits": invite.waits,
        "invite": invite.code,
        "invite_expires_at": invite.expires_at,
    }


_STATES = {"suspend": "suspended", "resume": "active", "revoke": "revoked"}


def router(grants: Grants, administrator: Administrator) -> APIRouter:
    """The routes under /grants."""
    routes = APIRouter(prefix="/grants")
    By = Annotated[Identity, Depends(administrator)]

    @routes.get("")
    async def listed() -> list[dict[str, Any]]:
        return await grants.listed()

    @routes.post("")
    async def create(by: By, form: GrantForm) -> dict[str, Any]:
        new = NewGrant(
            person=form.person,
            servers=scopes(form.servers),
            agent=form.agent,
            expires_at=form.expires_at,
            administrator=form.administrator,
            automation=form.automation,
            may=tuple(form.may),
        )
        return made(await grants.create(by, new))

    @routes.get("/{identifier}")
    async def show(identifier: str) -> dict[str, Any]:
        return await grants.show(identifier)

    @routes.post("/{identifier}/{verb}")
    async def change(by: By, identifier: str, verb: str) -> dict[str, Any]:
        if verb not in _STATES:
            raise InvalidInput("grant.verb", f"A grant cannot be {verb!r}.")
        return await grants.set_state(by, identifier, _STATES[verb])

    return routes
