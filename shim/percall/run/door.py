"""The broker's door to one remote server: signed requests go out, messages come back, one or many on each.

Nothing here knows what a message means. What comes in is for the client, and while that does not read, nobody does.
"""

from __future__ import annotations

from percall import wire
from percall.errors import BrokerUnreachable
from percall.rpc import frames, http_headers
from percall.run import trace
from percall.run.broker import SignedRequest, refusal_of
from percall.run.sse import Event, EventParser
from percall.run.streams import ENOUGH_WAITING

TYPE_CHECKING = False  # `typing` itself costs 10 ms of each start
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Protocol

    from percall.errors import PercallError
    from percall.run.broker import Broker
    from percall.run.shim import Shim

    Headers = list[tuple[str, str]]

    class Listener(Protocol):
        """Who waits for what comes back."""

        def began(self, headers: dict[str, str], /) -> None:
            """The answer is a success, and these are its headers."""

        def heard(self, event: Event) -> None:
            """An event has come. An answer that is no stream counts as one event."""

        def ended(self, error: PercallError | None) -> None:
            """Nothing more comes: the answer is whole, or broke off with an error."""

        def refused(self, status: int, body: bytes) -> None:
            """The answer is no 200, and this is all of it."""


_NOT_FOUND = 404
_LATE_SECONDS = 15.0
"""How long after a call's deadline, at which the broker ends it, its answer may be on its way."""


class Door:
    """The way to the server and back. `client` is the client's name and version, once it has said them."""

    def __init__(self, shim: Shim, entry: wire.ServerEntry) -> None:
        self.client = ""
        self._shim = shim
        self._path = wire.PATH_RELAY + entry.name
        self._patience = float("inf")
        self.granted(entry)

    def granted(self, entry: wire.ServerEntry) -> None:
        """The server's entry, as it is now."""
        deadline = entry.deadline_seconds
        self._patience = deadline + _LATE_SECONDS if deadline else float("inf")

    def fetch(self, listener: Listener, method: str, body: bytes, headers: Headers, *, endless: bool = False) -> Fetch:
        """A request, which is sent once it is started. `endless`: no deadline ends it."""
        own = [(wire.HEADER_CLIENT, http_headers.encoded(self.client))] if self.client else []
        if inherited := trace.inherited():
            own.append(("traceparent", inherited))
        own.append((wire.HEADER_SESSION, self._shim.approvals.session))
        if body:
            own += [("content-type", http_headers.JSON), ("accept", http_headers.BOTH)]
        patience = float("inf") if endless else self._patience
        return Fetch(self._shim.broker, listener, method, self._path, body, [*headers, *own], patience)

    def message(self, data: bytes) -> tuple[dict[str, Any] | None, bytes]:
        """The frame of a message, and the line that it makes; None for what is none."""
        line = data.replace(b"\n", b" ").replace(b"\r", b" ")  # between members only: in a string they are escaped
        frame = frames.server_frame(line)
        if frame is None and line.strip():
            self._shim.stderr.say("something that is no frame came from the server and was dropped.")
        return frame, line

    def pass_on(self, line: bytes) -> None:
        """A message for the client: what it may not have, the broker has taken out."""
        self._shim.client.write(line + b"\n")
        if self._shim.client.waiting > ENOUGH_WAITING:
            self._shim.broker.pause()

    def refusal(self, status: int, body: bytes) -> PercallError:
        """What an answer other than success means."""
        return refusal_of(status, body, self._shim.broker.signer.address)

    def says_session_ended(self, status: int, body: bytes) -> bool:
        """Whether an answer means that the server does not know the old era's session any more."""
        return status == _NOT_FOUND and self.refusal(status, body).code == wire.CODE_SESSION_ENDED

    def say(self, error: PercallError) -> None:
        """For the person who looks at the client's logs."""
        self._shim.stderr.say(f"{error} [{error.code}]")

    def later(self, seconds: float, callback: Callable[[], None]) -> None:
        """Call back after some seconds."""
        self._shim.loop.later(seconds, callback)


class Fetch:
    """One exchange. `start` sends it; nothing is told after `cancel`, which closes its connection."""

    def __init__(
        self,
        broker: Broker,
        listener: Listener,
        method: str,
        path: str,
        body: bytes,
        headers: Headers,
        patience: float,
    ) -> None:
        self._broker = broker
        self._listener = listener
        self._parser: EventParser | None = None
        self._pieces: list[bytes] = []
        self._size = 0
        self._request = SignedRequest(
            broker,
            method,
            path,
            body,
            lambda status, _headers, answer: listener.refused(status, answer),
            listener.ended,
            self._piece,
            headers=headers,
            began=self._began,
            ended=self._ended,
            patience=patience,  # the system notices a lost connection, and nobody else a broker that hangs
            once=method == "POST",
        )

    @property
    def was_sent(self) -> bool:
        """Whether the broker may have seen any of it."""
        return self._request.was_sent

    def start(self) -> None:
        """Send it."""
        self._broker.send(self._request)

    def cancel(self) -> None:
        """Nobody waits any more."""
        self._request.cancel()

    def _began(self, headers: dict[str, str]) -> None:
        if headers.get("content-type", "").partition(";")[0].strip().lower() == http_headers.EVENTS:
            self._parser = EventParser(wire.MAX_EVENT_BYTES)
        self._listener.began(headers)

    def _piece(self, piece: bytes) -> None:
        if self._parser is None:
            self._size += len(piece)
            if self._size > wire.MAX_FRAME_BYTES:
                raise BrokerUnreachable(
                    "frame.long", "The server's answer was too long and was dropped.", "Ask for less."
                )
            self._pieces.append(piece)
            return
        for event in self._parser.feed(piece):
            if self._request.is_cancelled:
                return
            self._listener.heard(event)

    def _ended(self) -> None:
        if self._parser is None:
            event = Event()
            event.data, self._pieces = b"".join(self._pieces), []
            self._listener.heard(event)
        self._listener.ended(None)
