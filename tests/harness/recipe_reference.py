"""Writes docs/reference/recipes.md from the recipes: `make docs`. A test compares."""
# ruff: noqa: E501 - a paragraph of a page is one line

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from harness.recipe_cases import CASES, REMOTE
from percall_broker import recipes
from percall_broker.model import entry_file
from percall_broker.recipes.lint import entry_of

if TYPE_CHECKING:
    from percall_broker.model.entry import Entry

FILE = Path(__file__).parents[2] / "docs" / "reference" / "recipes.md"
_HEAD = """# Recipes

Reviewed [server entries](server-entry.md) that ship with Percall: `percall-broker server add NAME --recipe RECIPE` asks only for the key. `percall-broker recipe show RECIPE` prints one; [how to write a recipe](../how-to/write-a-recipe.md) says how another comes to be. This page is made from the recipes themselves, by `make docs`.

The read-only tools are what `server add` suggests for a grant; the probe is the call that shows whether a key works. *Proven* says how: `package` is the real, unmodified package of that version, run behind the gate in the tests, its tools compared with those that were reviewed, its probe (or another read) called against a fake API that answers only to the real key; `stand-in` is a remote server, of which only the address and the key's place can be tested here; `source` was read from the package's source alone.
"""


def markdown() -> str:
    """The whole page."""
    lines = [_HEAD, "| recipe | server | key | launched by | proven |", "|---|---|---|---|---|"]
    entries = {name: entry_of(recipes.text_of(name)) for name in recipes.names()}
    for name, entry in entries.items():
        launch = entry.url or " ".join(entry.command).replace("example.com", "FOLDER")
        lines.append(
            f"| [`{name}`](#{name}) | {entry.title} | {entry_file.label(entry)} | `{launch}` | {_proof(name)} |"
        )
    return "\n".join([*lines, *(line for name, entry in entries.items() for line in _section(name, entry))]) + "\n"


def _proof(name: str) -> str:
    if name in CASES:
        return "package" if CASES[name].call != "-" else "package, none of its tools called"
    return "stand-in" if name in REMOTE else "source"


def _section(name: str, entry: Entry) -> list[str]:
    text = recipes.text_of(name)
    about = " ".join(line.removeprefix("# ") for line in text.splitlines()[: text.split("\n[")[0].count("\n") + 1])
    rows = {
        "key": ", ".join(f"`{variable}`" for variable in entry.key_names),
        "goes into": "; ".join(_slot(slot.kind, slot.name) for slot in entry.slots),
        "hosts": ", ".join(f"`{host.removeprefix('https://')}`" for host in entry.hosts).replace("example.com", "SITE"),
        "ways in": ", ".join(f"`{way}`" for way in entry.ways),
        "read-only tools": ", ".join(f"`{tool}`" for tool in entry.default_tools),
        "probe": f"`{entry.probe.tool}`" if entry.probe else "none",
        "at start": ", ".join(f"`{','.join(one.methods)} {one.origin}{one.path}`" for one in entry.startup),
        "recognised by": ", ".join(f"`{launch}`" for launch in entry.recognition.launches),
        "asks for": "; ".join(
            f"`{parameter}`, {wanted.meaning}" + (f" (`{wanted.default}` unless told)" if wanted.default else "")
            for parameter, wanted in recipes.parameters(text).items()
        ),
    }
    return ["", f"## {name}", "", about, "", *(f"- {row}: {value}" for row, value in rows.items() if value)]


def _slot(kind: str, name: str) -> str:
    return {
        "header": f"the header `{name}`",
        "basic": f"basic authentication, as the {name}",
        "query": f"the query, `{name}`",
        "json": f"a JSON body, at `{name}`",
        "form": f"a form body, `{name}`",
    }[kind]


if __name__ == "__main__":
    FILE.write_text(markdown(), encoding="utf-8")
    sys.stderr.write(f"{FILE}\n")
