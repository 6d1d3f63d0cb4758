"""The first page: calls, refusals and latency over time, the tools most called, and grants that nobody uses."""

# No postponed annotations here: FastAPI reads them.
import time
from typing import Literal

from fastapi import APIRouter, Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from percall_broker.console import plots, rendering
from percall_broker.console.asking import Pages
from percall_broker.pipeline.console.figures import RANGES, UNUSED_DAYS, unused

Span = Literal["24h", "7d", "30d"]
_WORDS = {"24h": "last 24 hours", "7d": "last 7 days", "30d": "last 30 days"}


def router(pages: Pages) -> APIRouter:
    """The routes of the first page; `figures` is the part that looks anew."""
    routes = APIRouter()
    console, administration = pages.broker.console, pages.broker.administration

    async def figures(span: Span) -> dict[str, object]:
        now = time.time()
        found = await console.figures.over(span, now)
        uses = await console.figures.last_uses(now)
        series = [("permitted", found.permitted), ("asked", found.asked), ("refused", found.refused)]
        latencies = [("p95", found.slow_ms), ("median", found.median_ms)]
        settled = [value for value in found.median_ms if value is not None]
        return {
            "span": span,
            "spans": list(RANGES),
            "words": _WORDS[span],
            "found": found,
            "calls": plots.stacked(found.start_ms, found.bucket_ms, series),
            "latency": plots.lines(found.start_ms, found.bucket_ms, latencies),
            "median": settled[-1] if settled else None,
            "unused": unused(await administration.grants.listed(), uses, now),
            "unused_days": UNUSED_DAYS,
        }

    @routes.get("/")
    async def show(request: Request, span: Span = "24h") -> Response:
        if not (session := await pages.anybody(request)).administers:
            return RedirectResponse("/console/approvals")
        return await pages.page(request, session, "overview.html", **await figures(span))

    @routes.get("/figures")
    async def part(request: Request, span: Span = "24h") -> Response:
        await pages.session(request)
        return HTMLResponse(rendering.page("part_figures.html", **await figures(span)))

    return routes
