"""What the console's plots show: calls, refusals and latency over time, the tools most called, unused grants."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from percall_broker.store.protocol import Row, Store

_HOUR_MS = 3_600_000
RANGES = {"24h": (_HOUR_MS, 24), "7d": (6 * _HOUR_MS, 28), "30d": (24 * _HOUR_MS, 30)}
"""How long a bucket is, and how many there are."""
USE_DAYS = 90
UNUSED_DAYS = 14
_MOST_TOOLS = 8


@dataclass(frozen=True, slots=True)
class Overview:
    """Figures by bucket, oldest first; times in milliseconds. Latencies are None where nothing was settled."""

    start_ms: int
    bucket_ms: int
    permitted: tuple[int, ...]
    asked: tuple[int, ...]
    refused: tuple[int, ...]
    failed: int
    median_ms: tuple[float | None, ...]
    slow_ms: tuple[float | None, ...]
    tools: tuple[Row, ...]

    @property
    def calls(self) -> int:
        """All of them."""
        return sum(self.permitted) + sum(self.asked) + sum(self.refused)


@dataclass(frozen=True, slots=True)
class Mark:
    """How far the log, the questions and the changes have got: what a page shows, and a stream goes on from."""

    recorded: int
    asked: int
    changed: int

    def __str__(self) -> str:
        return f"{self.recorded}.{self.asked}.{self.changed}"

    @classmethod
    def of(cls, text: str) -> Mark | None:
        """A mark as a page brings it back; None where it is none."""
        parts = text.split(".")
        if len(parts) != 3 or not all(part.isascii() and part.isdecimal() and len(part) < 20 for part in parts):  # noqa: PLR2004
            return None
        return cls(*map(int, parts))


class Figures:
    """Figures. Every method raises Unavailable when the store cannot."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def over(self, span: str, now: float) -> Overview:
        """The last hours or days: a name of RANGES. `slow` is what one call in twenty exceeds (p95)."""
        bucket_ms, buckets = RANGES[span]
        start_ms = (int(now * 1000) // bucket_ms - buckets + 1) * bucket_ms
        window = {"since_ms": start_ms, "bucket_ms": bucket_ms}
        counts = {decision: [0] * buckets for decision in ("permit", "ask", "forbid")}
        failed = 0
        for row in await self._store.fetch("calls_by_bucket", **window):
            at = min(max(0, row["bucket"] - start_ms // bucket_ms), buckets - 1)
            counts[row["decision"]][at] += row["calls"]
            failed += row["failed"]
        durations: list[list[tuple[int, int]]] = [[] for _ in range(buckets)]
        for row in await self._store.fetch("durations_by_bucket", **window):
            at = min(max(0, row["bucket"] - start_ms // bucket_ms), buckets - 1)
            durations[at].append((row["duration_ms"], row["calls"]))
        return Overview(
            start_ms,
            bucket_ms,
            tuple(counts["permit"]),
            tuple(counts["ask"]),
            tuple(counts["forbid"]),
            failed,
            tuple(_quantile(found, 0.5) for found in durations),
            tuple(_quantile(found, 0.95) for found in durations),
            tuple(await self._store.fetch("most_called_tools", since_ms=start_ms, limit=_MOST_TOOLS)),
        )

    async def last_uses(self, now: float) -> dict[str, Row]:
        """When each grant was last used within USE_DAYS, in milliseconds, and how often."""
        since_ms = int((now - USE_DAYS * 86400) * 1000)
        return {row["grant_id"]: row for row in await self._store.fetch("last_uses", since_ms=since_ms)}

    async def mark(self) -> Mark:
        """How far everything has got."""
        (row,) = await self._store.fetch("console_mark")
        return Mark(row["recorded"], row["asked"], row["changed"])


def unused(grants: Iterable[Row], uses: dict[str, Row], now: float) -> list[Row]:
    """Grants that work and that nobody has used for UNUSED_DAYS, the longest first; each with `last_ms`, 0: never."""
    since = now - UNUSED_DAYS * 86400
    found = []
    for grant in grants:
        last_ms = uses[grant["grant"]]["last_ms"] if grant["grant"] in uses else 0
        works = grant["state"] in {"active", "waiting"} and grant["servers"] and not grant["administrator"]
        if works and grant["created_at"] < since and last_ms / 1000 < since:
            found.append({**grant, "last_ms": last_ms})
    return sorted(found, key=lambda grant: (grant["last_ms"], grant["created_at"]))


def _quantile(found: list[tuple[int, int]], part: float) -> float | None:
    """Of values and how often each is there, in order."""
    wanted = part * sum(calls for _, calls in found)
    for value, calls in found:
        wanted -= calls
        if wanted <= 0:
            return value
    return None
