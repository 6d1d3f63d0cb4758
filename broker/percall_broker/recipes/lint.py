"""What a reviewer of an entry would ask, asked by the machine. Pure: it reads a text and starts nothing.

An error makes the entry unfit to be shipped or trusted; a warning is for a person to judge.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from percall.clients.launches import fits, launched
from percall_broker import recipes
from percall_broker.model import entry_file
from percall_broker.model.rules import is_loopback_name, name_matches, parse_url

if TYPE_CHECKING:
    from collections.abc import Iterator

    from percall_broker.model.entry import Entry

DRAFT = "# DRAFT"
"""What the text of a draft begins with, until somebody has reviewed it."""
_EXAMPLE = "example.com"  # fits every place where a parameter may stand
_PINNED = re.compile(r"[^@=].*?(?:@|==|~=)\d|:\d[\w.]*$|@sha256:")
_LOADER = re.compile(
    r"(?:LD|DYLD)_.*|NODE_OPTIONS|NODE_PATH|PYTHON(?:PATH|HOME|STARTUP)|(?:BASH_)?ENV|PERL5(?:LIB|OPT)|RUBYOPT|JAVA_TOOL_OPTIONS"
)
_WRITING = frozenset({"POST", "PUT", "PATCH", "DELETE"})
_LAUNCHERS = frozenset({"npx", "uvx", "bunx", "pnpm", "pipx", "docker", "podman"})


@dataclass(frozen=True, slots=True)
class Finding:
    """One finding: `level` is error or warning, `code` is stable, `message` a sentence."""

    level: str
    code: str
    message: str


@dataclass(frozen=True, slots=True)
class Tool:
    """A tool as its server lists it; `reads` is what its `readOnlyHint` says, None where it says nothing."""

    name: str
    reads: bool | None = None


def entry_of(text: str) -> Entry:
    """The entry of a recipe, its parameters filled with their defaults or an example. Raises InvalidInput."""
    values = {name: parameter.default or _EXAMPLE for name, parameter in recipes.parameters(text).items()}
    return entry_file.read(recipes.fill(text, values))


def findings(text: str, tools: tuple[Tool, ...] = ()) -> list[Finding]:
    """Everything there is to say about a recipe's text, errors first. Raises InvalidInput where it cannot be read.

    `tools`: what the server answers to `tools/list`, where that is known.
    """
    entry = entry_of(text)
    found = [
        *_unreviewed(text),
        *_launch(entry),
        *_hosts(entry),
        *_probe(entry),
        *_defaults(entry),
        *_recognition(entry),
    ]
    found += _against(entry, tools) if tools else []
    return sorted(found, key=lambda finding: finding.level)


def _unreviewed(text: str) -> Iterator[Finding]:
    if text.startswith(DRAFT):
        message = "It is a draft still: review each line, then take its first lines away, which say so."
        yield Finding("warning", "recipe.draft", message)


def _launch(entry: Entry) -> Iterator[Finding]:
    for name in sorted(entry.environment):
        if _LOADER.fullmatch(name):
            message = f"{name} makes the server run other code than its command says: is that meant?"
            yield Finding("warning", "recipe.loader", message)
    if not entry.command or entry.command[0] not in _LAUNCHERS:
        return
    if not any(_PINNED.search(word) for word in entry.command[1:]):
        yield Finding(
            "error",
            "recipe.unpinned",
            f"The launch command names no version ({' '.join(entry.command)}): what runs would change unseen.",
        )


def _hosts(entry: Entry) -> Iterator[Finding]:
    for place in (*entry.hosts, *([entry.url] if entry.url else [])):
        if is_loopback_name(parse_url(place.replace("*.", "")).host):
            yield Finding("warning", "recipe.loopback", f"{place} is loopback: good for a test, not for a team.")
    if entry.delivery == "egress" and not entry.tools:
        yield Finding(
            "warning", "recipe.no_rules", "There are no [[tool]] rules: a call of any tool may make any request."
        )


def _probe(entry: Entry) -> Iterator[Finding]:
    if entry.probe is None:
        yield Finding(
            "warning", "recipe.no_probe", "There is no [probe]: nobody can tell whether an adopted key works."
        )
        return
    tool = entry.probe.tool
    if not name_matches(entry.default_tools, tool):
        yield Finding("error", "recipe.probe", f"The probe {tool!r} is not among defaults.tools, so it may write.")
    if entry.tools and not any(name_matches(rule.match, tool) for rule in entry.tools):
        yield Finding("error", "recipe.probe", f"The probe {tool!r} has no [[tool]] rule, so its requests are refused.")


def _defaults(entry: Entry) -> Iterator[Finding]:
    if not entry.default_tools:
        yield Finding("warning", "recipe.no_defaults", "There are no defaults.tools for a read-only grant.")
    for rule in entry.tools:
        covered = [name for name in rule.match if name_matches(entry.default_tools, name)]
        methods = sorted({method for request in rule.requests for method in request.methods if method in _WRITING})
        if covered and methods:
            yield Finding(
                "warning",
                "recipe.writes",
                f"{', '.join(covered)} may {', '.join(methods)}, and is in defaults.tools: make sure it only reads.",
            )


def _recognition(entry: Entry) -> Iterator[Finding]:
    launch = launched(entry.command, entry.url)
    if launch and not fits(launch, entry.recognition.launches):
        yield Finding("warning", "recipe.recognise", f"recognise.launches does not name its own launch, {launch!r}.")


def _against(entry: Entry, tools: tuple[Tool, ...]) -> Iterator[Finding]:
    names = [tool.name for tool in tools]
    patterns = [pattern for rule in entry.tools for pattern in rule.match]
    if entry.probe and entry.probe.tool not in names:
        yield Finding("error", "recipe.probe", f"The server has no tool {entry.probe.tool!r}, which is the probe.")
    unmapped = [name for name in names if entry.tools and not name_matches(tuple(patterns), name)]
    if unmapped:
        yield Finding(
            "warning", "recipe.unmapped", f"No [[tool]] rule is for {', '.join(unmapped)}: its requests are refused."
        )
    for pattern in dict.fromkeys([*patterns, *entry.default_tools]):
        if not any(name_matches((pattern,), name) for name in names):
            yield Finding("warning", "recipe.pattern", f"The pattern {pattern!r} fits no tool of the server.")
    for tool in tools:
        if tool.reads is False and name_matches(entry.default_tools, tool.name):
            yield Finding(
                "warning", "recipe.hint", f"{tool.name!r} is in defaults.tools; its server says that it writes."
            )
