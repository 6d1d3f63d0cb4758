"""A report of many tools: what is done once for all of them is not done for each."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING

import msgspec

from harness.composing import composed
from harness.statements import seeds
from percall_broker.model.entry import Entry
from percall_broker.model.records import Identity
from percall_broker.pipeline.administration.ledger import Ledger
from percall_broker.pipeline.tools import Tools
from percall_broker.stages.pins import sift
from percall_broker.store import Statement
from percall_broker.store.measured import MeasuredStore
from percall_broker.telemetry.metrics import Metrics

if TYPE_CHECKING:
    from pathlib import Path

    from percall_broker.store import Store
    from percall_broker.store.protocol import Results

TOOLS = 40


class CountedStore(MeasuredStore):
    """Counts the statements of transactions, by name."""

    def __init__(self, store: Store, counted: Counter[str]) -> None:
        super().__init__(store, Metrics())
        self._counted = counted

    async def transact(self, *statements: Statement) -> Results | None:
        """As the store."""
        self._counted.update(statement.name for statement in statements)
        return await super().transact(*statements)


def test_however_many_tools_a_report_has_the_others_are_looked_through_once(tmp_path: Path) -> None:
    async def story() -> None:
        async with composed(tmp_path) as broker:
            entry = msgspec.json.encode(Entry("A server", "none", ("true",))).decode()
            await broker.store.transact(*seeds(), Statement("update_server", {"name": "github", "entry": entry}))
            server, grant = await broker.lookup.server("github"), await broker.lookup.grant("g")
            assert server is not None
            assert grant is not None
            counted: Counter[str] = Counter()
            ledger = Ledger(CountedStore(broker.store, counted), lambda: None)
            tools = Tools(ledger, broker.lookup, broker.signed)
            for number, said in enumerate(("first", "changed")):
                pins = await broker.lookup.pins(server, grant, fresh=True)
                listed = [{"name": f"tool{one}", "description": said, "inputSchema": {}} for one in range(TOOLS)]
                news = sift(pins, listed).news
                assert len(news) == TOOLS
                counted.clear()
                await tools.seen(Identity(grant, f"a proof's id {number}"), server, pins, news, 1.0)
                assert counted["see_tool"] == TOOLS
                assert counted["forget_definitions"] == 1
                assert counted["may_pin_more"] == (1 if said == "first" else 0)
            pins = await broker.lookup.pins(server, grant, fresh=True)
            assert {pins.changed(f"tool{one}") for one in range(TOOLS)} == {"description"}

    asyncio.run(story())
