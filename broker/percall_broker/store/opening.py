"""Opens a store and brings its schema up to date.

Importing this imports no driver but the one that is asked for.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

from percall_broker.model.errors import Conflict, Unavailable
from percall_broker.model.location import is_postgresql
from percall_broker.store import offline, schema

if TYPE_CHECKING:
    from percall_broker.store.protocol import Store


async def open_store(location: str | Path, *query_folders: Path) -> Store:
    """A store whose schema is up to date: a PostgreSQL URL, or the path of a file made by `migrate`.

    Raises Unavailable when it cannot be reached, or its schema is not the one that this version knows.
    """
    if is_postgresql(str(location)):
        from percall_broker.store.postgres import PostgresStore  # noqa: PLC0415 - only where it is used

        store: Store = await PostgresStore.connect(str(location), *query_folders)
    else:
        store = _in_file(Path(location), *query_folders)
    try:
        await check_schema(store)
    except BaseException:
        await store.close()
        raise
    return store


def _in_file(path: Path, *query_folders: Path) -> Store:
    from percall_broker.store.sqlite import SqliteStore  # noqa: PLC0415 - only where it is used

    if not path.exists():
        raise Unavailable("store.missing", f"There is no store at {path}.", "Run `percall-broker init` first.")
    return SqliteStore(path, *query_folders)


async def check_schema(store: Store) -> None:
    """Raises Unavailable when the store's schema is not the one that this version knows."""
    try:
        applied = [row["number"] for row in await store.fetch("read_migrations")]
    except Unavailable:
        raise Unavailable(
            "store.schema", "The store has no schema, or cannot be read.", "Run `percall-broker migrate`."
        ) from None
    if behind := schema.missing(applied):
        raise Unavailable(
            "store.schema",
            f"An older version wrote this store: it lacks {', '.join(migration.name for migration in behind)}.",
            "Stop every broker that serves it, then run `percall-broker migrate`.",
        )


async def migrate(location: str | Path) -> list[str]:
    """Applies the migrations that are missing, all or none; makes the file if there is none.

    Returns the names of those applied now. Raises Unavailable: also when a broker serves a PostgreSQL store, or a newer
    version wrote it. (That no broker serves a file is for the caller to see to, with `store.lock`.)
    """
    return await asyncio.to_thread(_migrate, str(location))


async def check_unserved(location: str) -> None:
    """Raises Unavailable when a broker serves a PostgreSQL store, wherever it runs; of a file, its folder's lock tells.

    `migrate` finds out too, but by then a backup has been made for nothing.
    """

    def stand_alone() -> None:
        with offline.writing(location):
            pass

    if is_postgresql(location):
        await asyncio.to_thread(stand_alone)


async def make(location: str) -> None:
    """The schema, where no broker has lived yet; what has one, or another program's tables, is left as it is.

    Raises Conflict, Unavailable.
    """

    def empty_first() -> None:
        with offline.writing(location) as work:
            had = offline.applied(work)
            if work.run("SELECT 1 FROM secrets LIMIT 1") if had else work.tables():
                raise Conflict(
                    "init.database",
                    "There is something in that database already, such as a broker whose keys are elsewhere.",
                    "Name an empty database, or use the folder that belongs to this one.",
                )
            for migration in schema.missing(had):
                apply(work, migration)

    await asyncio.to_thread(empty_first)


def _migrate(location: str) -> list[str]:
    with offline.writing(location) as work:
        behind = schema.missing(offline.applied(work))
        for migration in behind:
            apply(work, migration)
    return [migration.name for migration in behind]


def apply(work: offline.Offline, migration: schema.Migration) -> None:
    """One migration, in the transaction under way."""
    for statement in migration.statements(work.words):
        work.run(statement)
    work.run(f"INSERT INTO migrations (number, name) VALUES ({migration.number}, '{migration.name}')")  # noqa: S608


async def pending(location: str | Path) -> list[str]:
    """The names of the migrations that a store lacks, without changing it. Raises Unavailable."""

    def look() -> list[str]:
        with offline.reading(str(location)) as work:
            return [migration.name for migration in schema.missing(offline.applied(work))]

    return await asyncio.to_thread(look)
