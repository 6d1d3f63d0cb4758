"""The inbox: what waits for a person, one question with all that it asks, and what became of others.

For whoever is asked, administrators or not. A call's arguments are shown when somebody wants them, which is recorded;
only with them there does the page offer to allow it, and what is signed names the digest of the whole question.
"""

# No postponed annotations here: FastAPI reads them.
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import HTMLResponse, Response

from percall_broker.console import rendering, story
from percall_broker.console.asking import Pages, place
from percall_broker.model.errors import InvalidInput
from percall_broker.model.marking import visible
from percall_broker.model.records import APPROVAL_STATES
from percall_broker.pipeline.approvals.answers import MOST_SECONDS
from percall_broker.pipeline.approvals.inbox import Filters
from percall_broker.pipeline.console.actions import VARYING, shown_approval
from percall_broker.pipeline.console.sessions import Session

_ROWS = 100


def router(pages: Pages) -> APIRouter:
    """The routes under /approvals."""
    routes = APIRouter()
    inbox = pages.broker.approvals.inbox

    async def listed(request: Request, session: Session) -> dict[str, Any]:
        query = request.query_params
        state = query.get("state") or "pending"
        if state not in {*APPROVAL_STATES, "all"}:  # ignored, it would pass for one that every question is in
            words = ", ".join((*APPROVAL_STATES, "all"))
            raise InvalidInput("approval.state", f"{state!r} is no state.", f"There are: {words}.")
        filters = Filters(state="" if state == "all" else state, before=place(query), limit=_ROWS + 1)
        by = session.asking()
        rows = await inbox.listed(by, filters)
        own = {row["approval"] for row in await inbox.listed(by, Filters(state="pending", mine=True, limit=500))}
        told = [{**row, "is_mine": row["approval"] in own} for row in rows[:_ROWS]]
        older = told[-1]["seq"] if len(rows) > _ROWS else 0
        return {"rows": told, "state": state, "older": older, "newest": not filters.before}

    @routes.get("/approvals")
    async def show(request: Request) -> Response:
        session = await pages.anybody(request)
        return await pages.page(request, session, "approvals.html", **await listed(request, session))

    @routes.get("/approvals/rows")
    async def rows(request: Request) -> Response:
        session = await pages.anybody(request)
        return HTMLResponse(rendering.page("part_inbox.html", **await listed(request, session)))

    @routes.get("/approvals/count")
    async def count(request: Request) -> Response:
        session = await pages.anybody(request)
        return HTMLResponse(rendering.page("part_count.html", waiting=await pages.waiting(session)))

    @routes.get("/approvals/{approval}")
    async def one(request: Request, approval: str) -> Response:
        session = await pages.anybody(request)
        row = await inbox.show(session.asking(), approval)
        return await pages.page(request, session, "approval.html", **_context(row, None))

    @routes.get("/approvals/{approval}/state")
    async def state(request: Request, approval: str) -> Response:
        session = await pages.anybody(request)
        row = await inbox.show(session.asking(), approval)
        return HTMLResponse(rendering.page("part_state.html", session=session, **_context(row, None)))

    @routes.post("/approvals/{approval}/arguments")
    async def opened(request: Request, approval: str) -> Response:
        session = await pages.anybody(request)
        row = await inbox.open(session.asking(), approval)
        return HTMLResponse(rendering.page("part_question.html", **_context(row, row["arguments"])))

    return routes


def _context(row: dict[str, Any], arguments: dict[str, Any] | None) -> dict[str, Any]:
    """What the page of one needs. `arguments` None: they are not opened."""
    whole = arguments is not None and arguments["text"] is not None
    return {
        "row": {**row, "shown": shown_approval(row)},
        "arguments": story.arguments_of(arguments["text"]) if arguments is not None and whole else None,
        # A name that holds what is not seen cannot be offered: nobody would know what they let differ.
        "names": [name for name in arguments["names"] if visible(name) == name] if arguments is not None else [],
        "varying_prefix": VARYING,
        "most_minutes": MOST_SECONDS // 60,
    }
