"""Makes a backup, also while the broker serves: one consistent view of the store, streamed into a file.

The file appears under its name once it is whole and on the disk; until then it has another name, and no last line.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import time
from typing import TYPE_CHECKING

from percall import __version__
from percall_broker.backup import archive
from percall_broker.crypto import sodium
from percall_broker.model.errors import Conflict, Unavailable
from percall_broker.model.location import engine_at
from percall_broker.store import offline

if TYPE_CHECKING:
    from pathlib import Path

    from percall_broker.vault import KeySource
    from percall_broker.vault.sources import Wrapped


async def create(location: str, source: KeySource, path: Path) -> archive.Header:
    """A backup of the store in a new file, readable by its owner alone. Raises Conflict, Unavailable."""
    mac_key = sodium.new_key()
    wrapped = await source.wrap(mac_key, archive.CONTEXT)
    return await asyncio.to_thread(_create, location, path, mac_key, wrapped)


def _create(location: str, path: Path, mac_key: bytes, wrapped: Wrapped) -> archive.Header:
    if path.exists():
        raise Conflict("backup.exists", f"{path} is there already.", "Name another file.")
    partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}.partial")
    try:
        try:
            descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "wb") as file, offline.reading(location) as work:
                migrations = tuple(offline.applied(work).values())
                header = archive.Header(int(time.time()), __version__, engine_at(location), migrations, wrapped)
                tables = ((table, work.rows(table)) for table in work.tables())
                archive.write(file, header, mac_key, tables)
                file.flush()
                os.fsync(file.fileno())
            partial.rename(path)
            _sync(path.parent)
        except BaseException:
            with contextlib.suppress(OSError):
                partial.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise Unavailable(
            "backup.write", f"The backup {path} could not be written: {error.strerror}.", "Nothing of it was kept."
        ) from error
    return header


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
