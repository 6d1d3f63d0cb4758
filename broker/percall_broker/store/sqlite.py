"""The embedded store: one writer, in the event loop's own thread, with one durable commit a turn of the loop.

A commit costs some 200 µs, less than handing rows to another thread and back; so whatever arrives in one turn is
written together, inside the loop. Long readings, and nearly all of a checkpoint, run in a thread, on connections of
their own.
It must never report a write that is not on the disk, and never keep one that it reported as failed.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlite_utils import Database

from percall_broker.model.errors import BrokerError, Conflict, Unavailable
from percall_broker.store.protocol import unstorable
from percall_broker.store.statements import load
from percall_broker.store.write_ahead_log import WriteAheadLog

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from percall_broker.store.protocol import Results, Row, Statement
    from percall_broker.store.statements import Query

LOCKED_SECONDS = 2.0
"""How long another process may hold the write lock, before what waits for it is refused."""
_BUSY_TIMEOUT_SECONDS = 0.03
"""One try to get it, in which the whole event loop waits."""
_PAUSE_SECONDS = 0.02
"""Between two tries, for everything that writes nothing."""
_FAILURES = (sqlite3.Error, ValueError, OverflowError)
"""What a statement may raise: the engine's own errors, and those of values that it cannot hold."""


@dataclass(slots=True)
class _Waiting:
    """Some statements, and who waits for them. `atomic`: all of them or none."""

    statements: tuple[Statement, ...]
    atomic: bool
    answer: asyncio.Future[Results | None]


class SqliteStore:
    """A store in one file. Made by `store.open_store`, inside a running event loop."""

    def __init__(self, path: Path, *query_folders: Path) -> None:
        self._path = path
        self._queries: Mapping[str, Query] = load("sqlite", *query_folders)
        self._writer = connect(path)
        self._group: list[_Waiting] = []
        self._locked_since: float | None = None
        self._log = WriteAheadLog(path)
        self._checkpoint: asyncio.Task[None] | None = None
        self._closed = False

    async def fetch(self, name: str, /, **parameters: Any) -> list[Row]:
        """The rows of a reading statement."""
        query = self._queries[name]
        if query.long:
            return await asyncio.to_thread(self._fetch_apart, query.sql, parameters)
        try:
            return _rows(self._writer.execute(query.sql, parameters))
        except _FAILURES as error:
            raise _translated(error) from error

    def append(self, *statements: Statement) -> asyncio.Future[Results]:
        """Writes that are durable when this is awaited; all appends of one turn of the loop share one commit."""
        return self._join_group(statements, atomic=False)  # type: ignore[return-value]  # only an atomic one is undone

    async def transact(self, *statements: Statement) -> Results | None:
        """All of them or none, in the commit of this turn; None when a required statement returned no row."""
        return await self._join_group(statements, atomic=True)

    async def listen(self, told: Callable[[], None]) -> None:
        """Nothing to tell: one process serves the file."""

    async def close(self) -> None:
        """Commits what waits, and lets go of the file; closing the last connection folds the log into the database."""
        self._closed = True
        self._flush()
        if put_off := [waiting.answer for waiting in self._group]:
            await asyncio.wait(put_off)
        if self._checkpoint is not None:
            with contextlib.suppress(asyncio.CancelledError):
                await self._checkpoint
        self._writer.close()

    # --- the group ----------------------------------------------------------------------------------------------------

    def _join_group(self, statements: tuple[Statement, ...], *, atomic: bool) -> asyncio.Future[Results | None]:
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Results | None] = loop.create_future()
        if self._closed:
            answer.set_exception(Unavailable("store.closed", "The store is closed."))
            return answer
        for statement in statements:
            self._queries[statement.name]  # an unknown name is the caller's fault alone
            if any(type(value) is str and "\0" in value for value in statement.parameters.values()):
                answer.set_exception(unstorable())  # PostgreSQL keeps none, and a backup goes from here to there
                return answer
        if not self._group:
            loop.call_soon(self._flush)
        self._group.append(_Waiting(statements, atomic, answer))
        return answer

    def _flush(self) -> None:
        """One transaction for everything that waits; if one spoils it, each gets a transaction of its own."""
        group, self._group = self._group, []
        group = [waiting for waiting in group if not waiting.answer.done()]
        if not group:
            return
        try:
            results = self._commit(group)
        except _FAILURES as error:
            # A full disk or a lock stops them all alike. Anything else is one statement's fault, and its alone.
            if self._put_off(group, error):
                return
            if len(group) == 1 or isinstance(error, sqlite3.OperationalError):
                _fail(group, error)
            else:
                self._commit_each(group)
            return
        for waiting, result in zip(group, results, strict=True):
            waiting.answer.set_result(result)

    def _commit_each(self, group: list[_Waiting]) -> None:
        for waiting in group:
            try:
                waiting.answer.set_result(self._commit([waiting])[0])
            except _FAILURES as error:
                if not self._put_off([waiting], error):
                    _fail([waiting], error)

    def _put_off(self, group: list[_Waiting], error: Exception) -> bool:
        """Has these wait on where another process holds the write lock, and not for too long yet; whether they do."""
        if not _is_locked(error):
            return False
        loop = asyncio.get_running_loop()
        if self._locked_since is None:
            self._locked_since = loop.time()
        if loop.time() - self._locked_since >= LOCKED_SECONDS:
            self._locked_since = None
            return False
        if not self._group:
            loop.call_later(_PAUSE_SECONDS, self._flush)
        self._group += group
        return True

    def _commit(self, group: list[_Waiting]) -> list[Results | None]:
        execute = self._writer.execute
        try:
            execute("BEGIN IMMEDIATE")
            self._log.begun()
            results = [self._run_atomic(w.statements) if w.atomic else self._run(w.statements) for w in group]
            execute("COMMIT")
        except BaseException:
            if self._writer.in_transaction:
                execute("ROLLBACK")
            raise
        self._locked_since = None
        for waiting in group:
            self._log.written(waiting.statements)
        if self._log.is_long():
            self._start_checkpoint()
        return results

    def _run(self, statements: tuple[Statement, ...]) -> Results:
        return [_rows(self._writer.execute(self._queries[s.name].sql, s.parameters)) for s in statements]

    def _run_atomic(self, statements: tuple[Statement, ...]) -> Results | None:
        execute = self._writer.execute
        execute("SAVEPOINT atomic")
        results: Results = []
        for statement in statements:
            rows = _rows(execute(self._queries[statement.name].sql, statement.parameters))
            if statement.required and not rows:
                execute("ROLLBACK TO atomic")
                execute("RELEASE atomic")
                return None
            results.append(rows)
        execute("RELEASE atomic")
        return results

    # --- away from the loop -------------------------------------------------------------------------------------------

    def _fetch_apart(self, sql: str, parameters: dict[str, Any]) -> list[Row]:
        try:
            with contextlib.closing(connect(self._path, read_only=True)) as connection:
                return _rows(connection.execute(sql, parameters))
        except _FAILURES as error:
            raise _translated(error) from error

    def _start_checkpoint(self) -> None:
        if self._checkpoint is None or self._checkpoint.done():
            self._checkpoint = asyncio.ensure_future(self._fold())

    async def _fold(self) -> None:
        """Copies the log into the database: all that is there in a thread, and what came meanwhile here.

        Only when all of it is copied does the next commit begin at the file's start, and under load something always
        came meanwhile.
        """
        await asyncio.to_thread(checkpoint, self._path)
        if not self._closed and _fold_all(self._writer):
            self._log.folded()


def connect(path: Path, *, read_only: bool = False) -> sqlite3.Connection:
    """A connection with this store's settings, opened by sqlite-utils. Raises Unavailable."""
    mode = "ro" if read_only else "rw"
    with contextlib.ExitStack() as opened:
        try:
            connection = sqlite3.connect(
                f"{path.absolute().as_uri()}?mode={mode}",
                uri=True,
                timeout=_BUSY_TIMEOUT_SECONDS,
                isolation_level=None,  # we say BEGIN ourselves
                check_same_thread=False,  # a thread closes the one it opened; none is shared
            )
            opened.callback(connection.close)
            database = Database(connection)
            if not read_only:
                database.enable_wal()
            connection.execute("PRAGMA synchronous = FULL")  # a commit survives a loss of power
            connection.execute("PRAGMA wal_autocheckpoint = 0")  # never on the path of a call
            connection.execute("PRAGMA foreign_keys = ON")
        except sqlite3.Error as error:
            raise _translated(error) from error
        opened.pop_all()  # it is the caller's to close
    return connection


def checkpoint(path: Path) -> None:
    """Copies the write-ahead log into the database, without making a writer wait."""
    with contextlib.suppress(Unavailable), contextlib.closing(connect(path)) as connection:
        _fold_all(connection)


def _fold_all(connection: sqlite3.Connection) -> bool:
    """Whether all of the log is in the database now. Where not, nothing is lost: the next fold tries again."""
    try:
        _, frames, copied = connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
    except sqlite3.Error:
        return False
    return bool(frames == copied)


def _rows(cursor: sqlite3.Cursor) -> list[Row]:
    if cursor.description is None:
        return []
    names = [column[0] for column in cursor.description]
    return [dict(zip(names, row, strict=True)) for row in cursor]


def _fail(group: list[_Waiting], error: Exception) -> None:
    for waiting in group:
        waiting.answer.set_exception(_translated(error))


def _is_locked(error: Exception) -> bool:
    return getattr(error, "sqlite_errorname", "").startswith(("SQLITE_BUSY", "SQLITE_LOCKED"))


def _translated(error: Exception) -> BrokerError:
    """What the caller learns; the engine's words may quote values, so they stay out of the sentence."""
    if isinstance(error, sqlite3.IntegrityError):
        return Conflict("store.conflict", "This contradicts what is stored already.")
    if isinstance(error, (ValueError, OverflowError)):
        return unstorable()
    if _is_locked(error):
        return Unavailable("store.locked", "The store is locked by another process.", "Find what holds the database.")
    code = getattr(error, "sqlite_errorname", "") or type(error).__name__
    if code.startswith("SQLITE_FULL"):
        return Unavailable("store.full", "The disk of the store is full.", "Free some space; nothing was lost.")
    return Unavailable("store.failed", f"The store failed ({code}).", "Look at the disk and the database file.")
