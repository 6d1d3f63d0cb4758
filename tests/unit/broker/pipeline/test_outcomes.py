"""What becomes of an outcome that the store does not take at once: here, because its disk is full."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from structlog.testing import capture_logs

from harness.limits import full_disk
from percall import wire
from percall_broker.model.errors import Unavailable
from percall_broker.model.records import Identity
from percall_broker.pipeline import outcomes as module
from percall_broker.pipeline.outcomes import Outcomes
from percall_broker.pipeline.settle import Settle
from percall_broker.telemetry.metrics import Metrics

from .conftest import CALL, GRANT, outcomes, with_call

if TYPE_CHECKING:
    from pathlib import Path

    from percall_broker.store import Store

WHO, SETTLED = Identity(GRANT, "x"), wire.Settlement(CALL, "done", 7)
DONE = [("done", "call.settled")]


class Watched(Settle):
    """Settles, and tells how often the store has refused."""

    def __init__(self, store: Store) -> None:
        super().__init__(store, Metrics())
        self.refused: asyncio.Queue[str] = asyncio.Queue()
        self.has_settled = asyncio.Event()

    async def settle(self, identity: Identity, settled: tuple[wire.Settlement, ...], now: float) -> None:
        try:
            await super().settle(identity, settled, now)
        except Unavailable as error:
            self.refused.put_nowait(error.code)
            raise
        self.has_settled.set()


def test_an_outcome_that_the_store_does_not_take_is_offered_until_it_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_AGAIN_SECONDS", 0.01)

    async def story(store: Store) -> None:
        settle = Watched(store)
        waiting = Outcomes(settle)
        with full_disk():
            waiting.add(WHO, SETTLED)
            assert {await settle.refused.get() for _ in range(3)} == {"store.failed"}
        async with asyncio.timeout(20):
            await settle.has_settled.wait()
        await waiting.close()
        assert await outcomes(store) == DONE

    asyncio.run(with_call(tmp_path, story))


async def refused(store: Store) -> tuple[Watched, Outcomes]:
    """With an outcome that the store has refused, once."""
    settle = Watched(store)
    waiting = Outcomes(settle)
    waiting.add(WHO, SETTLED)
    waiting.go()
    await settle.refused.get()
    return settle, waiting


def test_it_is_not_offered_again_with_each_call_that_comes_meanwhile(tmp_path: Path) -> None:
    async def story(store: Store) -> None:
        with full_disk():
            settle, waiting = await refused(store)
            for _ in range(5):
                waiting.go()
                await asyncio.sleep(0)
            assert settle.refused.empty()
        await waiting.close()
        assert await outcomes(store) == DONE

    asyncio.run(with_call(tmp_path, story))


@pytest.mark.parametrize("is_full", [True, False])
def test_a_broker_that_ends_offers_it_once_more_and_waits_for_no_store(tmp_path: Path, is_full: bool) -> None:
    async def story(store: Store) -> None:
        with full_disk():
            settle, waiting = await refused(store)
            if is_full:
                with capture_logs() as told:  # which would be written to the full disk as well
                    async with asyncio.timeout(20):
                        await waiting.close()
                assert [line["code"] for line in told] == [await settle.refused.get()]
        await waiting.close()
        assert await outcomes(store) == ([] if is_full else DONE)

    asyncio.run(with_call(tmp_path, story))
