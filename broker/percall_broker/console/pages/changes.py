"""Making a change, in two steps: what a passkey is to sign, and the change with its signature."""

# No postponed annotations here: FastAPI reads them.
import time
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from percall_broker.console.asking import Pages, credential, message, text, texts, told
from percall_broker.pipeline.console.presence import Change


def router(pages: Pages) -> APIRouter:
    """The routes under /changes."""
    routes = APIRouter()
    console = pages.broker.console

    @routes.post("/changes/ask")
    async def ask(request: Request) -> Response:
        session, found = await pages.anybody(request), await message(request)
        asked = console.presence.new(*_members(found), time.time())
        await console.actions.check(asked, session.asking())
        return told({"id": asked.id, "nonce": asked.nonce, "options": await console.presence.asking(asked, session)})

    @routes.post("/changes")
    async def make(request: Request) -> Response:
        session, found, now = await pages.anybody(request), await message(request), time.time()
        change = Change(*_members(found), text(found, "id"), text(found, "nonce"))
        by = await console.presence.given(change, session, credential(found), now)
        return told({"notice": await console.actions.perform(by, change)})

    return routes


def _members(found: dict[str, Any]) -> tuple[str, str, str, dict[str, str]]:
    return text(found, "action"), text(found, "subject"), text(found, "shown"), texts(found, "values")
