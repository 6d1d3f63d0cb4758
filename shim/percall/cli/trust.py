"""`percall trust NAME`: shows the launch that a broker wants here beside the one accepted before, and accepts it.

Nothing else accepts a changed launch; otherwise whoever rules the broker would run programs on laptops.
"""

from __future__ import annotations

import os
import shlex
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from percall import home
from percall.cli import output
from percall.errors import BrokerRefusal, BrokerUnreachable, IdentityError, UsageError
from percall.identity.client import SignedClient

if TYPE_CHECKING:
    from percall import wire
    from percall.home import Found, Trust

_NONE_HERE = "(none: it stands in the client's config)"


def trust(
    server: Annotated[str, typer.Argument(metavar="NAME", help="The server whose command to accept.")],
    agent: Annotated[
        str | None, typer.Option("--agent", metavar="NAME", help="The agent whose grant covers the server.")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Accept without asking.")] = False,
) -> None:
    """Accept a server's launch command. Records this terminal's PATH for it."""
    found = _refreshed(_find(server, agent))
    entry, broker = found.granted.entry, found.login.broker
    if entry.delivery == "relay":
        output.say(f"Server {entry.name} is a remote one: nothing of it runs here, so there is nothing to accept.")
        return
    before = home.trust(broker, entry.name)
    _show(before, entry)
    if not yes:
        _ask(entry.name)
    home.save_trust(broker, entry, os.environ.get("PATH", os.defpath))
    output.say(f"Accepted. Programs are looked up in {os.environ.get('PATH', os.defpath)}.")


def _find(server: str, agent: str | None) -> Found:
    """Trust holds for every agent of this device, so any agent's grant will do."""
    agents = [agent] if agent else [home.DEFAULT_AGENT, *(login.agent for login in home.logins())]
    first: UsageError | None = None
    for name in agents:
        try:
            return home.find_server(server, name, any_grant=True)
        except UsageError as error:
            first = first or error
    assert first is not None  # noqa: S101 - there is always one agent to try
    raise first


def _refreshed(found: Found) -> Found:
    """What the broker says now; where it cannot be asked, what it said last."""
    try:
        with SignedClient.of(found.login) as broker:
            home.save_session(broker.session())
    except (BrokerUnreachable, BrokerRefusal, IdentityError) as error:
        output.say(f"The broker could not be asked ({error.message}) This is what it said last.")
        return found
    return home.find_server(found.granted.entry.name, found.login.agent, any_grant=True)


def _show(before: Trust | None, entry: wire.ServerEntry) -> None:
    now = launch_lines(entry)
    then = _lines(before.command, before.environment, before.pass_environment, before.hosts or ()) if before else []
    if before is None:
        output.say(f"Server {entry.name} was never accepted on this device. It would run:")
    elif home.is_trusted(before, entry):
        output.say(f"Server {entry.name} runs what you accepted on {output.when(before.accepted_at)}:")
    else:
        output.say(f"Server {entry.name} has changed since you accepted it on {output.when(before.accepted_at)}:")
        for line in then:
            output.say(f"{'  ' if line in now else '- '}{line}")
        for line in now:
            if line not in then:
                output.say(f"+ {line}")
        return
    for line in now:
        output.say(f"  {line}")


def launch_lines(entry: wire.ServerEntry) -> list[str]:
    """All that accepting an entry's launch accepts, in lines."""
    return _lines(entry.command, entry.environment, entry.pass_environment, home.intercepted(entry))


def _lines(
    command: tuple[str, ...], environment: dict[str, str], passed: tuple[str, ...], hosts: tuple[str, ...]
) -> list[str]:
    return [
        f"command      {shlex.join(command) if command else _NONE_HERE}",
        *(f"environment  {name}={shlex.quote(value)}" for name, value in sorted(environment.items())),
        *(f"passed on    {name}" for name in passed),
        *(f"intercepted  {host}" for host in hosts),
    ]


def _ask(server: str) -> None:
    if not sys.stdin.isatty():
        raise UsageError(
            "trust.no_terminal", "There is no terminal to ask at, so nothing was accepted.", "Add --yes to accept it."
        )
    if not typer.confirm(f"Accept this for {server}?"):
        raise UsageError("trust.declined", "Nothing was accepted.")
