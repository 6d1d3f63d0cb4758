"""The broker's event stream: a nonce each minute, and what becomes of the grant, as soon as it becomes so.

Kept by the loop for as long as the shim lives; a stream that ends is opened again, with growing pauses.
"""

from __future__ import annotations

import os

from percall import wire
from percall.errors import BrokerRefusal, PercallError
from percall.run.sse import EventParser

TYPE_CHECKING = False  # `typing` itself costs 10 ms of each start
if TYPE_CHECKING:
    from collections.abc import Callable

    from percall.run.broker import Broker
    from percall.run.loop import Loop, Timer

_FIRST_PAUSE_SECONDS = 0.5
_LONGEST_PAUSE_SECONDS = 30.0
_MAX_EVENT_BYTES = 1024 * 1024


class EventStream:
    """Opens the stream, and opens it again whenever it ends.

    `on_session` gets each `wire.Session`; `on_answered` the ids of approvals that were answered; `on_refusal` what the
    broker says when it does not open the stream.
    """

    def __init__(
        self,
        loop: Loop,
        broker: Broker,
        on_session: Callable[[wire.Session], None],
        on_answered: Callable[[tuple[str, ...]], None],
        on_refusal: Callable[[PercallError], None],
    ) -> None:
        self._loop = loop
        self._broker = broker
        self._on_session = on_session
        self._on_answered = on_answered
        self._on_refusal = on_refusal
        self._parser = EventParser(_MAX_EVENT_BYTES)
        self._pause = _FIRST_PAUSE_SECONDS
        self._timer: Timer | None = None
        self._closed = False

    def open(self) -> None:
        """Ask the broker for the stream."""
        self._timer = None
        if not self._closed:
            self._parser = EventParser(_MAX_EVENT_BYTES)
            self._broker.request("GET", wire.PATH_EVENTS, b"", lambda _body: None, self._ended, self._arrived)

    def close(self) -> None:
        """Open it no more."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()

    def _arrived(self, piece: bytes) -> None:
        for event in self._parser.feed(piece):
            if event.data is None:
                continue
            self._pause = _FIRST_PAUSE_SECONDS
            if event.kind == wire.EVENT_NONCE:
                members = wire.strict_json(event.data)
                if isinstance(members, dict) and isinstance(members.get("nonce"), str):
                    self._broker.signer.nonce = members["nonce"]
            elif event.kind == wire.EVENT_SESSION:
                self._on_session(wire.decode(wire.Session, wire.strict_json(event.data)))
            elif event.kind == wire.EVENT_APPROVAL:
                self._on_answered(wire.decode(wire.Answered, wire.strict_json(event.data)).ids)

    def _ended(self, error: PercallError) -> None:
        if isinstance(error, BrokerRefusal):
            self._on_refusal(error)
        pause = self._pause * (0.8 + os.urandom(1)[0] / 640)  # spread, so that a broker's return meets no crowd
        self._pause = min(self._pause * 2, _LONGEST_PAUSE_SECONDS)
        if not self._closed:
            self._timer = self._loop.later(pause, self.open)
