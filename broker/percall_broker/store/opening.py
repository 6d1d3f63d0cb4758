"""Opens a store and brings its schema up to date; the one place that tells the engines apart by their location.

Importing this imports no driver but the one that is asked for.
"""

from __future__ import annotations

import asyncio
import re
import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING

from percall_broker.model.errors import Unavailable

if TYPE_CHECKING:
    from percall_broker.store.protocol import Store

MIGRATIONS = Path(__file__).parent / "migrations"
_SQLITE_WORDS = {"{sequence}": "INTEGER PRIMARY KEY AUTOINCREMENT", "{bytes}": "BLOB"}
_POSTGRESQL_WORDS = {"{sequence}": "BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY", "{bytes}": "BYTEA"}
_POSTGRESQL_LOCK = 0x70657263616C6C  # `percall` in ASCII: one migration at a time
_APPLIED = "CREATE TABLE IF NOT EXISTS migrations (number BIGINT PRIMARY KEY, name TEXT NOT NULL)"


def is_postgresql(location: str) -> bool:
    """Whether a location names a PostgreSQL database rather than a file."""
    return location.startswith(("postgresql://", "postgres://"))


def sqlite_path(location: str) -> Path:
    """The file of a location: a path, or `sqlite:///` and a path."""
    return Path(location.removeprefix("sqlite:///"))


async def open_store(location: str | Path, *query_folders: Path) -> Store:
    """A store whose schema is up to date: a PostgreSQL URL, or the path of a file made by `migrate`.

    Raises Unavailable when it cannot be reached, or its schema is not the one that this version knows.
    """
    place = str(location)
    if is_postgresql(place):
        from percall_broker.store.postgres import PostgresStore  # noqa: PLC0415 - only where it is used

        store: Store = await PostgresStore.connect(place, *query_folders)
    else:
        from percall_broker.store.sqlite import SqliteStore  # noqa: PLC0415

        path = sqlite_path(place)
        if not path.exists():
            raise Unavailable("store.missing", f"There is no store at {path}.", "Run `percall-broker init` first.")
        store = SqliteStore(path, *query_folders)
    try:
        await check_schema(store)
    except BaseException:
        await store.close()
        raise
    return store


async def check_schema(store: Store) -> None:
    """Raises Unavailable when the store's schema is not the one that this version knows."""
    try:
        applied = [row["number"] for row in await store.fetch("read_migrations")]
    except Unavailable:
        raise Unavailable(
            "store.schema", "The store has no schema, or cannot be read.", "Run `percall-broker migrate`."
        ) from None
    known = [number for number, _ in _migrations()]
    if applied != known:
        raise Unavailable(
            "store.schema",
            f"The store's schema has the migrations {applied}; this version of the broker knows {known}.",
            "Run `percall-broker migrate`, or use the newer version that wrote the store.",
        )


async def migrate(location: str | Path, until: int = 9999) -> list[str]:
    """Applies the migrations that are missing, up to a number; makes the file if there is none.

    Returns the names of those applied now. Raises Unavailable.
    """
    place = str(location)
    wanted = [(number, path) for number, path in _migrations() if number <= until]
    if is_postgresql(place):
        return await _migrate_postgresql(place, wanted)
    return await asyncio.to_thread(_migrate_sqlite, sqlite_path(place), wanted)


def _migrations() -> list[tuple[int, Path]]:
    return [(int(path.name[:4]), path) for path in sorted(MIGRATIONS.glob("[0-9][0-9][0-9][0-9]_*.sql"))]


def _script(path: Path, words: dict[str, str]) -> str:
    # Comments speak of the words too, and a comment may hold a semicolon.
    script = re.sub(r"--.*$", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
    for word, meaning in words.items():
        script = script.replace(word, meaning)
    return script


def _migrate_sqlite(path: Path, wanted: list[tuple[int, Path]]) -> list[str]:
    from percall_broker.store.sqlite import connect  # noqa: PLC0415

    try:
        path.touch(mode=0o600)
        connection = connect(path)
    except OSError as error:
        raise Unavailable("store.missing", f"The store {path} cannot be made: {error.strerror}.") from error
    done: list[str] = []
    try:
        connection.execute("BEGIN IMMEDIATE")
        connection.execute(_APPLIED)
        applied = {row[0] for row in connection.execute("SELECT number FROM migrations")}
        for number, migration in wanted:
            if number in applied:
                continue
            for statement in _script(migration, _SQLITE_WORDS).split(";"):
                if statement.strip():
                    connection.execute(statement)
            connection.execute("INSERT INTO migrations (number, name) VALUES (?, ?)", (number, migration.stem))
            done.append(migration.stem)
        connection.execute("COMMIT")
    except sqlite3.Error as error:
        raise Unavailable("store.migration", f"The store {path} could not be migrated: {error}.") from error
    finally:
        connection.close()
    return done


async def _migrate_postgresql(url: str, wanted: list[tuple[int, Path]]) -> list[str]:
    import psycopg  # noqa: PLC0415

    done: list[str] = []
    try:
        async with await psycopg.AsyncConnection.connect(url, connect_timeout=10) as connection:
            await connection.execute("SELECT pg_advisory_xact_lock(%s)", (_POSTGRESQL_LOCK,))
            await connection.execute(_APPLIED)
            rows = await (await connection.execute("SELECT number FROM migrations")).fetchall()
            applied = {row[0] for row in rows}
            for number, migration in wanted:
                if number in applied:
                    continue
                await connection.execute(_script(migration, _POSTGRESQL_WORDS).encode())
                await connection.execute(
                    "INSERT INTO migrations (number, name) VALUES (%s, %s)", (number, migration.stem)
                )
                done.append(migration.stem)
    except psycopg.Error as error:
        raise Unavailable("store.migration", f"The store could not be migrated ({type(error).__name__}).") from error
    return done
