"""Calls as they come, with filters, and one call's story from request to outcome."""

# No postponed annotations here: FastAPI reads them.
import contextlib
import time
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import urlencode

from fastapi import APIRouter, Request
from starlette.responses import HTMLResponse, Response

from percall_broker.console import rendering, story
from percall_broker.console.asking import Pages, place
from percall_broker.model.errors import InvalidInput, NotFound
from percall_broker.pipeline.administration.record import Filters
from percall_broker.pipeline.console.sessions import Session

_DECISIONS = ("", "permit", "ask", "forbid")
_SECONDS = {"": 0, "1h": 3600, "24h": 86400, "7d": 7 * 86400}
_ROWS = 100


def router(pages: Pages) -> APIRouter:
    """The routes under /calls."""
    routes = APIRouter()
    record = pages.broker.administration.record

    async def listed(request: Request) -> dict[str, Any]:
        filters, asked = _filters(request.query_params)
        rows = [
            {**row, "became": story.became(row["approval_state"])} for row in await record.calls_with_approvals(filters)
        ]
        given = {name: value for name, value in asked.items() if value}
        older = ""
        if len(rows) > _ROWS:
            older = urlencode({**given, "before": rows[_ROWS - 1]["seq"]})
        newest = not filters.before
        return {
            "rows": rows[:_ROWS],
            "asked": asked,
            "query": urlencode(given),
            "older": older,
            "newest": newest,
            "is_filtered": bool(given),
        }

    async def told(session: Session, call: str) -> story.Story:
        entries = await record.story(call)
        state = ""
        if approval := entries[0].get("waits_for"):
            with contextlib.suppress(NotFound):  # long over, and forgotten
                state = (await pages.broker.approvals.inbox.show(session.asking(), approval))["state"]
        return story.of(entries, state)

    @routes.get("/calls")
    async def show(request: Request) -> Response:
        session = await pages.session(request)
        found = await listed(request)
        administration = pages.broker.administration
        people = [(row["person"], row["person"]) for row in await administration.people.listed()]
        servers = [(row["server"], row["server"]) for row in await administration.servers.listed()]
        return await pages.page(request, session, "calls.html", people=people, servers=servers, **found)

    @routes.get("/calls/rows")
    async def part(request: Request) -> Response:
        await pages.session(request)
        return HTMLResponse(rendering.page("part_calls.html", **await listed(request)))

    @routes.get("/calls/{call}")
    async def one(request: Request, call: str) -> Response:
        session = await pages.session(request)
        return await pages.page(request, session, "call.html", call=call, story=await told(session, call))

    @routes.get("/calls/{call}/story")
    async def part_of_one(request: Request, call: str) -> Response:
        session = await pages.session(request)
        return HTMLResponse(rendering.page("part_story.html", call=call, story=await told(session, call)))

    @routes.post("/calls/{call}/arguments")
    async def arguments(request: Request, call: str) -> Response:
        session = await pages.session(request)
        text = await record.read_arguments(session.asking(), call)
        return HTMLResponse(rendering.page("part_arguments.html", arguments=story.arguments_of(text)))

    return routes


def _filters(query: Mapping[str, str]) -> tuple[Filters, dict[str, str]]:
    """What is asked for, and its values as they were given. Raises InvalidInput."""
    names = ("person", "agent", "server", "tool", "grant", "decision", "since")
    asked = {name: query.get(name, "") for name in names}
    seconds = _SECONDS[_one_of(_SECONDS, "since", asked["since"])]
    filters = Filters(
        person=asked["person"],
        agent=asked["agent"],
        server=asked["server"],
        tool=asked["tool"],
        grant_id=asked["grant"],
        decision=_one_of(_DECISIONS, "decision", asked["decision"]),
        since_ms=int((time.time() - seconds) * 1000) if seconds else 0,
        before=place(query),
        limit=_ROWS + 1,
    )
    return filters, asked


def _one_of(known: Iterable[str], name: str, value: str) -> str:
    """A filter's value. What nobody understands is refused: ignored, it would pass for one that every call fits."""
    if value not in known:
        words = ", ".join(filter(None, known))
        raise InvalidInput(f"calls.{name}", f"No call can be filtered by {name}={value}.", f"There are: {words}.")
    return value
