"""The administrator's door: signed like every request, and open to administrators' grants alone.

FastAPI reads the forms; each route hands one thing to `pipeline.administration`. A key arrives in a request's body,
inside the signature, and is never part of an answer.
"""

# No postponed annotations here: FastAPI reads them, and `By` below is local.
from collections.abc import Awaitable, Callable
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request
from pydantic import BaseModel, ConfigDict, Field, SecretStr

from percall_broker.model.errors import InvalidInput
from percall_broker.model.records import Identity
from percall_broker.pipeline.administration import Administration, Filters, NewGrant

MAX_ROWS = 10_000


class _Form(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class ScopeForm(_Form):
    """Patterns for what a grant may use of one server."""

    tools: list[str] = []
    prompts: list[str] = []
    resources: list[str] = []


class GrantForm(_Form):
    """A grant to be made."""

    person: str
    servers: dict[str, ScopeForm]
    agent: str = ""
    expires_at: int = 0
    administrator: bool = False


class EntryForm(_Form):
    """A server entry in TOML; `connect` maps https origins to loopback stand-ins."""

    entry: str = Field(max_length=256 * 1024)
    connect: dict[str, str] = {}


class ServerForm(EntryForm):
    """A new server, with its key where it needs one."""

    name: str
    secret: SecretStr = SecretStr("")


class SecretForm(_Form):
    """A new key."""

    secret: SecretStr


_STATES = {"suspend": "suspended", "resume": "active", "revoke": "revoked"}


def router(administration: Administration, administrator: Callable[[Request], Awaitable[Identity]]) -> APIRouter:  # noqa: C901 - a list of doors
    """The routes under /v1/admin. `administrator` says who signed a request, or raises."""
    routes = APIRouter(prefix="/v1/admin")

    async def signed(request: Request) -> Identity:
        return await administrator(request)

    By = Annotated[Identity, Depends(signed)]  # noqa: N806 - a type

    @routes.get("/grants")
    async def grants(by: By) -> list[dict[str, Any]]:  # noqa: ARG001 - to be asked is to be authorised
        return await administration.grants()

    @routes.post("/grants")
    async def create_grant(by: By, form: GrantForm) -> dict[str, Any]:
        servers = {name: scope.model_dump() for name, scope in form.servers.items()}
        new = NewGrant(form.person, servers, form.agent, form.expires_at, form.administrator)
        invite = await administration.create_grant(by, new)
        return {
            "grant": invite.grant,
            "person": invite.person,
            "invite": invite.code,
            "invite_expires_at": invite.expires_at,
        }

    @routes.get("/grants/{identifier}")
    async def grant(by: By, identifier: str) -> dict[str, Any]:  # noqa: ARG001
        return await administration.grant(identifier)

    @routes.post("/grants/{identifier}/{verb}")
    async def change_grant(by: By, identifier: str, verb: str) -> dict[str, Any]:
        if verb not in _STATES:
            raise InvalidInput("grant.verb", f"A grant cannot be {verb!r}.")
        return await administration.set_grant_state(by, identifier, _STATES[verb])

    @routes.get("/servers")
    async def servers(by: By) -> list[dict[str, Any]]:  # noqa: ARG001
        return await administration.servers()

    @routes.post("/servers")
    async def add_server(by: By, form: ServerForm) -> dict[str, Any]:
        secret = form.secret.get_secret_value().encode()
        return await administration.add_server(by, form.name, form.entry, form.connect, secret)

    @routes.get("/servers/{name}")
    async def server(by: By, name: str) -> dict[str, Any]:  # noqa: ARG001
        return await administration.server(name)

    @routes.put("/servers/{name}")
    async def update_server(by: By, name: str, form: EntryForm) -> dict[str, Any]:
        return await administration.update_server(by, name, form.entry, form.connect)

    @routes.delete("/servers/{name}")
    async def remove_server(by: By, name: str) -> dict[str, Any]:
        await administration.remove_server(by, name)
        return {"server": name, "state": "removed"}

    @routes.post("/servers/{name}/key")
    async def rotate_key(by: By, name: str, form: SecretForm) -> dict[str, Any]:
        return await administration.rotate_key(by, name, form.secret.get_secret_value().encode())

    @routes.get("/calls")
    async def calls(
        by: By,  # noqa: ARG001
        *,
        person: str = "",
        grant: str = "",
        agent: str = "",
        server: str = "",
        tool: str = "",
        decision: str = "",
        since_ms: int = 0,
        until_ms: int = 0,
        limit: Annotated[int, Query(ge=1, le=MAX_ROWS)] = 1000,
    ) -> list[dict[str, Any]]:
        found = Filters(person, grant, agent, server, tool, decision, since_ms, until_ms, limit)
        return await administration.calls(found)

    @routes.get("/changes")
    async def changes(
        by: By,  # noqa: ARG001
        *,
        since_ms: int = 0,
        until_ms: int = 0,
        limit: Annotated[int, Query(ge=1, le=MAX_ROWS)] = 1000,
    ) -> list[dict[str, Any]]:
        return await administration.changes(since_ms, until_ms, limit)

    @routes.get("/tail")
    async def tail(by: By, after: int = -1) -> dict[str, Any]:  # noqa: ARG001
        if after < 0:
            return {"seq": await administration.last_seq(), "calls": []}
        rows = await administration.calls_after(after)
        return {"seq": rows[-1]["seq"] if rows else after, "calls": rows}

    @routes.get("/calls/{call}")
    async def story(by: By, call: str) -> dict[str, Any]:  # noqa: ARG001
        return {"call": call, "entries": await administration.story(call)}

    @routes.post("/calls/{call}/arguments")
    async def arguments(by: By, call: str) -> dict[str, Any]:
        return {"call": call, "arguments": await administration.read_arguments(by, call)}

    return routes
