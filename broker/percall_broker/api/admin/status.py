"""The route of the broker's status."""

# No postponed annotations here: FastAPI reads them, and `By` below is local.
from typing import Annotated, Any

from fastapi import APIRouter, Depends

from percall_broker.api.admin.forms import Administrator
from percall_broker.model.records import Identity
from percall_broker.pipeline.administration.status import Status


def router(status: Status, administrator: Administrator) -> APIRouter:
    """The route /status."""
    routes = APIRouter()
    By = Annotated[Identity, Depends(administrator)]  # noqa: N806 - a type

    @routes.get("/status")
    async def show(by: By) -> dict[str, Any]:  # noqa: ARG001 - to be asked is to be authorised
        return await status.show()

    return routes
