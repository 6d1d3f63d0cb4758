"""Arguments that have been kept for as long as the settings say: erased by the broker itself, and said to be."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

from harness.processes import keyed_entry, wait_for
from integration.conftest import Served

if TYPE_CHECKING:
    from pathlib import Path


def test_a_broker_erases_the_arguments_of_old_calls_and_keeps_those_of_new_ones(tmp_path: Path) -> None:
    with Served(tmp_path, settings={"arguments_days": "7"}) as served:
        served.add_server("keyed", keyed_entry("http://127.0.0.1:9"), "a-key-of-nobodys")
        laptop, _ = served.enrol()
        old, new = (laptop.call("keyed", "get_item", {"number": number})["call"] for number in (1, 2))

        def shown(call: str) -> str:
            return str(served.administrator.administer("POST", f"/v1/admin/calls/{call}/arguments")["arguments"])

        assert '"number": 1' in shown(old)
        served.stop()
        with closing(sqlite3.connect(tmp_path / "broker" / "store.sqlite3")) as store, store:
            store.execute("UPDATE log SET time_ms = time_ms - 8 * 86400000 WHERE id = ?", (old,))
        served.start()
        wait_for(lambda: not shown(old), "the arguments are erased")
        assert '"number": 2' in shown(new)
        entries = served.administrator.administer("GET", f"/v1/admin/calls/{old}")["entries"]
        assert entries[0]["arguments"], "their digest stays"
