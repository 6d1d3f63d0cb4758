"""Makes a store from a backup, in one transaction, with every grant suspended: a backup must not un-revoke.

1  the file is whole, and of a version that we know
2  its MAC holds, under a key that this machine's key-encryption keys open: nobody else has made or altered it
3  there is nothing where the store will be
4  the schema that the backup had, its rows, then what this version adds
5  what was active is suspended until an administrator has looked at it; what opens something once is over
"""

from __future__ import annotations

import asyncio
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from percall_broker.backup import archive
from percall_broker.crypto import sodium
from percall_broker.log import changes
from percall_broker.model.errors import Conflict, InvalidInput
from percall_broker.model.location import is_postgresql
from percall_broker.store import offline, schema
from percall_broker.store.opening import apply
from percall_broker.store.protocol import Statement

if TYPE_CHECKING:
    from collections.abc import Iterator

    from percall_broker.vault import KeySource

_ASIDE = ".restoring"
_FILES = ("", "-wal", "-shm", "-journal")
"""A store's. SQLite writes what a log holds into whatever store it finds beside it: also into a restored one."""


@dataclass(frozen=True, slots=True)
class Restored:
    """What was restored: the backup's header, and the rows of each table."""

    header: archive.Header
    rows: dict[str, int]


async def authentic(backup: archive.Archive, source: KeySource) -> None:
    """Step 2. Raises InvalidInput when the file was altered, or made under other keys; Unavailable."""
    try:
        mac_key = await source.unwrap(backup.header.wrapped, archive.CONTEXT)
    except sodium.SealBrokenError:
        raise InvalidInput(
            "backup.keys",
            f"This backup was made under another {backup.header.wrapped.key}, or was altered.",
            "Restore the keys that belong to it first.",
        ) from None
    if not backup.is_made_with(mac_key):
        raise InvalidInput(
            "backup.altered",
            "This backup was altered since it was made.",
            "Use another one; this one restores nothing.",
        )


async def restore(location: str, source: KeySource, path: Path) -> Restored:
    """A store from a backup. Raises InvalidInput, Conflict where something is there already, Unavailable."""
    with archive.Archive(path) as backup:  # 1
        if unknown := backup.header.numbers() - {migration.number for migration in schema.known()}:
            raise schema.newer(unknown)
        await authentic(backup, source)  # 2
        if is_postgresql(location):
            rows = await asyncio.to_thread(_fill, location, backup)
        else:
            rows = await asyncio.to_thread(_fill_file, Path(location), backup)
        return Restored(backup.header, rows)


def _fill_file(path: Path, backup: archive.Archive) -> dict[str, int]:
    """The file appears under its name once it is whole."""
    for there in _files(path):  # 3
        if there.exists():
            raise Conflict(
                "restore.exists", f"There is {there} already.", f"Move it away first, with all of {path.name}*."
            )
    aside = path.with_name(path.name + _ASIDE)
    _clear(aside)
    try:
        rows = _fill(str(aside), backup)
        descriptor = os.open(path.parent, os.O_RDONLY)
        try:
            aside.rename(path)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    finally:
        _clear(aside)
    return rows


def _files(path: Path) -> list[Path]:
    return [path.with_name(path.name + suffix) for suffix in _FILES]


def _clear(path: Path) -> None:
    for file in _files(path):
        file.unlink(missing_ok=True)


def _fill(location: str, backup: archive.Archive) -> dict[str, int]:
    had = backup.header.numbers()
    with offline.writing(location) as work:
        if work.tables() or offline.applied(work):  # 3
            raise Conflict("restore.exists", "There is something in that database.", "Restore into an empty one.")
        for migration in schema.known():  # 4
            if migration.number in had:
                apply(work, migration)
        rows = dict(_filled(work, backup))
        for migration in schema.missing(had):
            apply(work, migration)
        for statement in _suspending(backup.header):  # 5
            work.named(statement)
    return rows


def _filled(work: offline.Offline, backup: archive.Archive) -> Iterator[tuple[str, int]]:
    columns = {table.name: set(table.columns) for table in work.tables()}
    for table, rows in backup.tables():
        if columns.pop(table.name, None) != set(table.columns):
            raise InvalidInput("backup.damaged", f"The backup's table {table.name!r} is not one of this schema.")
        yield table.name, work.fill(table, rows)


def _suspending(header: archive.Header) -> list[Statement]:
    now = int(time.time())
    return [
        Statement("mark_restored_grants"),
        Statement("suspend_restored_grants"),
        Statement("expire_restored_invites", {"now": now}),
        Statement("end_restored_approvals"),
        Statement("end_restored_allowances"),
        Statement("forget_restored_links"),
        Statement("forget_restored_sessions"),
        Statement("expect_no_restored_accounts"),
        Statement("forget_restored_keys"),
        Statement("forget_restored_replicas"),
        Statement("forget_restored_deliveries"),
        Statement("add_restore", {"restored_at": now, "backup_created_at": header.created_at}),
        changes.change(None, "backup.restore", backup_created_at=header.created_at, made_by=header.percall),
        Statement("advance_epoch"),
    ]
