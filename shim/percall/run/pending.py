"""One request of the client's to a remote server, until its answer has come.

Its POST is made once, and once more where the broker has said that it must be approved first. Where the old era's
answer breaks off and the server has said how to go on (an event's id), the rest is fetched; the request itself is never
sent again, unless the server has not known its session and it is no call.
"""

from __future__ import annotations

import time

from percall import wire
from percall.errors import BrokerUnreachable, IdentityError, PercallError
from percall.http1 import GATEWAY, STRANGE
from percall.rpc import frames, gate, http_headers, refusals

TYPE_CHECKING = False  # `typing` itself costs 10 ms of each start
if TYPE_CHECKING:
    from typing import Any, Protocol

    from percall.run.approvals import Wait
    from percall.run.door import Door, Fetch, Headers
    from percall.run.sse import Event

    class Keeper(Protocol):
        """Who has made the request, and does what follows from what becomes of it."""

        def began(self, pending: Pending, headers: dict[str, str], /) -> None:
            """The server takes it, and these are the headers of its answer."""

        def answered(self, pending: Pending, frame: dict[str, Any], line: bytes, /) -> None:
            """Its answer has come."""

        def over(self, pending: Pending, /) -> None:
            """Its stream has ended after its answer."""

        def forget(self, pending: Pending, /) -> None:
            """Nobody waits for it any more."""

        def hold(self, pending: Pending, asked: wire.Asked, refusal: bytes, /) -> None:
            """It waits for an approval; its client may be told so with `refusal`."""

        def give_up(self, wait: Wait, /) -> None:
            """It waits for no approval any more."""

        def refuse(self, pending: Pending, refusal: wire.Refusal, /) -> None:
            """There is no answer of the server's."""

        def session_ended(self, pending: Pending, /) -> None:
            """The server does not know the session that it was sent in."""


_MOST_ATTEMPTS = 8
"""How often the rest of an answer is fetched that breaks off again and again."""
_FIRST_PAUSE_SECONDS = 1.0
_LONGEST_PAUSE_SECONDS = 10.0
_NOT_THE_BROKERS = frozenset({GATEWAY, STRANGE})
"""Answers of something in between: the broker may have got the request all the same."""


class Pending:
    """The request. `frame` is what its answers need of it; `line` the bytes to send, while they are needed.

    `headers`: what its era wants beside it. `is_stateless`: it belongs to no session. `by_page`: its client opens the
    page where an approval is given. `was_taken`: the server has begun to answer.
    """

    def __init__(
        self,
        keeper: Keeper,
        door: Door,
        frame: dict[str, Any],
        line: bytes,
        headers: Headers,
        *,
        is_stateless: bool,
        by_page: bool,
    ) -> None:
        self.is_stateless = is_stateless
        self.by_page = by_page
        params = frame.get("params")
        kept = (
            {name: params[name] for name in ("_meta", "protocolVersion") if name in params}
            if isinstance(params, dict)
            else {}
        )
        self.frame: dict[str, Any] = {"id": frame["id"], "method": frame["method"], "params": kept}
        self.key = frames.id_key(frame["id"])
        self.method: str = frame["method"]
        self.line = line
        self.size = len(line)
        self.headers = headers
        self.is_cancelled = False
        self.is_repeated = False
        self.has_started = False
        self.was_taken = False
        self.arrived = time.monotonic()
        self.wait: Wait | None = None
        self._asked: wire.Asked | None = None
        self._refusal = b""
        self._keeper = keeper
        self._door = door
        self._fetch: Fetch | None = None
        self._place: str | None = None
        self._pause: float | None = None
        self._attempts = 0
        self._is_answered = False

    @property
    def opens_session(self) -> bool:
        """Whether it is the old era's `initialize`."""
        return self.method == "initialize" and not self.is_stateless

    def start(self) -> None:
        """Send it."""
        self.has_started = True
        self._asked, self._refusal = None, b""
        endless = self.method == gate.LONG_LIVED
        self._fetch = self._door.fetch(self, "POST", self.line, self.headers, endless=endless)
        self._fetch.start()

    def abandon(self) -> None:
        """Close its stream: nobody waits for the answer any more."""
        self.is_cancelled = self._is_answered = True
        if self.wait is not None:
            self._keeper.give_up(self.wait)
        if self._fetch is not None:
            self._fetch.cancel()

    # --- What comes back ----------------------------------------------------------------------------------------------

    def began(self, headers: dict[str, str]) -> None:
        """The server takes the request; or the broker says what approval it waits for."""
        if wire.HEADER_APPROVAL in headers:
            self._asked = wire.decode(wire.Asked, wire.strict_json(headers[wire.HEADER_APPROVAL].encode("latin-1")))
        else:
            self.was_taken = True
            self._keeper.began(self, headers)

    def heard(self, event: Event) -> None:
        """A message: the answer, or something that the server says on the way to it."""
        if event.retry is not None:
            self._pause = event.retry
        if event.id is not None and event.id != self._place:
            self._place, self._attempts = event.id or None, 0
        if not event.data:
            return
        frame, line = self._door.message(event.data)
        if frame is None:
            return
        if self._asked is not None:
            self._refusal = line
        elif "method" not in frame and frames.id_key(frame.get("id")) == self.key and not self._is_answered:
            self._is_answered = True
            self._keeper.answered(self, frame, line)
        else:
            self._door.pass_on(line)

    def ended(self, error: PercallError | None) -> None:
        """Nothing more comes on this stream."""
        if self._is_answered:
            self._keeper.over(self)
        elif self.is_cancelled:
            self._keeper.forget(self)
        elif self._asked is not None and self._refusal:
            self._keeper.hold(self, self._asked, self._refusal)
        elif self._place is not None and not self.is_stateless and self._attempts < _MOST_ATTEMPTS:
            pause = self._pause if self._pause is not None else _FIRST_PAUSE_SECONDS
            self._attempts += 1
            self._door.later(min(pause * 2 ** (self._attempts - 1), max(pause, _LONGEST_PAUSE_SECONDS)), self._go_on)
        else:
            self._keeper.refuse(self, self._why(error))

    def refused(self, status: int, body: bytes) -> None:
        """No success: the server's own JSON-RPC error, or the broker's."""
        frame = frames.server_frame(body)
        if frame is not None and frame.get("jsonrpc") == "2.0" and ("error" in frame or "result" in frame):
            self._is_answered = True
            line = wire.dump({**frame, "id": self.frame["id"]})
            self._keeper.answered(self, frame, line)
            return
        if self._door.says_session_ended(status, body):
            self._keeper.session_ended(self)
            return
        error = self._door.refusal(status, body)
        is_unknown = error.code in _NOT_THE_BROKERS and gate.is_gated(self.method)
        self._keeper.refuse(self, unknown(error.message) if is_unknown else refusals.of_error(error))

    def _go_on(self) -> None:
        """Fetch the rest of an answer that broke off."""
        if self.is_cancelled or self._is_answered:
            return
        headers = [*self.headers, ("accept", http_headers.EVENTS), (http_headers.RESUME, self._place or "")]
        self._fetch = self._door.fetch(self, "GET", b"", headers)
        self._fetch.start()

    def _why(self, error: PercallError | None) -> wire.Refusal:
        if error is None:
            error = BrokerUnreachable("server.closed", "The server's answer ended before it was whole.")
        was_sent = self._fetch is not None and self._fetch.was_sent and not isinstance(error, IdentityError)
        if was_sent and gate.is_gated(self.method):
            return unknown(error.message)
        return refusals.of_error(error)


def unknown(why: str) -> wire.Refusal:
    """The refusal of a call that may have been done."""
    return wire.Refusal("call.unknown", f"{why} {refusals.UNKNOWN}", refusals.LOOK)
