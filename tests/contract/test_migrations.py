"""Migrating: all of it or nothing, never under a broker that serves, and from the first release's schema on."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from typing import TYPE_CHECKING, cast

import psycopg
import pytest

from harness import database
from harness.processes import wait_for
from harness.statements import SEEDS, call
from percall_broker.model.errors import Conflict, Unavailable
from percall_broker.store import make, migrate, open_store, pending, schema
from percall_broker.store.offline import SERVED
from percall_broker.vault import KeyFolder, Vault

if TYPE_CHECKING:
    from pathlib import Path

    from percall_broker.store import Store

pytestmark = pytest.mark.anyio
FIRST = "0001_initial"
SECRET = b"a key that was sealed by the first release"
_ROWS = [
    "INSERT INTO persons (name, created_at) VALUES ('alice', 1), ('bob', 2)",
    "INSERT INTO devices (thumbprint, person, name, created_at) VALUES ('key', 'alice', 'laptop', 1)",
    """INSERT INTO grants
    (id, person, agent, device, administrator, scope, state, version, expires_at, created_at, created_by) VALUES
    ('g', 'alice', 'default', 'key', 0, '{"servers":{}}', 'active', 1, 0, 1, 'init'),
    ('r', 'alice', 'default', 'key', 0, '{"servers":{}}', 'revoked', 3, 0, 1, 'init'),
    ('w', 'bob', '', NULL, 1, '{"servers":{}}', 'active', 1, 0, 2, 'init')""",
    "INSERT INTO invites (code_hash, grant_id, expires_at, used_at) VALUES ('h', 'w', 2000000000, NULL)",
    """INSERT INTO servers (name, version, entry, state, secret_version, created_at)
    VALUES ('github', 1, '{}', 'active', 1, 1)""",
    """INSERT INTO log (kind, id, call, time_ms, grant_id, person, agent, device, server, tool, decision, reason,
    outcome, duration_ms, deadline_ms, entry) VALUES ('call', 'old', 'old', 900, 'g', 'alice', 'default', 'key',
    'github', 'get_me', 'permit', 'grant.tool', '', 0, 601000, '{}')""",
    "INSERT INTO proofs (jti, expires_at) VALUES ('j', 5)",
    "UPDATE epoch SET value = 7",
]


def first_release(location: str) -> None:
    """A store as the first release wrote it: its one migration, and rows of each kind."""
    database.of_version(location, 1)
    assert names(location) == [FIRST]
    execute(location, *_ROWS)


def execute(location: str, *statements: str, values: tuple[object, ...] = ()) -> list[tuple[object, ...]]:
    """Runs them past all code of ours, each with the values; the last one's rows."""
    rows: list[tuple[object, ...]] = []
    if location.startswith("postgresql"):
        with psycopg.connect(location) as database:
            for statement in statements:
                cursor = database.execute(statement.replace("?", "%s").encode(), values or None)
                rows = cursor.fetchall() if cursor.description else []
        return rows
    with closing(sqlite3.connect(location)) as connection, connection:
        for statement in statements:
            rows = connection.execute(statement, values).fetchall()
    return rows


def names(location: str) -> list[object]:
    return [name for (name,) in execute(location, "SELECT name FROM migrations ORDER BY number")]


def test_a_store_of_the_first_release_goes_through_all_migrations_and_works_on(location: str, tmp_path: Path) -> None:
    first_release(location)
    keys = KeyFolder(tmp_path / "keys")
    keys.add()

    vault = Vault(cast("Store", None), keys)  # seals without a store
    columns = ("name", "version", "sealed", "wrapped_key", "key_encryption_key", "created_at")
    sealed = asyncio.run(vault.sealing("github", 1, SECRET)).parameters
    into = "INSERT INTO secrets (name, version, sealed, wrapped_key, key_encryption_key, created_at)"
    execute(location, f"{into} VALUES (?, ?, ?, ?, ?, ?)", values=tuple(sealed[column] for column in columns))

    async def work_on() -> None:
        with pytest.raises(Unavailable) as caught:
            await open_store(location)
        assert caught.value.code == "store.schema"
        assert "percall-broker migrate" in caught.value.next_step
        assert await migrate(location) == [migration.name for migration in schema.known()[1:]]
        store = await open_store(location, SEEDS)
        try:
            states = {row["id"]: row["state"] for row in await store.fetch("list_grants")}
            assert states == {"g": "active", "r": "revoked", "w": "active"}
            assert await Vault(store, keys).unseal("github", 1) == SECRET
            ((recorded,),) = await store.append(call("new"))
            assert recorded["seq"] == 2
            assert await store.append(call("refused", grant_id="r", grant_version=3)) == [[]]
            assert (await store.fetch("read_epoch"))[0]["value"] >= 7
            assert (await store.fetch("read_invite", code_hash="h"))[0]["grant_id"] == "w"
        finally:
            await store.close()

    asyncio.run(work_on())


async def test_what_a_passkey_opened_before_sessions_knew_their_passkey_is_closed(location: str) -> None:
    database.of_version(location, 19)
    into = "INSERT INTO console_sessions (token_hash, grant_id, how, may_enrol_until, created_at, seen_at, expires_at)"
    execute(
        location,
        "INSERT INTO persons (name, created_at) VALUES ('alice', 1)",
        """INSERT INTO grants
        (id, person, agent, administrator, scope, state, version, expires_at, created_at, created_by)
        VALUES ('g', 'alice', 'default', 0, '{"servers":{}}', 'active', 1, 0, 1, 'init')""",
        f"{into} VALUES ('by passkey', 'g', 'passkey', 0, 1, 1, 2), ('by link', 'g', 'link', 0, 1, 1, 2)",
    )
    await migrate(location)
    assert execute(location, "SELECT token_hash FROM console_sessions") == [("by link",)]


async def test_a_migration_that_fails_leaves_nothing_of_itself_or_its_neighbours(
    location: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    await migrate(location)
    before = names(location)
    folder = tmp_path / "migrations"
    shutil.copytree(schema.MIGRATIONS, folder)
    (folder / "9998_fine.sql").write_text("CREATE TABLE fine (id BIGINT)")
    (folder / "9999_broken.sql").write_text("CREATE TABLE half (id BIGINT); CREATE TABLE half (id BIGINT)")
    monkeypatch.setattr(schema, "MIGRATIONS", folder)
    with pytest.raises(Unavailable) as caught:
        await migrate(location)
    assert caught.value.code == "store.migration"
    assert names(location) == before
    for reading in ("SELECT * FROM fine", "SELECT * FROM half"):
        with pytest.raises((sqlite3.Error, psycopg.Error)):
            execute(location, reading)


def test_a_migration_that_is_killed_leaves_the_old_schema(location: str, tmp_path: Path) -> None:
    asyncio.run(migrate(location))
    before = names(location)
    folder = tmp_path / "migrations"
    shutil.copytree(schema.MIGRATIONS, folder)
    endless = (
        "CREATE TABLE half (id BIGINT); INSERT INTO half"
        " WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1000000000000) SELECT i FROM n"
    )
    (folder / "9999_endless.sql").write_text(endless)
    script = (
        "import asyncio, pathlib, sys; from percall_broker.store import migrate, schema;"
        "schema.MIGRATIONS = pathlib.Path(sys.argv[1]); asyncio.run(migrate(sys.argv[2]))"
    )
    process = subprocess.Popen([sys.executable, "-c", script, str(folder), location])
    try:
        wait_for(lambda: _is_in_the_middle(location), "the migration is under way")
        assert process.poll() is None
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    wait_for(lambda: not _is_in_the_middle(location), "its lock is gone")
    assert names(location) == before
    with pytest.raises((sqlite3.Error, psycopg.Error)):
        execute(location, "SELECT * FROM half")
    assert asyncio.run(migrate(location)) == []


def _is_in_the_middle(location: str) -> bool:
    if location.startswith("postgresql"):
        looking = "SELECT 1 FROM pg_stat_activity WHERE query LIKE '%INSERT INTO half%' AND pid <> pg_backend_pid()"
        return bool(execute(location, f"{looking} AND datname = current_database() AND state = 'active'"))
    with closing(sqlite3.connect(location, timeout=0, isolation_level=None)) as connection:
        try:
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("ROLLBACK")
        except sqlite3.OperationalError:
            return os.stat(location + "-wal").st_size > 1_000_000  # noqa: PTH116 - it has written something
    return False


async def test_a_store_of_a_newer_version_is_neither_opened_nor_migrated(location: str) -> None:
    await migrate(location)
    execute(location, "INSERT INTO migrations (number, name) VALUES (9999, '9999_later')")
    for attempt in (migrate(location), open_store(location)):
        with pytest.raises(Unavailable) as caught:
            await attempt
        assert caught.value.code == "store.newer"
        assert "newer version" in caught.value.message
        assert "9999" in caught.value.message


@pytest.mark.parametrize("location", ["postgresql"], indirect=True)
async def test_a_database_is_not_migrated_while_a_broker_serves_it(
    location: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    # For a file, whose lock is in the broker's folder: test_a_store_is_not_migrated_under_a_broker_that_serves_it.
    await migrate(location)
    store = await open_store(location)
    folder = tmp_path / "migrations"
    shutil.copytree(schema.MIGRATIONS, folder)
    (folder / "9999_more.sql").write_text("CREATE TABLE more (id BIGINT)")
    monkeypatch.setattr(schema, "MIGRATIONS", folder)
    with pytest.raises(Unavailable) as caught:
        await migrate(location)
    assert caught.value.code == "broker.running"
    await store.close()
    assert await migrate(location) == ["9999_more"]


@pytest.mark.parametrize("location", ["postgresql"], indirect=True)
async def test_a_broker_that_is_just_leaving_is_waited_for(location: str) -> None:
    await migrate(location)
    asked = "SELECT 1 FROM pg_stat_activity WHERE query LIKE 'SELECT pg_try_advisory_xact_lock%'"
    with psycopg.connect(location, autocommit=True) as leaving:
        leaving.execute("SELECT pg_advisory_lock_shared(%s)", (SERVED,))
        migrating = asyncio.create_task(migrate(location))
        await asyncio.to_thread(wait_for, lambda: bool(execute(location, asked)), "it has been refused once")
        assert not migrating.done()
    assert await migrating == []


async def test_a_new_broker_changes_nothing_where_another_lives(location: str) -> None:
    """It may be an older version's, which serves that database again in a minute."""
    database.of_version(location, 3)
    execute(
        location,
        """INSERT INTO secrets (name, version, sealed, wrapped_key, key_encryption_key, created_at)
        VALUES ('s', 1, ?, ?, 'kek-0001', 1)""",
        values=(b"sealed", b"wrapped"),
    )
    with pytest.raises(Conflict) as caught:
        await make(location)
    assert caught.value.code == "init.database"
    assert execute(location, "SELECT COUNT(*) FROM migrations") == [(3,)]


async def test_a_new_broker_takes_no_other_programs_database(location: str) -> None:
    execute(location, "CREATE TABLE theirs (id BIGINT)")
    with pytest.raises(Conflict):
        await make(location)
    with pytest.raises(Unavailable):
        await pending(location)


async def test_a_first_start_that_failed_half_way_may_be_tried_again(location: str) -> None:
    await make(location)
    await make(location)
    assert await pending(location) == []
