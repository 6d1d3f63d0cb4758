"""What is under way: what ends of it since another replica has settled its call, and that it holds up nothing."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import msgspec

from harness.composing import composed
from harness.statements import call, outcome, seeds
from percall_broker.app import USES_A_TURN, cut_streams
from percall_broker.model.entry import Entry
from percall_broker.outbound.streams import OpenStreams, Use
from percall_broker.stages.lookup import Lookup
from percall_broker.store import Statement
from percall_broker.store.measured import MeasuredStore
from percall_broker.telemetry.metrics import Metrics

if TYPE_CHECKING:
    from pathlib import Path

    from percall_broker.store.protocol import Row

SETTLED, OPEN = ("a", "b", "c"), ("d", "e")


class CountedStore(MeasuredStore):
    """Counts the readings."""

    readings = 0

    async def fetch(self, name: str, /, **parameters: Any) -> list[Row]:
        """As the store."""
        self.readings += 1
        return await super().fetch(name, **parameters)


async def _under_way(streams: OpenStreams, name: str, grant: str = "g") -> None:
    async with asyncio.timeout(60) as scope:
        with streams.hold(Use(grant, "github"), scope, calls=(name,)):
            await asyncio.Event().wait()


def test_what_others_have_settled_is_found_by_one_reading_however_much_is_under_way(tmp_path: Path) -> None:
    async def story() -> None:
        async with composed(tmp_path) as broker:
            entry = msgspec.json.encode(Entry("A server", "none", ("true",))).decode()
            await broker.store.transact(*seeds(), Statement("update_server", {"name": "github", "entry": entry}))
            await broker.store.append(*(call(name, server_version=2) for name in SETTLED + OPEN))
            await broker.store.append(*map(outcome, SETTLED))
            answers = {name: asyncio.create_task(_under_way(broker.streams, name)) for name in SETTLED + OPEN}
            await asyncio.sleep(0)

            counted = CountedStore(broker.store, Metrics())
            cutting = asyncio.create_task(cut_streams(replace(broker, store=counted)))
            ended, _ = await asyncio.wait(answers.values(), timeout=30, return_when=asyncio.FIRST_COMPLETED)
            assert ended
            assert counted.readings == 1
            assert sorted(broker.streams.calls()) == list(OPEN)
            cutting.cancel()
            broker.streams.end()
            await asyncio.gather(cutting, *answers.values(), return_exceptions=True)

    asyncio.run(story())


def test_of_all_that_is_under_way_a_turn_of_the_loop_looks_at_a_few(tmp_path: Path) -> None:
    async def story() -> None:
        async with composed(tmp_path) as broker:
            counted = CountedStore(broker.store, Metrics())
            most = before = 0

            def tick() -> None:
                nonlocal most, before
                most, before = max(most, counted.readings - before), counted.readings
                asyncio.get_running_loop().call_soon(tick)

            answers = [asyncio.create_task(_under_way(broker.streams, f"c{one}", f"g{one}")) for one in range(100)]
            await asyncio.sleep(0)
            tick()
            cutting = asyncio.create_task(cut_streams(replace(broker, lookup=Lookup(counted))))
            ended = await asyncio.gather(*answers, return_exceptions=True)
            assert {type(one) for one in ended} == {TimeoutError}, "there are no such grants"
            assert most == 1
            assert counted.readings == 100 // USES_A_TURN, "so many grants at once"
            cutting.cancel()

    asyncio.run(story())
