"""Routes of keys, across servers and people."""

# No postponed annotations here: FastAPI reads them, and `By` below is local.
from typing import Annotated, Any

from fastapi import APIRouter, Depends

from percall_broker.api.admin.forms import Administrator
from percall_broker.model.records import Identity
from percall_broker.pipeline.administration.keys import Keys


def router(keys: Keys, administrator: Administrator) -> APIRouter:
    """The routes under /keys."""
    routes = APIRouter(prefix="/keys")
    By = Annotated[Identity, Depends(administrator)]  # noqa: N806 - a type

    @routes.get("/copies")
    async def copies(by: By) -> list[dict[str, Any]]:  # noqa: ARG001 - to be asked is to be authorised
        return await keys.copies()

    return routes
