"""News of changes: at once in this process, within the poll from another."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from percall_broker.pipeline.changes import Changes
from percall_broker.stages.lookup import Lookup
from percall_broker.store import Statement, migrate, open_store

if TYPE_CHECKING:
    from pathlib import Path


def test_a_change_announced_here_wakes_at_once_and_one_of_another_replica_within_a_second(tmp_path: Path) -> None:
    async def story() -> None:
        path = tmp_path / "store"
        await migrate(path)
        store, other = await open_store(path), await open_store(path)
        changes = Changes(store, Lookup(store))
        polling = asyncio.create_task(changes.poll())
        try:
            assert await changes.next(changes.generation, 5)  # the first look
            waiting = asyncio.create_task(changes.next(changes.generation, 5))
            await asyncio.sleep(0)
            changes.announce()
            assert await waiting
            generation = changes.generation
            await other.transact(Statement("advance_epoch"))
            async with asyncio.timeout(1):
                assert await changes.next(generation)
            assert not await changes.next(changes.generation, 0.01)
        finally:
            polling.cancel()
            await asyncio.gather(polling, return_exceptions=True)
            await store.close()
            await other.close()

    asyncio.run(story())


def test_closing_wakes_everyone_who_waits(tmp_path: Path) -> None:
    async def story() -> None:
        await migrate(tmp_path / "store")
        store = await open_store(tmp_path / "store")
        changes = Changes(store, Lookup(store))
        waiting = asyncio.create_task(changes.next(0))
        await asyncio.sleep(0)
        changes.close()
        assert await waiting
        assert changes.closed
        await store.close()

    asyncio.run(story())
