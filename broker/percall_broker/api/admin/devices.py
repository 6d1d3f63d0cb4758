"""Routes of devices."""

# No postponed annotations here: FastAPI reads them, and `By` below is local.
from typing import Annotated, Any

from fastapi import APIRouter, Depends

from percall_broker.api.admin.forms import Administrator, Form
from percall_broker.model.records import Identity
from percall_broker.pipeline.administration.devices import Devices


class DeviceForm(Form):
    """A device, by its id or its name."""

    device: str


def router(devices: Devices, administrator: Administrator) -> APIRouter:
    """The routes under /devices."""
    routes = APIRouter(prefix="/devices")
    By = Annotated[Identity, Depends(administrator)]

    @routes.get("")
    async def listed(person: str = "") -> list[dict[str, Any]]:
        return await devices.listed(person)

    @routes.post("/revoke")
    async def revoke(by: By, form: DeviceForm) -> dict[str, Any]:
        return await devices.revoke(by, form.device)

    return routes
