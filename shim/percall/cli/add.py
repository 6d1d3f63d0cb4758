"""`percall add` and `percall remove`: a server of the catalogue into a client's config, and out of it again."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from percall import home
from percall.adoption import placing
from percall.adoption.placing import PRESENT, Place
from percall.cli import output
from percall.cli.login import tell_what_waited
from percall.clients import own_command
from percall.clients.catalogue import CLIENTS, client, project_files, project_place, user_files, user_place
from percall.errors import PercallError, UsageError, word
from percall.identity import claims

if TYPE_CHECKING:
    from collections.abc import Callable

    from percall import wire
    from percall.clients.catalogue import Client
    from percall.clients.servers import ConfiguredServer
    from percall.home import Found

_WRITTEN = ", ".join(one.name for one in CLIENTS if one.rewritten)

ClientName = Annotated[str, typer.Option("--client", metavar="CLIENT", help=f"The client: {_WRITTEN}.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


def add(
    server: Annotated[str, typer.Argument(metavar="SERVER", help="A server that you may use (percall catalog).")],
    command: Annotated[
        list[str] | None,
        typer.Argument(metavar="[-- COMMAND...]", help="Launch this instead of the entry's command."),
    ] = None,
    *,
    into: ClientName,
    project: Annotated[
        Path | None,
        typer.Option("--project", metavar="DIR", help="Into the file that this project shares, not into your own."),
    ] = None,
    entry: Annotated[
        str | None, typer.Option("--as", metavar="NAME", help="Its name in the client.  [default: the server's]")
    ] = None,
    agent: Annotated[
        str | None,
        typer.Option(
            "--agent", metavar="NAME", help="The agent to run as.  [default: the client's name, or `default`]"
        ),
    ] = None,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Put a server that you may use into a client's config. Doing it again mends the command that is there."""
    chosen = _client(into)
    shared = project is not None
    place = Place(chosen, _file(chosen, project), entry or server)
    there = placing.there(place, server)
    found = _running(there, agent) or _found(server, chosen, agent, tells=not as_json)
    command = command or list(there.launched if there else ())
    if not (command or found.granted.entry.command or found.granted.entry.delivery == "relay"):
        raise UsageError(
            "launch.command",
            f"Server {server!r} has no launch command.",
            f"Give one: percall add {word(server)} --client {chosen.name} -- COMMAND ARGUMENTS",
        )
    words = own_command.run(found, command, shared=shared)
    put = placing.put(place, server, words, own_command.environment(shared=shared), dry_run=dry_run)
    state = put.state
    if as_json:
        output.say_json(
            {
                "state": state,
                "dry_run": dry_run,
                "client": chosen.name,
                "file": str(place.file),
                "entry": place.entry,
                "server": server,
                "broker": found.login.broker,
                "agent": found.login.agent,
                "command": list(words),
                "difference": list(put.difference),
            }
        )
        return
    would = "would be " if dry_run and state != PRESENT else ""
    done = "is there already" if state == PRESENT else f"{would}{state}"
    output.say(f"{chosen.title}  {place.file}")
    output.say(f"  {place.entry}: {done}; it runs `{shlex.join(words)}`.")
    for line in put.difference if dry_run else ():
        output.say(f"    {line}")
    _tell(found, chosen, agent)
    if not dry_run and state != PRESENT:
        output.say(f"  {chosen.note} To try it out: percall doctor {word(server)}")


def remove(
    server: Annotated[str, typer.Argument(metavar="SERVER", help="Its name in the client, or else the server.")],
    *,
    out_of: ClientName,
    project: Annotated[
        Path | None,
        typer.Option("--project", metavar="DIR", help="Out of this project's files and settings, not your own."),
    ] = None,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Take a server of Percall's out of a client's config. Its grant and its key stay as they are.

    Where an entry has this very name, it goes alone; else every entry that runs the server.
    """
    chosen = _client(out_of)
    where = str(project.absolute()) if project else ""
    own = user_files(chosen, Path.home())
    shared = project_files(chosen, project) if project else []
    of_file = [(file, where) for file in own] + [(file, "") for file in shared]

    def taken(named: Callable[[ConfiguredServer], str]) -> list[tuple[Path, str]]:
        gone: list[tuple[Path, str]] = []
        for file, of in of_file:

            def meant(one: ConfiguredServer, of: str = of) -> bool:
                return (named(one), one.project) == (server, of)

            gone += [(file, name) for name in placing.take_out(chosen, file, meant, dry_run=dry_run)]
        return gone

    gone = taken(lambda one: one.name) or taken(lambda one: one.percall)
    if not gone:
        places = ", ".join(map(str, [*shared, *own])) or "no file of that client is there"
        raise UsageError(
            "remove.unknown",
            f"Percall has no server {server!r} in {chosen.title} ({places}).",
            "`percall scan` shows what is configured where. What is not Percall's is removed in the client itself.",
        )
    for file, name in gone:
        if as_json:
            output.say_json({"client": chosen.name, "file": str(file), "entry": name, "dry_run": dry_run})
        else:
            output.say(f"{chosen.title}  {file}")
            output.say(f"  {name}: {'would be removed' if dry_run else 'removed'}. {chosen.note}")
    if not as_json:
        output.say("What you may use is as it was: percall catalog")


def _client(name: str) -> Client:
    """A client whose config Percall writes. Raises UsageError."""
    chosen = client(name)
    if chosen is None:
        raise UsageError("client.unknown", f"Percall knows no client {name!r}.", f"Those that it writes: {_WRITTEN}.")
    if not chosen.rewritten:
        raise UsageError(
            "client.read_only",
            f"Percall reads {chosen.title}'s config, and does not write it.",
            f"Put `percall run SERVER` there by hand, as a server's command. Those that it writes: {_WRITTEN}.",
        )
    return chosen


def _file(chosen: Client, project: Path | None) -> Path:
    if project is None:
        return user_place(chosen, Path.home())
    if not project.is_dir():
        raise UsageError("add.project", f"{project} is no folder.")
    place = project_place(chosen, project.absolute())
    if place is None:
        raise UsageError(
            "add.project", f"{chosen.title} has no file for a project.", "Leave --project out: it goes into your own."
        )
    return place


def _running(there: ConfiguredServer | None, agent: str | None) -> Found | None:
    """The grant that an entry which is there runs with, while that works and no other agent is named."""
    if there is None or agent is not None:
        return None
    try:
        found = home.find_server(there.percall, there.agent)
    except UsageError:
        return None
    return found if home.may_run(found) else None


def _found(server: str, chosen: Client, agent: str | None, *, tells: bool) -> Found:
    """The grant: of the agent that was named, else the client's own, one that waits for it, or the agent default's."""
    wanted = agent or chosen.name
    try:
        return home.find_server(server, wanted)
    except UsageError:
        pass  # it may wait at a broker
    for broker in dict.fromkeys(login.broker for login in home.logins()):
        try:
            came = claims.pick_up(broker, wanted)
        except PercallError:
            continue  # what it has cannot be known; what is here may do
        if tells:
            tell_what_waited(came)
    errors = []
    for name in (wanted,) if agent else (wanted, home.DEFAULT_AGENT):
        try:
            return home.find_server(server, name)
        except UsageError as error:
            if error.code == "run.ambiguous":
                raise
            errors.append(error)
    is_known = any(login.agent == wanted for login in home.logins())
    raise errors[0 if is_known else -1]  # in words about an agent that there is


def _tell(found: Found, chosen: Client, agent: str | None) -> None:
    """What stands in the way of using it, and whose grant it is."""
    login, granted = found.login, found.granted
    if agent is None and login.agent != chosen.name:
        output.say(
            f"  It runs as the agent {login.agent}: {chosen.title} has no grant of its own (--agent {chosen.name})."
        )
    if not home.accepts(login.broker, granted.entry):
        output.say(f"  Its command is not accepted on this device: percall trust {word(granted.entry.name)}")
    _tell_refusal(found.session.refusal or granted.refusal or granted.key_refusal)


def _tell_refusal(refusal: wire.Refusal | None) -> None:
    if refusal is not None:
        output.say(f"  {refusal}")
