"""`percall-broker log …`: every call, and every change."""

from __future__ import annotations

import re
import threading
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from percall import wire
from percall.errors import UsageError
from percall_broker.cli import output
from percall_broker.cli.connection import administrator, under
from percall_broker.cli.names import tell_unknown
from percall_broker.cli.options import Json, OnlyPerson
from percall_broker.cli.times import milliseconds_of
from percall_broker.model.moments import fine_stamp

calls = typer.Typer(help="The record of every call.", no_args_is_help=True)

COLUMNS = (
    "call",
    "time",
    "person",
    "agent",
    "device",
    "server",
    "tool",
    "decision",
    "reason",
    "outcome",
    "duration_ms",
    "approval",
    "approver",
)
_TAIL_SECONDS = 0.5
_MOST_VERSIONS = 2**31
_HEARSAY = {
    "agent": " (declared by the device, not proven)",
    "client": " (as the client says of itself)",
    "keyed": " (the placeholder stood in no slot of the entry, so the key was left out)",
}
_NAMES = {"arguments": "arguments_sha256", "deadline_ms": "deadline", "device": "device_key"}
"""What stands in the story under a name that would say something else to a person."""
Since = Annotated[str, typer.Option(help="From then on: 2026-11-23T10:00, or 2h for two hours ago.", metavar="TIME")]
Until = Annotated[str, typer.Option(help="Until then.", metavar="TIME")]
Limit = Annotated[int, typer.Option(help="How many at most.", min=1, max=wire.MAX_ROWS, metavar="N")]
_HYPHENED_ID = re.compile(r"-[A-Za-z0-9_-]{21}")


class _TakesCallId(TyperCommand):
    """A command whose argument is a call's id: one in 64 begins with a hyphen, and is no option for that."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Puts such ids behind `--`."""
        ids = [argument for argument in args if _HYPHENED_ID.fullmatch(argument)]
        rest = [argument for argument in args if argument not in ids]
        return super().parse_args(ctx, [*rest, "--", *ids] if ids else args)


def _version_of(text: str) -> tuple[str, int]:
    """`github@3` taken apart; nothing, and 0, where nothing is named. Raises UsageError."""
    if not text:
        return "", 0
    server, at, version = text.rpartition("@")
    if not (server and at and version.isascii() and version.isdecimal() and 0 < int(version) < _MOST_VERSIONS):
        raise UsageError(
            "cli.secret_version", f"{text!r} names no version of a key.", "Write SERVER@N; see: server show SERVER."
        )
    return server, int(version)


@calls.command("list")
def list_calls(
    person: OnlyPerson = "",
    grant: Annotated[str, typer.Option(help="Only this grant's.", metavar="GRANT")] = "",
    agent: Annotated[
        str, typer.Option(help="Only this agent's: a name that its device declared.", metavar="NAME")
    ] = "",
    server: Annotated[str, typer.Option(help="Only of this server.", metavar="NAME")] = "",
    tool: Annotated[str, typer.Option(help="Only of this tool.", metavar="TOOL")] = "",
    decision: Annotated[str, typer.Option(help="Only these.", metavar="permit|ask|forbid")] = "",
    since: Since = "",
    until: Until = "",
    secret_version: Annotated[
        str, typer.Option(help="Only what used this version of a server's key.", metavar="SERVER@N")
    ] = "",
    secret_owner: Annotated[
        str,
        typer.Option(help="Only what used this person's own key; with a version, that of theirs.", metavar="PERSON"),
    ] = "",
    limit: Limit = 1000,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV with a header.")] = False,
    as_json: Json = False,
) -> None:
    """Calls with their outcomes, newest first. Of a key, also the requests that belong to no call."""
    if as_csv and as_json:
        raise UsageError("cli.form", "Calls are printed as CSV or as JSON.", "Say --csv or --json, not both.")
    if decision not in {"", "permit", "ask", "forbid"}:
        raise UsageError("cli.decision", f"{decision!r} is no decision.", "Write permit, ask or forbid.")
    key_server, version = _version_of(secret_version)
    if key_server and server not in {"", key_server}:
        raise UsageError("cli.secret_version", f"{secret_version} is no key of {server}.", "Leave --server out.")
    query = {
        "person": person,
        "grant": grant,
        "agent": agent,
        "server": server or key_server,
        "tool": tool,
        "decision": decision,
        "since_ms": str(milliseconds_of(since)),
        "until_ms": str(milliseconds_of(until)),
        "limit": str(limit),
        "secret_owner": secret_owner,
        "secret_version": str(version),
    }
    with administrator() as client:
        rows = client.json("GET", under("calls"), query=query)
        if not rows:
            tell_unknown(client, person=person, server=query["server"], grant=grant)
            tell_unknown(client, person=secret_owner)
    if as_csv:
        output.comma_separated(rows, COLUMNS)
    else:
        output.lines(rows, as_json=as_json, columns=COLUMNS, empty="No calls.")


@calls.command()
def changes(
    since: Since = "",
    until: Until = "",
    limit: Limit = 1000,
    as_json: Json = False,
) -> None:
    """What administrators changed, newest first. And whose arguments they read."""
    query = {"since_ms": str(milliseconds_of(since)), "until_ms": str(milliseconds_of(until)), "limit": str(limit)}
    with administrator() as client:
        rows = client.json("GET", under("changes"), query=query)
    columns = ("time", "person", "presence", "action", "server", "call", "details")
    output.lines(rows, as_json=as_json, columns=columns, empty="No changes.")


@calls.command()
def tail(as_json: Json = False) -> None:
    """Calls as they are decided, until you stop it."""
    pause = threading.Event()
    shown: set[str] = set()
    with administrator() as client:
        after = client.json("GET", under("tail"))["seq"]
        while True:
            answer = client.json("GET", under("tail"), query={"after": str(after)})
            after = answer["seq"]
            fresh = [row for row in answer["calls"] if row["call"] not in shown]
            shown = {row["call"] for row in answer["calls"]}
            for row in fresh:
                if as_json:
                    output.one(row, as_json=True)
                else:
                    output.write("  ".join(output.told(row[column] or "-") for column in COLUMNS))
            pause.wait(_TAIL_SECONDS)


@calls.command(cls=_TakesCallId)
def show(
    call: Annotated[str, typer.Argument(help="The call's id.", metavar="CALL")],
    arguments: Annotated[
        bool, typer.Option("--arguments", help="Open its sealed arguments; that is recorded.")
    ] = False,
    as_json: Json = False,
) -> None:
    """One call's story. Decision, requests, outcome, and who has read its arguments."""
    with administrator() as client:
        opened = client.json("POST", under("calls", call, "arguments")) if arguments else {}
        story = client.json("GET", under("calls", call))
    if as_json:
        output.one({**story, **opened}, as_json=True)
        return
    for entry in story["entries"]:
        output.write(f"{fine_stamp(entry['time_ms'])}  {entry['kind']}")
        for name, value in entry.items():
            if name in {"time_ms", "kind", "call", "grant_id"} or value in ("", [], {}):
                continue
            shown = fine_stamp(value) if name == "deadline_ms" else output.told(value)
            output.write(f"    {_NAMES.get(name, name)}: {shown}{_HEARSAY.get(name, '')}")
    if arguments:
        output.write(f"arguments: {opened['arguments'] or '(none kept)'}")
