"""Routes of people."""

# No postponed annotations here: FastAPI reads them, and `By` below is local.
from typing import Annotated, Any

from fastapi import APIRouter, Depends

from percall_broker.api.admin.forms import Administrator
from percall_broker.api.admin.grants import made
from percall_broker.model.errors import InvalidInput
from percall_broker.model.records import Identity
from percall_broker.pipeline.administration.people import People


def router(people: People, administrator: Administrator) -> APIRouter:
    """The routes under /people."""
    routes = APIRouter(prefix="/people")
    By = Annotated[Identity, Depends(administrator)]

    @routes.get("")
    async def listed() -> list[dict[str, Any]]:
        return await people.listed()

    @routes.get("/{name}")
    async def show(name: str) -> dict[str, Any]:
        return await people.show(name)

    @routes.post("/{name}/invite")
    async def invite(by: By, name: str) -> dict[str, Any]:
        invited, waiting = await people.invite(by, name)
        return {**made(invited), "waiting": waiting}

    @routes.post("/{name}/{verb}")
    async def change(by: By, name: str, verb: str) -> dict[str, Any]:
        verbs = {
            "suspend": people.suspend,
            "resume": people.resume,
            "link": people.link,
            "remove": people.remove,
        }
        if verb not in verbs:
            raise InvalidInput("person.verb", f"A person cannot be {verb!r}.")
        return await verbs[verb](by, name)

    return routes
