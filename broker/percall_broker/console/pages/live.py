"""GET /console/events: says what has changed, not how; the parts of a page that show it look anew."""

# No postponed annotations here: FastAPI reads them.
import time
from collections.abc import AsyncIterator

from fastapi import APIRouter, Request
from starlette.responses import Response, StreamingResponse

from percall_broker.console import security
from percall_broker.console.asking import Pages
from percall_broker.model.errors import BrokerError

LOOK_SECONDS = 1.0
_HEARTBEAT_SECONDS = 15.0


def router(pages: Pages) -> APIRouter:
    """The one route."""
    routes = APIRouter()
    broker = pages.broker

    async def events(token: str) -> AsyncIterator[bytes]:
        known = await broker.administration.record.last_seq()
        yield b": here\n\n"
        told_at = time.monotonic()
        while not broker.changes.closed:
            generation = broker.changes.generation
            changed = await broker.changes.next(generation, LOOK_SECONDS)
            try:
                # The stream ends with the session, which it does not keep from growing idle.
                await broker.console.sessions.of(token, time.time(), touch=False)
                newest = await broker.administration.record.last_seq()
            except BrokerError:
                yield b"event: ended\ndata: \n\n"
                return
            names = [name for name, is_new in (("calls", newest != known), ("changes", changed)) if is_new]
            known = newest
            now = time.monotonic()
            if names or now - told_at > _HEARTBEAT_SECONDS:
                told_at = now
                yield b"".join(f"event: {name}\ndata: \n\n".encode() for name in names) or b": still here\n\n"

    @routes.get("/events")
    async def stream(request: Request) -> Response:
        await pages.anybody(request)
        token = security.token_of(dict(request.scope), pages.origin)
        headers = {"x-accel-buffering": "no"}
        return StreamingResponse(events(token), media_type="text/event-stream", headers=headers)

    return routes
