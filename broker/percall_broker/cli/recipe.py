"""`percall-broker recipe …`: the reviewed entries that ship, and what it takes to write one."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from percall.errors import UsageError
from percall_broker import recipes
from percall_broker.cli import output
from percall_broker.cli.files import text_of
from percall_broker.cli.options import Json
from percall_broker.model import entry_file
from percall_broker.recipes import asking, lint

ships = typer.Typer(help="Reviewed server entries that ship with Percall.", no_args_is_help=True)

_COLUMNS = ("recipe", "title", "label", "launch", "keys")
Name = Annotated[str, typer.Argument(help="The recipe's name.", metavar="NAME")]


@ships.command("list")
def list_recipes(as_json: Json = False) -> None:
    """The recipes there are. What each launches, and which variable holds its key in a client's config."""
    output.lines([_row(name) for name in recipes.names()], as_json=as_json, columns=_COLUMNS, empty="No recipes.")


def _row(name: str) -> output.Row:
    text = recipes.text_of(name)
    entry = lint.entry_of(text)
    return {
        "recipe": name,
        "title": entry.title,
        "label": entry_file.label(entry),
        "launch": entry.url or " ".join(entry.command).replace("example.com", "…"),
        "keys": ", ".join(entry.key_names),
        "parameters": {wanted: parameter.default for wanted, parameter in recipes.parameters(text).items()},
        "launches": list(entry.recognition.launches),
        "default_tools": list(entry.default_tools),
        "probe": entry.probe.tool if entry.probe else "",
    }


@ships.command()
def show(name: Name, as_json: Json = False) -> None:
    """Print a recipe as it ships. To be read, or changed and given to `server add --from`."""
    text = recipes.text_of(name)
    output.one({**_row(name), "text": text}, as_json=as_json, text=text.rstrip())


@ships.command()
def schema() -> None:
    """Print the JSON Schema of recipes and entries. Editors that check TOML use it."""
    output.write(recipes.SCHEMA_FILE.read_text(encoding="utf-8").rstrip())


@ships.command()
def check(
    file: Annotated[Path, typer.Argument(metavar="FILE.toml", help="The entry to check.")],
    tools: Annotated[
        Path | None, typer.Option(metavar="FILE.json", help="What its server answers to tools/list, or tools' names.")
    ] = None,
    start: Annotated[
        bool, typer.Option("--start", help="Start its server here, without a key, and ask for its tools.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Check an entry. Whether it can be read, and what a reviewer would ask. Ends with 1 at an error."""
    text = text_of(file)
    entry = lint.entry_of(text)
    known = _tools_in(tools) if tools else ()
    if start and entry.command:
        known = asking.tools_of(entry.command, _harmless(entry.environment))
    found = [{"level": one.level, "code": one.code, "message": one.message} for one in lint.findings(text, known)]
    output.lines(found, as_json=as_json, columns=("level", "code", "message"), empty=f"{file}: nothing to object to.")
    if any(row["level"] == "error" for row in found):
        raise typer.Exit(output.FAILED_EXIT_CODE)


@ships.command()
def new(
    package: Annotated[str, typer.Argument(metavar="PACKAGE", help="npm:NAME[@VERSION] or pypi:NAME[==VERSION].")],
    variable: Annotated[
        str, typer.Option(help="The variable that holds its key; `none` for a server without.", metavar="NAME")
    ] = "",
    host: Annotated[str, typer.Option(help="The host of its API.", metavar="HOST")] = "",
    start: Annotated[
        bool, typer.Option("--start", help="Start the server here, without a key, and ask for its tools.")
    ] = False,
    to: Annotated[
        Path | None, typer.Option("--to", metavar="FILE.toml", help="A new file, instead of the terminal.")
    ] = None,
) -> None:
    """Draft a recipe from what a package's own files say. Asks, at a terminal, what they leave open."""
    from percall_broker.recipes.draft import draft  # noqa: PLC0415 - only here
    from percall_broker.recipes.package import facts  # noqa: PLC0415 - only here

    if to is not None and to.exists():
        raise UsageError("cli.file", f"There is a file {to} already.", "Name another.")
    found = facts(package)
    key = "" if variable == "none" else variable or _chosen("Which variable holds the key?", found.keys, none=True)
    place = (host or _chosen("Which host is its API at?", found.hosts) or "api.example.com") if key else ""
    known = asking.tools_of(found.command, {key: "x" * 40} if key else {}) if start else ()
    text = draft(found, key, place, known)
    lint.entry_of(text)  # whatever was given by option is read as strictly as a file
    if to is None:
        sys.stdout.write(text)
        return
    to.write_text(text, encoding="utf-8")
    output.write(f"{to} is a draft. Review it, then: percall-broker recipe check {to}")


def _chosen(question: str, options: tuple[str, ...], *, none: bool = False) -> str:
    """The first is the likeliest; at a terminal, a person says."""
    if not sys.stdin.isatty() or not sys.stderr.isatty():
        return options[0] if options else ""
    shown = list(options[:8])
    for number, option in enumerate(shown, 1):
        sys.stderr.write(f"  {number}  {option}\n")
    if none:
        sys.stderr.write("  0  none\n")
    # On standard error: standard output may be the draft's file.
    sys.stderr.write(f"{question} (a number, or what is missing here) [{'1' if shown else '0'}]: ")
    sys.stderr.flush()
    answer = sys.stdin.readline().strip() or ("1" if shown else "0")
    if not answer.isdecimal():
        return answer
    number = int(answer)
    if number > len(shown):
        raise UsageError("cli.choice", f"The list has no {number}.", "Type a number of the list, or what is missing.")
    return shown[number - 1] if number else ""


def _harmless(environment: dict[str, str]) -> dict[str, str]:
    """An entry's environment with something in the key's place that opens nothing, and without a listener."""
    return {name: value.replace("{key}", "x" * 40) for name, value in environment.items() if "{listener:" not in value}


def _tools_in(file: Path) -> tuple[lint.Tool, ...]:
    try:
        return asking.tools_in(json.loads(text_of(file)))
    except ValueError:
        raise UsageError(
            "cli.tools", f"{file} is no answer to tools/list, and no list of names.", "Save what the server answers."
        ) from None
