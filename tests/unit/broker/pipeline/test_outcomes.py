"""What becomes of an outcome that the store does not take at once."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, cast

import pytest

from percall import wire
from percall_broker.model.errors import Unavailable
from percall_broker.pipeline import outcomes
from percall_broker.pipeline.outcomes import Outcomes

if TYPE_CHECKING:
    from percall_broker.model.records import Identity
    from percall_broker.pipeline.settle import Settle

pytestmark = pytest.mark.anyio

SETTLED = wire.Settlement("call", "done", 7)
NOBODY = cast("Identity", None)


class Store:
    """Takes outcomes when it is there."""

    def __init__(self) -> None:
        self.is_away = True
        self.asked = 0
        self.taken: list[wire.Settlement] = []
        self.has_taken = asyncio.Event()
        self.was_asked_thrice = asyncio.Event()

    async def settle(self, _identity: Identity, settled: tuple[wire.Settlement, ...], _now: float) -> None:
        self.asked += 1
        if self.asked == 3:
            self.was_asked_thrice.set()
        if self.is_away:
            raise Unavailable("store.failed", "The store failed.")
        self.taken += settled
        self.has_taken.set()


def over(store: Store) -> Outcomes:
    return Outcomes(cast("Settle", store))


async def test_an_outcome_that_the_store_does_not_take_is_offered_until_it_does(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(outcomes, "_AGAIN_SECONDS", 0.01)
    store = Store()
    outcome = over(store)
    outcome.add(NOBODY, SETTLED)
    async with asyncio.timeout(20):
        await store.was_asked_thrice.wait()
        store.is_away = False
        await store.has_taken.wait()
    await outcome.close()
    assert store.taken == [SETTLED]


async def test_it_is_not_offered_again_with_each_call_that_comes_meanwhile() -> None:
    store = Store()
    outcome = over(store)
    outcome.add(NOBODY, SETTLED)
    for _ in range(5):
        outcome.go()
        await asyncio.sleep(0)
    assert store.asked == 1
    await outcome.close()


async def test_a_broker_that_ends_offers_it_once_more_and_waits_for_no_store() -> None:
    for is_away in (True, False):
        store = Store()
        outcome = over(store)
        outcome.add(NOBODY, SETTLED)
        outcome.go()
        await asyncio.sleep(0)
        store.is_away = is_away
        async with asyncio.timeout(20):
            await outcome.close()
        assert store.asked == 2
        assert store.taken == ([] if is_away else [SETTLED])
