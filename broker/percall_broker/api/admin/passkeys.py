"""Routes of everybody's passkeys."""

# No postponed annotations here: FastAPI reads them, and `By` below is local.
from typing import Annotated, Any

from fastapi import APIRouter, Depends

from percall_broker.api.admin.forms import Administrator
from percall_broker.model.records import Identity
from percall_broker.pipeline.console.presence import PasskeyPresence


def router(presence: PasskeyPresence, administrator: Administrator) -> APIRouter:
    """The routes under /passkeys. They are made in the console alone."""
    routes = APIRouter(prefix="/passkeys")
    By = Annotated[Identity, Depends(administrator)]

    @routes.get("")
    async def listed(person: str = "") -> list[dict[str, Any]]:
        return await presence.listed(person)

    @routes.delete("/{identifier}")
    async def remove(by: By, identifier: str) -> dict[str, Any]:
        return await presence.remove(by, identifier)

    return routes
