"""A long listing of the record: however long it is, everything else has its turn."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from harness.composing import composed
from harness.statements import call, seeds
from percall_broker.log import changes
from percall_broker.pipeline.administration.record import ROWS_A_TURN, Filters

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path
    from typing import Any

ROWS = 5 * ROWS_A_TURN + 1


async def _most_in_a_turn(rows: AsyncIterator[dict[str, Any]]) -> int:
    """Of all that are made; each is another one."""
    loop = asyncio.get_running_loop()
    spent = most = 0

    def tick() -> None:
        nonlocal spent, most
        most, spent = max(most, spent), 0
        loop.call_soon(tick)

    tick()
    made = []
    async for row in rows:
        made.append(row)
        spent += 1
    assert len({row.get("change") or row["call"] for row in made}) == ROWS
    return max(most, spent)


def test_of_a_long_listing_a_turn_of_the_loop_makes_a_few_rows(tmp_path: Path) -> None:
    async def story() -> None:
        async with composed(tmp_path) as broker:
            await broker.store.transact(*seeds())
            await broker.store.append(*(call(f"c{number}", time_ms=1000 + number) for number in range(ROWS)))
            await broker.store.append(*(changes.change(None, "server.update") for _ in range(ROWS)))
            record = broker.administration.record
            assert await _most_in_a_turn(record.calls(Filters(limit=ROWS))) == ROWS_A_TURN
            assert await _most_in_a_turn(record.changes(0, 0, ROWS)) == ROWS_A_TURN

    asyncio.run(story())
