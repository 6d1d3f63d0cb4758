"""`percall-broker policy …`: the organisation's rules, in Cedar."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from percall.errors import UsageError
from percall_broker.cli import output
from percall_broker.cli.connection import administrator, under
from percall_broker.cli.files import write_new
from percall_broker.cli.options import Json
from percall_broker.model.counting import counted

policies = typer.Typer(help="The organisation's rules, in Cedar.", no_args_is_help=True)

_MOMENT_SECONDS = 10
_COLUMNS = ("version", "created_at", "created_by", "message")
_CHANGES = ("time", "person", "agent", "server", "tool", "was", "would_be", "policies")
Folder = Annotated[Path, typer.Argument(metavar="DIR", help="A folder of .cedar files.", show_default=False)]


def _files(folder: Path) -> dict[str, str]:
    from percall_broker.policy import folder as reading  # noqa: PLC0415 - cedarpy, only where it is needed

    files = reading.read_files(folder)
    if not files:
        raise UsageError(
            "policy.empty",
            f"There is no .cedar file in {folder}.",
            "What policies may speak of: percall-broker policy schema.",
        )
    return files


@policies.command()
def schema() -> None:
    """Print the schema: what policies may speak of."""
    from percall_broker.policy.language import SCHEMA_FILE  # noqa: PLC0415 - as above

    output.write(SCHEMA_FILE.read_text(encoding="utf-8").rstrip())


@policies.command()
def check(folder: Folder, as_json: Json = False) -> None:
    """Check a folder of policies against the schema, here. A problem is told with its file, line and reason."""
    from percall_broker import policy  # noqa: PLC0415 - as above

    read = policy.read(_files(folder), 0)
    rows = [
        {"policy": one.id, "file": one.file, "line": one.line, "effect": one.effect, "ask": one.ask}
        for one in read.policies.values()
    ]
    columns = ("policy", "file", "line", "effect", "ask")
    output.lines(rows, as_json=as_json, columns=columns, empty="No policies.")


@policies.command("test")
def run_tests(folder: Folder, as_json: Json = False) -> None:
    """Run the tests that lie beside the policies (`*.test.toml`), here. Ends with 1 when one fails."""
    from percall_broker import policy  # noqa: PLC0415 - as above
    from percall_broker.policy import folder as reading  # noqa: PLC0415

    cases = reading.read_cases(folder)
    if not cases:
        raise UsageError(
            "policy.no_tests", f"There is no *.test.toml in {folder}.", "How to write one: docs/how-to/policies.md."
        )
    results = reading.run(policy.read(_files(folder), 0), cases)
    rows = [
        {"test": one.case.name, "file": one.file, "result": "fails" if one.wrong else "holds", "why": one.wrong}
        for one in results
    ]
    output.lines(rows, as_json=as_json, columns=("result", "test", "file", "why"), empty="No tests.")
    if any(one.wrong for one in results):
        raise typer.Exit(output.FAILED_EXIT_CODE)


@policies.command()
def apply(
    folder: Folder,
    message: Annotated[
        str, typer.Option("--message", "-m", help="Why, for whoever reads the versions.", metavar="TEXT")
    ] = "",
    replaces: Annotated[
        int,
        typer.Option(
            help="Only if this version is in force: what you looked at is what you replace.",
            metavar="VERSION",
            show_default=False,
        ),
    ] = -1,
    as_json: Json = False,
) -> None:
    """Put a folder of policies into force. All of it or nothing, for the very next call, on every replica."""
    form = {"files": _files(folder), "message": message, "expected": replaces}
    with administrator() as client:
        row = client.json("POST", under("policies"), value=form)
    count = counted(len(row["files"]), "file")
    told = [f"Version {row['version']} is in force: {count}. See: percall-broker policy show"]
    told += [
        f"Nobody is in the group {group}, so what waits for it waits in vain: percall-broker group add {group} PERSON"
        for group in row["nobody_in"]
    ]
    output.one(row, as_json=as_json, text="\n".join(told))


@policies.command("list")
def list_policies(as_json: Json = False) -> None:
    """The versions, newest first: the first is in force."""
    with administrator() as client:
        rows = client.json("GET", under("policies"))
    output.lines(rows, as_json=as_json, columns=_COLUMNS, empty="No versions.")


@policies.command()
def show(
    version: Annotated[
        int, typer.Argument(help="Which; the one in force unless given.", show_default=False, metavar="VERSION")
    ] = -1,
    into: Annotated[
        Path | None, typer.Option(help="A new folder for its files, as `policy apply` reads them.", metavar="DIR")
    ] = None,
    as_json: Json = False,
) -> None:
    """The policies of a version, whole."""
    with administrator() as client:
        row = client.json("GET", under("policies", str(version)))
    if into is not None:
        write_new(into, row["files"])
        text = f"{into} holds version {row['version']}: {counted(len(row['files']), 'file')}."
        output.one(row, as_json=as_json, text=text)
        return
    parts = [f"// version {row['version']}"]
    parts += [f"// --- {file}\n{text.rstrip()}" for file, text in sorted(row["files"].items())]
    output.one(row, as_json=as_json, text="\n".join(parts))


@policies.command()
def explain(
    person: Annotated[str, typer.Option(help="Who would call.", metavar="NAME")],
    server: Annotated[str, typer.Option(help="Which server.", metavar="NAME")],
    tool: Annotated[str, typer.Option(help="Which tool.", metavar="TOOL")],
    agent: Annotated[str, typer.Option(help="By which agent.", metavar="NAME")] = "default",
    arguments: Annotated[str, typer.Option(help="The call's arguments, a JSON object.", metavar="JSON")] = "{}",
    folder: Annotated[
        Path | None, typer.Option("--draft", help="Ask these policies instead of those in force.", metavar="DIR")
    ] = None,
    as_json: Json = False,
) -> None:
    """What would happen to a call, and which policy decides."""
    form: dict[str, Any] = {"person": person, "agent": agent, "server": server, "tool": tool, "arguments": arguments}
    row = _tried("explain", {**form, "draft": _files(folder) if folder else {}})
    output.one(row, as_json=as_json)


@policies.command()
def replay(
    folder: Folder,
    days: Annotated[int, typer.Option(help="How far back.", metavar="N")] = 7,
    as_json: Json = False,
) -> None:
    """Try a draft on the recorded calls. Lists what it would have decided otherwise. That you did is recorded."""
    found = _tried("replay", {"files": _files(folder), "days": days})
    if not as_json:
        output.write(f"{len(found['changed'])} of {found['calls']} calls would have been decided otherwise.")
    if not found["complete"]:
        output.aside(f"Only the oldest {found['calls']} calls were tried. For all of them: fewer --days.")
    if found["changed"] or as_json:
        output.lines(found["changed"], as_json=as_json, columns=_CHANGES, empty="")


def _tried(how: str, form: dict[str, Any]) -> Any:
    """What the broker answers once it has tried policies, for as long as it gives them and a moment more."""
    from percall_broker.policy.trial import MOST_SECONDS  # noqa: PLC0415 - cedarpy, as above

    with administrator() as client:
        return client.json("POST", under("policies", how), value=form, patience=MOST_SECONDS + _MOMENT_SECONDS)
