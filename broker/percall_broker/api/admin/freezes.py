"""Routes of the brake."""

# No postponed annotations here: FastAPI reads them, and `By` below is local.
from typing import Annotated, Any

from fastapi import APIRouter, Depends

from percall_broker.api.admin.forms import Administrator, Form
from percall_broker.model.records import Identity
from percall_broker.pipeline.administration.freezes import Freezes


class LiftForm(Form):
    """What is meant: `kind` all, person, device or server, and its name."""

    kind: str
    name: str = ""


class FreezeForm(LiftForm):
    """What is frozen, and why."""

    reason: str = ""


def router(freezes: Freezes, administrator: Administrator) -> APIRouter:
    """The routes under /freezes."""
    routes = APIRouter(prefix="/freezes")
    By = Annotated[Identity, Depends(administrator)]

    @routes.get("")
    async def listed() -> list[dict[str, Any]]:
        return await freezes.listed()

    @routes.post("")
    async def freeze(by: By, form: FreezeForm) -> dict[str, Any]:
        return await freezes.freeze(by, form.kind, form.name, form.reason)

    @routes.post("/lift")
    async def lift(by: By, form: LiftForm) -> dict[str, Any]:
        return await freezes.lift(by, form.kind, form.name)

    return routes
