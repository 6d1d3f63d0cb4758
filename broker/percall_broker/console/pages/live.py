"""GET /console/events: says what is new, not what it is; the parts of a page that show it look anew.

A page brings the mark of what it shows, so that nothing is missed between the page and its stream, nor while the stream
was interrupted.
"""

# No postponed annotations here: FastAPI reads them.
import time
from collections import Counter
from collections.abc import AsyncIterator

from fastapi import APIRouter, Request
from starlette.responses import Response, StreamingResponse

from percall_broker.console import security
from percall_broker.console.asking import Pages
from percall_broker.model.errors import BrokerError, TooMany
from percall_broker.pipeline.console.figures import Mark

LOOK_SECONDS = 1.0
MOST_STREAMS = 16
"""Of one session: one for each page that is open."""
_HEARTBEAT_SECONDS = 15.0


def router(pages: Pages) -> APIRouter:
    """The one route."""
    routes = APIRouter()
    streams: Counter[str] = Counter()
    broker, console = pages.broker, pages.broker.console

    async def events(token: str, known: Mark) -> AsyncIterator[bytes]:
        told_at = 0.0
        while not broker.changes.closed:
            generation = broker.changes.generation
            try:
                # The stream ends with the session, which it does not keep from growing idle.
                await console.sessions.of(token, time.time(), touch=False)
                newest = await console.figures.mark()
            except BrokerError:
                yield b"event: ended\ndata: \n\n"
                return
            names = _news(known, newest)
            known, now = newest, time.monotonic()
            if names or now - told_at > _HEARTBEAT_SECONDS:
                told_at = now
                yield b"".join(f"event: {name}\ndata: \n\n".encode() for name in names) or b": still here\n\n"
            await broker.changes.next(generation, LOOK_SECONDS)

    async def counted(session: str, token: str, known: Mark) -> AsyncIterator[bytes]:
        streams[session] += 1
        try:
            async for event in events(token, known):
                yield event
        finally:
            streams[session] -= 1
            if not streams[session]:
                del streams[session]

    @routes.get("/events")
    async def stream(request: Request) -> Response:
        session = (await pages.anybody(request)).token_hash
        token = security.token_of(dict(request.scope), pages.origin)
        if streams[session] >= MOST_STREAMS:
            raise TooMany("console.streams", f"{MOST_STREAMS} pages of this session are open.", "Close some.")
        since = Mark.of(request.query_params.get("since", "")) or await console.figures.mark()
        headers = {"x-accel-buffering": "no"}
        return StreamingResponse(counted(session, token, since), media_type="text/event-stream", headers=headers)

    return routes


def _news(known: Mark, newest: Mark) -> list[str]:
    news = (
        ("calls", newest.recorded != known.recorded),
        ("approvals", newest.asked != known.asked),
        ("changes", newest.changed != known.changed),
    )
    return [name for name, is_new in news if is_new]
