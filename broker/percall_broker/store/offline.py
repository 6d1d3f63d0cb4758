"""A store while no broker serves it: its schema is changed, or its tables are read or filled whole.

One transaction, whatever is done: all of it is kept when the block ends, and nothing when it is left otherwise. Both
engines are brought to the same few verbs here; everything that calls depend on goes through `protocol.Store`.
"""

from __future__ import annotations

import contextlib
import sqlite3
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from percall_broker.model.errors import Unavailable
from percall_broker.model.location import is_postgresql
from percall_broker.store.statements import load

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator

    import psycopg

    from percall_broker.store.protocol import Statement

SERVED = 0x70657263616C6C
"""`percall` in ASCII: shared by every connection of an open store, held alone by whoever changes the schema."""
_APPLIED = "CREATE TABLE IF NOT EXISTS migrations (number BIGINT PRIMARY KEY, name TEXT NOT NULL)"
_CONNECT_TIMEOUT_SECONDS = 10
_BUSY_TIMEOUT_SECONDS = 5.0
_LEAVING_SECONDS = 2.0
_PAUSE_SECONDS = 0.05
_ROWS_AT_ONCE = 500
_NOTICE_A_DEAD_CLIENT = (  # else a statement goes on, and holds its locks, long after we were killed
    "SELECT set_config(name, '2s', false) FROM pg_settings WHERE name = 'client_connection_check_interval'"
)


@dataclass(frozen=True, slots=True)
class Table:
    """A table's name and columns."""

    name: str
    columns: tuple[str, ...]


class Offline(Protocol):
    """One engine's transaction."""

    words: dict[str, str]

    def run(self, sql: str) -> list[tuple[Any, ...]]:
        """A statement without parameters; its rows."""

    def named(self, statement: Statement) -> None:
        """A statement of `queries/*.sql`."""

    def tables(self) -> list[Table]:
        """All but `migrations`, each after those that it refers to."""

    def rows(self, table: Table) -> Generator[tuple[Any, ...]]:
        """Every row, streamed, in the order of the first column."""

    def fill(self, table: Table, rows: Iterable[tuple[Any, ...]]) -> int:
        """Puts rows into a table that is empty; how many."""

    def check(self) -> None:
        """Raises Unavailable where a row refers to one that is not there."""


@contextlib.contextmanager
def writing(location: str) -> Iterator[Offline]:
    """A transaction that nobody else reads or writes beside. `location`: as in `open_store`, but the file is made.

    Raises Unavailable, also when a broker serves the store.
    """
    with _transaction(location, reading=False) as work:
        work.run(_APPLIED)
        yield work
        work.check()


@contextlib.contextmanager
def reading(location: str) -> Iterator[Offline]:
    """A consistent view of a store, also while a broker serves it: what is committed meanwhile is not seen.

    Raises Unavailable.
    """
    with _transaction(location, reading=True) as work:
        yield work


def applied(work: Offline) -> dict[int, str]:
    """The migrations of a store, by number. Raises Unavailable where there is no schema."""
    rows = work.run("SELECT number, name FROM migrations ORDER BY number")
    return {int(number): str(name) for number, name in rows}


@contextlib.contextmanager
def _transaction(location: str, *, reading: bool) -> Iterator[Offline]:
    if is_postgresql(location):
        with _postgresql(location, reading=reading) as work:
            yield work
    else:
        with _sqlite(Path(location), reading=reading) as work:
            yield work


# --- SQLite -----------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _sqlite(path: Path, *, reading: bool) -> Iterator[Offline]:
    is_new = not reading and not path.exists()
    try:
        if not reading:
            path.touch(mode=0o600)
        mode = "ro" if reading else "rw"
        connection = sqlite3.connect(
            f"{path.absolute().as_uri()}?mode={mode}", uri=True, timeout=_BUSY_TIMEOUT_SECONDS, isolation_level=None
        )
    except (OSError, sqlite3.Error) as error:
        reason = getattr(error, "strerror", None) or error
        raise Unavailable(
            "store.missing",
            f"The store {path} cannot be opened: {reason}.",
            "Run `percall-broker init`, or restore it.",
        ) from error
    try:
        with contextlib.closing(connection):
            if not (reading or is_new):
                connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("PRAGMA foreign_keys = OFF")  # a table may be made anew; `check` looks at them all
            connection.execute("BEGIN" if reading else "BEGIN IMMEDIATE")
            yield _Sqlite(connection)
            connection.execute("COMMIT")
            if is_new:  # a log that cannot be folded into its file is left beside it without a word, so there was none
                connection.execute("PRAGMA journal_mode = WAL")
    except sqlite3.Error as error:
        raise Unavailable("store.migration", f"The store {path} failed: {error}. Nothing was changed.") from error


# https://sqlite.org/fileformat2.html#stat1tab: rows, and how many share the first column, the first two, and so on.
_LOG_STATISTICS = """
ANALYZE migrations;
DELETE FROM sqlite_stat1;
INSERT INTO sqlite_stat1 (tbl, idx, stat) VALUES
    ('log', 'log_kind_id', '1000000 250000 1'), ('log', 'log_call', '250000 4'),
    ('log', 'log_call_time', '250000 1'), ('log', 'log_deadline', '250000 1'), ('log', 'log_unknown', '1000 1')
"""


class _Sqlite:
    words = {  # noqa: RUF012 - never written to
        "{sequence}": "INTEGER PRIMARY KEY AUTOINCREMENT",
        "{bytes}": "BLOB",
        "{log_statistics}": _LOG_STATISTICS,
    }

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def run(self, sql: str) -> list[tuple[Any, ...]]:
        return self._connection.execute(sql).fetchall()

    def named(self, statement: Statement) -> None:
        self._connection.execute(load("sqlite")[statement.name].sql, statement.parameters).fetchall()

    def tables(self) -> list[Table]:
        names = [name for (name,) in self.run("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name")]
        columns, references = {}, {}
        for name in names:
            if name != "migrations" and not name.startswith("sqlite_"):
                columns[name] = tuple(str(row[1]) for row in self.run(f'PRAGMA table_info("{name}")'))
                references[name] = {str(row[2]) for row in self.run(f'PRAGMA foreign_key_list("{name}")')}
        return _in_order(columns, references)

    def rows(self, table: Table) -> Generator[tuple[Any, ...]]:
        yield from self._connection.execute(_selecting(table))

    def fill(self, table: Table, rows: Iterable[tuple[Any, ...]]) -> int:
        places = ", ".join("?" for _ in table.columns)
        self.run(f'DELETE FROM "{table.name}"')  # noqa: S608 - what a migration put there
        into = f'INSERT INTO "{table.name}" ({_names(table)}) VALUES ({places})'  # noqa: S608 - names of our own schema
        return self._connection.executemany(into, rows).rowcount

    def check(self) -> None:
        if broken := self.run("PRAGMA foreign_key_check"):
            raise Unavailable("store.references", f"Rows of {broken[0][0]} refer to rows that are not there.")


# --- PostgreSQL -------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _postgresql(url: str, *, reading: bool) -> Iterator[Offline]:
    import psycopg  # noqa: PLC0415 - only where it is used

    try:
        with psycopg.connect(url, connect_timeout=_CONNECT_TIMEOUT_SECONDS) as connection:
            if reading:
                connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
                connection.read_only = True
            else:
                connection.execute(_NOTICE_A_DEAD_CLIENT)
                _stand_alone(connection)
            yield _Postgresql(connection)
    except psycopg.Error as error:
        raise Unavailable(
            "store.migration", f"The database failed ({type(error).__name__}). Nothing was changed."
        ) from error


def _stand_alone(connection: psycopg.Connection[tuple[Any, ...]]) -> None:
    """Nobody serves the database until the transaction ends. Raises Unavailable.

    The server notices a moment late that a broker has hung up, so it is asked again for a while. Waiting in its queue
    instead would refuse the lock to a broker that does serve, and opens a connection meanwhile.
    """
    end = time.monotonic() + _LEAVING_SECONDS
    while connection.execute("SELECT pg_try_advisory_xact_lock(%s)", (SERVED,)).fetchone() != (True,):
        if time.monotonic() >= end:
            raise Unavailable(
                "broker.running", "A broker serves this database, or another command works on it.", "Stop it."
            )
        time.sleep(_PAUSE_SECONDS)  # PostgreSQL tells nobody that an advisory lock was given up


class _Postgresql:
    words = {  # noqa: RUF012 - never written to
        "{sequence}": "BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY",
        "{bytes}": "BYTEA",
        "{log_statistics}": "ANALYZE log",
    }

    def __init__(self, connection: psycopg.Connection[tuple[Any, ...]]) -> None:
        self._connection = connection

    def run(self, sql: str) -> list[tuple[Any, ...]]:
        cursor = self._connection.execute(sql.encode())
        return cursor.fetchall() if cursor.description is not None else []

    def named(self, statement: Statement) -> None:
        sql = load("postgresql")[statement.name].sql
        self._connection.execute(sql.encode(), statement.parameters)

    def tables(self) -> list[Table]:
        columns: dict[str, tuple[str, ...]] = {}
        for name, column in self.run(
            "SELECT table_name, column_name FROM information_schema.columns JOIN information_schema.tables"
            " USING (table_schema, table_name) WHERE table_schema = current_schema() AND table_type = 'BASE TABLE'"
            " AND table_name <> 'migrations' ORDER BY table_name, ordinal_position"
        ):
            columns[name] = (*columns.get(name, ()), column)
        references: dict[str, set[str]] = {name: set() for name in columns}
        for name, referred in self.run(
            "SELECT a.relname, b.relname FROM pg_constraint c JOIN pg_class a ON a.oid = c.conrelid"
            " JOIN pg_class b ON b.oid = c.confrelid WHERE c.contype = 'f' AND a.relnamespace = "
            "current_schema()::regnamespace"
        ):
            references[name].add(referred)
        return _in_order(columns, references)

    def rows(self, table: Table) -> Generator[tuple[Any, ...]]:
        with self._connection.cursor(name="percall_rows") as cursor:
            cursor.itersize = _ROWS_AT_ONCE
            yield from cursor.execute(_selecting(table).encode())

    def fill(self, table: Table, rows: Iterable[tuple[Any, ...]]) -> int:
        count = 0
        self.run(f'DELETE FROM "{table.name}"')  # noqa: S608 - what a migration put there
        with self._connection.cursor() as cursor:
            copying = f'COPY "{table.name}" ({_names(table)}) FROM STDIN'.encode()
            with cursor.copy(copying) as copy:
                for row in rows:
                    if any(type(value) is str and "\0" in value for value in row):
                        raise Unavailable(
                            "store.value",
                            f"A row of {table.name!r} holds a NUL, which PostgreSQL does not keep.",
                            "Restore into SQLite.",
                        )
                    copy.write_row(row)
                    count += 1
        for (column,) in self.run(
            "SELECT column_name FROM information_schema.columns WHERE table_schema = current_schema()"  # noqa: S608
            f" AND table_name = '{table.name}' AND is_identity = 'YES'"
        ):
            # What is written from now on comes after what was restored.
            self.run(
                f"SELECT setval(pg_get_serial_sequence('\"{table.name}\"', '{column}'),"  # noqa: S608
                f' (SELECT COALESCE(MAX("{column}"), 0) + 1 FROM "{table.name}"), false)'
            )
        return count

    def check(self) -> None:
        """The engine has refused what does not fit."""


def _names(table: Table) -> str:
    return ", ".join(f'"{column}"' for column in table.columns)


def _selecting(table: Table) -> str:
    return f'SELECT {_names(table)} FROM "{table.name}" ORDER BY 1'  # noqa: S608 - names of our own schema


def _in_order(columns: dict[str, tuple[str, ...]], references: dict[str, set[str]]) -> list[Table]:
    """The tables, each after those that it refers to."""
    ordered: list[Table] = []
    left = dict(columns)
    while left:
        ready = [name for name in left if not (references[name] - {name}) & left.keys()]
        ordered += [Table(name, left.pop(name)) for name in ready or list(left)]
    return ordered
