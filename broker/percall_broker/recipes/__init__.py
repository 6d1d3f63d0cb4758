"""Reviewed server entries that ship with Percall; adding one asks only for the key.

A recipe may begin with `[parameters]`, each a name and what it means, perhaps with a default, and whether it stands for
a host; `{{name}}` in its text becomes the value that the administrator gives with `--set name=value`.
"""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from pathlib import Path

from percall_broker.model.errors import InvalidInput, NotFound
from percall_broker.model.rules import parse_origin

FOLDER = Path(__file__).parent
SCHEMA_FILE = FOLDER / "recipe.schema.json"
KINDS = ("text", "host")
_MAX_LENGTH = 200
_BREAKS_OUT = re.compile(r"[^A-Za-z0-9.:/_@+-]")  # of the TOML string where it will stand
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
    """What a recipe wants to know: what it means, what it is unless told, and its kind. Without a default it must be
    told.
    """

    meaning: str
    default: str = ""
    kind: str = "text"


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
    known = isinstance(value, dict) and set(value) <= {"meaning", "default", "kind"}
    if isinstance(value, dict) and known and all(isinstance(part, str) for part in value.values()):
        kind = value.get("kind", "text")
        if kind not in KINDS:
            raise InvalidInput("entry.invalid", f"parameters.{name}.kind: it must be one of {', '.join(KINDS)}.")
        return Parameter(value.get("meaning", ""), value.get("default", ""), kind)
    raise InvalidInput(
        "entry.invalid",
        f"parameters.{name}: a text is expected, its meaning; or a table of texts: meaning, default, kind.",
    )


def fill(text: str, values: dict[str, str]) -> str:
    """The entry of a recipe. Raises InvalidInput when a value is missing, unknown, or could break out of its string."""
    wanted = parameters(text)
    for name in values:
        if name not in wanted:
            known = f"It has: {', '.join(wanted)}." if wanted else "It has none."
            raise InvalidInput("recipe.parameter", f"The recipe has no parameter {name!r}.", known)
    filled = {name: values.get(name, parameter.default) for name, parameter in wanted.items()}
    if missing := [name for name, value in filled.items() if not value]:
        told = "; ".join(f"{name}: {wanted[name].meaning}" for name in missing)
        given = " ".join(f"--set {name}=…" for name in missing)
        raise InvalidInput("recipe.parameter", f"The recipe needs {told}.", f"Write: {given}")
    for name, value in filled.items():
        _check(name, value, wanted[name].kind)
        text = text.replace("{{" + name + "}}", value)
    found = _PARAMETERS.match(text)
    return text[: found.end(1)] + text[found.end() :] if found else text


def _check(name: str, value: str, kind: str) -> None:
    if len(value) > _MAX_LENGTH:
        raise InvalidInput("recipe.parameter", f"The recipe's {name!r} is longer than {_MAX_LENGTH} characters.")
    if refused := sorted(set(_BREAKS_OUT.findall(value))):
        raise InvalidInput(
            "recipe.parameter",
            f"The recipe's {name!r} may not contain {', '.join(map(repr, refused))}.",
            f"Write --set {name}=… of letters, digits and . : / _ @ + - alone.",
        )
    if kind == "host" and not _is_host(value):
        raise InvalidInput(
            "recipe.parameter",
            f"The recipe's {name!r} is a host, and {value!r} is none.",
            f"Write it without a scheme and a path: --set {name}={_host_in(value)}",
        )


def _is_host(value: str) -> bool:
    try:
        return "/" not in value and bool(parse_origin(value))
    except InvalidInput:
        return False


def _host_in(value: str) -> str:
    """What somebody who has pasted an address most likely meant."""
    host = value.partition("://")[2].partition("/")[0] or value.partition("/")[0]
    return host if _is_host(host) else "HOST"
