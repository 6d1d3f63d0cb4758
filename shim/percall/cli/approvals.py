"""`percall approvals` and `percall request`: what your agents have asked, and asking for more than a grant names.

Both only ask. Nothing here approves: that is for people, at a terminal of their own or in the console.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated

import typer

from percall import home, wire
from percall.cli import output, spans
from percall.errors import UsageError, word
from percall.identity.client import SignedClient, asked_of_each

if TYPE_CHECKING:
    from percall.home import Login

_ENDED = {"revoked", "expired"}
_COLUMNS = ("approval", "state", "agent", "kind", "server", "tool", "asked")


def approvals(
    *,
    agent: Annotated[str | None, typer.Option("--agent", metavar="NAME", help="Only this agent's.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object an approval.")] = False,
) -> None:
    """Show what your agents have asked, newest first. Calls that wait for a person, requests, what became of them."""
    found = sorted(_asked(agent), key=lambda row: row[1].asked_at, reverse=True)
    if as_json:
        for login, one in found:
            output.say_json({"broker": login.broker, "agent": login.agent, **_row(one)})
    elif found:
        cells = [
            (one.id, one.state, login.agent, one.kind, one.server, one.tool, output.when(one.asked_at))
            for login, one in found
        ]
        output.table([_COLUMNS, *cells])
        for _, one in found:
            if one.state == "pending":
                output.say(f"{one.id} waits for an answer at {one.url} ({one.reason or 'no reason given'})")
    else:
        output.say("Nothing was asked.")


def request(
    server: Annotated[str, typer.Argument(metavar="SERVER", help="The server.")],
    *,
    tool: Annotated[
        list[str],
        typer.Option("--tool", metavar="PATTERN", help="A tool, or a pattern such as 'get_*'; again for more."),
    ],
    duration: Annotated[str, typer.Option("--for", metavar="TIME", help="How long: 30m, 2h, or 30d at most.")] = "2h",
    reason: Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why, for whoever answers.")] = "",
    agent: Annotated[str | None, typer.Option("--agent", metavar="NAME", help="For this agent.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the request as one JSON object.")] = False,
) -> None:
    """Ask the administrators for more than your grant names. It holds for a while. Once allowed: percall status."""
    wanted = wire.GrantRequest(server, tuple(tool), _seconds(duration), reason)
    login = _asking(server, agent)
    with SignedClient.of(login) as broker:
        made = wire.decode(wire.OwnApproval, broker.json("POST", wire.PATH_APPROVALS, value=wire.encode(wanted)))
    if as_json:
        output.say_json({"broker": login.broker, "agent": login.agent, **_row(made)})
        return
    output.say(
        f"Asked: {made.id}. An administrator answers it at {made.url}, or by: "
        f"percall-broker approval allow {word(made.id)}"
    )
    output.say("  What became of it: percall approvals. Once it is allowed, pick the grant up: percall status")
    if not _names(login, server):
        output.say(f"  No grant of yours names {server} so far: is it spelt so? The broker does not say what there is.")


def _asked(agent: str | None) -> list[tuple[Login, wire.OwnApproval]]:
    """Of every login that its broker answers. Raises PercallError when it answers none."""
    logins = home.logins(agent)
    if not logins:
        raise _no_login(agent)
    answers, _ = asked_of_each(
        logins, lambda broker: wire.decode(wire.OwnApprovals, broker.json("GET", wire.PATH_APPROVALS))
    )
    return [(login, one) for login, own in answers for one in own.approvals]


def _asking(server: str, agent: str | None) -> Login:
    """The login whose grant names the server already, so that the new grant covers it; else the agent's newest."""
    wanted = agent or home.DEFAULT_AGENT
    logins = [login for login in home.logins(wanted) if _may_ask(login)]
    naming = [login for login in logins if _names(login, server)]
    brokers = {login.broker for login in naming or logins}
    if not logins:
        raise _no_login(wanted)
    if len(brokers) > 1:
        raise UsageError(
            "request.ambiguous",
            f"Agent {wanted!r} is logged in at {' and at '.join(sorted(brokers))}.",
            "Log in to one of them under another agent, and name it with --agent.",
        )
    return (naming or logins)[0]


def _may_ask(login: Login) -> bool:
    """Not where it has ended for good. What was stopped for a while may work again by now: the broker knows."""
    session = home.session(login.grant)
    if session is None:
        return True
    ended = session.state in _ENDED or 0 < session.expires_at <= time.time()
    return not ended and not session.automation


def _administers(login: Login) -> bool:
    session = home.session(login.grant)
    return session is not None and session.administrator


def _names(login: Login, server: str) -> bool:
    session = home.session(login.grant)
    return session is not None and any(granted.entry.name == server for granted in session.servers)


def _no_login(agent: str | None) -> UsageError:
    """Says which agents there are, where it is only this one that has no login that works."""
    others = sorted({login.agent for login in home.logins() if _may_ask(login) and not _administers(login)})
    whose = f" of agent {agent!r}" if agent else ""
    advice = f"Add --agent {word(others[0])}." if others else "Run `percall login URL --invite CODE`."
    return UsageError("approvals.no_login", f"There is no login{whose} in {home.folder()} that works.", advice)


def _seconds(text: str) -> int:
    seconds = spans.seconds(text, "mhd") or 0
    if not 0 < seconds <= wire.MAX_REQUEST_SECONDS:
        raise UsageError(
            "usage.time", f"--for: {text!r} is no time that can be asked for.", "Say 30m, 2h, or 7d: 30 days at most."
        )
    return seconds


def _row(one: wire.OwnApproval) -> dict[str, object]:
    row = wire.encode(one)
    return {"approval": row.pop("id"), **row}
