"""`percall-broker device …`: the machines that people have enrolled."""

from __future__ import annotations

from typing import Annotated

import typer

from percall_broker.cli import output
from percall_broker.cli.connection import administrator, under
from percall_broker.cli.names import tell_unknown
from percall_broker.cli.options import Json, OnlyPerson
from percall_broker.model.counting import counted

devices = typer.Typer(help="The machines that people have enrolled.", no_args_is_help=True)

_COLUMNS = ("device", "person", "name", "state", "agents", "grants", "frozen", "created_at")


@devices.command("list")
def list_devices(person: OnlyPerson = "", as_json: Json = False) -> None:
    """The devices; also those that are revoked."""
    with administrator() as client:
        rows = client.json("GET", under("devices"), query={"person": person})
        if not rows:
            tell_unknown(client, person=person)
    output.lines(rows, as_json=as_json, columns=_COLUMNS, empty="No devices.")


@devices.command()
def revoke(
    device: Annotated[
        str, typer.Argument(help="The device's id, or its name where only one has it.", metavar="DEVICE")
    ],
    as_json: Json = False,
) -> None:
    """End a device for good: a laptop was stolen. Every grant of every agent on it ends. Its person's other devices go
    on.
    """
    with administrator() as client:
        row = client.json("POST", under("devices", "revoke"), value={"device": device})
    ended = counted(row["ended"]["grants"], "grant")
    text = f"The device {row['name']!r} of {row['person']} is revoked, and {ended} with it."
    if row["passkeys"]:
        remain = f"{counted(row['passkeys'], 'passkey')} of {row['person']}"
        text += (
            f"\nStill there: {remain}, for the console. Whoever unlocks the laptop may sign in with one that is on it."
            f"\nNext: percall-broker passkey list --person {row['person']}, then passkey remove"
        )
    output.one(row, as_json=as_json, text=text)
