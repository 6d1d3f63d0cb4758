"""What the bridge asks of a remote server on its own account: short errands, and the session's own stream."""

from __future__ import annotations

from percall import wire
from percall.errors import BrokerUnreachable, PercallError
from percall.rpc import frames, http_headers, refusals

TYPE_CHECKING = False  # `typing` itself costs 10 ms of each start
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from percall.run.door import Door, Fetch, Headers
    from percall.run.sse import Event

_FIRST_PAUSE_SECONDS = 1.0
_LONGEST_PAUSE_SECONDS = 30.0
_OK = range(200, 300)
_SERVER_ERROR = 500


class Note:
    """A message that has no answer: a notification, or the client's answer to the server.

    `over` is told of its end: with an error where the server may not have it, or not know the session it belongs to.
    """

    def __init__(self, door: Door, over: Callable[[PercallError | None], None]) -> None:
        self._door = door
        self._over = over

    def began(self, _headers: dict[str, str]) -> None:
        """Nothing depends on it."""

    def heard(self, event: Event) -> None:
        """Some servers answer a notification all the same; nobody waits for that."""

    def ended(self, error: PercallError | None) -> None:
        """It has arrived, or not."""
        if error is not None:
            self._door.say(error)
        self._over(error)

    def refused(self, status: int, body: bytes) -> None:
        """Mostly 202: it has arrived. So it has where the server answers with something else, which the broker says."""
        error = None if status in _OK else self._door.refusal(status, body)
        is_of_server = error is not None and (error.code.startswith("upstream.") or "." not in error.code)
        self._over(None if is_of_server else error)


class Question:
    """A request of the bridge's own. `answered` gets the answer's frame, `failed` why there is none."""

    def __init__(
        self, door: Door, answered: Callable[[dict[str, Any]], None], failed: Callable[[wire.Refusal], None]
    ) -> None:
        self._door = door
        self._answered = answered
        self._failed = failed
        self._is_over = False
        self.headers: dict[str, str] = {}

    def began(self, headers: dict[str, str]) -> None:
        """Remember what the answer's headers say."""
        self.headers = headers

    def heard(self, event: Event) -> None:
        """The answer, or what the server says on the way to it, which is passed on."""
        if not event.data:
            return
        frame, line = self._door.message(event.data)
        if frame is None or self._is_over:
            return
        if "method" in frame:
            self._door.pass_on(line)
        else:
            self._is_over = True
            self._answered(frame)

    def ended(self, error: PercallError | None) -> None:
        """Nothing more comes."""
        if not self._is_over:
            self._is_over = True
            self._failed(refusals.of_error(error or _cut()))

    def refused(self, status: int, body: bytes) -> None:
        """No success."""
        self._is_over = True
        frame = frames.server_frame(body)
        if frame is not None and frame.get("jsonrpc") == "2.0":
            self._answered(frame)
        else:
            self._failed(refusals.of_error(self._door.refusal(status, body)))


class SessionStream:
    """The stream on which an old-era server speaks outside of any answer; opened again, from where it broke off.

    `session_ended` is told when the server does not know the session of these headers any more.
    """

    def __init__(self, door: Door, session_ended: Callable[[Headers], None]) -> None:
        self._door = door
        self._session_ended = session_ended
        self._fetch: Fetch | None = None
        self._session: Headers = []
        self._was_open = False
        self._place = ""
        self._said_pause: float | None = None
        self._pause = _FIRST_PAUSE_SECONDS

    def open(self, session: Headers) -> None:
        """Ask for the stream of the session with these headers, unless it is open."""
        if self._fetch is None:
            self._was_open = self._was_open and session == self._session
            self._session = session
            place = [(http_headers.RESUME, self._place)] if self._place else []
            self._fetch = self._door.fetch(
                self, "GET", b"", [*session, ("accept", http_headers.EVENTS), *place], endless=True
            )
            self._fetch.start()

    def close(self) -> None:
        """The session is over, or nobody may listen to it."""
        fetch, self._fetch = self._fetch, None
        self._place, self._pause = "", _FIRST_PAUSE_SECONDS
        if fetch is not None:
            fetch.cancel()

    def began(self, _headers: dict[str, str]) -> None:
        """The server has such a stream."""
        self._was_open = True
        self._pause = _FIRST_PAUSE_SECONDS

    def heard(self, event: Event) -> None:
        """Something for the client, or a place to go on from."""
        if event.retry is not None:
            self._said_pause = event.retry
        if event.id is not None:
            self._place = event.id
        if event.data:
            frame, line = self._door.message(event.data)
            if frame is not None:
                self._door.pass_on(line)

    def ended(self, error: PercallError | None) -> None:
        """Open it again, with growing pauses while that fails."""
        fetch = self._fetch
        pause = self._said_pause if error is None and self._said_pause is not None else self._pause
        self._pause = min(self._pause * 2, _LONGEST_PAUSE_SECONDS)

        def again() -> None:
            if self._fetch is fetch and fetch is not None:
                self._fetch = None
                self.open(self._session)

        self._door.later(pause, again)

    def refused(self, status: int, body: bytes) -> None:
        """Most servers have none, and say so with 405, or with the 404 that means a forgotten session elsewhere."""
        if status >= _SERVER_ERROR or self._door.refusal(status, body).code in wire.CODES_OF_STANDING:
            self.ended(BrokerUnreachable("stream.refused", f"The stream was answered with {status}."))
        elif self._was_open and self._door.says_session_ended(status, body):
            self._session_ended(self._session)


def _cut() -> BrokerUnreachable:
    return BrokerUnreachable("server.closed", "The server's answer ended before it was whole.")
