"""Whether this broker can do its work, what is open, and the brake, whose banner is on every page."""

# No postponed annotations here: FastAPI reads them.
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import HTMLResponse, Response

from percall_broker.console import rendering
from percall_broker.console.asking import Pages
from percall_broker.pipeline.console.actions import shown_brake

MOST_CHANGES = 30


def router(pages: Pages) -> APIRouter:
    """The routes under /health."""
    routes = APIRouter()
    broker = pages.broker

    async def found() -> dict[str, Any]:
        status = await broker.status.show()
        rows = broker.administration.record.changes(0, 0, MOST_CHANGES)
        whose = {row["grant"]: row["person"] for row in await broker.administration.grants.listed()}
        changes = [{**row, "about": _about(row["details"], whose)} async for row in rows]
        return {"status": status, "brake": shown_brake(status["freezes"]), "changes": changes}

    @routes.get("/health")
    async def show(request: Request) -> Response:
        session = await pages.session(request)
        return await pages.page(request, session, "health.html", **await found())

    @routes.get("/health/status")
    async def part(request: Request) -> Response:
        await pages.session(request)
        return HTMLResponse(rendering.page("part_health.html", **await found()))

    @routes.get("/brake")
    async def banner(request: Request) -> Response:
        await pages.anybody(request)
        freezes = await broker.administration.freezes.listed()
        return HTMLResponse(rendering.page("part_brake.html", freezes=freezes))

    return routes


def _about(details: dict[str, Any], whose: dict[str, str]) -> str:
    """What a change was made to: its details that are a text, or several. A grant's id says nothing to people."""
    more = {"person": whose[details["grant"]]} if details.get("grant") in whose else {}
    texts = {
        name: ", ".join(map(str, value)) if isinstance(value, list) else value
        for name, value in (more | details).items()
    }
    return " · ".join(
        f"{name.replace('_', ' ')} {value}" for name, value in texts.items() if isinstance(value, str) and value
    )
