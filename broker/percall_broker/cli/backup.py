"""`percall-broker backup …` and `migrate`: what is done to the store as a whole, on the broker's own machine."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from percall.errors import UsageError
from percall_broker.cli import output
from percall_broker.cli.options import Json
from percall_broker.cli.output import when
from percall_broker.model.counting import counted
from percall_broker.model.errors import BrokerError, Unavailable

if TYPE_CHECKING:
    from percall_broker.backup import Archive, Header
    from percall_broker.settings import Settings
    from percall_broker.store.protocol import Statement

# The broker itself is imported where it is needed, as in `machine`.
# ruff: noqa: PLC0415

backups = typer.Typer(
    help="Backups of the store, on the broker's own machine.", no_args_is_help=True, rich_markup_mode=None
)

BACKED_UP = "backup.made"
"""The change that says that a backup came about; `backup.create` says that one was begun."""
_HELD = {
    "persons": ("person", "people"),
    "devices": ("device",),
    "grants": ("grant",),
    "servers": ("server",),
    "secrets": ("sealed secret",),
    "log": ("entry of the log", "entries of the log"),
}
"""What a person is told of a backup's tables, those who were removed included; `--json` has all of them."""
File = Annotated[Path, typer.Argument(help="The backup's file.", metavar="FILE")]


@backups.command()
def create(file: File, as_json: Json = False) -> None:
    """Write a backup into a new file, also while the broker serves. The key-encryption keys are never in it."""
    from percall_broker.settings import load

    if not file.name:
        raise UsageError("cli.backup", "A backup is written into a new file.", "Name it.")
    settings = load()
    header = asyncio.run(_create(settings, file))
    size = file.stat().st_size
    text = (
        f"{file} holds the store as of {when(header.created_at)} ({size} bytes, readable by you alone).\n"
        f"It opens with {header.wrapped.key}, which is not in it: keep that apart."
    )
    output.one({"file": str(file), "bytes": size, **_described(header)}, as_json=as_json, text=text)


@backups.command()
def check(
    file: File,
    without_keys: Annotated[
        bool,
        typer.Option("--without-keys", help="Only whether it is whole: not whether somebody altered it on purpose."),
    ] = False,
    as_json: Json = False,
) -> None:
    """Say whether a backup is whole and unaltered, and what it holds. Needs no broker; changes nothing."""
    from percall_broker.backup import Archive

    with Archive(file) as archive:
        if not without_keys:
            asyncio.run(_authentic(archive))
        rows = dict(sorted((table.name, sum(1 for _ in found)) for table, found in archive.tables()))
        described = _described(archive.header) | {"authentic": None if without_keys else True, "rows": rows}
    *most, last = [counted(rows.get(table, 0), *noun) for table, noun in _HELD.items()]
    proven = "whole" if without_keys else "whole, and as it was made"
    text = (
        f"{file} is {proven}: percall {described['percall']}, {described['engine']}, {when(described['created_at'])}"
        f".\nIt holds {', '.join(most)} and {last}.\nIt opens with {described['key_encryption_key']}."
    )
    output.one(described, as_json=as_json, text=text)


@backups.command()
def restore(file: File, as_json: Json = False) -> None:
    """Make the store from a backup. In this folder, or in the empty database; every grant is suspended until it is
    reviewed.

    The keys that belong to it must be in place first. Afterwards: `serve`, `invite`, then `review show`.
    """
    from percall_broker.backup import restore as restored_from
    from percall_broker.settings import load
    from percall_broker.store.lock import alone
    from percall_broker.vault.sources.chosen import opened

    settings = load()

    async def run() -> Any:
        async with opened(settings) as source:
            return await restored_from(settings.location, source, file)

    _make_folder(settings.home)
    with alone(settings.home):
        done = asyncio.run(run())
    text = (
        f"Restored from {when(done.header.created_at)}. What was active then is suspended: what was revoked since is"
        " not known here.\nNext: percall-broker serve, percall-broker invite, and as that administrator:"
        " percall-broker review show"
    )
    output.one({**_described(done.header), "rows": done.rows}, as_json=as_json, text=text)


def migrate(
    backup: Annotated[
        Path | None, typer.Option(help="Where the backup goes. [default: backups/ in the folder]", metavar="FILE")
    ] = None,
    no_backup: Annotated[bool, typer.Option("--no-backup", help="Make none: then nothing leads back.")] = False,
) -> None:
    """Bring the store's schema to this version. All of it or nothing, with a backup first. No broker may be serving."""
    from percall_broker.log import changes
    from percall_broker.settings import load
    from percall_broker.store import check_unserved, pending
    from percall_broker.store import migrate as apply_migrations
    from percall_broker.store.lock import alone

    if backup is not None and no_backup:
        raise UsageError("cli.backup", "A backup and none cannot both be.", "Say --backup FILE or --no-backup.")
    settings = load()
    if not asyncio.run(pending(settings.location)):
        output.write("Nothing to do: the store is of this version.")
        return
    record = []
    with alone(settings.home):
        if not no_backup:
            asyncio.run(check_unserved(settings.location))
            file = backup or _file_before_migration(settings)
            try:
                asyncio.run(_create(settings, file, recorded=False))
            except BrokerError as error:
                raise Unavailable(
                    error.code,
                    f"Nothing was migrated, since no backup could be made: {error.message}",
                    f"{error.next_step} Or, without a way back: percall-broker migrate --no-backup".strip(),
                ) from None
            output.write(f"The store as it was is in {file}.")
            record.append(changes.change(None, BACKED_UP, file=file.name))
        done = asyncio.run(apply_migrations(settings.location))
        asyncio.run(_recorded(settings, *record, changes.change(None, "store.migrate", applied=list(done))))
    output.write(f"Applied: {', '.join(done)}.")


async def _create(settings: Settings, file: Path, *, recorded: bool = True) -> Header:
    from percall_broker.backup import create as make
    from percall_broker.log import changes
    from percall_broker.vault.sources.chosen import opened

    if recorded:  # first, so that the backup tells of itself
        await _recorded(settings, changes.change(None, "backup.create", file=file.name))
    async with opened(settings) as source:
        header = await make(settings.location, source, file)
    if recorded:  # and then that it came about
        await _recorded(settings, changes.change(None, BACKED_UP, file=file.name))
    return header


async def _recorded(settings: Settings, *entries: Statement) -> None:
    from percall_broker.store import open_store

    store = await open_store(settings.location)
    try:
        await store.append(*entries)
    finally:
        await store.close()


async def _authentic(archive: Archive) -> None:
    from percall_broker.backup import authentic
    from percall_broker.settings import load
    from percall_broker.vault.sources.chosen import opened

    async with opened(load()) as source:
        try:
            await authentic(archive, source)
        except Unavailable as error:
            raise Unavailable(
                error.code, f"The file is whole, but its keys are not here: {error.message}", "Or: --without-keys."
            ) from None


def _file_before_migration(settings: Settings) -> Path:
    folder = settings.home / "backups"
    _make_folder(folder)
    return folder / time.strftime("before-migration-%Y%m%dT%H%M%SZ.backup", time.gmtime())


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise Unavailable("backup.write", f"{folder} cannot be made: {error.strerror}.") from None


def _described(header: Header) -> dict[str, Any]:
    return {
        "created_at": header.created_at,
        "percall": header.percall,
        "engine": header.engine,
        "migrations": list(header.migrations),
        "key_encryption_key": header.wrapped.key,
    }
