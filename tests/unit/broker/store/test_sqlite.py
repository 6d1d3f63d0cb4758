"""What only the embedded store must survive: locks, a full disk, and its own write-ahead log."""

from __future__ import annotations

import asyncio
import resource
import shutil
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import psutil
import pytest

from harness.limits import limited
from harness.statements import SEEDS, call, outcome, redemption, request
from percall_broker.model.errors import Unavailable
from percall_broker.store import Statement, migrate, open_store
from percall_broker.store.sqlite import LOCKED_SECONDS, SqliteStore, checkpoint, connect
from percall_broker.store.write_ahead_log import RESERVED_BYTES

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

pytestmark = pytest.mark.anyio


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store.db"


@pytest.fixture
async def store(path: Path) -> AsyncIterator[SqliteStore]:
    await migrate(path)
    store = await open_store(path, SEEDS)
    assert isinstance(store, SqliteStore)
    await store.append(
        Statement("seed_person", {"name": "alice"}),
        Statement("seed_device", {"id": "d", "person": "alice"}),
        Statement("seed_device_key", {"thumbprint": "key", "person": "alice", "device": "d"}),
        Statement("seed_grant", {"id": "g", "person": "alice", "device": "key", "expires_at": 0}),
        Statement("seed_server", {"name": "github"}),
    )
    yield store
    await store.close()


async def recorded(store: SqliteStore) -> int:
    return int((await store.fetch("last_seq"))[0]["seq"])


def commits(path: Path) -> int:
    """How many transactions are in the log's file: a frame that ends one says how large the database is by then.

    https://sqlite.org/fileformat2.html#walformat
    """
    log = path.with_name(path.name + "-wal").read_bytes()
    salt, page_bytes = log[16:24], int.from_bytes(log[8:12])
    frames = [log[at : at + 24] for at in range(32, len(log), 24 + page_bytes)]
    return sum(frame[8:16] == salt and frame[4:8] != bytes(4) for frame in frames)


async def many(store: SqliteStore, groups: int) -> None:
    for group in range(groups):
        await asyncio.gather(*(store.append(call(f"{group}-{n}", entry="x" * 4000)) for n in range(10)))


async def test_the_file_is_for_the_broker_alone_and_commits_reach_the_disk(store: SqliteStore, path: Path) -> None:
    assert path.stat().st_mode & 0o777 == 0o600
    pragmas = {name: store._writer.execute(f"PRAGMA {name}").fetchone()[0] for name in ("journal_mode", "synchronous")}
    assert pragmas == {"journal_mode": "wal", "synchronous": 2}


async def test_a_locked_database_refuses_every_waiter_and_keeps_nothing(store: SqliteStore, path: Path) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        results = await asyncio.gather(*(store.append(call(f"c{n}")) for n in range(10)), return_exceptions=True)
        other.execute("ROLLBACK")
        other.execute("BEGIN IMMEDIATE")  # another lock, before anything was written: it is waited for anew
        asyncio.get_running_loop().call_later(LOCKED_SECONDS / 4, other.execute, "ROLLBACK")
        await store.append(call("later"))
    assert [type(result) for result in results] == [Unavailable] * 10
    assert {result.code for result in results if isinstance(result, Unavailable)} == {"store.locked"}
    assert await recorded(store) == 1
    assert (await store.append(call("after")))[0]


async def test_a_lock_that_another_process_lets_go_in_time_is_waited_for(store: SqliteStore, path: Path) -> None:
    before = commits(path)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        asyncio.get_running_loop().call_later(LOCKED_SECONDS / 4, other.execute, "ROLLBACK")
        await asyncio.gather(*(store.append(call(f"c{n}")) for n in range(10)))
        assert await recorded(store) == 10
        assert commits(path) == before + 1

        other.execute("BEGIN IMMEDIATE")
        asyncio.get_running_loop().call_later(LOCKED_SECONDS / 4, other.execute, "ROLLBACK")
        last = store.append(call("the last"))
        await store.close()
        assert last.done()
        assert other.execute("SELECT MAX(seq) FROM log").fetchone() == (11,)


async def test_a_full_disk_refuses_every_waiter_and_loses_nothing_that_was_promised(store: SqliteStore) -> None:
    pages = store._writer.execute("PRAGMA page_count").fetchone()[0]
    store._writer.execute(f"PRAGMA max_page_count = {pages + 20}")
    promised = 0
    for group in range(100):
        names = [f"{group}-{n}" for n in range(10)]
        results = await asyncio.gather(
            *(store.append(call(name, entry="x" * 2000)) for name in names), return_exceptions=True
        )
        kinds = {type(result) for result in results}
        assert len(kinds) == 1, "all of a group, or none"
        if kinds == {Unavailable}:
            break
        promised += 10
    else:
        pytest.fail("The disk was never full.")
    assert {result.code for result in results if isinstance(result, Unavailable)} == {"store.full"}
    rows = await store.fetch("list_log", after=0, limit=10_000)
    assert len(rows) == promised
    store._writer.execute(f"PRAGMA max_page_count = {pages + 1000}")
    assert (await store.append(call("after")))[0]


async def test_the_writes_of_a_turn_share_one_commit(store: SqliteStore, path: Path) -> None:
    before = commits(path)
    await asyncio.gather(*(store.append(call(f"c{n}")) for n in range(50)))
    assert commits(path) == before + 1
    assert await recorded(store) == 50


async def test_a_checkpoint_leaves_every_row_and_needs_no_pause(store: SqliteStore, path: Path) -> None:
    await many(store, 10)
    size = path.stat().st_size
    await asyncio.gather(asyncio.to_thread(checkpoint, path), store.append(call("meanwhile")))
    assert path.stat().st_size > size
    assert await recorded(store) == 101
    await store.close()
    assert not path.with_name("store.db-wal").exists(), "closing folds the log into the database"


async def test_under_steady_load_the_write_ahead_log_keeps_its_size(store: SqliteStore, path: Path) -> None:
    log = path.with_name("store.db-wal")
    await many(store, 40)
    reserved = log.stat().st_size
    assert reserved >= RESERVED_BYTES
    for group in range(40, 400):
        await asyncio.gather(*(store.append(call(f"{group}-{n}", entry="x" * 4000)) for n in range(10)))
        await asyncio.sleep(0)
    assert log.stat().st_size == reserved
    assert await recorded(store) == 4000


async def test_after_a_crash_all_that_was_promised_is_in_the_log_and_its_reserve_is_nothing(
    store: SqliteStore, path: Path, tmp_path: Path
) -> None:
    await many(store, 40)
    crashed = tmp_path / "crashed.db"
    for ending in ("", "-wal"):
        shutil.copy(f"{path}{ending}", f"{crashed}{ending}")
    with closing(sqlite3.connect(crashed)) as found:
        assert found.execute("SELECT COUNT(*) FROM log").fetchone() == (400,)
        assert found.execute("PRAGMA integrity_check").fetchone() == ("ok",)


async def test_where_the_log_cannot_be_made_longer_commits_go_on(store: SqliteStore, path: Path) -> None:
    log = path.with_name("store.db-wal")
    with limited(resource.RLIMIT_FSIZE, RESERVED_BYTES // 3):
        await many(store, 30)
    assert await recorded(store) == 300
    assert log.stat().st_size == RESERVED_BYTES // 3


async def test_long_readings_do_not_see_a_half_written_group(store: SqliteStore) -> None:
    async def write() -> None:
        for group in range(20):
            await asyncio.gather(*(store.append(call(f"{group}-{n}")) for n in range(10)))

    writing = asyncio.ensure_future(write())
    while not writing.done():
        assert len(await store.fetch("list_log", after=0, limit=1000)) % 10 == 0
    await writing


async def test_a_file_that_is_no_database_says_so(tmp_path: Path) -> None:
    path = tmp_path / "garbage.db"
    path.write_bytes(b"garbage" * 1000)
    with pytest.raises(Unavailable):
        await open_store(path)
    with pytest.raises(Unavailable):
        await migrate(path)
    with pytest.raises(Unavailable):
        await migrate(tmp_path / "no" / "folder" / "store.db")


async def test_a_statement_on_the_path_of_a_call_is_planned_once(store: SqliteStore) -> None:
    """Planning costs ten times as much as running: SQLite does it anew where a value could change which index fits."""
    planned: list[int] = []

    def note(*_about: object) -> int:  # SQLite asks for leave when it plans a statement, and then only
        planned.append(1)
        return sqlite3.SQLITE_OK

    async def written(name: str, time_ms: int) -> None:
        await store.append(call(name))
        await store.transact(
            Statement("lock_call", {"call": name}),
            redemption(name, time_ms=time_ms),
            request(f"{name}'s", name, time_ms=time_ms + 1),
        )
        await store.append(outcome(name, time_ms=time_ms + 2))

    store._writer.set_authorizer(note)
    await written("first", 1001)
    assert planned
    planned.clear()
    await written("second", 2001)
    assert not planned


def test_a_file_that_is_no_database_is_named_and_let_go_of(path: Path) -> None:
    path.write_bytes(b"no database" * 1000)
    with pytest.raises(Unavailable) as caught:
        connect(path)
    assert caught.value.code == "store.failed"
    # While the error lives, so does what its traceback refers to.
    assert str(path) not in [file.path for file in psutil.Process().open_files()]
