"""Whether this broker can do its work, what is open, and the brake."""

# No postponed annotations here: FastAPI reads them.
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

    @routes.get("/health")
    async def show(request: Request) -> Response:
        session = await pages.session(request)
        status = await broker.status.show()
        return await pages.page(
            request,
            session,
            "health.html",
            status=status,
            brake=shown_brake(status["freezes"]),
            changes=await broker.administration.record.changes(0, 0, MOST_CHANGES),
        )

    @routes.get("/health/status")
    async def part(request: Request) -> Response:
        await pages.session(request)
        return HTMLResponse(rendering.page("part_health.html", status=await broker.status.show()))

    return routes
