"""`percall scan`: every MCP server in every client's config, which hold a pasted key, and what to do about each."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from percall.cli import output
from percall.clients import scan as scanning
from percall.clients.scan import BACKUP, HISTORY, PASTED, PERCALL, Finding, Scan
from percall.errors import word

if TYPE_CHECKING:
    from percall.errors import PercallError

FOUND_EXIT_CODE = 7
_UNREADABLE_EXIT_CODE = 2


def scan(
    folder: Annotated[
        Path | None,
        typer.Argument(metavar="[DIR]", help="A repository: its files, its history, and the clients' backup copies."),
    ] = None,
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object a server.")] = False,
) -> None:
    """Find MCP servers in clients' configs, and keys pasted there. No key is ever printed.

    Ends with 7 when a pasted key was found, 2 when a file could not be read, 0 otherwise.
    """
    home = Path.home()
    found = scanning.of_folder(folder, home) if folder else scanning.of_machine(home, Path.cwd())
    if as_json:
        for finding in found.findings:
            output.say_json(_as_json(finding))
        for one in found.unreadable:
            output.say_json(_unreadable(one.file, one.error, client=one.client.name))
        if folder and found.unread_history:
            output.say_json(_unreadable(folder, found.unread_history, origin=HISTORY))
    else:
        _tell(found, home)
    pasted = any(finding.state == PASTED for finding in found.findings)
    unreadable = found.unreadable or found.unread_history
    raise typer.Exit(FOUND_EXIT_CODE if pasted else _UNREADABLE_EXIT_CODE if unreadable else 0)


def _tell(found: Scan, home: Path) -> None:
    at: tuple[object, ...] = ()
    for finding in found.findings:
        server = finding.server
        place = (server.client.name, server.file, server.project, finding.commit)
        if place != at:
            at = place
            output.say(_heading(finding, home))
        output.say(f"  {server.name}: {_state(finding)}")
        advice = _advice(finding)
        if advice:
            output.say(f"    {advice}")
    for one in found.unreadable:
        output.say(f"{one.client.title}  {_short(one.file, home)}")
        output.say(f"  {one.error}")
    if found.unread_history:
        output.say(str(found.unread_history))
    output.say(_summary(found))


def _heading(finding: Finding, home: Path) -> str:
    server = finding.server
    origin = {BACKUP: ", a backup copy", HISTORY: f", in commit {finding.commit}"}.get(finding.origin, "")
    project = f", project {_short(Path(server.project), home)}" if server.project else ""
    exposed = ", which others may read" if finding.others_may_read and finding.state == PASTED else ""
    return f"{server.client.title}  {_short(server.file, home)}{project}{origin}{exposed}"


def _state(finding: Finding) -> str:
    server = finding.server
    if finding.state == PERCALL:
        return f"Percall's already (percall run {word(server.percall)})"
    if finding.state == PASTED:
        return "a key is pasted in " + ", ".join(_places(finding))
    return "no key" + (", switched off" if server.disabled else "")


def _places(finding: Finding) -> list[str]:
    pairs = zip(finding.server.secrets, finding.keys, strict=True)
    return [f"{_place(secret.kind, secret.name)} (key {number})" for secret, number in pairs]


def _place(kind: str, name: str) -> str:
    known = {
        "env": f"the variable {name}",
        "header": f"the header {name}",
        "url": "its URL",
        "setting": f"the setting {name}",
    }
    return known.get(kind, f"its arguments, after {name}" if name else "its arguments")


def _advice(finding: Finding) -> str:
    server = finding.server
    if finding.state != PASTED:
        return ""
    if finding.origin == HISTORY:
        return "Whoever has a clone has this key: give it a new one at its issuer."
    if finding.origin == BACKUP:
        return "Delete this copy, and give the key a new one at its issuer."
    if not server.client.rewritten:
        return f"Put `percall run {word(server.name)}` in the place of its command, by hand."
    return f"percall adopt {server.client.name} {word(server.name)}"


def _summary(found: Scan) -> str:
    if not found.findings and not found.unreadable and not found.unread_history:
        return "No MCP server was found."
    pasted = [finding for finding in found.findings if finding.state == PASTED]
    keys = {number for finding in pasted for number in finding.keys}
    files = {finding.server.file for finding in pasted}
    servers = output.counted(len(found.findings), "server")
    if not pasted:
        return f"{servers}, no pasted key."
    return f"{servers}, {output.counted(len(keys), 'pasted key')} in {output.counted(len(files), 'file')}."


def _short(path: Path, home: Path) -> str:
    return f"~/{path.relative_to(home)}" if path.is_relative_to(home) else str(path)


def _unreadable(file: Path, error: PercallError, **more: str) -> dict[str, object]:
    return {**more, "file": str(file), "state": "unreadable", "error": output.error(error)}


def _as_json(finding: Finding) -> dict[str, object]:
    server = finding.server
    return {
        "client": server.client.name,
        "file": str(server.file),
        "project": server.project,
        "server": server.name,
        "state": finding.state,
        "origin": finding.origin,
        "commit": finding.commit,
        "secrets": [
            {"kind": one.kind, "name": one.name, "key": number}
            for one, number in zip(server.secrets, finding.keys, strict=True)
        ],
        "percall": server.percall,
        "disabled": server.disabled,
        "others_may_read": finding.others_may_read,
        "adoptable": server.client.rewritten and finding.state == PASTED,
    }
