"""The broker's event stream: a nonce each minute, and what becomes of the grant, as soon as it becomes so.

Kept by the loop for as long as the shim lives; a stream that ends is opened again, with growing pauses.
"""

from __future__ import annotations

import os

from percall import wire
from percall.errors import BrokerRefusal, PercallError, WireError

TYPE_CHECKING = False  # `typing` itself costs 10 ms of each start
if TYPE_CHECKING:
    from collections.abc import Callable

    from percall.run.broker import Broker
    from percall.run.loop import Loop, Timer

_FIRST_PAUSE = 0.5
_LONGEST_PAUSE = 30.0
_MAX_EVENT_BYTES = 1024 * 1024


class EventParser:
    """Cuts a `text/event-stream` into (event, data) pairs. Raises WireError when an event is too long."""

    def __init__(self) -> None:
        self._buffer = b""
        self._event = ""
        self._data: list[str] = []

    def feed(self, data: bytes) -> list[tuple[str, str]]:
        """The events that are complete now."""
        *lines, self._buffer = (self._buffer + data).split(b"\n")
        if len(self._buffer) + sum(map(len, self._data)) > _MAX_EVENT_BYTES:
            raise WireError("events.long", "The broker sent too long an event.")
        events: list[tuple[str, str]] = []
        for raw in lines:
            line = raw.decode(errors="replace").rstrip("\r")
            if not line:
                if self._data:
                    events.append((self._event or "message", "\n".join(self._data)))
                self._event, self._data = "", []
                continue
            name, _, value = line.partition(":")
            value = value.removeprefix(" ")
            if name == "event":
                self._event = value
            elif name == "data":
                self._data.append(value)
        return events


class EventStream:
    """Opens the stream, and opens it again whenever it ends.

    `on_session` gets each `wire.Session`; `on_refusal` what the broker says when it does not open the stream.
    """

    def __init__(
        self,
        loop: Loop,
        broker: Broker,
        on_session: Callable[[wire.Session], None],
        on_refusal: Callable[[PercallError], None],
    ) -> None:
        self._loop = loop
        self._broker = broker
        self._on_session = on_session
        self._on_refusal = on_refusal
        self._parser = EventParser()
        self._pause = _FIRST_PAUSE
        self._timer: Timer | None = None
        self._closed = False

    def open(self) -> None:
        """Ask the broker for the stream."""
        self._timer = None
        if not self._closed:
            self._parser = EventParser()
            self._broker.request("GET", wire.PATH_EVENTS, b"", lambda _body: None, self._ended, self._arrived)

    def close(self) -> None:
        """Open it no more."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()

    def _arrived(self, piece: bytes) -> None:
        for event, data in self._parser.feed(piece):
            self._pause = _FIRST_PAUSE
            if event == "nonce":
                members = wire.strict_json(data.encode())
                if isinstance(members, dict) and isinstance(members.get("nonce"), str):
                    self._broker.signer.nonce = members["nonce"]
            elif event == "session":
                self._on_session(wire.decode(wire.Session, wire.strict_json(data.encode())))

    def _ended(self, error: PercallError) -> None:
        if isinstance(error, BrokerRefusal):
            self._on_refusal(error)
        pause = self._pause * (0.8 + os.urandom(1)[0] / 640)  # spread, so that a broker's return meets no crowd
        self._pause = min(self._pause * 2, _LONGEST_PAUSE)
        if not self._closed:
            self._timer = self._loop.later(pause, self.open)
