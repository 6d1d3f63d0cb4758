"""Policies: their versions, what would happen to a call, and what a draft would have decided otherwise."""

# No postponed annotations here: FastAPI reads them.
import time
from difflib import unified_diff
from typing import Annotated, Any

from fastapi import APIRouter, Path, Request
from starlette.responses import HTMLResponse, Response

from percall_broker.console import rendering
from percall_broker.console.asking import Pages, form
from percall_broker.model.errors import BrokerError, InvalidInput
from percall_broker.pipeline.administration.policies import Question

Version = Annotated[int, Path(ge=0, le=2**31)]
_MOST_SHOWN = 100
_DRAFT = "draft.cedar"


def router(pages: Pages) -> APIRouter:
    """The routes under /policies. To explain and to replay changes nothing, and replaying is recorded."""
    routes = APIRouter()
    administration = pages.broker.administration
    policies = administration.policies

    @routes.get("/policies")
    async def show(request: Request) -> Response:
        session = await pages.session(request)
        versions = await policies.listed()
        return await pages.page(
            request,
            session,
            "policies.html",
            versions=versions,
            in_force=await policies.show(),
            people=[row["person"] for row in await administration.people.listed() if row["state"] == "active"],
            servers=[row["server"] for row in await administration.servers.listed()],
        )

    @routes.get("/policies/{version}")
    async def one(request: Request, version: Version) -> Response:
        session = await pages.session(request)
        found = await policies.show(version)
        before = await policies.show(version - 1) if version > 0 else None
        newest = (await policies.listed())[0]["version"]
        changes = _difference(before["files"] if before else {}, found["files"])
        return await pages.page(
            request, session, "policy.html", found=found, changes=changes, is_newest=version == newest
        )

    @routes.post("/policies/explain")
    async def explain(request: Request) -> Response:
        await pages.session(request)
        asked = await form(request)
        question = Question(
            asked.get("person", ""),
            asked.get("agent", "") or "default",
            asked.get("server", ""),
            asked.get("tool", ""),
            asked.get("arguments", "").strip() or "{}",
            _draft(asked),
        )
        return await _part("part_explained.html", policies.explain(question, time.time()))

    @routes.post("/policies/replay")
    async def replay(request: Request) -> Response:
        session = await pages.session(request)
        asked = await form(request)
        draft, days = _draft(asked), asked.get("days", "7")
        if not draft:
            raise InvalidInput("policy.empty", "There is no draft to replay.")
        if not days.isascii() or not days.isdecimal():
            raise InvalidInput("policy.days", "The number of days is no number.")
        replayed = policies.replay(session.asking(), draft, int(days[:4]), time.time())
        return await _part("part_replayed.html", replayed, most=_MOST_SHOWN)

    return routes


async def _part(name: str, finding: Any, **context: Any) -> Response:
    """What was found, or why not, where the form's answer goes."""
    try:
        found = await finding
    except BrokerError as error:
        return HTMLResponse(rendering.page("part_error.html", error=error), error.status)
    return HTMLResponse(rendering.page(name, found=found, **context))


def _draft(asked: dict[str, str]) -> dict[str, str]:
    text = asked.get("draft", "").replace("\r\n", "\n")
    return {_DRAFT: text} if text.strip() else {}


def _difference(before: dict[str, str], after: dict[str, str]) -> list[tuple[str, list[tuple[str, str]]]]:
    """By file: its lines, each with what became of it: added, removed, kept, place."""
    kinds = {"+": "added", "-": "removed", "@": "place"}
    found = []
    for name in sorted({*before, *after}):
        lines = unified_diff(before.get(name, "").splitlines(), after.get(name, "").splitlines(), lineterm="", n=3)
        told = [(kinds.get(line[:1], "kept"), line) for line in list(lines)[2:]]
        if told:
            found.append((name, told))
    return found
