"""The command tree, and the commands that act on this machine: init, serve, migrate, key rotate."""

from __future__ import annotations

import asyncio
import json
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from percall import __version__
from percall_broker.cli import output
from percall_broker.cli.approval import approvals
from percall_broker.cli.backup import backups, migrate
from percall_broker.cli.console import console, passkeys
from percall_broker.cli.device import devices
from percall_broker.cli.freeze import freeze, unfreeze
from percall_broker.cli.grant import grants
from percall_broker.cli.group import groups
from percall_broker.cli.log import calls
from percall_broker.cli.person import people
from percall_broker.cli.policy import policies
from percall_broker.cli.recipe import ships
from percall_broker.cli.review import reviews
from percall_broker.cli.server import servers
from percall_broker.cli.status import status
from percall_broker.cli.webhook import webhooks
from percall_broker.model.errors import Conflict, Unavailable

if TYPE_CHECKING:
    from percall_broker.pipeline.administration.grants import Invite
    from percall_broker.settings import Settings

# The broker itself is imported where it is needed: most commands only talk to one, and should not wait for it to load.
# ruff: noqa: PLC0415

application = typer.Typer(
    name="percall-broker",
    help="Percall's broker: it holds the upstream keys, decides each call, and records it.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
keys = typer.Typer(
    help="Key-encryption keys, on the broker's own machine; and where copies of upstream keys are.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
application.add_typer(servers, name="server")
application.add_typer(ships, name="recipe")
application.add_typer(grants, name="grant")
application.add_typer(people, name="person")
application.add_typer(devices, name="device")
application.add_typer(groups, name="group")
application.command("status")(status)
application.command("freeze")(freeze)
application.command("unfreeze")(unfreeze)
application.add_typer(policies, name="policy")
application.add_typer(approvals, name="approval")
application.add_typer(calls, name="log")
application.add_typer(webhooks, name="webhook")
application.add_typer(keys, name="key")
application.add_typer(backups, name="backup")
application.add_typer(reviews, name="review")
application.command("console")(console)
application.add_typer(passkeys, name="passkey")
application.command()(migrate)

Json = Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")]


def _version(wanted: bool) -> None:
    if wanted:
        output.write(f"percall-broker {__version__}")
        raise typer.Exit


@application.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Percall's broker: it holds the upstream keys, decides each call, and records it."""


@application.command()
def init(
    database: Annotated[
        str, typer.Option(help="A PostgreSQL URL; without one, an embedded SQLite file in the folder.", metavar="URL")
    ] = "",
    administrator: Annotated[str, typer.Option(help="The first administrator's name.")] = "admin",
    as_json: Json = False,
) -> None:
    """Make the broker's folder, its keys and its store; print the first administrator's one-time invite."""
    from percall_broker.settings import home, load

    folder = home()
    _make_folder(folder, database)
    try:
        settings = load()
        asyncio.run(_empty_store(settings))
        asyncio.run(_first_key(settings))
    except BaseException:
        # Nothing is sealed yet: whoever mends what failed may simply say `init` again.
        _clear(folder)
        raise
    invite = asyncio.run(_new_administrator(settings, administrator))
    if as_json:
        output.one({"invite": invite.code, "invite_expires_at": invite.expires_at, "home": str(folder)}, as_json=True)
        return
    output.write(f"The broker's folder is {folder}. Back up {settings.keys} apart from the rest.")
    output.write(f"{invite.person}'s invite, once, until {time.strftime('%H:%M', time.localtime(invite.expires_at))}:")
    output.write(f"  {invite.code}")
    output.write("Next: percall-broker serve, then: percall login URL --invite CODE")


def _make_folder(folder: Path, database: str) -> None:
    """The folder with its settings, which may hold a database's password. Raises Conflict, Unavailable."""
    from percall_broker.settings import FILE

    try:
        if folder.exists() and any(folder.iterdir()):
            raise Conflict(
                "init.exists",
                f"There is something in {folder} already.",
                "Set PERCALL_BROKER_HOME to another; or, for a further administrator: percall-broker invite.",
            )
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.chmod(0o700)
        file = folder / FILE
        file.touch(mode=0o600)
        file.write_text(
            f"database = {json.dumps(database)}\n" if database else "# See docs/reference/percall-broker.md\n"
        )
    except OSError as error:
        raise Unavailable("init.write", f"{folder} cannot be written: {error.strerror}.") from None


async def _first_key(settings: Settings) -> None:
    """Raises Unavailable where there is no source of keys, it does not answer, or its key cannot be used."""
    from percall_broker.crypto import sodium
    from percall_broker.vault.sources.chosen import key_source

    source = key_source(settings)
    try:
        await source.newest()
    except Unavailable as error:
        if error.code != "keys.missing":
            raise
        await source.rotate()
    else:
        await source.wrap(sodium.new_key(), b"init")  # found out here, while nothing has been made yet
    finally:
        await source.close()


def _clear(folder: Path) -> None:
    for path in folder.iterdir():
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


async def _empty_store(settings: Settings) -> None:
    """Brings the schema up, in a database where no broker lives. Raises Conflict, Unavailable."""
    from percall_broker.store import migrate as apply_migrations
    from percall_broker.store import open_store

    await apply_migrations(settings.location)
    store = await open_store(settings.location)
    try:
        if await store.fetch("key_encryption_keys_in_use"):
            raise Conflict(
                "init.database",
                "A broker lives in that database already, and its keys are elsewhere.",
                "Name an empty database, or use the folder that belongs to this one.",
            )
    finally:
        await store.close()


@application.command()
def invite(
    administrator: Annotated[str, typer.Argument(help="Whose.")] = "admin",
    automation: Annotated[
        bool, typer.Option("--automation", help="A program's grant: it administers without anybody's passphrase.")
    ] = False,
    may: Annotated[str, typer.Option(help="What an automation may change, by commas.", metavar="AREAS")] = "",
    as_json: Json = False,
) -> None:
    """Make another administrator's invite on the broker's own machine: when the first one ran out, or a laptop is lost.

    Whoever may read the broker's folder holds its keys anyway.
    """
    from percall_broker.settings import load

    areas = tuple(area.strip() for area in may.split(",") if area.strip())
    made = asyncio.run(_new_administrator(load(), administrator, automation=automation, may=areas))
    until = time.strftime("%H:%M", time.localtime(made.expires_at))
    text = f"{administrator}'s invite, once, until {until}:\n  {made.code}"
    output.one({"invite": made.code, "invite_expires_at": made.expires_at}, as_json=as_json, text=text)


async def _new_administrator(
    settings: Settings, name: str, *, automation: bool = False, may: tuple[str, ...] = ()
) -> Invite:
    from percall_broker.compose import compose, open_vault
    from percall_broker.pipeline.administration.grants import NewGrant

    async with open_vault(settings) as (store, vault):
        broker = await compose(store, vault, "http://127.0.0.1")
        new = NewGrant(name, {}, administrator=not automation, automation=automation, may=may)
        return await broker.administration.grants.create(None, new)


@application.command()
def serve(
    listen: Annotated[
        str | None, typer.Option(help="Where to listen; port 0 for any. [default: 127.0.0.1:8765]", metavar="HOST:PORT")
    ] = None,
    public_url: Annotated[
        str | None, typer.Option(help="The URL that laptops use, where it differs.", metavar="URL")
    ] = None,
    tls_cert: Annotated[Path | None, typer.Option(help="The certificate chain, PEM.", metavar="FILE")] = None,
    tls_key: Annotated[Path | None, typer.Option(help="Its private key, PEM.", metavar="FILE")] = None,
    trusted_proxy: Annotated[
        list[str] | None,
        typer.Option(help="A TLS proxy in front, the only one to connect; again for more.", metavar="ADDRESS|CIDR"),
    ] = None,
    metrics_listen: Annotated[
        str | None,
        typer.Option(help="Where Prometheus may read figures; loopback, or with a token.", metavar="HOST:PORT"),
    ] = None,
    metrics_token_file: Annotated[
        Path | None, typer.Option(help="The token that it must show, in a file of mode 0600.", metavar="FILE")
    ] = None,
    traces_endpoint: Annotated[
        str | None,
        typer.Option(help="An OpenTelemetry collector (OTLP over HTTP) that gets a span of each call.", metavar="URL"),
    ] = None,
) -> None:
    """Serve until told to stop; prints `listening on URL` when ready."""
    from percall_broker.app import serve as run_server
    from percall_broker.settings import load

    told = load(
        listen=listen,
        public_url=public_url,
        tls_cert=tls_cert,
        tls_key=tls_key,
        trusted_proxies=trusted_proxy or None,
        metrics_listen=metrics_listen,
        metrics_token_file=metrics_token_file,
        traces_endpoint=traces_endpoint,
    )
    run_server(told)


@keys.command("copies")
def key_copies(as_json: Json = False) -> None:
    """Who holds the same upstream key as somebody else: the same number means the same key, which is never shown."""
    from percall_broker.cli.connection import administrator, under

    with administrator() as client:
        rows = client.json("GET", under("keys", "copies"))
    shown = [{**row, "owner": row["owner"] or "(shared)", "key": row["key"] or "unknown"} for row in rows]
    columns = ("key", "server", "owner", "version", "created_at")
    output.lines(rows if as_json else shown, as_json=as_json, columns=columns, empty="No key is held twice.")
    if not as_json and any(not row["key"] for row in rows):
        output.write("unknown: given before fingerprints were kept; it is known once the key is rotated.")


@keys.command("rotate")
def rotate_keys(
    keep_old: Annotated[bool, typer.Option(help="Keep the files of keys that wrap nothing any more.")] = False,
) -> None:
    """Make a new key-encryption key and wrap every secret anew, also while the broker serves."""
    from percall_broker.compose import open_vault
    from percall_broker.settings import load

    async def rotate() -> tuple[str, int, list[str]]:
        async with open_vault(load()) as (_, vault):
            name, wrapped = await vault.rotate()
            return name, wrapped, [] if keep_old else await vault.forget_unused_keys()

    name, wrapped, forgotten = asyncio.run(rotate())
    output.write(
        f"{name} wraps {output.counted(wrapped, 'secret')} now."
        + (f" Deleted: {', '.join(forgotten)}." if forgotten else "")
    )
    if forgotten:
        output.write("  Backups made until now open with what was deleted: keep your copy of it as long as them.")
