"""GET /console/events: says what is new, not what it is; the parts of a page that show it look anew.

A page brings the mark of what it shows, so that nothing is missed between the page and its stream, nor while the stream
was interrupted.
"""

# No postponed annotations here: FastAPI reads them.
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable

from fastapi import APIRouter, Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from percall_broker.console import security
from percall_broker.console.asking import Pages
from percall_broker.model.errors import BrokerError, TooMany, Unauthenticated
from percall_broker.pipeline.console.figures import Mark
from percall_broker.pipeline.console.sessions import Session

LOOK_SECONDS = 1.0
MOST_STREAMS = 16
"""Of one session: one for each page that is open."""
MOST_STREAMS_OF_A_PERSON = 64
"""A device's signature makes a session, as many as it likes."""
_HEARTBEAT_SECONDS = 15.0


def router(pages: Pages) -> APIRouter:
    """The one route."""
    routes = APIRouter()
    streams = _Streams()
    broker, console = pages.broker, pages.broker.console

    async def events(token: str, known: Mark) -> AsyncIterator[bytes]:
        told_at = 0.0
        while not broker.changes.closed:
            generation = broker.changes.generation
            try:
                # The stream ends with the session, which it does not keep from growing idle.
                await console.sessions.of(token, time.time(), touch=False)
                newest = await console.figures.mark()
            except Unauthenticated:
                yield b"event: ended\ndata: \n\n"
                return
            except BrokerError:
                return  # the session may well stand: the page asks again
            names = _news(known, newest)
            known, now = newest, time.monotonic()
            if names or now - told_at > _HEARTBEAT_SECONDS:
                told_at = now
                yield b"".join(f"event: {name}\ndata: \n\n".encode() for name in names) or b": still here\n\n"
            await broker.changes.next(generation, LOOK_SECONDS)

    @routes.get("/events")
    async def stream(request: Request) -> Response:
        session = await pages.anybody(request)
        token = security.token_of(dict(request.scope), pages.origin)
        since = Mark.of(request.query_params.get("since", "")) or await console.figures.mark()
        return _Counted(events(token, since), streams.taken(session))

    return routes


class _Streams:
    """How many are open, of each session and of each person."""

    def __init__(self) -> None:
        self._open: Counter[str] = Counter()

    def taken(self, session: Session) -> Callable[[], None]:
        """A place for one more, and what gives it back. Raises TooMany."""
        own, person = f"session {session.token_hash}", f"person {session.person}"
        if self._open[own] >= MOST_STREAMS:
            raise TooMany("console.streams", f"{MOST_STREAMS} pages of this session are open.", "Close some.")
        if self._open[person] >= MOST_STREAMS_OF_A_PERSON:
            raise TooMany("console.streams", f"{MOST_STREAMS_OF_A_PERSON} pages of yours are open.", "Close some.")
        self._open.update((own, person))

        def give_back() -> None:
            self._open.subtract((own, person))
            self._open = +self._open  # without those that have none any more

        return give_back


class _Counted(StreamingResponse):
    """A stream whose place is taken before it begins, and given back however it ends, begun or not."""

    def __init__(self, events: AsyncIterator[bytes], give_back: Callable[[], None]) -> None:
        super().__init__(events, media_type="text/event-stream", headers={"x-accel-buffering": "no"})
        self._give_back = give_back

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._give_back()


def _news(known: Mark, newest: Mark) -> list[str]:
    news = (
        ("calls", newest.recorded != known.recorded),
        ("approvals", newest.asked != known.asked),
        ("changes", newest.changed != known.changed),
    )
    return [name for name, is_new in news if is_new]
