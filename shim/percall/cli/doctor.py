"""`percall doctor`: what works and what does not, from the keyring to each server, and what to do about it."""

from __future__ import annotations

from dataclasses import asdict
from itertools import chain
from typing import TYPE_CHECKING, Annotated

import typer

from percall import home
from percall.cli import output
from percall.clients.catalogue import CLIENTS, client
from percall.doctor import logins, machine, servers
from percall.doctor.finding import OK, PROBLEM, WARNING, Finding
from percall.errors import UsageError

if TYPE_CHECKING:
    from percall.home import Login


def doctor(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="[SERVER...]", help="Look only at these; also ones that no client has yet."),
    ] = None,
    only: Annotated[
        list[str] | None,
        typer.Option("--client", metavar="CLIENT", help="Only this client's servers; may be repeated."),
    ] = None,
    agent: Annotated[
        str | None, typer.Option("--agent", metavar="NAME", help="Look only at this agent's logins and servers.")
    ] = None,
    *,
    no_start: Annotated[bool, typer.Option("--no-start", help="Start no server.")] = False,
    probe: Annotated[
        bool, typer.Option("--probe", help="Call each server's read-only probe tool too; that is a recorded call.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object a finding.")] = False,
) -> None:
    """Find out what does not work, and say what to do about it. Looks at keyring, broker, clock, grants, proxy and
    certificates, and starts each configured server.

    Ends with the exit code of the first problem, 0 when there is none; warnings do not count.
    """
    unknown = [name for name in only or [] if client(name) is None]
    if unknown:
        known = ", ".join(one.name for one in CLIENTS)
        raise UsageError("client.unknown", f"Percall knows no client {unknown[0]!r}.", f"Those it knows: {known}.")
    here = _readable(agent)
    scan = servers.configured()
    found: list[Finding] = []
    for finding in chain(
        machine.findings(here),
        logins.findings(here, servers.meant(scan, names or [])),
        servers.findings(scan, names or [], only or [], agent, start=not no_start, probe=probe),
    ):
        found.append(finding)
        _tell(finding, as_json=as_json)
    problems = [finding for finding in found if finding.state == PROBLEM]
    warnings = sum(finding.state == WARNING for finding in found)
    if not as_json:
        told = (output.counted(len(problems), PROBLEM), output.counted(warnings, WARNING))
        output.say(f"{len(found)} looked at, {', '.join(told)}.")
    raise typer.Exit(problems[0].exit_code if problems else 0)


def _readable(agent: str | None) -> tuple[Login, ...]:
    """The logins that can be read; those that cannot are findings."""
    try:
        return home.logins(agent)
    except UsageError:
        return ()


def _tell(finding: Finding, *, as_json: bool) -> None:
    if as_json:
        shown = asdict(finding)
        shown.pop("exit_code")
        output.say_json(shown)
        return
    about = f"{finding.about}: " if finding.about else ""
    output.say(f"{finding.state:<8} {finding.check:<12} {about}{finding.message}")
    if finding.state != OK and finding.next_step:
        output.say(f"{'':<22}{finding.next_step}")
