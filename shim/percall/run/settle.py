"""Outcomes on their way to the broker: they ride on the next call's request, or go by themselves within 50 ms.

Settling twice is harmless, so what may not have arrived is sent again; what never arrives, the broker sweeps to
*unknown*.
"""

from __future__ import annotations

from percall import wire
from percall.errors import BrokerRefusal, PercallError

TYPE_CHECKING = False  # `typing` itself costs 10 ms of each start
if TYPE_CHECKING:
    from collections.abc import Callable

    from percall.run.broker import Broker
    from percall.run.loop import Loop

_PATIENCE_SECONDS = 0.04
"""How long an outcome waits for a request to ride on."""
_AGAIN_SECONDS = 5.0
_MOST_AT_ONCE = 200
_MOST_WAITING = 10_000
"""With a broker that is away for so long, the oldest is forgotten: the broker sweeps it to *unknown*."""
_PASSING = frozenset({wire.CODE_TIME, wire.CODE_RATE})
"""Refusals that a clock which is set right, or some patience, ends: what they refused is still true then."""


class Settlements:
    """The outcomes that the broker does not know yet."""

    def __init__(self, loop: Loop, broker: Broker) -> None:
        self._loop = loop
        self._broker = broker
        self._waiting: list[wire.Settlement] = []
        self._on_their_way = 0
        self._scheduled = False
        self._emptied: Callable[[], None] | None = None

    def add(self, settlement: wire.Settlement) -> None:
        """Settle a call."""
        self._waiting.append(settlement)
        if len(self._waiting) > _MOST_WAITING:
            del self._waiting[0]
        self._schedule(_PATIENCE_SECONDS)

    def take(self) -> tuple[wire.Settlement, ...]:
        """Outcomes to ride on a request; give them to `gone` or `put_back` when its answer is there."""
        taken = tuple(self._waiting[:_MOST_AT_ONCE])
        del self._waiting[:_MOST_AT_ONCE]
        self._on_their_way += bool(taken)
        return taken

    def gone(self, taken: tuple[wire.Settlement, ...]) -> None:
        """The broker has them."""
        self._on_their_way -= bool(taken)
        self._tell_when_empty()

    def put_back(self, taken: tuple[wire.Settlement, ...], pause: float = _PATIENCE_SECONDS) -> None:
        """The request that they rode on may not have arrived: they go again after a pause."""
        if taken:
            self._on_their_way -= 1
            self._waiting[:0] = taken
            self._schedule(pause)

    def finish(self, emptied: Callable[[], None]) -> None:
        """Send what is left now, and call back when the broker has all of it."""
        self._emptied = emptied
        self._send()
        self._tell_when_empty()

    def _schedule(self, seconds: float) -> None:
        if not self._scheduled:
            self._scheduled = True
            self._loop.later(seconds, self._due)

    def _due(self) -> None:
        self._scheduled = False
        self._send()

    def _send(self) -> None:
        taken = self.take()
        if not taken:
            return

        def failed(error: PercallError) -> None:
            if isinstance(error, BrokerRefusal) and error.code not in _PASSING:  # it will not take them later either
                self.gone(taken)
            else:
                self.put_back(taken, _AGAIN_SECONDS)

        def done(_body: bytes) -> None:
            self.gone(taken)
            if self._waiting:
                self._schedule(0.0)

        body = wire.dump(wire.encode(wire.Settlements(taken)))
        self._broker.request("POST", wire.PATH_SETTLEMENTS, body, done, failed)

    def _tell_when_empty(self) -> None:
        if self._emptied is not None and not self._waiting and not self._on_their_way:
            self._emptied()
