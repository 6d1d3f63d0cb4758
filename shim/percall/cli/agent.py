"""`percall agent …`: the agents of this device, each with a key and grants of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from percall import home
from percall.cli import output
from percall.errors import BrokerRefusal, PercallError, UsageError
from percall.identity import claims, keyrings, standings

if TYPE_CHECKING:
    from percall.home import Login

agents = typer.Typer(
    help="The agents of this device. They are client applications, each with a key of its own. Their names are"
    " declared, not proven: a program of yours can use another one's.",
    no_args_is_help=True,
)


@agents.command("list")
def list_agents(
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object an agent, broker and person.")] = False,
) -> None:
    """Show the agents that have a login here. What they may use is as the broker last said."""
    rows = [_row(*key, logins) for key, logins in sorted(_by_agent().items())]
    if as_json:
        for row in rows:
            output.say_json(row)
    elif rows:
        shown = [
            (str(row["agent"]), str(row["broker"]), str(row["person"]), ", ".join(row["servers"]) or "-")
            for row in rows
        ]
        output.table([("agent", "broker", "person", "servers"), *shown])
    else:
        output.say("No agents. Run `percall login URL --invite CODE`.")


@agents.command()
def remove(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The agent.")],
    local: Annotated[bool, typer.Option("--local", help="Forget it here although its broker cannot be asked.")] = False,
    ended: Annotated[bool, typer.Option("--ended", help="Only those that are over, while another stands.")] = False,
) -> None:
    """End an agent's grants. They end at the broker, and its key and grants are deleted from this device."""
    mine = {key: logins for key, logins in sorted(_by_agent().items()) if key[0] == name}
    if not mine:
        known = ", ".join(sorted({agent for agent, _, _ in _by_agent()})) or "none"
        raise UsageError(
            "agent.unknown", f"There is no agent {name!r} on this device (known: {known}).", "See: percall agent list."
        )
    if ended and local:
        raise UsageError("agent.options", "--ended asks the broker what is over, and --local asks nobody.", "Give one.")
    if ended:
        _forget_ended(name)
        return
    failed: list[PercallError] = []
    for (_, broker, person), logins in mine.items():
        over, failure = _end(logins)
        _forget(logins if local else over)
        whose = f"Agent {name} of {person}"
        if failure is None:
            told = f"{output.counted(len(over), 'grant')} ended; key and grants are deleted here."
            output.say(f"{whose} is removed at {broker}: {told}")
        elif local:
            standing = output.counted(len(logins) - len(over), "grant")
            output.say(
                f"{whose} is deleted here alone ({failure.message}). At {broker}, {standing} may still stand: tell your"
                " administrator."
            )
        else:
            failed.append(failure)
    for failure in failed[1:]:
        output.say_error(str(failure))
    if failed:
        raise _with_way_out(failed[0])


def _forget_ended(name: str) -> None:
    """Of an agent that goes on, what the broker refuses for good. Nothing changes there. Raises PercallError: the first
    problem of a login that could not be asked for.
    """
    all_of_them = standings.of_all(name)
    granted = standings.granted(all_of_them)
    past = [login for login, session in granted if standings.is_past(login, session, granted)]
    _forget(past)
    output.say(f"Agent {name}: {output.counted(len(past), 'grant')} that had ended, deleted here.")
    for standing in all_of_them:
        if standing.error is not None:
            raise standing.error


def _forget(logins: list[Login]) -> None:
    for login in logins:
        keyrings.of(login).delete(login.grant)
        home.forget_login(login.grant)


def _end(logins: list[Login]) -> tuple[list[Login], PercallError | None]:
    """One person's logins that have ended at their broker, and the first problem of the others. One key holds all of
    them, unless an earlier one was lost: what any signs ends the others of its key.
    """
    ended: set[str] = set()
    failed: dict[str, PercallError] = {}
    for login in logins:
        if login.grant in ended:
            continue
        try:
            ended |= {login.grant, *claims.leave(login).ended}
        except PercallError as error:
            failed[login.grant] = error
    failure = next((error for grant, error in failed.items() if grant not in ended), None)
    return [login for login in logins if login.grant in ended], failure


def _with_way_out(failure: PercallError) -> PercallError:
    """Names the option for a broker that cannot be asked; one that has refused had its reason."""
    if not isinstance(failure, BrokerRefusal):
        failure.next_step = f"{failure.next_step} To forget it here alone: add --local.".lstrip()
    return failure


def _by_agent() -> dict[tuple[str, str, str], list[Login]]:
    """By agent, broker and person: administrator and user may share a machine."""
    found: dict[tuple[str, str, str], list[Login]] = {}
    for login in home.logins():
        found.setdefault((login.agent, login.broker, login.person), []).append(login)
    return found


def _row(agent: str, broker: str, person: str, logins: list[Login]) -> dict[str, list[str] | str]:
    sessions = [home.session(login.grant) for login in logins]
    servers = {granted.entry.name for session in sessions if session for granted in session.servers}
    return {
        "agent": agent,
        "broker": broker,
        "person": person,
        "grants": [login.grant for login in logins],
        "servers": sorted(servers),
    }
