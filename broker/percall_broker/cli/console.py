"""`percall-broker console`, a link into the console, and `percall-broker passkey …`."""

from __future__ import annotations

import webbrowser
from typing import Annotated

import typer

from percall import wire
from percall_broker.cli import output
from percall_broker.cli.connection import administrator, under
from percall_broker.cli.names import tell_unknown
from percall_broker.cli.options import Json, OnlyPerson

passkeys = typer.Typer(help="The passkeys with which people change things in the console.", no_args_is_help=True)

_COLUMNS = ("passkey", "person", "name", "created_at", "used_at")


def console(
    enrol: Annotated[
        bool, typer.Option("--enrol", help="A link that also enrols one passkey; asks for your passphrase.")
    ] = False,
    browser: Annotated[bool, typer.Option("--open", help="Open it in this machine's browser.")] = False,
    as_json: Json = False,
) -> None:
    """Print a link that signs you in to the console. It works once, within five minutes.

    Signed in, you read: an administrator everything, anybody else what is asked of them. To answer or change something
    you need a passkey, which --enrol makes.
    """
    with administrator() as client:
        made = client.json("POST", wire.PATH_CONSOLE_ENROLMENT if enrol else wire.PATH_CONSOLE_LINK)
    what = "signs you in and enrols one passkey" if enrol else "signs you in"
    until = output.by_the_clock(made["expires_at"])
    output.one(made, as_json=as_json, text=f"This link {what}, once, until {until}:\n  {made['link']}")
    if browser:
        webbrowser.open(made["link"])


@passkeys.command("list")
def list_passkeys(person: OnlyPerson = "", as_json: Json = False) -> None:
    """The passkeys, and when each was last used."""
    with administrator() as client:
        rows = client.json("GET", under("passkeys"), query={"person": person})
        if not rows:
            tell_unknown(client, person=person)
    output.lines(rows, as_json=as_json, columns=_COLUMNS, empty="No passkeys. Next: percall-broker console --enrol")


@passkeys.command()
def remove(
    passkey: Annotated[str, typer.Argument(help="The passkey's id.", metavar="PASSKEY")], as_json: Json = False
) -> None:
    """Forget a passkey: it was lost, or is not its person's any more. It changes nothing from now on."""
    with administrator() as client:
        row = client.json("DELETE", under("passkeys", passkey))
    output.one(row, as_json=as_json, text=f"The passkey {row['name']!r} of {row['person']} is forgotten.")
