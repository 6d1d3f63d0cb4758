"""`percall-broker approval …`: what waits for your answer, shown whole, and answered with your passphrase."""

from __future__ import annotations

import json
import re
import threading
import time
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import quote

import typer

from percall import wire
from percall.errors import UsageError
from percall_broker.cli import output
from percall_broker.cli.approvers import people_here, waiting, whose
from percall_broker.cli.options import Json
from percall_broker.cli.times import seconds_of
from percall_broker.model.counting import lasting
from percall_broker.model.marking import visible, visible_lines
from percall_broker.model.records import APPROVAL_STATES

if TYPE_CHECKING:
    from percall.identity.client import SignedClient

approvals = typer.Typer(help="What waits for your answer, and your answer.", no_args_is_help=True)

_WATCHED = ("approval", "asked_at", "person", "agent", "server", "tool", "reason")
_COLUMNS = ("approval", "asked_at", "state", "answer", *_WATCHED[2:])
_SHOWN = (
    "approval", "state", "kind", "person", "agent", "device", "server", "method", "tool", "reason", "policies",
    "policy_version", "separate", "wanted", "asked_at", "expires_at", "answer", "scope", "varying", "lasting",
    "lasts_until", "call", "used_by", "url", "why_not",
)  # fmt: skip
_ANY_STATE = "all"
_STATES = (*APPROVAL_STATES, _ANY_STATE)
_WATCH_SECONDS = 1.0
_MOST_REMEMBERED = 10_000
_ESCAPE = re.compile(r"\\(?:u[0-9a-fA-F]{4}(?:\\u[dD][c-fC-F][0-9a-fA-F]{2})?|.)")
Approval = Annotated[str, typer.Argument(metavar="APPROVAL", help="The approval's id.")]
Agent = Annotated[str | None, typer.Option("--agent", metavar="NAME", help="As this agent of yours on this machine.")]


@approvals.command("list")
def list_approvals(
    state: Annotated[
        str, typer.Option(help=f"{', '.join(APPROVAL_STATES)}; all: any of them.", metavar="STATE")
    ] = "pending",
    everybody: Annotated[
        bool, typer.Option("--all", help="Not only what you may answer: whatever you may see.")
    ] = False,
    person: Annotated[str, typer.Option(help="Only what this person's agents ask.", metavar="NAME")] = "",
    server: Annotated[str, typer.Option(help="Only of this server.", metavar="NAME")] = "",
    limit: Annotated[int, typer.Option(help="How many at most.", min=1, max=500, metavar="N")] = 100,
    before: Annotated[
        int, typer.Option(help="The next page: before the last one's `seq`.", min=0, show_default=False, metavar="SEQ")
    ] = 0,
    agent: Agent = None,
    as_json: Json = False,
) -> None:
    """What waits for your answer, newest first."""
    if state not in _STATES:
        raise UsageError("approval.state", f"{state!r} is no state.", f"There are: {', '.join(_STATES)}.")
    query = {
        "state": "" if state == _ANY_STATE else state,
        "mine": str(not everybody and state == "pending").lower(),
        "person": person,
        "server": server,
        "limit": str(limit),
        "before": str(before),
    }
    with people_here(agent) as people:
        rows = waiting(people, query)[:limit]
    output.lines(rows, as_json=as_json, columns=_COLUMNS, empty="Nothing waits for you.")


@approvals.command()
def watch(agent: Agent = None, as_json: Json = False) -> None:
    """What comes to wait for your answer, as it comes, until you stop it."""
    pause = threading.Event()
    seen: dict[str, None] = {}
    with people_here(agent) as people:
        while True:
            for row in reversed(waiting(people, {"state": "pending", "mine": "true"})):
                if row["approval"] in seen:
                    continue
                seen[row["approval"]] = None
                if len(seen) > _MOST_REMEMBERED:
                    del seen[next(iter(seen))]
                if as_json:
                    output.one(row, as_json=True)
                else:
                    output.write("  ".join(output.cell(one, row[one]) for one in _WATCHED))
            pause.wait(_WATCH_SECONDS)


@approvals.command()
def show(
    approval: Approval,
    arguments: Annotated[bool, typer.Option(help="Open the call's arguments; that is recorded.")] = True,
    agent: Agent = None,
    as_json: Json = False,
) -> None:
    """One of them, whole: who asks for what, and why it needs an answer. That you opened it is recorded."""
    with people_here(agent) as people:
        client = whose(people, _at(approval)).client
        row = opened(client, approval) if arguments else client.json("GET", _at(approval))
    if as_json:
        output.one(row, as_json=True)
    else:
        tell(row)


@approvals.command()
def allow(
    approval: Approval,
    duration: Annotated[
        str, typer.Option("--for", metavar="TIME", help="Not once, but calls like it for 30m, 2h, or 8h at most.")
    ] = "",
    session: Annotated[bool, typer.Option("--session", help="Calls like it for as long as this client runs.")] = False,
    vary: Annotated[
        list[str] | None,
        typer.Option("--vary", metavar="ARGUMENT", help="May differ in those calls; all else must not."),
    ] = None,
    agent: Agent = None,
    as_json: Json = False,
) -> None:
    """Let the call pass, once, or calls of its shape for a time. Shows what it is, then asks for your passphrase."""
    if duration and session:
        raise UsageError("cli.scope", "Say --for or --session, not both.")
    form: dict[str, Any] = {"answer": "allow", "varying": vary or []}
    if duration:
        form |= {"scope": "shape", "seconds": seconds_of(duration)}
    elif session:
        form["scope"] = "session"
    _answer(approval, form, agent, as_json=as_json)


@approvals.command()
def deny(approval: Approval, agent: Agent = None, as_json: Json = False) -> None:
    """Refuse the call. The same call is not asked about again for a while."""
    _answer(approval, {"answer": "deny"}, agent, as_json=as_json)


@approvals.command()
def never(approval: Approval, agent: Agent = None, as_json: Json = False) -> None:
    """Refuse every call of this tool by this person's agents. Whatever the arguments, until you lift it."""
    _answer(approval, {"answer": "never"}, agent, as_json=as_json)


@approvals.command()
def lift(approval: Approval, agent: Agent = None, as_json: Json = False) -> None:
    """Take back a `never`, or an allowance before its end."""
    with people_here(agent) as people:
        row = whose(people, _at(approval)).client.json("POST", _at(approval, "lift"))
    output.one(row, as_json=as_json, text=f"The answer to {approval} holds no longer.")


def opened(client: SignedClient, approval: str) -> dict[str, Any]:
    """An approval with its call's arguments."""
    return dict(client.json("POST", _at(approval, "arguments")))


def tell(row: dict[str, Any]) -> None:
    """An approval for a person: everything, as text, with whatever would not be seen named."""
    for name in _SHOWN:
        value = row.get(name)
        if value in (None, "", [], 0, False):
            continue
        shown = output.when(value) if name.endswith(("_at", "_until")) else value
        shown = f"{_scope(value)}, for {lasting(value['seconds'])}" if name == "wanted" else output.told(shown)
        output.write(f"{name.ljust(14)}  {shown}")
    for one in row["groups"]:
        who = one["group"] or "the administrators"
        output.write(f"{'of ' + visible(who):14}  {visible(one['person']) or 'nobody yet'}")
    arguments = row.get("arguments")
    if arguments is None:
        return
    if arguments["text"] is None:
        output.write("arguments       cannot be shown any more")
        return
    output.write(f"arguments       {arguments['bytes']} bytes, SHA-256 {arguments['digest']}")
    for line in visible_lines(unescaped(arguments["text"] or "(none)")).split("\n"):
        output.write(f"    {line}")


def unescaped(text: str) -> str:
    """JSON as it was written, but for characters that it spells out: those stand for themselves where they are seen.

    What stays spelt out is what JSON needs so: control characters, quotes and backslashes.
    """

    def character(match: re.Match[str]) -> str:
        found = json.loads(f'"{match[0]}"') if match[0].startswith("\\u") else ""
        return found if found and found.isprintable() and found not in '"\\' else match[0]

    return _ESCAPE.sub(character, text)


def _answer(approval: str, form: dict[str, Any], agent: str | None, *, as_json: bool) -> None:
    with people_here(agent) as people:
        person, client = whose(people, _at(approval))
        row = opened(client, approval)
        if not as_json:
            tell(row)
            output.write("")
        is_open = row["state"] == "pending"
        # Whatever else bars an allow, the arguments that cannot be shown for one, may not bar a no.
        if not row["answerable"] and (form["answer"] == "allow" or not is_open):
            raise UsageError("approval.not_yours" if is_open else "approval.answered", row["why_not"])
        if not as_json:
            output.write(meaning(row, form))
            if len(people) > 1:
                output.write(f"You answer as {person}.")
        done = client.json("POST", _at(approval, "answer"), value={**form, "digest": row["digest"]})
    others = ", ".join(one["group"] for one in done["groups"] if not one["person"])
    more = f" Somebody of {others} must answer too." if done["state"] == "pending" else ""
    output.one(done, as_json=as_json, text=f"Answered: {done['answer'] or form['answer']}.{more}")


def _scope(wanted: dict[str, Any]) -> str:
    """All that a grant would name."""
    return visible("; ".join(f"{kind} {', '.join(names)}" for kind, names in wanted["scope"].items() if names))


def meaning(row: dict[str, Any], form: dict[str, Any]) -> str:
    """What an answer does, in a sentence, before it is given."""
    tool, person = visible(row["tool"]), visible(row["person"])
    if form["answer"] == "never":
        return (
            f"Refuses {tool} of {row['server']} to every agent of {person}, whatever the arguments, until it is lifted."
        )
    if form["answer"] == "deny":
        return "Refuses this call."
    if row["kind"] == "grant":
        until = output.when(int(time.time()) + row["wanted"]["seconds"])
        agent, scope = visible(row["agent"]), _scope(row["wanted"])
        return f"Gives {person}'s agent {agent} a grant of {row['server']} until {until}: {scope}."
    if form.get("scope", "once") == "once":
        return "Lets this call pass, once."
    vary = ", ".join(form["varying"])
    same = f"the same arguments but for {visible(vary)}, which may be anything" if vary else "exactly these arguments"
    until = f"for {form['seconds'] // 60} minutes" if form.get("seconds") else "for as long as its client runs"
    return f"Lets every call of {tool} by this agent with {same} pass, {until}."


def _at(approval: str, *more: str) -> str:
    if not approval or "/" in approval or approval in {".", ".."}:
        raise UsageError("cli.name", f"{approval!r} cannot be an approval's id.")
    return "/".join((wire.PATH_INBOX, quote(approval, safe=""), *more))
