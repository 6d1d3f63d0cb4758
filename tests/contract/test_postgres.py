"""What only the PostgreSQL store must survive: connections that die, and a server that is away."""

from __future__ import annotations

import asyncio
import contextlib

import psycopg
import pytest

from harness.statements import call
from percall_broker.model.errors import Unavailable
from percall_broker.pipeline.changes import Changes
from percall_broker.stages.lookup import Lookup
from percall_broker.store import Statement, Store, open_store
from percall_broker.store.statements import load

pytestmark = pytest.mark.anyio


@pytest.fixture
def location(postgresql: str, request: pytest.FixtureRequest) -> str:
    """A database of this test's own."""
    name = f"own{abs(hash(request.node.name))}"
    with psycopg.connect(postgresql, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}".encode())
    server, _, options = postgresql.partition("?")
    return f"{server.rpartition('/')[0]}/{name}?{options}"


def kill_connections(location: str) -> None:
    with psycopg.connect(location, autocommit=True) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )


async def test_a_lost_connection_refuses_what_was_under_way_and_is_replaced(store: Store, location: str) -> None:
    assert (await store.append(call("before")))[0]
    await store.fetch("read_epoch")
    await asyncio.to_thread(kill_connections, location)
    lost = await asyncio.gather(*(store.append(call(f"lost{n}")) for n in range(5)), return_exceptions=True)
    assert [type(result) for result in lost] == [Unavailable] * 5
    with pytest.raises(Unavailable):
        await store.fetch("read_epoch")
    assert (await store.append(call("after")))[0]
    assert await store.fetch("read_epoch")
    rows = await store.fetch("list_log", after=0, limit=10)
    assert [row["id"] for row in rows] == ["before", "after"]


async def test_a_server_that_is_away_is_said_to_be_away() -> None:
    with pytest.raises(Unavailable) as caught:
        await open_store("postgresql://nobody:canary@127.0.0.1:1/none")
    assert caught.value.code == "store.failed"
    assert "canary" not in caught.value.message


async def test_an_administrators_lock_delays_intents_but_loses_none(store: Store, location: str) -> None:
    with psycopg.connect(location) as administrator:
        administrator.execute("UPDATE grants SET version = version WHERE id = 'g'")
        waiting = [asyncio.ensure_future(store.append(call(f"c{n}"))) for n in range(5)]
        assert await store.fetch("read_grant", id="g"), "readings do not wait"
        assert not any(task.done() for task in waiting)
        administrator.commit()
    assert all(rows for (rows,) in await asyncio.gather(*waiting))


async def test_a_revocation_does_not_return_while_an_intent_is_uncommitted(store: Store, location: str) -> None:
    """What `FOR SHARE` is for: without it the revocation returns, and the intent is committed after it."""
    intent = load("postgresql")["record_call"].sql.encode()
    with psycopg.connect(location) as replica, psycopg.connect(location, autocommit=True) as watcher:
        assert replica.execute(intent, call("a").parameters).fetchone()
        revocation = asyncio.ensure_future(store.transact(Statement("seed_revocation", {"id": "g"}, required=True)))
        waits = "SELECT 1 FROM pg_locks WHERE NOT granted"
        while not revocation.done() and not watcher.execute(waits).fetchone():  # noqa: ASYNC110 - no event tells
            await asyncio.sleep(0)
        assert not revocation.done()
        replica.commit()
        assert await revocation
    assert not (await store.append(call("b")))[0]


async def test_a_replica_hears_of_anothers_change_without_looking(
    store: Store, location: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("percall_broker.pipeline.changes.POLL_SECONDS", 3600)
    other = await open_store(location)
    changes = Changes(store, Lookup(store))
    running = [asyncio.create_task(changes.listen()), asyncio.create_task(changes.poll())]
    heard = 0
    try:
        async with asyncio.timeout(30):
            for _ in range(3):  # the first may come before we listen, and is then found by looking once
                generation = changes.generation
                await other.transact(Statement("advance_epoch"))
                assert await changes.next(generation)
                heard += 1
            await asyncio.to_thread(kill_connections, location)
            for replica in (store, other):  # each finds out that its connection is gone, and makes a new one
                with contextlib.suppress(Unavailable):
                    await replica.fetch("read_epoch")
            generation = changes.generation
            await other.transact(Statement("advance_epoch"))
            assert await changes.next(generation), "told, or found by the look once it listens again"
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        await other.close()
    assert heard == 3
