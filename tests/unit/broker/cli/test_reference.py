"""The reference pages say what the commands and the entry's reader really take, and nothing else."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from percall_broker.cli.root import tree
from percall_broker.model import entry_file
from percall_broker.pipeline.attacks import KNOWN, MANY, is_attack
from percall_broker.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator

DOCS = Path(__file__).parents[4] / "docs"
REFERENCE = (DOCS / "reference" / "percall-broker.md").read_text(encoding="utf-8")
ENTRIES = (DOCS / "reference" / "server-entry.md").read_text(encoding="utf-8")
PAGES = [*sorted((DOCS / "how-to").rglob("*.md")), *sorted((DOCS / "tutorial").glob("*.md"))]


def commands(command: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Every command of the tree that does something, by its words."""
    inner = getattr(command, "commands", None)
    if inner is None:
        yield name, command
        return
    for word, child in inner.items():
        yield from commands(child, f"{name} {word}".strip())


COMMANDS = dict(commands(tree))


def documented(name: str) -> str:
    """The synopsis of a command in the reference: the longest code span that begins with its words."""
    found = re.findall(rf"`({re.escape(name)}(?=[ `])[^`]*)`", REFERENCE)
    assert found, f"`{name}` is not in docs/reference/percall-broker.md"
    return str(max(found, key=len))


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_and_every_option_of_it_is_documented(name: str) -> None:
    synopsis = documented(name)
    for parameter in COMMANDS[name].params:
        if parameter.name == "help":
            continue
        word = parameter.opts[-1] if parameter.param_type_name == "option" else (parameter.metavar or parameter.name)
        assert word.lower() in synopsis.lower(), f"{word} of `{name}`"


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_in_the_reference_exists(name: str) -> None:
    known = {option for parameter in COMMANDS[name].params for option in (*parameter.opts, *parameter.secondary_opts)}
    assert set(re.findall(r"--[a-z][a-z-]*", documented(name))) <= known


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_and_option_explains_itself(name: str) -> None:
    command = COMMANDS[name]
    assert command.help
    assert [option.name for option in command.params if not option.help] == []


def helps(command: Any, name: str = "percall-broker") -> Iterator[tuple[str, str]]:
    """Of the command and of each group of it, the list of its commands as a terminal of 80 columns shows it."""
    if inner := getattr(command, "commands", None):
        yield name, str(command.get_help(command.context_class(command, info_name=name)))
        for word, child in inner.items():
            yield from helps(child, f"{name} {word}")


LISTS = dict(helps(tree))


@pytest.mark.parametrize("name", LISTS)
def test_a_list_of_commands_cuts_no_line(name: str) -> None:
    assert "..." not in LISTS[name].split("Commands:")[1]


@pytest.mark.parametrize("name", COMMANDS)
def test_what_to_type_is_named_and_a_flag_has_no_double_negative(name: str) -> None:
    for parameter in COMMANDS[name].params:
        if not getattr(parameter, "is_flag", False):
            assert parameter.metavar, parameter.name
        assert not any(option.startswith("--no-") for option in parameter.secondary_opts) or parameter.default is True


def test_no_command_takes_a_key_on_its_command_line() -> None:
    options = {option for command in COMMANDS.values() for one in command.params for option in one.opts}
    naming = {"--secret-version", "--secret-owner"}  # say which key, never the key
    found = {option for option in options if "secret" in option or option == "--key"}
    assert found - naming == {"--secret-stdin"}


def test_every_reason_of_an_attack_is_explained_and_no_other() -> None:
    table = REFERENCE.partition("| reason | what came |")[2].partition("\n\n")[0]
    explained = set(re.findall(r"`([a-z_.*]+)`", "".join(re.findall(r"^\|([^|]+)\|", table, re.MULTILINE))))
    families = {code.partition(".")[0] for code in KNOWN if is_attack(f"{code.partition('.')[0]}.another")}
    single = {code for code in KNOWN if code.partition(".")[0] not in families}
    assert explained == {f"{family}.*" for family in families} | single | {MANY[0]}


def test_every_setting_of_an_entry_is_documented() -> None:
    source = Path(entry_file.__file__).read_text(encoding="utf-8")
    settings = set(re.findall(r'\.(?:text|texts|map|flag|number|one_of)\(\s*"(\w+)"', source))
    assert {"title", "deadline_seconds", "unlisted_hosts", "placeholder"} <= settings
    settings |= {"header", "basic", "query", "json", "form", "requests"}
    missing = {name for name in settings if not re.search(rf"\b{name}\b", ENTRIES)}
    assert missing == set()


def test_every_setting_of_the_broker_is_documented() -> None:
    section = REFERENCE.split("## Settings")[1].split("\n## ")[0]
    assert Settings.model_fields.keys() - {"home"} - set(re.findall(r"`([a-z_]+)`", section)) == set()


def test_the_example_of_the_entry_reference_is_an_entry() -> None:
    example = re.search(r"```toml\n(.*?)```", ENTRIES, re.DOTALL)
    assert example is not None
    assert entry_file.read(example[1]).attribution == "exact"


def shown(page: Path) -> Iterator[list[str]]:
    """The words of each command that a page shows, in its boxes or in a sentence."""
    text = page.read_text(encoding="utf-8")
    boxes = "\n".join(re.findall(r"^```.*?\n(.*?)^```", text, re.MULTILINE | re.DOTALL))
    sentences = re.findall(r"`(percall-broker [^`]+)`", text)
    for line in [*re.findall(r"^(?:[$#] )?(percall-broker .*)$", boxes, re.MULTILINE), *sentences]:
        yield re.split(r"\s+#|[<>|;]", line.removeprefix("percall-broker "))[0].split()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(DOCS)))
def test_every_command_and_option_that_a_page_shows_exists(page: Path) -> None:
    for words in shown(page):
        name = next((name for name in (" ".join(words[:2]), words[0]) if name in COMMANDS), "")
        if not name:
            assert any(known.startswith(f"{words[0]} ") for known in COMMANDS) or words[0].startswith("-"), words
            continue
        known = {option for one in COMMANDS[name].params for option in (*one.opts, *one.secondary_opts)}
        options = {word.partition("=")[0] for word in words if word.startswith("--") and word != "--"}
        assert options <= known | {"--help"}, f"{name}: {options - known}"


def test_the_pages_show_commands() -> None:
    assert sum(1 for page in PAGES for _ in shown(page)) > 50
