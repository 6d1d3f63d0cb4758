"""What only the PostgreSQL store must survive: connections that die, and a server that is away."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import psycopg
import pytest

from harness.statements import SEEDS, call
from percall_broker.model.errors import Unavailable
from percall_broker.pipeline.changes import Changes
from percall_broker.stages.lookup import Lookup
from percall_broker.store import Statement, Store, open_store
from percall_broker.store.statements import load

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytestmark = pytest.mark.anyio
on_postgresql = pytest.mark.parametrize("location", ["postgresql"], indirect=True)


def kill_connections(location: str, but: int = 0) -> None:
    """Ends all sessions in a database, save one; each is over when this returns."""
    with psycopg.connect(location, autocommit=True) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid() AND pid <> %s",
            (but,),
        )


@on_postgresql
async def test_a_lost_connection_refuses_what_was_under_way_and_is_replaced(store: Store, location: str) -> None:
    assert (await store.append(call("before")))[0]
    async with await psycopg.AsyncConnection.connect(location) as locking:
        await locking.execute("LOCK TABLE log IN ACCESS EXCLUSIVE MODE")
        waiting: list[Any] = [store.append(call(f"lost{n}")) for n in range(5)]
        waiting.append(asyncio.create_task(store.transact(call("lost too"))))
        await two_wait(locking)
        await locking.execute(
            "SELECT pg_terminate_backend(pid, 10000) FROM pg_locks WHERE NOT granted AND relation = 'log'::regclass"
        )
        lost = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(result) for result in lost] == [Unavailable] * 6
    assert (await store.append(call("after")))[0]
    assert await store.fetch("read_epoch")
    rows = await store.fetch("list_log", after=0, limit=10)
    assert [row["id"] for row in rows] == ["before", "after"]


async def two_wait(locking: psycopg.AsyncConnection) -> None:
    """Until two sessions wait for the log, which this one has locked."""
    waiting = "SELECT 1 FROM pg_locks WHERE NOT granted AND relation = 'log'::regclass"
    while len(await (await locking.execute(waiting)).fetchall()) < 2:
        pass


@on_postgresql
async def test_connections_that_the_server_has_closed_meanwhile_refuse_nothing(store: Store, location: str) -> None:
    """As one does whose sessions may be idle for a quarter of an hour."""
    assert (await store.append(call("before")))[0]
    await asyncio.gather(*(store.fetch("read_epoch") for _ in range(4)))
    await asyncio.to_thread(kill_connections, location)
    done = await asyncio.gather(
        store.append(call("after")),
        store.transact(Statement("advance_epoch")),
        *(store.fetch("read_epoch") for _ in range(6)),
    )
    assert all(done)


@on_postgresql
async def test_a_server_that_takes_no_writes_is_asked_anew_until_one_does(store: Store, location: str) -> None:
    """As while a standby takes over, to which the database's address leads for a moment."""
    name = urlsplit(location).path[1:]
    assert (await store.append(call("before")))[0]
    async with await psycopg.AsyncConnection.connect(location, autocommit=True) as administrator:
        await administrator.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
        await asyncio.to_thread(kill_connections, location, administrator.info.backend_pid)
        for _ in range(2):
            refused = await asyncio.gather(
                store.append(call("refused")), store.fetch("read_epoch"), return_exceptions=True
            )
            assert [getattr(one, "code", one) for one in refused] == ["store.read_only"] * 2
        await administrator.execute("SET default_transaction_read_only = off")
        await administrator.execute(f"ALTER DATABASE {name} RESET default_transaction_read_only")
    assert (await store.append(call("after")))[0]
    assert await store.fetch("read_epoch")


@on_postgresql
async def test_long_readings_leave_a_place_to_what_must_not_wait(store: Store, location: str) -> None:
    async with await psycopg.AsyncConnection.connect(location) as locking:
        await locking.execute("LOCK TABLE log IN ACCESS EXCLUSIVE MODE")
        listings = [asyncio.create_task(store.fetch("calls_after", seq=0, limit=1)) for _ in range(8)]
        await two_wait(locking)
        async with asyncio.timeout(5):
            assert await store.fetch("read_epoch")
        await locking.rollback()
        assert await asyncio.gather(*listings) == [[]] * 8


class Network:
    """The way to a server, which may swallow what is on it without a word, as one that was split does."""

    def __init__(self, socket: str) -> None:
        self._socket = socket
        self._is_split = asyncio.Event()
        self._ends: list[asyncio.StreamWriter] = []
        self._carrying: list[asyncio.Future[tuple[None, None]]] = []
        self.url = ""

    def split(self, *, also_new: bool) -> None:
        """Of the connections that there are, and of new ones, nothing arrives any more."""
        self._is_split.set()
        if not also_new:
            self._is_split = asyncio.Event()

    async def carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_unix_connection(self._socket)
        self._ends += [writer, back]
        pumps = (self._pump(reader, back, self._is_split), self._pump(there, writer, self._is_split))
        self._carrying.append(asyncio.gather(*pumps))

    async def close(self) -> None:
        for end in self._ends:
            end.close()
            with contextlib.suppress(OSError):
                await end.wait_closed()
        await asyncio.gather(*self._carrying)

    @staticmethod
    async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, split: asyncio.Event) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                if not split.is_set():
                    writer.write(data)
        writer.close()


@pytest.fixture
async def network(location: str) -> AsyncIterator[Network]:
    address = urlsplit(location)
    network = Network(parse_qs(address.query)["host"][0] + "/.s.PGSQL.5432")
    async with await asyncio.start_server(network.carry, "127.0.0.1", 0) as listener:
        port = listener.sockets[0].getsockname()[1]
        network.url = f"postgresql://postgres:@127.0.0.1:{port}{address.path}"
        yield network
        listener.close()
        await network.close()


@pytest.mark.usefixtures("store")
@on_postgresql
async def test_a_server_that_falls_silent_is_refused_and_asked_anew(
    network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("READING_SECONDS", "WRITING_SECONDS"):
        monkeypatch.setattr(f"percall_broker.store.postgres.{name}", 0.5)
    store = await open_store(network.url, SEEDS)
    assert (await store.append(call("before")))[0]
    await asyncio.gather(*(store.fetch("read_epoch") for _ in range(3)))  # more connections than one
    network.split(also_new=False)
    asked = (store.fetch("read_epoch"), store.transact(Statement("advance_epoch")), store.append(call("lost")))
    async with asyncio.timeout(30):
        said = await asyncio.gather(*asked, return_exceptions=True)
        assert [type(result) for result in said] == [Unavailable] * 3
        assert (await store.append(call("after")))[0]
        assert await asyncio.gather(*(store.fetch("read_epoch") for _ in range(4))), "over new ones, all of them"
        network.split(also_new=True)
        await store.close()


@pytest.mark.usefixtures("store")
@on_postgresql
async def test_a_silent_server_counts_as_changed_and_holds_up_nobody_in_line(
    network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, seconds in (("READING_SECONDS", 0.5), ("CONNECT_TIMEOUT_SECONDS", 2), ("_DOWN_SECONDS", 3600)):
        monkeypatch.setattr(f"percall_broker.store.postgres.{name}", seconds)
    store = await open_store(network.url, SEEDS)
    changes = Changes(store, Lookup(store))
    await changes.look()
    generation = changes.generation
    network.split(also_new=True)
    polling = asyncio.create_task(changes.poll())
    try:
        async with asyncio.timeout(30):
            assert await changes.next(generation)
            said = await asyncio.gather(*(store.fetch("read_epoch") for _ in range(200)), return_exceptions=True)
            assert {type(result) for result in said} == {Unavailable}
    finally:
        polling.cancel()
        await asyncio.gather(polling, return_exceptions=True)
        await store.close()


async def test_a_server_that_is_away_is_said_to_be_away() -> None:
    with pytest.raises(Unavailable) as caught:
        await open_store("postgresql://nobody:canary@127.0.0.1:1/none")
    assert caught.value.code == "store.failed"
    assert "canary" not in caught.value.message


@on_postgresql
async def test_an_administrators_lock_delays_intents_but_loses_none(store: Store, location: str) -> None:
    with psycopg.connect(location) as administrator:
        administrator.execute("UPDATE grants SET version = version WHERE id = 'g'")
        waiting = [asyncio.ensure_future(store.append(call(f"c{n}"))) for n in range(5)]
        assert await store.fetch("read_grant", id="g"), "readings do not wait"
        assert not any(task.done() for task in waiting)
        administrator.commit()
    assert all(rows for (rows,) in await asyncio.gather(*waiting))


@on_postgresql
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


@on_postgresql
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
