"""Sealed arguments that have been kept for as long as the settings say are erased; the record of their calls stands."""

from __future__ import annotations

from typing import TYPE_CHECKING

from percall_broker.store.protocol import Statement

if TYPE_CHECKING:
    from percall_broker.store.protocol import Store

_AT_ONCE = 500


class Retention:
    """Looks at each call once, and after a start at all of them.

    `seconds` is how long arguments are kept; 0 for ever.
    """

    def __init__(self, store: Store, seconds: int) -> None:
        self._store = store
        self._seconds = seconds
        self._since_ms = 0

    async def erase(self, now: float) -> int:
        """Erases what is older, some at a time, so that calls go on meanwhile; how many. Raises Unavailable."""
        if not self._seconds:
            return 0
        before_ms, erased = int((now - self._seconds) * 1000), 0
        while rows := await self._store.fetch(
            "calls_with_arguments", since_ms=self._since_ms, before_ms=before_ms, limit=_AT_ONCE
        ):
            done = await self._store.append(*(Statement("erase_arguments", {"call": row["call"]}) for row in rows))
            erased += sum(map(len, done))
            self._since_ms = rows[-1]["time_ms"]
        self._since_ms = before_ms
        return erased
