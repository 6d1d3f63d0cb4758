"""One signed request to the broker's door for a remote server, and what comes back on it: a message, or many."""

from __future__ import annotations

from percall import wire
from percall.errors import BrokerUnreachable
from percall.run.broker import SignedRequest
from percall.run.sse import Event, EventParser

TYPE_CHECKING = False  # `typing` itself costs 10 ms of each start
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Protocol

    from percall.errors import PercallError
    from percall.run.broker import Broker

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


_EVENTS = "text/event-stream"
_MAX_EVENT_BYTES = wire.MAX_FRAME_BYTES + 64 * 1024


class Fetch:
    """The exchange. `start` sends it; nothing is told after `cancel`, which closes its connection."""

    def __init__(
        self,
        broker: Broker,
        listener: Listener,
        method: str,
        path: str,
        body: bytes,
        headers: Sequence[tuple[str, str]],
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
            patience=float("inf"),  # the broker has the call's deadline; a lost connection, the system notices
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
        if headers.get("content-type", "").partition(";")[0].strip().lower() == _EVENTS:
            self._parser = EventParser(_MAX_EVENT_BYTES)
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
