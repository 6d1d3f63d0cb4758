"""`percall log`: this person's own calls, as the broker recorded them."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from percall import home, wire
from percall.cli import output, spans
from percall.errors import UsageError, WireError
from percall.identity.client import asked_of_each

if TYPE_CHECKING:
    from percall.home import Login
    from percall.identity.client import SignedClient

_DECISIONS = ("permit", "ask", "forbid")
_COLUMNS = ("time", "agent", "server", "tool", "decision", "reason", "outcome", "duration_ms")


def log(
    *,
    agent: Annotated[
        str | None,
        typer.Option("--agent", metavar="NAME", help="Only this agent's calls: a name, declared and not proven."),
    ] = None,
    server: Annotated[str, typer.Option("--server", metavar="NAME", help="Only calls of this server.")] = "",
    tool: Annotated[str, typer.Option("--tool", metavar="NAME", help="Only calls of this tool.")] = "",
    decision: Annotated[str, typer.Option("--decision", metavar="permit|ask|forbid", help="Only these.")] = "",
    since: Annotated[str, typer.Option("--since", metavar="TIME", help="From: 2h, 7d, or an ISO 8601 time.")] = "",
    until: Annotated[str, typer.Option("--until", metavar="TIME", help="Before: the same forms.")] = "",
    limit: Annotated[int, typer.Option("--limit", min=1, max=wire.MAX_ROWS, help="At most so many, the newest.")] = 50,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object a call.")] = False,
) -> None:
    """Show your own calls, the oldest of them first."""
    if decision not in {"", *_DECISIONS}:
        raise UsageError("usage.decision", f"--decision: {decision!r} is no decision.", "Say permit, ask or forbid.")
    query = {
        "server": server,
        "tool": tool,
        "decision": decision,
        "since_ms": since and str(milliseconds(since)),
        "until_ms": until and str(milliseconds(until)),
        "limit": str(limit),
    }
    calls = _calls(agent, {name: value for name, value in query.items() if value})[-limit:]
    if as_json:
        for call in calls:
            output.say_json(call)
    elif calls:
        output.table([_COLUMNS, *(tuple(_cell(call, column) for column in _COLUMNS) for call in calls)])
    else:
        output.say("No calls.")


def milliseconds(text: str, now: float | None = None) -> int:
    """A point in time, in milliseconds since the epoch: `2h` ago, or an ISO 8601 time (UTC unless it says otherwise).

    Raises UsageError.
    """
    if (ago := spans.seconds(text)) is not None:
        return int(((time.time() if now is None else now) - ago) * 1000)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise UsageError("usage.time", f"{text!r} is no time.", "Say 2h, 7d, or 2026-11-23T10:00:00.") from None
    return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000)


def _calls(agent: str | None, query: dict[str, str]) -> list[dict[str, Any]]:
    """The calls of every agent on this device. Says of which there are none, since its broker did not tell them.

    Raises PercallError: the first failure, when none could be asked.
    """
    logins = home.logins(agent)
    if not logins:
        raise home.no_login("log.no_login", agent)
    answers, failed = asked_of_each(logins, lambda broker: _read(broker, query))
    calls: dict[str, dict[str, Any]] = {}
    for _, of_login in answers:
        calls |= of_login
    told = {_holder(login) for login, _ in answers}  # any grant of an agent tells the calls of all that it had
    for login, error in failed:
        if _holder(login) not in told:
            told.add(_holder(login))
            output.say_error(f"Without the calls of agent {login.agent} of {login.person} at {login.broker}: {error}")
    return sorted(calls.values(), key=lambda call: str(call["time"]))


def _holder(login: Login) -> tuple[str, str, str]:
    return login.broker, login.person, login.agent


def _read(broker: SignedClient, query: dict[str, str]) -> dict[str, dict[str, Any]]:
    """The calls of one login, by id. Raises PercallError."""
    calls = {}
    for line in broker.request("GET", wire.PATH_CALLS, query=query).content.splitlines():
        if line.strip():
            call = wire.strict_json(line)
            if not isinstance(call, dict) or not {"call", "time"} <= call.keys():
                raise WireError("wire.type", "The broker answered with a line that is no call.")
            calls[str(call["call"])] = call
    return calls


def _cell(call: dict[str, Any], column: str) -> str:
    value = call.get(column)
    return "" if value is None else str(value)
