"""`percall passphrase`: puts a new passphrase in the place of the one that a person knows."""

from __future__ import annotations

from typing import Annotated

import typer

from percall import home, wire
from percall.cli import output
from percall.identity import presence
from percall.identity.client import SignedClient


def passphrase(
    agent: Annotated[
        str | None, typer.Option("--agent", metavar="NAME", help="The agent whose login to use.  [default: the newest]")
    ] = None,
) -> None:
    """Change the passphrase that shows you are there. Asks for the old one and, twice, for the new one."""
    logins = home.logins(agent)
    if not logins:
        raise home.no_login("passphrase.no_login", agent)
    with SignedClient.of(logins[0]) as broker:
        presence.require_possible(broker.session())
        broker.ask_presence("Your passphrase until now: ")
        new = presence.new_at_terminal("The new one: ")
        if new is not None:
            broker.json("PUT", wire.PATH_PRESENCE, value=wire.encode(new.key))
    output.say(f"The passphrase of {logins[0].person} is changed. The old one opens nothing any more.")
