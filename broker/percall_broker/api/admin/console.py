"""Routes to the console's links, and to everybody's passkeys."""

# No postponed annotations here: FastAPI reads them, and `By` below is local.
from typing import Annotated, Any

from fastapi import APIRouter, Depends

from percall_broker.api.admin.forms import Administrator
from percall_broker.model.records import Identity
from percall_broker.pipeline.console import Console


def router(console: Console, administrator: Administrator, reader: Administrator) -> APIRouter:
    """The routes under /console and /passkeys. A link that signs in reads no more than its maker can, so that a
    `reader` makes one; a link that enrols a passkey needs presence.
    """
    routes = APIRouter()
    By = Annotated[Identity, Depends(administrator)]  # noqa: N806 - a type
    ByReader = Annotated[Identity, Depends(reader)]  # noqa: N806

    async def made(by: Identity, *, enrol: bool) -> dict[str, Any]:
        code, expires_at = await console.sessions.link(by, enrol=enrol)
        # The code is in the fragment, which no browser sends, no log keeps and no page passes on.
        return {"link": f"{console.presence.origin.url}/console/sign-in#{code}", "expires_at": expires_at}

    @routes.post("/console/link")
    async def link(by: ByReader) -> dict[str, Any]:
        return await made(by, enrol=False)

    @routes.post("/console/enrolment")
    async def enrolment(by: By) -> dict[str, Any]:
        return await made(by, enrol=True)

    @routes.get("/passkeys")
    async def listed(by: By, person: str = "") -> list[dict[str, Any]]:  # noqa: ARG001
        return await console.presence.listed(person)

    @routes.delete("/passkeys/{identifier}")
    async def remove(by: By, identifier: str) -> dict[str, Any]:
        return await console.presence.remove(by, identifier)

    return routes
