"""Keys: those that wrap the secrets, on the broker's own machine; and who holds copies of upstream ones."""

from __future__ import annotations

import asyncio

import typer

from percall_broker.cli import output
from percall_broker.cli.connection import administrator, under
from percall_broker.cli.options import Json
from percall_broker.model.counting import counted

keys = typer.Typer(
    help="Key-encryption keys; and copies of upstream keys. The first are on the broker's own machine.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@keys.command("copies")
def key_copies(as_json: Json = False) -> None:
    """Who holds the same upstream key as somebody else. The same number means the same key, which is never shown."""
    with administrator() as client:
        rows = client.json("GET", under("keys", "copies"))
    shown = [{**row, "owner": row["owner"] or "(shared)", "key": row["key"] or "unknown"} for row in rows]
    columns = ("key", "server", "owner", "version", "created_at")
    output.lines(rows if as_json else shown, as_json=as_json, columns=columns, empty="No key is held twice.")
    if not as_json and any(not row["key"] for row in rows):
        output.write("unknown: given before fingerprints were kept; it is known once the key is rotated.")


@keys.command("rotate")
def rotate_keys() -> None:
    """Make a new key-encryption key, and wrap every secret anew. Also while the broker serves."""
    # Only this command needs the broker itself.
    from percall_broker.compose import open_vault  # noqa: PLC0415
    from percall_broker.log import changes  # noqa: PLC0415
    from percall_broker.settings import load  # noqa: PLC0415

    async def rotate() -> tuple[str, int, list[str]]:
        async with open_vault(load()) as (store, vault):
            name, wrapped, former = await vault.rotate()
            await store.append(changes.change(None, "keys.rotate", key=name, wrapped=wrapped, former=former))
            return name, wrapped, former

    name, wrapped, former = asyncio.run(rotate())
    output.write(f"{name} wraps {counted(wrapped, 'secret')} now.")
    if former:
        output.write(f"  Keep for the backups made until now, which need it: {', '.join(former)}")
