"""Reviewed server entries that ship with Percall; adding one asks only for the key.

A recipe may begin with `[parameters]`, each a name and what it means, perhaps with a default; `{{name}}` in its text
becomes the value that the administrator gives with `--set name=value`.
"""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from pathlib import Path

from percall_broker.model.errors import InvalidInput, NotFound

FOLDER = Path(__file__).parent
SCHEMA_FILE = FOLDER / "recipe.schema.json"
_VALUE = re.compile(r"[A-Za-z0-9.:/_@+-]{1,200}")
_PARAMETERS = re.compile(r"\A((?:#[^\n]*\n|\n)*)\[parameters\]\n((?:(?!\[)[^\n]*\n)*)")


def names() -> list[str]:
    """The recipes there are."""
    return sorted(path.stem for path in FOLDER.glob("*.toml"))


def text_of(name: str) -> str:
    """A recipe as it ships. Raises NotFound."""
    if name not in names():
        raise NotFound("recipe.unknown", f"There is no recipe {name!r}.", f"There are: {', '.join(names())}.")
    return (FOLDER / f"{name}.toml").read_text(encoding="utf-8")


@dataclass(frozen=True, slots=True)
class Parameter:
    """What a recipe wants to know: what it means, and what it is unless told; empty where it must be told."""

    meaning: str
    default: str = ""


def parameters(text: str) -> dict[str, Parameter]:
    """What a recipe wants to know, by name. Raises InvalidInput."""
    found = _PARAMETERS.match(text)
    if not found:
        return {}
    try:
        table = tomllib.loads(found[2])
    except tomllib.TOMLDecodeError as error:
        raise InvalidInput("entry.toml", f"[parameters] is not TOML: {error}.") from None
    return {name: _parameter(name, value) for name, value in table.items()}


def _parameter(name: str, value: object) -> Parameter:
    if isinstance(value, str):
        return Parameter(value)
    known = isinstance(value, dict) and set(value) <= {"meaning", "default"}
    if isinstance(value, dict) and known and all(isinstance(part, str) for part in value.values()):
        return Parameter(value.get("meaning", ""), value.get("default", ""))
    raise InvalidInput("entry.invalid", f"parameters.{name}: its meaning, or a meaning and a default, are expected.")


def fill(text: str, values: dict[str, str]) -> str:
    """The entry of a recipe. Raises InvalidInput when a value is missing, unknown, or could break out of its string."""
    wanted = parameters(text)
    for name in values:
        if name not in wanted:
            known = f"It has: {', '.join(wanted)}." if wanted else "It has none."
            raise InvalidInput("recipe.parameter", f"The recipe has no parameter {name!r}.", known)
    filled = {name: values.get(name, parameter.default) for name, parameter in wanted.items()}
    if missing := [name for name, value in filled.items() if not _VALUE.fullmatch(value)]:
        told = "; ".join(f"{name}: {wanted[name].meaning}" for name in missing)
        given = " ".join(f"--set {name}=…" for name in missing)
        raise InvalidInput("recipe.parameter", f"The recipe needs {told}.", f"Write: {given}")
    for name, value in filled.items():
        text = text.replace("{{" + name + "}}", value)
    found = _PARAMETERS.match(text)
    return text[: found.end(1)] + text[found.end() :] if found else text
