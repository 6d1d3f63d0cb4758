"""docs/reference/percall.md says what the command does: every command, option, exit code, variable and file."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
import typer.main

import percall
from percall import __main__ as entry
from percall import errors
from percall.cli import app
from percall.cli.scan import FOUND_EXIT_CODE
from percall.egress import certificates

SOURCE = Path(percall.__file__).parent
REFERENCE = (Path(__file__).parents[4] / "docs" / "reference" / "percall.md").read_text()
GROUP = typer.main.get_group(app)
COMMANDS = {
    f"{name} {inner}".strip(): command
    for name, child in GROUP.commands.items()
    for inner, command in getattr(child, "commands", {"": child}).items()
}


def row_of(command: str) -> str:
    return next(line for line in REFERENCE.splitlines() if re.match(rf"\| `percall {command}[ `]", line))


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_every_command_is_documented_with_exactly_its_options(command: str) -> None:
    usage = row_of(command).replace("\\|", "/").split("|")[1]
    shown = {name for p in COMMANDS[command].params for name in p.opts if p.param_type_name == "option"}
    assert set(re.findall(r"--[a-z-]+", usage)) == shown - {"--help", "-h"}


@pytest.mark.parametrize("name", ["", "agent", "key"])
def test_a_list_of_commands_cuts_no_line(name: str) -> None:
    command = GROUP.commands[name] if name else GROUP
    shown = command.get_help(command.context_class(command, info_name="percall"))
    assert "..." not in shown.split("Commands:")[1]


def test_no_command_is_documented_that_is_not_there() -> None:
    documented = set(re.findall(r"^\| `percall ([a-z]+(?: [a-z]+)?)", REFERENCE, re.MULTILINE))
    assert documented == set(COMMANDS)


def test_the_help_of_run_and_its_own_parser_know_the_same_options() -> None:
    options = [p for p in COMMANDS["run"].params if p.param_type_name == "option"]
    assert {name: p.metavar for p in options for name in p.opts} == entry.RUN_OPTIONS
    assert [p.name for p in COMMANDS["run"].params if p.param_type_name == "argument"] == ["server", "command"]


def test_every_exit_code_is_documented() -> None:
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type)]
    codes = {kind.exit_code for kind in kinds if issubclass(kind, errors.PercallError)} | {0, 130, 141, FOUND_EXIT_CODE}
    assert {int(code) for code in re.findall(r"^\| (\d+) \|", REFERENCE, re.MULTILINE)} == codes


def test_every_variable_is_documented_and_read() -> None:
    read = set()
    for path in (*SOURCE.rglob("*.py"), *SOURCE.rglob("*.cjs")):
        read |= set(re.findall(r"PERCALL_[A-Z_]+", path.read_text()))
    assert set(re.findall(r"PERCALL_[A-Z_]+", REFERENCE)) == read


def test_every_kind_of_file_under_the_home_is_documented() -> None:
    docstring = ast.get_docstring(ast.parse((SOURCE / "home.py").read_text())) or ""
    indented = "".join(re.findall(r"^ {4}.*\n", docstring, re.MULTILINE))
    first_cells = "".join(re.findall(r"^\| `[a-z]+/[^|]+\|", REFERENCE, re.MULTILINE))
    assert re.findall(r"`([^`]+)`", first_cells) == indented.split()
    assert f"{certificates.FOLDER}/RUN/bundle.pem" in indented
