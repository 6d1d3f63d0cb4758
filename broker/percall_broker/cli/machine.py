"""The commands that act on the broker's own machine: init, invite, serve."""

from __future__ import annotations

import asyncio
import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from percall_broker.cli import output
from percall_broker.cli.options import Areas, Automation, Json, listed, may_change
from percall_broker.model.errors import Conflict, Unavailable

if TYPE_CHECKING:
    from percall_broker.pipeline.administration.grants import Invite
    from percall_broker.settings import Settings

# The broker itself is imported where it is needed: its other commands only talk to one, and should not wait for it.
# ruff: noqa: PLC0415


def init(
    database: Annotated[
        str, typer.Option(help="A PostgreSQL URL; without one, an embedded SQLite file in the folder.", metavar="URL")
    ] = "",
    administrator: Annotated[str, typer.Option(help="The first administrator's name.", metavar="NAME")] = "admin",
    as_json: Json = False,
) -> None:
    """Make the broker's folder, its keys and its store. Prints the first administrator's one-time invite.

    A settings.toml that is in the folder already, alone, says where they are.
    """
    from percall_broker.settings import home, load
    from percall_broker.store import make

    folder = home()
    brought = _make_folder(folder, database)
    try:
        settings = load()
        asyncio.run(make(settings.location))
        asyncio.run(_first_key(settings))
    except BaseException:
        # Nothing is sealed yet: whoever mends what failed may simply say `init` again.
        _clear(folder, brought)
        raise
    invite = asyncio.run(_new_administrator(settings, administrator))
    if as_json:
        output.one({"invite": invite.code, "invite_expires_at": invite.expires_at, "home": str(folder)}, as_json=True)
        return
    output.write(f"The broker's folder is {folder}. Back up {settings.keys} apart from the rest.")
    output.write(f"{invite.person}'s invite, once, until {output.by_the_clock(invite.expires_at)}:")
    output.write(f"  {invite.code}")
    output.write("Next: percall-broker serve, then: percall login URL --invite CODE")


def _make_folder(folder: Path, database: str) -> frozenset[Path]:
    """The folder with its settings, which may hold a database's password; which files were there.

    Raises Conflict, Unavailable.
    """
    from percall_broker.settings import FILE

    file = folder / FILE
    try:
        brought = frozenset(folder.iterdir()) if folder.exists() else frozenset()
        if brought - {file}:
            raise Conflict(
                "init.exists",
                f"There is something in {folder} already.",
                "Set PERCALL_BROKER_HOME to another; or, for a further administrator: percall-broker invite.",
            )
        if brought and database:
            raise Conflict("init.settings", f"{file} is there already.", "Write `database` there, without --database.")
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.chmod(0o700)
        if brought:
            return brought
        file.touch(mode=0o600)
        file.write_text(
            f"database = {json.dumps(database)}\n" if database else "# See docs/reference/percall-broker.md\n"
        )
    except OSError as error:
        raise Unavailable("init.write", f"{folder} cannot be written: {error.strerror}.") from None
    return brought


async def _first_key(settings: Settings) -> None:
    """Raises Unavailable where there is no source of keys, it does not answer, or its key cannot be used."""
    from percall_broker.crypto import sodium
    from percall_broker.vault.sources.chosen import opened

    async with opened(settings) as source:
        try:
            await source.newest()
        except Unavailable as error:
            if error.code != "keys.missing":
                raise
            await source.rotate()
        else:
            await source.wrap(sodium.new_key(), b"init")  # found out here, while nothing has been made yet


def _clear(folder: Path, brought: frozenset[Path]) -> None:
    for path in frozenset(folder.iterdir()) - brought:
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def invite(
    administrator: Annotated[str, typer.Argument(help="Whose.", metavar="ADMINISTRATOR")] = "admin",
    automation: Automation = False,
    may: Areas = "",
    as_json: Json = False,
) -> None:
    """Make another administrator's invite, on the broker's machine. For when the first one ran out, or a laptop is
    lost.

    Whoever may read the broker's folder holds its keys anyway.
    """
    from percall_broker.settings import load

    made = asyncio.run(_new_administrator(load(), administrator, automation=automation, may=tuple(listed(may))))
    until = output.by_the_clock(made.expires_at)
    text = f"{administrator}'s invite, once, until {until}:\n  {made.code}"
    text += f"\n{may_change(listed(may))}" if automation else ""
    output.one({"invite": made.code, "invite_expires_at": made.expires_at}, as_json=as_json, text=text)


async def _new_administrator(
    settings: Settings, name: str, *, automation: bool = False, may: tuple[str, ...] = ()
) -> Invite:
    from percall_broker.compose import compose, open_vault
    from percall_broker.pipeline.administration.grants import NewGrant

    async with open_vault(settings) as (store, vault):
        broker = await compose(store, vault, settings, "http://127.0.0.1")
        new = NewGrant(name, {}, administrator=not automation, automation=automation, may=may)
        return await broker.administration.grants.create(None, new)


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
