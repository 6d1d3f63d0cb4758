"""`percall-broker grant …`: what one agent of one person may do."""

from __future__ import annotations

import shlex
from typing import Annotated, Any

import typer

from percall.errors import UsageError
from percall_broker.cli import output
from percall_broker.cli.connection import administrator, under
from percall_broker.cli.group import without_device
from percall_broker.cli.options import Areas, Automation, Json, listed, may_change
from percall_broker.cli.times import end_of, seconds_of
from percall_broker.model.counting import counted

grants = typer.Typer(help="What one agent of one person may do.", no_args_is_help=True)

_COLUMNS = ("grant", "person", "agent", "device", "state", "expires_at", "servers", "may")
Grant = Annotated[str, typer.Argument(help="The grant's id.", metavar="GRANT")]


@grants.command()
def create(
    person: Annotated[str, typer.Argument(help="Whose grant; nobody's with --group.", metavar="PERSON")] = "",
    group: Annotated[
        str, typer.Option(help="Grant it to each member of a group, now and when they join.", metavar="NAME")
    ] = "",
    server: Annotated[
        list[str] | None, typer.Option(help="A server; may be given several times.", metavar="NAME")
    ] = None,
    tools: Annotated[str, typer.Option(help="Patterns for tools, by commas: 'get_*,list_*'.", metavar="PATTERNS")] = "",
    prompts: Annotated[str, typer.Option(help="Patterns for prompts.", metavar="PATTERNS")] = "",
    resources: Annotated[str, typer.Option(help="Patterns for resources' URIs.", metavar="PATTERNS")] = "",
    expires: Annotated[
        str, typer.Option(help="How long it holds: 30d, 12h, 15m; never unless given.", metavar="TIME")
    ] = "",
    agent: Annotated[
        str, typer.Option(help="Only for this agent; else for whichever picks it up.", metavar="NAME")
    ] = "",
    administrator_grant: Annotated[
        bool, typer.Option("--administrator", help="A grant that administers this broker, and makes no calls.")
    ] = False,
    automation: Automation = False,
    may: Areas = "",
    as_json: Json = False,
) -> None:
    """Make a grant. Where the person has a device, it waits for that; else print the one-time invite that enrols one.

    An invite holds for fifteen minutes.
    """
    if bool(person) == bool(group):
        raise UsageError("cli.grant", "A grant is one person's or one group's.", "Name a PERSON, or --group NAME.")
    scope = {"tools": listed(tools), "prompts": listed(prompts), "resources": listed(resources)}
    servers = dict.fromkeys(server or [], scope)
    if group:
        if administrator_grant or automation:
            raise UsageError("cli.grant", "What administers is granted to one person at a time.", "Name a PERSON.")
        _grant_group(group, servers, agent, seconds_of(expires) if expires else 0, as_json=as_json)
        return
    form = {
        "person": person,
        "servers": servers,
        "agent": agent,
        "expires_at": end_of(expires),
        "administrator": administrator_grant,
        "automation": automation,
        "may": listed(may),
    }
    with administrator() as client:
        made = client.json("POST", under("grants"), value=form)
    text = f"Grant {made['grant']} for {person}. {_way_in(made, agent)}"
    text += f"\n{may_change(listed(may))}" if automation else ""
    output.one(made, as_json=as_json, text=text)


def _grant_group(group: str, servers: dict[str, Any], agent: str, seconds: int, *, as_json: bool) -> None:
    form = {"servers": servers, "agent": agent, "expires_seconds": seconds}
    with administrator() as client:
        made = client.json("POST", under("groups", group, "grants"), value=form)
    text = f"Grant {made['group_grant']} for {group}. {_of_members(made['grants'])}"
    output.one(made, as_json=as_json, text="\n".join([text, *without_device(made["without_device"])]))


def _of_members(grants: list[Any]) -> str:
    if not grants:
        return "It has no members yet; whoever joins gets one of their own."
    return f"For its members, {counted(len(grants), 'grant')} of their own, waiting for their devices."


def _way_in(made: dict[str, Any], agent: str) -> str:
    """How a grant reaches its person: by an invite, or by a device that they have already."""
    if made["waits"]:
        return "It waits for a device of theirs, and needs no invite.\nThere: percall status, or percall login URL"
    until = output.by_the_clock(made["invite_expires_at"])
    named = f" --agent {shlex.quote(agent)}" if agent else ""
    return (
        f"The invite works once, until {until}:\n  {made['invite']}\n"
        f"On their device: percall login URL --invite CODE{named}"
    )


@grants.command("list")
def list_grants(as_json: Json = False) -> None:
    """Every grant."""
    with administrator() as client:
        rows = client.json("GET", under("grants"))
    shown = rows if as_json else output.with_what_it_may(rows)
    output.lines(shown, as_json=as_json, columns=_COLUMNS, empty="No grants.")


@grants.command()
def show(grant: Grant, as_json: Json = False) -> None:
    """One grant, whole."""
    with administrator() as client:
        output.one(client.json("GET", under("grants", grant)), as_json=as_json)


def _change(grant: str, verb: str, sentence: str, *, as_json: bool) -> None:
    with administrator() as client:
        row: dict[str, Any] = client.json("POST", under("grants", grant, verb))
    output.one(row, as_json=as_json, text=f"Grant {grant} of {row['person']} {sentence}")


@grants.command()
def suspend(grant: Grant, as_json: Json = False) -> None:
    """Refuse everything that it asks, until it is resumed. From the next call on."""
    _change(grant, "suspend", "is suspended: its next call is refused.", as_json=as_json)


@grants.command()
def resume(grant: Grant, as_json: Json = False) -> None:
    """Let a suspended grant work again."""
    _change(grant, "resume", "works again.", as_json=as_json)


@grants.command()
def revoke(grant: Grant, as_json: Json = False) -> None:
    """End a grant for good. Its next call is refused, open streams are cut, its children stopped.

    A group's grant (gg_…) ends with all that came from it.
    """
    if grant.startswith("gg_"):
        with administrator() as client:
            row = client.json("POST", under("group-grants", grant, "revoke"))
        text = f"Grant {grant} is revoked for good, and with it {row['ended_grants']} of its group's members."
        output.one(row, as_json=as_json, text=text)
        return
    _change(grant, "revoke", "is revoked for good. Nobody else is affected.", as_json=as_json)
