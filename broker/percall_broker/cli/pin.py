"""`percall-broker server pins` and `server pin`: what a server says its tools are, and what of that is accepted."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer

from percall.errors import UsageError
from percall_broker.cli import output
from percall_broker.cli.connection import administrator, under
from percall_broker.cli.options import Json, ServerName
from percall_broker.model.marking import visible
from percall_broker.model.pins import ACCEPTED, CHANGED, OLD, written

_COLUMNS = ("tool", "state", "differs", "laptops", "refused", "pinned_by", "pinned_at", "first_seen_at", "digest")


def pins(name: ServerName, as_json: Json = False) -> None:
    """What a server says its tools are. What of it is accepted, and what has changed and is refused."""
    with administrator() as client:
        rows = client.json("GET", under("servers", name, "pins"))
    if not as_json:
        rows = [{**row, "digest": row["digest"][:12]} for row in rows]
    output.lines(rows, as_json=as_json, columns=_COLUMNS, empty=f"Nobody has listed the tools of {name} yet.")


def pin(
    name: ServerName,
    tools: Annotated[
        list[str] | None, typer.Option("--tool", help="Only this tool; may be given several times.", metavar="TOOL")
    ] = None,
    replace: Annotated[bool, typer.Option("--replace", help="Accept no older definition of these tools.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Ask nothing: whoever runs this has looked.")] = False,
    as_json: Json = False,
) -> None:
    """See what a server's tools have become, and accept it. It counts for everybody.

    What would hide in the text is named: ⟨U+202E⟩. A definition that was accepted before stays so beside the new one,
    since not every laptop runs the same version, unless you say --replace.
    """
    with administrator() as client:
        rows = client.json("GET", under("servers", name, "pins"))
        wanted = _wanted(rows, tools or [], replace=replace)
        if not wanted:
            nothing = f"Nothing of {name} waits to be accepted."
            unseen = f"Nobody has listed the tools of {name} yet. Where it runs: percall doctor {name}; then again."
            output.one({"accepted": []}, as_json=as_json, text=nothing if rows else unseen)
            return
        if not as_json:
            for row in wanted:
                _show(row)
        if not yes:
            _ask(len(wanted))
        form = {"tools": {row["tool"]: row["digest"] for row in wanted}, "replace": replace}
        accepted = client.json("POST", under("servers", name, "pins"), value=form)
    now = [row for row in accepted if row["digest"] == form["tools"][row["tool"]]]  # type: ignore[index]
    output.one({"accepted": now}, as_json=as_json, text=f"Accepted: {len(now)} of {name}'s tools, for everybody.")


def _wanted(rows: list[dict[str, Any]], tools: list[str], *, replace: bool) -> list[dict[str, Any]]:
    """What waits, of each tool one definition: the changed one, the newest. With --replace, an accepted one too."""
    if unknown := set(tools) - {row["tool"] for row in rows}:
        raise UsageError(
            "pin.unknown", f"No such tool: {visible(', '.join(sorted(unknown)))}.", "See: percall-broker server pins."
        )
    found: dict[str, dict[str, Any]] = {}
    for row in sorted(rows, key=lambda row: (row["state"] == CHANGED, row["first_seen_at"])):
        passed = {OLD} if replace and tools else {OLD, ACCEPTED}
        if row["state"] not in passed and (not tools or row["tool"] in tools):
            found[row["tool"]] = row
    return [found[tool] for tool in sorted(found)]


def _show(row: dict[str, Any]) -> None:
    where = f", refused for {row['refused']}" if row["refused"] else ""
    output.write(f"{visible(row['tool'])}: {row['state']}{where}")
    lines = row["difference"] or [f"  {line}" for line in written(row["definition"])]
    for line in lines:
        output.write(f"  {visible(line)}")
    output.write("")


def _ask(count: int) -> None:
    if not sys.stdin.isatty():
        raise UsageError(
            "pin.no_terminal", "There is no terminal to ask at, so nothing was accepted.", "Add --yes to accept it."
        )
    if not typer.confirm(f"Accept {'these' if count > 1 else 'this'} {count} for everybody?"):
        raise UsageError("pin.declined", "Nothing was accepted.")
