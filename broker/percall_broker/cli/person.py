"""`percall-broker person …`: who may be here."""

from __future__ import annotations

from typing import Annotated

import typer

from percall_broker.cli import output
from percall_broker.cli.connection import administrator, under
from percall_broker.cli.options import Json
from percall_broker.model.counting import counted

people = typer.Typer(help="The people, and the end of all that is one person's.", no_args_is_help=True)

_COLUMNS = ("person", "state", "administrator", "devices", "grants", "frozen", "sign_in_ends_at", "created_at")
Name = Annotated[str, typer.Argument(help="The person's name.", metavar="NAME")]


@people.command("list")
def list_people(as_json: Json = False) -> None:
    """Everybody, also those who were removed. With how many devices and grants they have."""
    with administrator() as client:
        rows = client.json("GET", under("people"))
    output.lines(rows, as_json=as_json, columns=_COLUMNS, empty="Nobody. Invite somebody: percall-broker person invite")


@people.command()
def invite(name: Name, as_json: Json = False) -> None:
    """Print a one-time invite that enrols a device. Their first or a further one; says which grants wait for it.

    It holds for fifteen minutes. The device picks up what waits when its person logs in.
    """
    with administrator() as client:
        made = client.json("POST", under("people", name, "invite"))
    until = output.by_the_clock(made["invite_expires_at"])
    waiting = [f"  waits: {row['grant']} ({', '.join(row['servers'])})" for row in made["waiting"]]
    text = "\n".join(
        [
            f"{name}'s invite works once, until {until}:",
            f"  {made['invite']}",
            "On their device: percall login URL --invite CODE",
            *(
                waiting
                or [
                    "No grant waits yet; to answer approvals, none is needed.",
                    "To use servers, once they have logged in (until then it prints an invite of its own):",
                    f"  percall-broker grant create {name} --server NAME --tools 'get_*'",
                ]
            ),
        ]
    )
    output.one(made, as_json=as_json, text=text)


@people.command()
def show(name: Name, as_json: Json = False) -> None:
    """One person. With their devices, grants, groups and keys of their own."""
    with administrator() as client:
        row = client.json("GET", under("people", name))
    if as_json:
        output.one(row, as_json=True)
        return
    groups = ", ".join(row["groups"]) or "no group"
    output.write(f"{name}: {row['state']}{', an administrator' if row['administrator'] else ''}, in {groups}")
    if row["frozen"]:
        output.write(f"  frozen by {row['frozen']['by']}: {row['frozen']['reason'] or 'no reason given'}")
    output.write("")
    columns: tuple[str, ...] = ("device", "name", "state", "agents", "grants", "created_at")
    output.lines(row["devices"], as_json=False, columns=columns, empty="No devices.")
    output.write("")
    columns = ("grant", "agent", "device", "state", "expires_at", "servers")
    output.lines(row["grants"], as_json=False, columns=columns, empty="No grants.")
    if row["keys"]:
        output.write("")
        columns = ("server", "version", "offered_at", "created_at")
        output.lines(row["keys"], as_json=False, columns=columns, empty="")


@people.command()
def suspend(name: Name, as_json: Json = False) -> None:
    """Refuse everything that they ask, until they are resumed. From the next call on."""
    with administrator() as client:
        row = client.json("POST", under("people", name, "suspend"))
    output.one(row, as_json=as_json, text=f"{name} is suspended: the next call is refused.")


@people.command()
def resume(name: Name, as_json: Json = False) -> None:
    """Let somebody who was suspended work again."""
    with administrator() as client:
        row = client.json("POST", under("people", name, "resume"))
    output.one(row, as_json=as_json, text=f"{name} may work again.")


@people.command()
def link(name: Name, as_json: Json = False) -> None:
    """Let the account that signs in next under their name be theirs. For who came by an invite and is to sign in at the
    provider from now on, and for a name that has changed hands there: the account they had is forgotten.
    """
    with administrator() as client:
        row = client.json("POST", under("people", name, "link"))
    until = output.when(row["account_expected_until"])
    text = f"Until {until}, the account that signs in as {name} becomes {name} here, once."
    output.one(row, as_json=as_json, text=text)


@people.command()
def remove(name: Name, as_json: Json = False) -> None:
    """End all that is theirs, for good. Every grant, device, invite, key and membership, at once; nobody else is
    affected.
    """
    with administrator() as client:
        row = client.json("POST", under("people", name, "remove"))
    ended = ", ".join(counted(count, what.removesuffix("s")) for what, count in row["ended"].items())
    text = f"{name} is removed. Ended: {ended}. Nobody else is affected."
    output.one(row, as_json=as_json, text=text)
