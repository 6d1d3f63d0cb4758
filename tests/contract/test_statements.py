"""Every statement of `queries/` is one that both engines understand."""

from __future__ import annotations

from collections import defaultdict
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
import pytest

from percall_broker.model.location import is_postgresql
from percall_broker.store import migrate
from percall_broker.store.sqlite import connect
from percall_broker.store.statements import load

pytestmark = pytest.mark.anyio


class _Nothing(defaultdict[str, Any]):
    """NULL for each parameter."""

    def __missing__(self, name: str) -> None:
        return None


async def test_every_statement_is_understood(location: str) -> None:
    await migrate(location)
    if is_postgresql(location):
        with psycopg.connect(location, autocommit=True) as postgresql:
            for query in load("postgresql").values():
                postgresql.execute(f"EXPLAIN {query.sql}".encode(), _Nothing())
    else:
        with closing(connect(Path(location))) as sqlite:
            for query in load("sqlite").values():
                sqlite.execute(f"EXPLAIN {query.sql}", _Nothing())


BY_ITS_INDEX = {
    "overdue_calls": "log_deadline", "count_open": "log_deadline", "calls_with_arguments": "log_call_time",
    "calls_by_bucket": "log_call_time", "durations_by_bucket": "log_call_time", "most_called_tools": "log_call_time",
    "list_changes": "log_kind_id", "list_calls": "SCAN c", "calls_after": "INTEGER PRIMARY KEY (rowid>?)",
    "settled_of": "log_kind_id (kind=? AND id=?)",
}  # fmt: skip
"""By what SQLite finds the rows of the log: never by going through all calls there are for those of a minute."""


async def test_what_is_asked_of_a_long_log_is_found_by_its_index(tmp_path: Path) -> None:
    await migrate(tmp_path / "store")
    with closing(connect(tmp_path / "store")) as sqlite:
        plans = {
            name: " ".join(
                row[3] for row in sqlite.execute(f"EXPLAIN QUERY PLAN {load('sqlite')[name].sql}", _Nothing())
            )
            for name in BY_ITS_INDEX
        }
    assert {name: plan for name, plan in plans.items() if BY_ITS_INDEX[name] not in plan} == {}
    assert not [plan for name, plan in plans.items() if name != "list_changes" and "log_kind_id (kind=?);" in plan]


async def test_what_is_known_of_a_tool_is_found_by_its_name_and_not_among_all_that_is_known(tmp_path: Path) -> None:
    """Of a server with a thousand tools, seen by many laptops, each tool would cost as much as all of them."""
    await migrate(tmp_path / "store")
    with closing(connect(tmp_path / "store")) as sqlite:
        for name, tables in {"forget_definitions": 2, "pin_first_sight": 1, "list_tools": 8}.items():
            plan = [row[3] for row in sqlite.execute(f"EXPLAIN QUERY PLAN {load('sqlite')[name].sql}", _Nothing())]
            found = [step for step in plan if "sqlite_autoindex_tool_pins" in step or "tool_sightings" in step]
            assert len(found) == tables, plan
            assert [step for step in found if "(server=? AND tool=?" not in step] == []


@pytest.mark.parametrize("dialect", ["sqlite", "postgresql"])
def test_two_statements_of_one_name_are_refused(dialect: str, tmp_path: Path) -> None:
    (tmp_path / "again.sql").write_text("-- name: read_grant(id)\nSELECT :id\n")
    with pytest.raises(ValueError, match="read_grant"):
        load(dialect, tmp_path)


def test_a_part_stands_wherever_it_is_named(tmp_path: Path) -> None:
    (tmp_path / "parts.sql").write_text(
        "-- part: fresh\n-- Why.\nx > :now\n\n-- name: whole(now)\n-- Long reading.\nSELECT 1 WHERE {fresh}\n"
        "-- name: other(now)\nSELECT '{}' WHERE {fresh} AND 1 = 1\n"
    )
    loaded = load("postgresql", tmp_path)
    assert loaded["whole"].sql == "SELECT 1 WHERE x > %(now)s"
    assert loaded["whole"].long
    assert loaded["other"].sql == "SELECT '{}' WHERE x > %(now)s AND 1 = 1"


def test_postgresql_alone_reads_the_marked_fragment() -> None:
    name = "record_call"
    assert "FOR SHARE OF g, s" in load("postgresql")[name].sql
    assert "FOR SHARE" not in load("sqlite")[name].sql
    assert "%(grant_id)s" in load("postgresql")[name].sql
    assert ":grant_id" in load("sqlite")[name].sql
