"""`percall-broker group …`: people who are granted the same, each by a grant of their own."""

from __future__ import annotations

from typing import Annotated

import typer

from percall_broker.cli import output
from percall_broker.cli.connection import administrator, under
from percall_broker.cli.options import Json
from percall_broker.model.counting import counted, lasting

groups = typer.Typer(help="People who are granted the same, each by a grant of their own.", no_args_is_help=True)

_COLUMNS = ("group", "members", "grants", "created_at")
Name = Annotated[str, typer.Argument(help="The group's name.", metavar="NAME")]
People = Annotated[list[str] | None, typer.Argument(metavar="[PERSON…]", help="The people, by name.")]


@groups.command("list")
def list_groups(as_json: Json = False) -> None:
    """The groups."""
    with administrator() as client:
        rows = client.json("GET", under("groups"))
    output.lines(rows, as_json=as_json, columns=_COLUMNS, empty="No groups. Make one: percall-broker group add")


@groups.command()
def show(name: Name, as_json: Json = False) -> None:
    """One group: its members, and what they are granted."""
    with administrator() as client:
        row = client.json("GET", under("groups", name))
    if as_json:
        output.one(row, as_json=True)
        return
    columns: tuple[str, ...] = ("person", "state", "has_device", "joined_at")
    output.lines(row["members"], as_json=False, columns=columns, empty="No members.")
    output.write("")
    columns = ("group_grant", "agent", "servers", "lasts", "created_by")
    grants = [
        {**one, "lasts": lasting(one["expires_seconds"]) if one["expires_seconds"] else "for ever"}
        for one in row["grants"]
    ]
    output.lines(grants, as_json=False, columns=columns, empty="Nothing is granted to it.")


@groups.command()
def add(name: Name, people: People = None, as_json: Json = False) -> None:
    """Make people members of a group, which may be new. They are granted what the group is granted."""
    with administrator() as client:
        row = client.json("POST", under("groups", name, "join"), value={"people": people or []})
    joined = ", ".join(row["joined"])
    waiting = counted(row["new_grants"], "grant")
    text = f"Joined {name}: {joined}. Waiting for their devices: {waiting}." if joined else f"{name} is made."
    absent = [member["person"] for member in row["members"] if not member["has_device"]]
    output.one(row, as_json=as_json, text="\n".join([text, *without_device(absent)]))


@groups.command()
def remove(name: Name, people: People = None, as_json: Json = False) -> None:
    """Take people out of a group, or end the group. Ends the grants that came from it; without people, the group
    itself.
    """
    with administrator() as client:
        if people:
            row = client.json("POST", under("groups", name, "leave"), value={"people": people})
            text = f"Left {name}: {', '.join(row['left'])}. {counted(row['ended_grants'], 'grant')} ended."
        else:
            row = client.json("DELETE", under("groups", name))
            text = f"The group {name} is removed, and {counted(row['ended_grants'], 'grant')} with it."
    output.one(row, as_json=as_json, text=text)


def without_device(people: list[str]) -> list[str]:
    """What to do for those whose grants nothing can pick up yet."""
    return [
        f"{person} has no device yet. If no invite of theirs is open: percall-broker person invite {person}"
        for person in people
    ]
