"""Outcomes of calls: what the shims report, idempotent, and the sweep of those that nobody reported in time.

The first outcome of a call stands. A call is settled by its own grant alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from percall_broker.log import events
from percall_broker.model.errors import InvalidInput
from percall_broker.stages import record

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from percall import wire
    from percall_broker.model.records import Identity
    from percall_broker.store.protocol import Results, Row, Statement, Store
    from percall_broker.telemetry.metrics import Metrics

OUTCOMES = frozenset({"done", "failed", "refused", "unknown"})
GRACE_SECONDS = 30
"""How long after its deadline a call may still be settled by its shim, before the sweep does."""
_MAX_SETTLEMENTS = 1000
_MAX_DURATION_MS = 2**40
_SWEPT_AT_ONCE = 500
_LISTED_CALLS = 20
UNSETTLED_EVENT = "call.unsettled"


class Settle:
    """Writes outcomes, and tells `settled` of each call that has one now."""

    def __init__(self, store: Store, metrics: Metrics, settled: Callable[[str], None] = lambda _: None) -> None:
        self._store = store
        self._metrics = metrics
        self._settled = settled
        self._swept_until_ms = 0

    def start(self, identity: Identity, settled: tuple[wire.Settlement, ...], now: float) -> Awaitable[None]:
        """Puts outcomes on their way, to share the commit of what is recorded in this turn; durable when awaited.

        Raises InvalidInput; Unavailable when awaited.
        """
        if not settled:
            return _nothing()
        check(settled)
        return self._stored(self._store.append(*(record.settlement(identity, one, now) for one in settled)))

    async def settle(self, identity: Identity, settled: tuple[wire.Settlement, ...], now: float) -> None:
        """Outcomes, durable when this returns. Raises InvalidInput, Unavailable."""
        await self.start(identity, settled, now)

    async def _stored(self, answer: Awaitable[Results]) -> None:
        self._count(await answer)

    async def sweep(self, now: float) -> int:
        """Records open calls whose deadline has passed as unknown; returns how many. Raises Unavailable."""
        until_ms = int((now - GRACE_SECONDS) * 1000)
        swept = 0
        while True:
            rows = await self._store.fetch(
                "overdue_calls", since_ms=self._swept_until_ms, now_ms=until_ms, limit=_SWEPT_AT_ONCE
            )
            if rows:
                outcomes = [record.overdue(row, now) for row in rows]
                results = await self._store.append(*outcomes, *_announcements(rows, now))
                swept += self._count(results[: len(outcomes)])
            if len(rows) < _SWEPT_AT_ONCE:
                # Deadlines are set ahead of now, so none will appear in what has been looked through.
                self._swept_until_ms = until_ms
                self._metrics.swept(swept)
                return swept

    def _count(self, results: Results) -> int:
        """Counts the outcomes that stand: the first of each call; how many."""
        recorded = [row for rows in results for row in rows]
        for row in recorded:
            self._metrics.settled(row["server"], row["outcome"])
            self._settled(row["call"])
        return len(recorded)


async def _nothing() -> None:
    """There was nothing to settle."""


def _announcements(rows: list[Row], now: float) -> list[Statement]:
    """One event for a grant's calls of a server due in the same minute: all who sweep them tell the same."""
    groups: dict[tuple[str, str, str], list[Row]] = {}
    for row in rows:
        groups.setdefault((row["grant_id"], row["server"], str(row["deadline_ms"] // 60_000)), []).append(row)
    statements: list[Statement] = []
    for key, calls in groups.items():
        told = {name: calls[0][name] for name in ("person", "agent", "server")}
        listed = [row["call"] for row in calls[:_LISTED_CALLS]]
        statements += events.event(UNSETTLED_EVENT, key, now, grant=key[0], **told, calls=listed)
    return statements


def check(settled: tuple[wire.Settlement, ...]) -> None:
    """Refuses outcomes that are not in the form they must have. Raises InvalidInput."""
    if len(settled) > _MAX_SETTLEMENTS:
        raise InvalidInput("settle.many", f"More than {_MAX_SETTLEMENTS} settlements in one request.")
    for one in settled:
        if one.outcome not in OUTCOMES or not 0 <= one.duration_ms <= _MAX_DURATION_MS:
            raise InvalidInput("settle.form", "A settlement's outcome or duration is not one that we know.")
        if len(one.call) > 64 or len(one.observed) > 16:  # noqa: PLR2004 - far above what our shims send
            raise InvalidInput("settle.form", "A settlement is larger than any of ours.")
