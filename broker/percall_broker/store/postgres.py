"""The PostgreSQL store: what arrives while one group is being committed makes up the next, sent as one pipeline.

READ COMMITTED; the statements' own conditions, `FOR SHARE` and unique indexes say what may happen, so a revocation
waits for the intents under way, and every later intent sees it. It must never report a write that is not committed.

A server may fall silent (a network that splits, a standby that took over): what it owes for too long is refused, so
that whoever has to know whether a grant still stands never waits for one that will not say.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg.errors import ConnectionTimeout, DeadlockDetected, SerializationFailure
from psycopg.rows import DictRow, dict_row
from psycopg.types.numeric import Int8Dumper

from percall_broker.model.errors import BrokerError, Conflict, Unavailable
from percall_broker.store.offline import SERVED
from percall_broker.store.protocol import unstorable
from percall_broker.store.statements import load

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
    from pathlib import Path

    from percall_broker.store.protocol import Results, Row, Statement
    from percall_broker.store.statements import Query

CONNECTIONS = 4
"""Connections for readings and transactions, beside the one that writes the groups."""
LONG_AT_ONCE = 2
"""How many of them long readings may have: a listing of the log takes seconds, and a revocation waits for none."""
CONNECT_TIMEOUT_SECONDS = 5
READING_SECONDS = 5.0
"""How long a reading waits for its rows."""
WRITING_SECONDS = 10.0
"""The same for a writing, which may wait for another one's lock."""
LONG_SECONDS = 35.0
"""The same for a long reading: more than the server itself lets it run."""
LISTENING_SECONDS = 30.0
"""How long nothing is heard of changes before the server is asked whether it is still there."""
LISTEN_AGAIN_SECONDS = 1.0
_DOWN_SECONDS = 1.0
"""How long nobody tries anew, once the server did not even take a connection: those in line must not each wait."""
_MAX_PREPARED = 500
_SETTINGS = """
SET lock_timeout = '5s';
SET statement_timeout = '30s';
SET idle_in_transaction_session_timeout = '10s';
SET default_transaction_isolation = 'read committed';
SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'
"""

Connection = psycopg.AsyncConnection[DictRow]


@dataclass(slots=True)
class _Waiting:
    statements: tuple[Statement, ...]
    answer: asyncio.Future[Results]


class PostgresStore:
    """A store in a PostgreSQL database. Made by `store.open_store`."""

    def __init__(self, url: str, *query_folders: Path) -> None:
        self._url = url
        self._queries: Mapping[str, Query] = load("postgresql", *query_folders)
        self._writer: Connection | None = None
        self._idle: list[Connection] = []
        self._places = asyncio.Semaphore(CONNECTIONS)
        self._long_places = asyncio.Semaphore(LONG_AT_ONCE)
        self._group: list[_Waiting] = []
        self._drain: asyncio.Task[None] | None = None
        self._down_until = 0.0
        self._closed = False

    @classmethod
    async def connect(cls, url: str, *query_folders: Path) -> PostgresStore:
        """A store whose database answers. Raises Unavailable."""
        store = cls(url, *query_folders)
        try:
            store._writer = await store._connect()
        except psycopg.Error as error:
            raise _translated(error) from error
        return store

    async def fetch(self, name: str, /, **parameters: Any) -> list[Row]:
        """The rows of a reading statement."""
        query = self._queries[name]
        if not query.long:
            return await self._read(query.sql, parameters, READING_SECONDS)
        async with self._long_places:
            return await self._read(query.sql, parameters, LONG_SECONDS)

    def append(self, *statements: Statement) -> asyncio.Future[Results]:
        """Writes that are committed when this is awaited; all that wait for the writer share one commit."""
        for statement in statements:
            self._queries[statement.name]  # an unknown name is the caller's fault alone
        answer: asyncio.Future[Results] = asyncio.get_running_loop().create_future()
        if self._closed:
            answer.set_exception(Unavailable("store.closed", "The store is closed."))
            return answer
        self._group.append(_Waiting(statements, answer))
        if self._drain is None or self._drain.done():
            self._drain = asyncio.ensure_future(self._write_groups())
        return answer

    async def transact(self, *statements: Statement) -> Results | None:
        """All of them or none; None when a required statement returned no row."""
        try:
            return await self._transact(statements)
        except Unavailable as error:
            if not isinstance(error.__cause__, (DeadlockDetected, SerializationFailure)):
                raise
            return await self._transact(statements)  # nothing of the first attempt remains

    async def listen(self, told: Callable[[], None]) -> None:
        """Calls back soon after each change that a replica has committed."""
        while not self._closed:
            with contextlib.suppress(psycopg.Error, Unavailable):
                async with await self._connect() as connection:
                    await connection.execute("LISTEN percall_changes")
                    told()  # of what came before
                    while True:
                        async for _ in connection.notifies(timeout=LISTENING_SECONDS):
                            told()
                        with self._answering(connection, READING_SECONDS):
                            await connection.execute("SELECT 1")
            await asyncio.sleep(LISTEN_AGAIN_SECONDS)

    async def close(self) -> None:
        """Commits what waits, and closes the connections."""
        self._closed = True
        if self._drain is not None:
            await self._drain
        for connection in (self._writer, *self._idle):
            if connection is not None:
                await connection.close()
        self._idle.clear()

    # --- the group ----------------------------------------------------------------------------------------------------

    async def _write_groups(self) -> None:
        while self._group:
            group, self._group = self._group, []
            group = [waiting for waiting in group if not waiting.answer.done()]
            if group:
                await self._write(group)

    async def _write(self, group: list[_Waiting]) -> None:
        """One transaction for the group; if one of them spoils it, each gets a transaction of its own."""
        try:
            results = await self._commit([s for waiting in group for s in waiting.statements])
        except (psycopg.Error, ValueError, Unavailable) as error:
            if len(group) > 1 and _is_of_one_statement(error):
                for waiting in group:
                    await self._write([waiting])
            else:
                for waiting in group:
                    if not waiting.answer.done():
                        waiting.answer.set_exception(_translated(error))
            return
        left = iter(results)
        for waiting in group:
            own = [next(left) for _ in waiting.statements]
            if not waiting.answer.done():
                waiting.answer.set_result(own)

    async def _commit(self, statements: Iterable[Statement]) -> Results:
        if self._writer is None or not await _is_usable(self._writer):
            self._writer = await self._connect()
        connection = self._writer
        with self._answering(connection, WRITING_SECONDS):
            try:
                async with connection.pipeline():
                    await connection.execute("BEGIN")
                    cursors = [await self._send(connection, statement) for statement in statements]
                    await connection.execute("COMMIT")
                return [await _rows(cursor) for cursor in cursors]
            except BaseException:
                await _roll_back(connection)
                raise

    # --- transactions and readings ------------------------------------------------------------------------------------

    async def _read(self, sql: str, parameters: dict[str, Any], seconds: float) -> list[Row]:
        async with self._connection(seconds) as connection:
            cursor = await connection.execute(sql, parameters, prepare=True)
            return await cursor.fetchall()

    async def _transact(self, statements: tuple[Statement, ...]) -> Results | None:
        async with self._connection(WRITING_SECONDS) as connection:
            async with connection.pipeline():
                await connection.execute("BEGIN")
                cursors = [await self._send(connection, statement) for statement in statements]
            results = [await _rows(cursor) for cursor in cursors]
            if any(s.required and not rows for s, rows in zip(statements, results, strict=True)):
                await connection.execute("ROLLBACK")
                return None
            await connection.execute("COMMIT")
            return results

    async def _send(self, connection: Connection, statement: Statement) -> psycopg.AsyncCursor[DictRow]:
        return await connection.execute(self._queries[statement.name].sql, statement.parameters, prepare=True)

    @contextlib.asynccontextmanager
    async def _connection(self, seconds: float) -> AsyncIterator[Connection]:
        """One of a few connections, without a transaction, for as long as that; a broken one is not used again.

        Raises BrokerError.
        """
        if self._closed:
            raise Unavailable("store.closed", "The store is closed.")
        async with self._places:
            if asyncio.get_running_loop().time() < self._down_until:
                raise _silent()
            connection: Connection | None = None
            try:
                while self._idle and connection is None:
                    kept = self._idle.pop()
                    connection = kept if await _is_usable(kept) else None
                connection = connection or await self._connect()
                with self._answering(connection, seconds):
                    try:
                        yield connection
                    finally:
                        await _roll_back(connection)
            except (psycopg.Error, ValueError) as error:
                raise _translated(error) from error
            finally:
                if connection is not None and self._closed:
                    await connection.close()
                elif connection is not None and not connection.closed:
                    self._idle.append(connection)

    @contextlib.contextmanager
    def _answering(self, connection: Connection, seconds: float) -> Iterator[None]:
        """The server has so long to answer all that is asked inside; then whoever waits gets an error."""
        timer = asyncio.get_running_loop().call_later(seconds, self._give_up, connection)
        try:
            yield
        finally:
            timer.cancel()

    def _give_up(self, connection: Connection) -> None:
        """Ends a connection under those who wait for it, and the idle ones, which go the same way to the same server.

        psycopg cannot be told to wait no longer: a cancelled statement waits for the server to say that it is. Nor
        would closing its socket wake it; the end of the stream does.
        """
        idle, self._idle = self._idle, []
        if self._writer is not None and (self._drain is None or self._drain.done()):
            idle.append(self._writer)
        for one in idle:
            one.pgconn.finish()
        with contextlib.suppress(OSError, psycopg.Error), socket.socket(fileno=os.dup(connection.fileno())) as stream:
            stream.shutdown(socket.SHUT_RDWR)

    async def _connect(self) -> Connection:
        try:
            connection: Connection = await psycopg.AsyncConnection.connect(
                self._url, autocommit=True, row_factory=dict_row, connect_timeout=CONNECT_TIMEOUT_SECONDS
            )
        except ConnectionTimeout:
            self._down_until = asyncio.get_running_loop().time() + _DOWN_SECONDS
            raise
        with self._answering(connection, READING_SECONDS):
            await self._prepare(connection)
        return connection

    async def _prepare(self, connection: Connection) -> None:
        # One type for every integer, so that a statement is prepared once and not once for each size of number.
        connection.adapters.register_dumper(int, Int8Dumper)
        connection.prepared_max = _MAX_PREPARED
        await connection.execute(_SETTINGS)
        # Held by every connection for as long as it lives, so that no schema changes under a statement.
        cursor = await connection.execute(
            "SELECT pg_try_advisory_lock_shared(%s) AS held, current_setting('transaction_read_only') AS read_only",
            (SERVED,),
        )
        row = await cursor.fetchone()
        if row is None or not row["held"]:
            await connection.close()
            raise Unavailable("store.migrating", "The store is being migrated or restored.", "Wait until that is done.")
        if row["read_only"] == "on":
            # A standby, while another server takes over: what was read there might be old, and stay so.
            await connection.close()
            raise Unavailable(
                "store.read_only", "The store takes no writes.", "Is the URL that of PostgreSQL's primary?"
            )


async def _rows(cursor: psycopg.AsyncCursor[DictRow]) -> list[Row]:
    return await cursor.fetchall() if cursor.description is not None else []


async def _is_usable(connection: Connection) -> bool:
    """Whether a connection that nobody uses is open at its other end too, as far as this one has heard."""
    if connection.closed:
        return False
    waiting = select.poll()
    waiting.register(connection.fileno(), select.POLLIN)
    if not waiting.poll(0):
        return True
    await connection.close()  # what comes on it unasked is its end, or the reason for that
    return False


async def _roll_back(connection: Connection) -> None:
    """Leaves no transaction open; what cannot be rolled back is closed, which has the same effect."""
    if connection.closed or connection.info.transaction_status == psycopg.pq.TransactionStatus.IDLE:
        return
    try:
        await connection.execute("ROLLBACK")
    except psycopg.Error:
        await connection.close()


def _silent() -> Unavailable:
    return Unavailable("store.failed", "The store does not answer.", "Is PostgreSQL running, and the way to it open?")


def _is_of_one_statement(error: Exception) -> bool:
    """Whether others of the group may succeed, for the fault lies in one statement, or in the order of locks."""
    return isinstance(error, (DeadlockDetected, SerializationFailure)) or not isinstance(
        error, (psycopg.OperationalError, psycopg.InterfaceError, Unavailable)
    )


def _translated(error: Exception) -> BrokerError:
    """What the caller learns; the engine's words may quote values, so they stay out of the sentence."""
    if isinstance(error, BrokerError):
        return error
    if isinstance(error, psycopg.IntegrityError):
        return Conflict("store.conflict", "This contradicts what is stored already.")
    if isinstance(error, (psycopg.DataError, ValueError)):
        return unstorable()
    code = getattr(error, "sqlstate", None)
    if code == "55P03":
        translated = Unavailable("store.locked", "The store is locked by another session.")
    elif code == "53100":
        translated = Unavailable("store.full", "The disk of the store is full.", "Free some space; nothing was lost.")
    else:
        translated = Unavailable(
            "store.failed", f"The store failed ({code or type(error).__name__}).", "Is PostgreSQL running?"
        )
    translated.__cause__ = error
    return translated
