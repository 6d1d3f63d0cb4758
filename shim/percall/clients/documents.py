"""A config file's text as data, and the same text with one value changed: JSON with comments, TOML, YAML; XML to read.

Whatever is not asked for stays as it was written: comments, order, indentation.
"""

from __future__ import annotations

import io
import re
from typing import TYPE_CHECKING, Any

from percall.clients import jetbrains, jsonc
from percall.clients.catalogue import JSONC, TOML, XML
from percall.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from percall.clients.jsonc import Step


_MARK = "\ufeff"
_MOST_VALUES = 100_000
_LONE_NEWLINE = re.compile(r"(?<!\r)\n")


def read(text: str, form: str) -> Any:
    """The data of a document, as dictionaries and lists. Raises UsageError, saying where it cannot be read."""
    if not text.strip("\ufeff \t\r\n"):
        return {}
    try:
        if form == JSONC:
            return jsonc.parse(text).value
        if form == XML:
            return jetbrains.parse(text)
        return _plain(_toml(text) if form == TOML else _yaml(text))
    except RecursionError:
        raise UsageError("config.syntax", "It nests too deep to be a config file.") from None


def at(data: Any, path: Sequence[Step]) -> Any:
    """What stands at a path of a document's data; None where nothing does. It leads through objects alone."""
    for step in path:
        if not isinstance(data, dict) or step not in data:
            return None
        data = data[step]
    return data


def replaced(text: str, form: str, path: Sequence[Step], value: Any) -> str:
    """The text with another value at a path, which is there. Raises UsageError, KeyError."""
    if form == JSONC:
        return jsonc.replaced(text, path, value)
    return _edited(text, form, path, value)


def inserted(text: str, form: str, path: Sequence[str], value: Any) -> str:
    """The text with a further member; what is missing on the way to it is made. Raises UsageError."""
    if form == JSONC:
        return jsonc.inserted(text if text.strip("\ufeff \t\r\n") else "{\n}\n", path, value)
    return _edited(text, form, path, value)


def removed(text: str, form: str, path: Sequence[Step]) -> str:
    """The text without the member at a path, which is there. Raises UsageError, KeyError."""
    if form == JSONC:
        return jsonc.removed(text, path)
    return _edited(text, form, path, None)


def _edited(text: str, form: str, path: Sequence[Step], value: Any) -> str:
    """By libraries that keep comments and layout, and are believed in nothing: the text must say what it said, and this
    one change. None removes. Raises UsageError.
    """
    wanted = read(text, form)
    _change(wanted, path, value)
    document = _toml(text) if form == TOML else _yaml(text)
    _change(document, path, value)
    edited = _marked_as(text, _toml_text(document) if form == TOML else _yaml_text(document))
    said = read(edited, form)
    if said != wanted and not (value is None and said == _without_emptied(wanted, path)):
        raise UsageError(
            "config.shape",
            "This file is written in a way that cannot be edited without changing other things in it.",
            "Edit it by hand; or write its servers as tables of their own, [mcp_servers.NAME], and try again.",
        )
    return edited


def _without_emptied(data: Any, path: Sequence[Step]) -> Any:
    """The data without the tables that held nothing but what went: TOML's [a.b] makes a table `a` written nowhere."""
    if len(path) > 1:
        data[path[0]] = _without_emptied(data[path[0]], path[1:])
        if not data[path[0]]:
            del data[path[0]]
    return data


def _marked_as(text: str, edited: str) -> str:
    """With the byte order mark and the line ends of the text as it was, which the libraries know nothing of."""
    if "\r\n" in text and not _LONE_NEWLINE.search(text):
        edited = _LONE_NEWLINE.sub("\r\n", edited)
    return _MARK + edited if text.startswith(_MARK) else edited


def _change(place: Any, path: Sequence[Step], value: Any) -> None:
    for step in path[:-1]:
        if value is not None and isinstance(step, str) and step not in place:
            place[step] = {}
        place = place[step]
    if value is None:
        del place[path[-1]]
    elif isinstance(value, dict) and isinstance(place.get(path[-1]), dict):
        _update_table(place[path[-1]], value)
    else:
        place[path[-1]] = value


def _update_table(table: Any, value: dict[str, Any]) -> None:
    """Member by member, so that the comments of those that stay are kept."""
    for name in [name for name in table if name not in value]:
        del table[name]
    for name, member in value.items():
        if name not in table or _plain(table[name]) != member:
            table[name] = member


def _toml(text: str) -> Any:
    import tomlkit  # noqa: PLC0415 - only for the clients that write TOML
    from tomlkit.exceptions import TOMLKitError  # noqa: PLC0415

    try:
        return tomlkit.parse(text.removeprefix(_MARK))
    except TOMLKitError as error:
        raise UsageError("config.syntax", f"It is not TOML: {error}.") from None


def _toml_text(document: Any) -> str:
    import tomlkit  # noqa: PLC0415

    return tomlkit.dumps(document)


def _yaml(text: str) -> Any:
    from ruamel.yaml.error import YAMLError  # noqa: PLC0415 - only for the clients that write YAML

    try:
        return _yaml_reader().load(text)
    except YAMLError as error:
        place = getattr(error, "problem_mark", None)
        where = f" (line {place.line + 1})" if place else ""
        raise UsageError("config.syntax", f"It is not YAML{where}.") from None
    except (AttributeError, LookupError, TypeError, ValueError):  # as the library leaves them, of dates and numbers
        raise UsageError("config.syntax", "A value in it is not YAML.") from None


def _yaml_text(document: Any) -> str:
    text = io.StringIO()
    _yaml_reader().dump(document, text)
    return text.getvalue()


def _yaml_reader() -> Any:
    from ruamel.yaml import YAML  # noqa: PLC0415

    reader = YAML()  # the round-trip reader; it makes no objects of a document's choosing
    reader.preserve_quotes = True
    return reader


def _plain(value: Any, room: Iterator[int] | None = None) -> Any:
    """Without the libraries' own classes. `room` has a step for each value: YAML's aliases make many of few."""
    room = iter(range(_MOST_VALUES)) if room is None else room
    if next(room, None) is None:
        raise UsageError("config.syntax", f"It holds more than {_MOST_VALUES} values.")
    if isinstance(value, dict):
        return {str(name): _plain(member, room) for name, member in value.items()}
    if isinstance(value, list):
        return [_plain(member, room) for member in value]
    unwrapped = getattr(value, "unwrap", None)
    return unwrapped() if unwrapped else value
