"""`percall agent …`: the agents of this device, each with a key and grants of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from percall import home
from percall.cli import output
from percall.errors import PercallError, UsageError
from percall.identity import claims, keyrings

if TYPE_CHECKING:
    from percall.home import Login

agents = typer.Typer(
    help="The agents of this device. They are client applications, each with a key of its own. Their names are"
    " declared, not proven: a program of yours can use another one's.",
    no_args_is_help=True,
)


@agents.command("list")
def list_agents(
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object an agent and broker.")] = False,
) -> None:
    """Show the agents that have a login here. What they may use is as the broker last said."""
    rows = [_row(agent, broker, logins) for (agent, broker), logins in sorted(_by_agent().items())]
    if as_json:
        for row in rows:
            output.say_json(row)
    elif rows:
        shown = [(str(row["agent"]), str(row["broker"]), ", ".join(row["servers"]) or "-") for row in rows]
        output.table([("agent", "broker", "servers"), *shown])
    else:
        output.say("No agents. Run `percall login URL --invite CODE`.")


@agents.command()
def remove(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The agent.")],
    local: Annotated[bool, typer.Option("--local", help="Forget it here although its broker cannot be asked.")] = False,
) -> None:
    """End an agent's grants. They end at the broker, and its key and grants are deleted from this device."""
    mine = {broker: logins for (agent, broker), logins in _by_agent().items() if agent == name}
    if not mine:
        known = ", ".join(sorted({agent for agent, _ in _by_agent()})) or "none"
        raise UsageError(
            "agent.unknown", f"There is no agent {name!r} on this device (known: {known}).", "See: percall agent list."
        )
    for broker, logins in sorted(mine.items()):
        ended = _end(broker, logins, local=local)
        for login in logins:
            keyrings.of(login).delete(login.grant)
            home.forget_login(login.grant)
        output.say(f"Agent {name} is removed at {broker}: {ended}")


def _end(broker: str, logins: list[Login], *, local: bool) -> str:
    """One key holds all of them, unless an earlier one was lost: any that signs will do."""
    failure: PercallError | None = None
    ended: list[str] = []
    for login in logins:
        if login.grant in ended:
            continue
        try:
            ended += claims.leave(login).ended
        except PercallError as error:
            failure = failure or error
    if failure is None or ended:
        return f"{output.counted(len(ended), 'grant')} ended; key and grants are deleted here."
    if not local:
        raise failure
    return f"deleted here alone ({failure.message}). Its grants still stand at {broker}: tell your administrator."


def _by_agent() -> dict[tuple[str, str], list[Login]]:
    found: dict[tuple[str, str], list[Login]] = {}
    for login in home.logins():
        found.setdefault((login.agent, login.broker), []).append(login)
    return found


def _row(agent: str, broker: str, logins: list[Login]) -> dict[str, list[str] | str]:
    sessions = [home.session(login.grant) for login in logins]
    servers = {granted.entry.name for session in sessions if session for granted in session.servers}
    return {
        "agent": agent,
        "broker": broker,
        "person": logins[0].person,
        "grants": [login.grant for login in logins],
        "servers": sorted(servers),
    }
