"""`percall adopt` and `percall undo`: pasted keys to the broker, configs to `percall run`, and back."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from percall import home
from percall.adoption import plan as planning
from percall.adoption import records, undoing
from percall.adoption.plan import Left, Move
from percall.adoption.steps import KEEP, REPLACE, Adopting
from percall.cli import output
from percall.cli.login import tell_what_waited
from percall.clients import scan as scanning
from percall.clients.catalogue import CLIENTS, client
from percall.errors import PercallError, UsageError, word
from percall.identity import claims

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from percall.adoption.records import Adoption

Which = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[CLIENT…] [SERVER…]", help="Clients (`cursor`) and servers' names; all where none is named."
    ),
]
Yes = Annotated[bool, typer.Option("--yes", help="Do it without asking.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object a server.")]


def adopt(
    which: Which = None,
    agent: Annotated[
        str | None, typer.Option("--agent", metavar="NAME", help="The agent to run as.  [default: the client's name]")
    ] = None,
    server: Annotated[
        str | None, typer.Option("--server", metavar="NAME", help="The server at Percall, where it is not recognised.")
    ] = None,
    existing: Annotated[
        str, typer.Option("--existing", metavar="keep|replace", help="Where the broker has another key of yours.")
    ] = "",
    skip_probe: Annotated[bool, typer.Option("--skip-probe", help="Ask for the tools, and call none.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would change, and change nothing.")] = False,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Move pasted keys to the broker, as your own. The clients then run their servers through Percall.

    Shows each change first. A config changes only once its new command works; `percall undo` takes it back.
    """
    if existing not in {"", KEEP, REPLACE}:
        raise UsageError("adopt.existing", f"--existing takes {KEEP} or {REPLACE}.")
    records.erase_old(time.time())
    came = claims.pick_up_everywhere(home.logins())  # which may be what adopting needs
    if not as_json:
        tell_what_waited(came)
    clients, names = _sorted(which)
    found = scanning.of_machine(Path.home(), Path.cwd())
    planned = planning.plan(found, clients=clients, names=names, agent=agent, server=server)
    for unread in found.unreadable:
        output.say_error(f"{unread.client.title}: {unread.error}")
    _require_known(names, found)
    if not planned:
        if not as_json:
            output.say("No pasted key was found there (percall scan shows what is).")
        return
    moves = [one for one in planned if isinstance(one, Move)]
    if not as_json:
        for one in planned:
            _show(one)
    if dry_run or not moves:
        _end(planned, {}, as_json=as_json)
        return
    if not yes:
        _ask(f"Adopt {output.counted(len(moves), 'server')}?")
    with Adopting(_silent if as_json else output.say, existing=existing, probe=not skip_probe) as adopting:
        failed = _carry_out(moves, adopting, _silent if as_json else output.say)
    _end(planned, failed, as_json=as_json, done=True, kept=adopting.kept)


def _carry_out(moves: list[Move], adopting: Adopting, tell: Callable[[str], None]) -> dict[int, PercallError]:
    """Adopts each; why it could not be, by the move's id."""
    failed: dict[int, PercallError] = {}
    for move in moves:
        try:
            seen = adopting.carry_out(move)
        except PercallError as error:
            failed[id(move)] = error
            tell(f"{_place(move)}: its config is left as it was. {error}")
            continue
        probed = f", and {move.found.granted.entry.probe_tool} answered" if seen.probed else ""
        tools = output.counted(len(seen.tools), "tool")
        tell(f"{_place(move)}: runs through Percall; {tools}{probed}. {move.server.client.note}")
    return failed


def _silent(_text: str) -> None:
    """In place of what a person would hear."""


def undo(which: Which = None, yes: Yes = False, as_json: Json = False) -> None:
    """Put back what `percall adopt` replaced. It can for seven days, or until the key was rotated."""
    records.erase_old(time.time())
    found = undoing.undoable(*_sorted(which))
    if not found:
        raise UsageError("undo.nothing", "There is nothing to undo there.", "`percall scan` shows what is configured.")
    possible = [record for record in found if records.has_backup(record)]
    for record in possible:
        if not as_json:
            output.say(f"{_title(record)}  {record.file}")
            output.say(f"  {record.entry}: back to its old command, with the key in this file again{_rotated(record)}")
    if possible and not yes:
        _ask(f"Undo {output.counted(len(possible), 'server')}?")
    first: PercallError | None = None
    for record in found:
        error = None
        try:
            undoing.undo(record)
        except PercallError as problem:
            first, error = first or problem, problem
        if as_json:
            state = "failed" if error else "undone"
            output.say_json({**_where(record), "state": state, "error": output.error(error)})
        else:
            output.say(f"{_title(record)} {record.entry}: {error or 'as it was before Percall.'}")
    if possible and not as_json:
        output.say("The broker keeps your keys until you say: percall key remove SERVER")
    if first is not None:
        raise typer.Exit(first.exit_code)


def _sorted(which: list[str] | None) -> tuple[set[str], set[str]]:
    """Clients and servers' names, as they were named together."""
    clients = {name for name in which or [] if client(name) is not None}
    return clients, set(which or []) - clients


def _require_known(names: set[str], found: scanning.Scan) -> None:
    """Raises UsageError for a name that is no client's, nor any server's in a config."""
    unknown = sorted(names - {one.server.name for one in found.findings})
    if unknown:
        raise UsageError(
            "adopt.name",
            f"{unknown[0]!r} is no client that Percall knows, and no server in a client's config.",
            f"`percall scan` shows the servers. The clients: {', '.join(one.name for one in CLIENTS)}.",
        )


def _show(one: Move | Left) -> None:
    configured = one.server
    output.say(f"{configured.client.title}  {configured.file}{f', {configured.project}' if configured.project else ''}")
    if isinstance(one, Left):
        output.say(f"  {configured.name}: left as it is. {one.error.message}")
        if one.error.next_step:
            output.say(f"    {one.error.next_step}")
        return
    login = one.found.login
    output.say(f"  {configured.name}: to {one.found.granted.entry.name} at {login.broker}, agent {login.agent}")
    if one.also:
        output.say(f"    {', '.join(one.also)} reads this file too, and will run as the same agent.")
    for line in one.lines:
        output.say(f"    {line}")


def _ask(question: str) -> None:
    if not sys.stdin.isatty():
        raise UsageError("adopt.no_terminal", "There is no terminal to ask at, so nothing was changed.", "Add --yes.")
    if not typer.confirm(question):
        raise UsageError("adopt.declined", "Nothing was changed.")


def _end(
    planned: list[Move | Left],
    failed: dict[int, PercallError],
    *,
    as_json: bool,
    done: bool = False,
    kept: Collection[str] = (),
) -> None:
    adopted = [one for one in planned if isinstance(one, Move) and done and id(one) not in failed]
    if as_json:
        for one in planned:
            output.say_json(_as_json(one, failed.get(id(one)), done=done))
    elif adopted:
        _tell_rotation(adopted, kept)
    problems = [error.exit_code for error in failed.values()] + [2 for one in planned if isinstance(one, Left)]
    raise typer.Exit(problems[0] if problems else 0)


def _tell_rotation(adopted: list[Move], kept: Collection[str]) -> None:
    """The keys were in plain files, and in whatever copied these. `kept`: the broker went on with a key of its own."""
    names = sorted({move.found.granted.entry.name for move in adopted})
    if moved := [name for name in names if name not in kept]:
        output.say(
            "These keys were in plain files, and perhaps in backups of them. Give each a new one at its issuer, then:"
        )
        for name in moved:
            places = sorted({move.server.client.title for move in adopted if move.found.granted.entry.name == name})
            output.say(f"  percall key rotate {word(name)}    (was in {', '.join(places)})")
        output.say("If a whole team pastes the same key, one can become the shared one: percall key offer SERVER")
    for name in names:
        if name in kept:
            output.say(
                f"{name}: the broker kept the key that it had. Revoke the pasted one at its issuer, if it is another."
            )
    output.say("The old configs are kept sealed for seven days, or until the key is rotated: percall undo")


def _place(move: Move) -> str:
    return f"{move.server.client.title} {move.server.name}"


def _title(record: Adoption) -> str:
    return next((one.title for one in CLIENTS if one.name == record.client), record.client)


def _rotated(record: Adoption) -> str:
    try:
        if not undoing.is_rotated(record):
            return ""
    except PercallError as error:
        return f" (whether it was rotated since cannot be told: {error.message})"
    return ". That key was ROTATED or removed since, so it is probably of no use any more"


def _where(record: Adoption) -> dict[str, object]:
    return {"client": record.client, "file": record.file, "entry": record.entry, "server": record.server}


def _as_json(one: Move | Left, error: PercallError | None, *, done: bool) -> dict[str, object]:
    told: dict[str, object] = {
        "client": one.server.client.name,
        "file": str(one.server.file),
        "project": one.server.project,
        "entry": one.server.name,
    }
    if isinstance(one, Left):
        return {**told, "state": "left", "error": output.error(one.error)}
    state = "failed" if error else "adopted" if done else "planned"
    return {
        **told,
        "state": state,
        "server": one.found.granted.entry.name,
        "broker": one.found.login.broker,
        "agent": one.found.login.agent,
        "difference": list(one.lines),
        "error": output.error(error),
    }
