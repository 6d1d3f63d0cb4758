"""Any store, with its commits timed and its failures counted."""

from __future__ import annotations

from functools import partial
from time import perf_counter
from typing import TYPE_CHECKING, Any

from percall_broker.model.errors import Unavailable

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from percall_broker.store.protocol import Results, Row, Statement, Store
    from percall_broker.telemetry.metrics import Metrics

FAILURES = ("store.closed", "store.failed", "store.full", "store.locked", "store.migrating")


class MeasuredStore:
    """Does what the store does, and tells the figures about it."""

    def __init__(self, store: Store, metrics: Metrics) -> None:
        self._store = store
        self._metrics = metrics
        metrics.may_come(store_errors=FAILURES)

    async def fetch(self, name: str, /, **parameters: Any) -> list[Row]:
        """As the store."""
        try:
            return await self._store.fetch(name, **parameters)
        except Unavailable as error:
            self._metrics.store_failed(error.code)
            raise

    def append(self, *statements: Statement) -> asyncio.Future[Results]:
        """As the store."""
        answer = self._store.append(*statements)
        answer.add_done_callback(partial(self._appended, perf_counter()))
        return answer

    async def transact(self, *statements: Statement) -> Results | None:
        """As the store."""
        start = perf_counter()
        try:
            results = await self._store.transact(*statements)
        except Unavailable as error:
            self._metrics.store_failed(error.code)
            raise
        self._metrics.committed(perf_counter() - start)
        return results

    def _appended(self, start: float, answer: asyncio.Future[Results]) -> None:
        if answer.cancelled():
            return
        error = answer.exception()
        if error is None:
            self._metrics.committed(perf_counter() - start)
        elif isinstance(error, Unavailable):
            self._metrics.store_failed(error.code)

    async def listen(self, told: Callable[[], None]) -> None:
        """As the store."""
        await self._store.listen(told)

    async def close(self) -> None:
        """As the store."""
        await self._store.close()
