"""Routes of groups, and of what they are granted."""

# No postponed annotations here: FastAPI reads them, and `By` below is local.
from typing import Annotated, Any

from fastapi import APIRouter, Depends
from pydantic import Field

from percall_broker.api.admin.forms import Administrator, Form, ScopeForm, Seconds, scopes
from percall_broker.model.records import MOST_TOGETHER, Identity
from percall_broker.pipeline.administration.groups import Groups


class PeopleForm(Form):
    """Some people, by name."""

    people: list[str] = Field(default_factory=list, max_length=MOST_TOGETHER)


class GroupGrantForm(Form):
    """What each member of a group is granted; `expires_seconds` from joining, 0: never."""

    servers: dict[str, ScopeForm]
    agent: str = ""
    expires_seconds: Seconds = 0


def router(groups: Groups, administrator: Administrator) -> APIRouter:
    """The routes under /groups: who is in them."""
    routes = APIRouter(prefix="/groups")
    By = Annotated[Identity, Depends(administrator)]

    @routes.get("")
    async def listed() -> list[dict[str, Any]]:
        return await groups.listed()

    @routes.get("/{name}")
    async def show(name: str) -> dict[str, Any]:
        return await groups.show(name)

    @routes.post("/{name}/join")
    async def join(by: By, name: str, form: PeopleForm) -> dict[str, Any]:
        return await groups.join(by, name, form.people)

    @routes.post("/{name}/leave")
    async def leave(by: By, name: str, form: PeopleForm) -> dict[str, Any]:
        return await groups.leave(by, name, form.people)

    @routes.delete("/{name}")
    async def remove(by: By, name: str) -> dict[str, Any]:
        return await groups.remove(by, name)

    return routes


def grants_router(groups: Groups, administrator: Administrator) -> APIRouter:
    """The routes of what groups are granted."""
    routes = APIRouter()
    By = Annotated[Identity, Depends(administrator)]

    @routes.post("/groups/{name}/grants")
    async def grant(by: By, name: str, form: GroupGrantForm) -> dict[str, Any]:
        return await groups.grant(by, name, scopes(form.servers), form.agent, form.expires_seconds)

    @routes.post("/group-grants/{identifier}/revoke")
    async def end_grant(by: By, identifier: str) -> dict[str, Any]:
        return await groups.end_grant(by, identifier)

    return routes
