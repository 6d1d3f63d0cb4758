"""News of changed grants and servers: to this process at once, from other replicas by looking at the store's epoch.

The store tells when to look, where its engine can (PostgreSQL's NOTIFY); besides, we look twice a second.

Whoever changes a grant or a server advances the epoch in the same transaction and then calls `announce`. Those who hold
something open (an event stream, an upstream's answer) wait here, and look for themselves what the news means to them.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

from percall_broker.model.errors import Unavailable

if TYPE_CHECKING:
    from percall_broker.stages.lookup import Lookup
    from percall_broker.store.protocol import Store

POLL_SECONDS = 0.5


class Changes:
    """The hub. `generation` grows with each change; `closed` says that the broker ends, and with it every stream."""

    def __init__(self, store: Store, lookup: Lookup) -> None:
        self._store = store
        self._lookup = lookup
        self._epoch: int | None = None
        self._changed = asyncio.Event()
        self._news = asyncio.Event()
        self.generation = 0
        self.closed = False

    async def look(self) -> None:
        """Sees whether the epoch has grown, and if so tells everyone who waits. Raises Unavailable."""
        rows = await self._store.fetch("read_epoch")
        epoch = rows[0]["value"]
        if epoch != self._epoch:
            self._epoch = epoch
            self.announce()

    def announce(self) -> None:
        """Something was changed by this process: tells everyone who waits, now."""
        self.generation += 1
        self._lookup.forget()
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    async def next(self, generation: int, seconds: float | None = None) -> bool:
        """Waits until there is something newer than `generation`; False when that many seconds passed first."""
        if self.generation != generation:
            return True
        try:
            async with asyncio.timeout(seconds):
                await self._changed.wait()
        except TimeoutError:
            return False
        return True

    def close(self) -> None:
        """The broker ends: wakes everyone who waits."""
        self.closed = True
        self.announce()

    async def listen(self) -> None:
        """Has the store tell of other replicas' changes, for the life of the broker."""
        await self._store.listen(self._news.set)

    async def poll(self) -> None:
        """Looks again and again, for the life of the broker, and whenever the store tells of news.

        A store that cannot be read counts as changed.

        For then nobody can say that a grant still stands; streams end, and calls are refused by the store itself.
        """
        while True:
            try:
                await self.look()
            except Unavailable:
                self._epoch = None
                self.announce()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(POLL_SECONDS):
                    await self._news.wait()
            self._news.clear()
