"""Routes of pinned tools: what a server says they are, and what of that is accepted."""

# No postponed annotations here: FastAPI reads them, and `By` below is local.
from typing import Annotated, Any

from fastapi import APIRouter, Depends
from pydantic import Field

from percall_broker.api.admin.forms import Administrator, Form
from percall_broker.model.records import MOST_TOGETHER, Identity
from percall_broker.pipeline.administration.pins import ToolPins


class PinsForm(Form):
    """Definitions to accept: the digest of each tool's, as it was looked at."""

    tools: Annotated[dict[str, str], Field(max_length=MOST_TOGETHER)]
    replace: bool = False


def router(pins: ToolPins, administrator: Administrator) -> APIRouter:
    """The routes under /servers/NAME/pins."""
    routes = APIRouter(prefix="/servers/{name}/pins")
    By = Annotated[Identity, Depends(administrator)]

    @routes.get("")
    async def listed(name: str) -> list[dict[str, Any]]:
        return await pins.listed(name)

    @routes.post("")
    async def accept(by: By, name: str, form: PinsForm) -> list[dict[str, Any]]:
        return await pins.accept(by, name, form.tools, replace=form.replace)

    return routes
