"""The catalogue: what each server's delivery promises, how old its key is, and a new key for it."""

# No postponed annotations here: FastAPI reads them.
import time

from fastapi import APIRouter, Request
from starlette.responses import Response

from percall_broker.console.asking import Pages, is_ended
from percall_broker.model.pins import written
from percall_broker.pipeline.console.actions import shown_pin, shown_server

OLD_KEY_DAYS = 90


def router(pages: Pages) -> APIRouter:
    """The routes under /servers."""
    routes = APIRouter()
    administration = pages.broker.administration

    @routes.get("/servers")
    async def show(request: Request) -> Response:
        session = await pages.session(request)
        grants = [row for row in await administration.grants.listed() if row["state"] in {"active", "waiting"}]
        rows = [
            {
                **row,
                "shown": shown_server(row),
                "is_old": _is_old(row["secret_created_at"]),
                "people": len({grant["person"] for grant in grants if row["server"] in grant["servers"]}),
            }
            for row in await administration.servers.listed()
        ]
        return await pages.page(request, session, "servers.html", servers=rows, old_key_days=OLD_KEY_DAYS)

    @routes.get("/servers/{name}")
    async def one(request: Request, name: str) -> Response:
        session = await pages.session(request)
        row = await administration.servers.show(name)
        granted = [
            {**grant, "scope": grant["servers"][name]}
            for grant in await administration.grants.listed()
            if name in grant["servers"] and not is_ended(grant)
        ]
        server = {**row, "shown": shown_server(row), "is_old": _is_old(row["secret_created_at"])}
        tools = [
            {**tool, "shown": shown_pin(tool), "lines": written(tool["definition"])}
            for tool in await administration.pins.listed(name)
        ]
        return await pages.page(
            request, session, "server.html", server=server, granted=granted, tools=tools, old_key_days=OLD_KEY_DAYS
        )

    return routes


def _is_old(created_at: int) -> bool:
    return bool(created_at) and created_at < time.time() - OLD_KEY_DAYS * 86400
