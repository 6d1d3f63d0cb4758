"""`percall-broker server …`: the catalogue of MCP servers, and their keys."""

from __future__ import annotations

import shlex
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from percall.errors import BrokerRefusal, UsageError
from percall.identity.prompts import hidden
from percall_broker import recipes
from percall_broker.cli import output, pin
from percall_broker.cli.connection import administrator, under
from percall_broker.cli.files import text_of
from percall_broker.cli.options import Json, ServerName
from percall_broker.cli.times import end_of, seconds_of
from percall_broker.model import entry_file
from percall_broker.model.keys import checked_key
from percall_broker.model.names import check_name

servers = typer.Typer(help="The catalogue of MCP servers, and their keys.", no_args_is_help=True)

_COLUMNS = ("server", "title", "label", "state", "frozen", "secret_created_at", "secret_expires_at", "version")
Recipe = Annotated[
    str, typer.Option(help=f"A recipe that ships with Percall: {', '.join(recipes.names())}.", metavar="NAME")
]
From = Annotated[Path | None, typer.Option("--from", help="An entry in the recipes' own format.", metavar="FILE.toml")]
Set = Annotated[list[str] | None, typer.Option("--set", help="A recipe's parameter.", metavar="NAME=VALUE")]
Connect = Annotated[
    list[str] | None,
    typer.Option(
        "--connect",
        help="For tests and demos: a loopback stand-in for a host.",
        metavar="https://HOST=http://127.0.0.1:N",
    ),
]
SecretStdin = Annotated[bool, typer.Option("--secret-stdin", help="Read the key from standard input.")]

KeyExpires = Annotated[
    str,
    typer.Option("--key-expires", help="How long it holds at its issuer, so that you are told before.", metavar="90d"),
]


def _pairs(given: list[str] | None, option: str) -> dict[str, str]:
    pairs = {}
    for item in given or []:
        name, equals, value = item.partition("=")
        if not equals:
            raise UsageError("cli.pair", f"{option} {item!r} has no value.", f"Write {option} NAME=VALUE.")
        pairs[name] = value
    return pairs


def _entry_text(recipe: str, file: Path | None, given: list[str] | None) -> str:
    if bool(recipe) == bool(file):
        raise UsageError("cli.entry", "An entry comes from a recipe or from a file.", "Give --recipe or --from.")
    return recipes.fill(text_of(file) if file else recipes.text_of(recipe), _pairs(given, "--set"))


def _secret(name: str, *, from_stdin: bool) -> str:
    """A key, by a hidden prompt or from standard input; never from argv, where `ps` would show it.

    Raises UsageError where there is none, InvalidInput for what cannot be one, before a passphrase is asked for.
    """
    if not from_stdin and not sys.stdin.isatty():
        raise UsageError(
            "cli.secret",
            "There is no terminal to ask for the key at.",
            "Use --secret-stdin; or, for a server that people use with keys of their own, --no-key.",
        )
    secret = sys.stdin.read().strip("\r\n") if from_stdin else hidden(f"Key for {name}: ")
    if not secret:
        raise UsageError("cli.secret", "No key was given.", "For a server without a shared key: --no-key.")
    checked_key(secret.encode(errors="surrogateescape"))
    return secret


@servers.command()
def add(
    name: ServerName,
    recipe: Recipe = "",
    file: From = None,
    given: Set = None,
    connect: Connect = None,
    secret_stdin: SecretStdin = False,
    key_expires: KeyExpires = "",
    no_key: Annotated[
        bool, typer.Option("--no-key", help="Without a shared key: until there is one, people use keys of their own.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Add a server. Its shared key is asked for at a prompt, and nobody can read it back."""
    text, stand_ins = _entry_text(recipe, file, given), _pairs(connect, "--connect")
    entry = entry_file.read(text, connect=stand_ins)  # a mistake is told before the key is asked for
    check_name(name, "server")
    wanted = entry.slots and entry.key_owner != "personal" and not no_key
    form = {"name": name, "entry": text, "connect": stand_ins, "secret": "", "expires_at": end_of(key_expires)}
    with administrator() as client:
        if any(row["server"] == name for row in client.json("GET", under("servers"))):
            raise BrokerRefusal(
                "server.exists",
                f"There is a server {name!r} already.",
                f"To change it: percall-broker server update {name}, or server rotate-key {name} for its key.",
            )
        if wanted:
            form["secret"] = _secret(name, from_stdin=secret_stdin)
        row = client.json("POST", under("servers"), value=form)
    suggestion = ",".join(row["default_tools"]) or "get_*"
    told = (
        f"{name}: {row['title']} ({row['label']})\n"
        f"Next: percall-broker grant create PERSON --server {name} --tools '{suggestion}' --expires 30d"
    )
    output.one(row, as_json=as_json, text=told)


@servers.command()
def update(
    name: ServerName,
    recipe: Recipe = "",
    file: From = None,
    given: Set = None,
    connect: Connect = None,
    as_json: Json = False,
) -> None:
    """Replace a server's entry; its key stays. A launch command that changed must be trusted on each laptop."""
    text, stand_ins = _entry_text(recipe, file, given), _pairs(connect, "--connect")
    with administrator() as client:
        row = client.json("PUT", under("servers", name), value={"entry": text, "connect": stand_ins})
    told = f"{name} is at version {row['version']} ({row['label']})."
    if waiting := [key["person"] for key in row["personal_keys"] if key["moved"]]:
        told += (
            f"\nKeys go elsewhere now: those of {', '.join(waiting)} are not used until their owners have seen that: "
            f"percall key confirm {name}"
        )
    output.one(row, as_json=as_json, text=told)


@servers.command("list")
def list_servers(as_json: Json = False) -> None:
    """The catalogue."""
    with administrator() as client:
        rows = client.json("GET", under("servers"))
    output.lines(rows, as_json=as_json, columns=_COLUMNS, empty="No servers. Add one: percall-broker server add")


@servers.command()
def show(
    name: ServerName,
    entry: Annotated[bool, typer.Option("--entry", help="Its entry alone, as `server add --from` reads it.")] = False,
    as_json: Json = False,
) -> None:
    """One server, whole. How it starts, where its key goes, what its tools may do. Never the key."""
    with administrator() as client:
        row = client.json("GET", under("servers", name, *(["entry"] if entry else [])))
    if entry:
        stand_ins = [f"# With: --connect {origin}={at}" for origin, at in row["connect"].items()]
        output.one(row, as_json=as_json, text="\n".join([*stand_ins, row["entry"].rstrip()]))
        return
    if not as_json:
        row["command"] = shlex.join(row["command"] or [])
        row["tools"] = [f"{', '.join(rule['match'])}: {', '.join(rule['requests'])}" for rule in row["tools"]]
        row["personal_keys"] = [_personal_key(key) for key in row["personal_keys"]]
    output.one(row, as_json=as_json)


def _personal_key(key: dict[str, Any]) -> str:
    since = output.cell("created_at", key["created_at"])
    parts = [f"{key['person']}: version {key['version']} since {since}"]
    parts += ["offered as the shared one"] if key["offered_at"] else []
    parts += ["not used until its owner confirms it"] if key["moved"] else []
    return ", ".join(parts)


@servers.command()
def remove(name: ServerName, as_json: Json = False) -> None:
    """Take a server out of the catalogue: its next call is refused."""
    with administrator() as client:
        row = client.json("DELETE", under("servers", name))
    output.one(row, as_json=as_json, text=f"{name} is removed.")


@servers.command()
def suspend(name: ServerName, as_json: Json = False) -> None:
    """Refuse a server's calls until it is resumed. From the next one on; open streams are cut."""
    with administrator() as client:
        row = client.json("POST", under("servers", name, "suspend"))
    output.one(row, as_json=as_json, text=f"{name} is suspended: its next call is refused.")


@servers.command()
def resume(name: ServerName, as_json: Json = False) -> None:
    """Let a suspended server work again."""
    with administrator() as client:
        row = client.json("POST", under("servers", name, "resume"))
    output.one(row, as_json=as_json, text=f"{name} works again.")


@servers.command("accept-key")
def accept_key(
    name: ServerName,
    person: Annotated[str, typer.Option("--from", help="Who has offered it.", metavar="PERSON")],
    as_json: Json = False,
) -> None:
    """Make the key that a person has offered the shared one. Everybody's grants use it from the next request on."""
    with administrator() as client:
        row = client.json("POST", under("servers", name, "accept-key"), value={"person": person})
    text = f"{name} uses {person}'s key as the shared one, version {row['secret_version']}. {person} has none any more."
    output.one(row, as_json=as_json, text=text)


@servers.command("rotate-key")
def rotate_key(
    name: ServerName, secret_stdin: SecretStdin = False, key_expires: KeyExpires = "", as_json: Json = False
) -> None:
    """Give a server a new shared key, or its first. Calls may run meanwhile: the next request uses it."""
    ends = end_of(key_expires)
    with administrator() as client:
        client.json("GET", under("servers", name))  # that there is none is told before the key is asked for
        form = {"secret": _secret(name, from_stdin=secret_stdin), "expires_at": ends}
        row = client.json("POST", under("servers", name, "key"), value=form)
    text = f"{name} uses version {row['secret_version']} of its key from now on. Revoke the old one at its issuer."
    output.one(row, as_json=as_json, text=text)


@servers.command("key-end")
def key_end(
    name: ServerName,
    duration: Annotated[str, typer.Argument(help="How long it still holds, 90d for one; or `never`.", metavar="WHEN")],
    as_json: Json = False,
) -> None:
    """Say when the key in use ends at its issuer. You are told before. Nothing stops it here."""
    ends = 0 if duration == "never" else int(time.time()) + seconds_of(duration, "; or never")
    with administrator() as client:
        row = client.json("PUT", under("servers", name, "key", "end"), value={"expires_at": ends})
    until = output.when(ends)
    output.one(row, as_json=as_json, text=f"The key of {name} ends: {until}.")


servers.command()(pin.pins)
servers.command()(pin.pin)
