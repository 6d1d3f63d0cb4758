"""JSON with comments and trailing commas, edited by replacing spans: all else keeps its every character.

Clients' config files carry comments, odd indentation and megabytes of other state (`~/.claude.json`). A parser that
writes the whole file anew would lose the first two; so this one only finds where each value begins and ends.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from percall.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

Step = str | int

_BLANK = re.compile(r"(?:[ \t\r\n]+|//[^\r\n]*|/\*.*?\*/)*", re.DOTALL)
_REMARK = re.compile(r"[ \t]*(?://[^\r\n]*|/\*[^\r\n]*?\*/)")
_STRING = re.compile(r'"(?:[^"\\\x00-\x1f]|\\.)*"')
_LITERAL = re.compile(r"-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?|true|false|null")
_CLOSING = {"{": "}", "[": "]"}
_MOST_NESTING = 200
_BYTE_ORDER_MARK = "\ufeff"


@dataclass(slots=True)
class Node:
    """A value and where it stands. `members` maps a name or an index to (where its name begins, its node)."""

    start: int
    end: int
    value: Any
    members: dict[Step, tuple[int, Node]] = field(default_factory=dict)


def parse(text: str) -> Node:
    """The tree of a document. Raises UsageError, with line and column, where it is not JSON with comments."""
    reader = _Reader(text)
    node, at = reader.value(reader.blank(len(_BYTE_ORDER_MARK) if text.startswith(_BYTE_ORDER_MARK) else 0), 0)
    at = reader.blank(at)
    if at != len(text):
        raise reader.wrong("nothing more", at)
    return node


def find(node: Node, path: Sequence[Step]) -> Node | None:
    """The node at a path; None when there is none."""
    for step in path:
        if step not in node.members:
            return None
        node = node.members[step][1]
    return node


def replaced(text: str, path: Sequence[Step], value: Any) -> str:
    """The text with another value at a path, which is there; indented as its surroundings are. Raises UsageError."""
    root = parse(text)
    node = find(root, path)
    if node is None:
        raise KeyError(path)
    return text[: node.start] + _written(text, value, _margin(text, node.start)) + text[node.end :]


def inserted(text: str, path: Sequence[str], value: Any) -> str:
    """The text with a further member: the objects on its way are made where they are missing.

    A member that is there already is replaced. Raises UsageError where something on its way is no object.
    """
    root = parse(text)
    if find(root, path) is not None:
        return replaced(text, path, value)
    depth = len(path) - 1
    while find(root, path[:depth]) is None:
        depth -= 1
    for name in reversed(path[depth + 1 :]):
        value = {name: value}
    node = find(root, path[:depth])
    if node is None or not isinstance(node.value, dict):
        raise UsageError("config.shape", f"{'.'.join(path[:depth])} is no JSON object.")
    return _with_member(text, node, path[depth], value)


def removed(text: str, path: Sequence[Step]) -> str:
    """The text without the member at a path, which is there, nor the comma that it needed. Raises UsageError."""
    root = parse(text)
    parent = find(root, path[:-1])
    if parent is None or path[-1] not in parent.members:
        raise KeyError(path)
    start, node = parent.members[path[-1]]
    following = _after_blank(text, node.end)
    if text[following : following + 1] == ",":
        return _cut_line(text, start, following + 1)
    before = [other.end for _, other in parent.members.values() if other.end <= start]
    if before:
        comma = text.index(",", _after_blank(text, max(before)))
        return _cut_line(text[:comma] + text[comma + 1 :], start - 1, node.end - 1)
    return _cut_line(text, start, node.end)


def _after_blank(text: str, at: int) -> int:
    """Past white space and comments."""
    blank = _BLANK.match(text, at)
    return blank.end() if blank else at


def _after_remark(text: str, at: int) -> int:
    """Past the comment that stands behind a value on its line, and so belongs to it."""
    remark = _REMARK.match(text, at)
    return remark.end() if remark else at


def _cut_line(text: str, start: int, end: int) -> str:
    """Cuts a span, and the line with it where nothing else stands there."""
    line = text.rfind("\n", 0, start) + 1
    newline = text.find("\n", end)
    rest = text[end : newline if newline >= 0 else len(text)]
    if not text[line:start].strip() and not rest.strip() and newline >= 0:
        return text[:line] + text[newline + 1 :]
    return text[:start] + text[end:].lstrip(" \t")


def _with_member(text: str, node: Node, name: str, value: Any) -> str:
    newline = "\r\n" if "\r\n" in text else "\n"
    margin = _margin(text, node.start)
    inner = margin + _indent(text)
    written = f"{_json(name)}: {_written(text, value, inner)}"
    if not node.members:
        inside = text[node.start + 1 : node.end - 1].rstrip()
        return f"{text[: node.start + 1]}{inside}{newline}{inner}{written}{newline}{margin}{text[node.end - 1 :]}"
    last = max(child.end for _, child in node.members.values())
    after = _after_blank(text, last)
    if text[after : after + 1] == ",":  # a trailing comma: ours follows it, and keeps the habit
        at = _after_remark(text, after + 1)
        return f"{text[:at]}{newline}{inner}{written},{text[at:]}"
    at = _after_remark(text, last)
    return f"{text[:last]},{text[last:at]}{newline}{inner}{written}{text[at:]}"


def _written(text: str, value: Any, margin: str) -> str:
    lines = _json(value, _indent(text)).split("\n")
    return ("\r\n" if "\r\n" in text else "\n").join(lines[:1] + [margin + line for line in lines[1:]])


def _json(value: Any, indent: str | None = None) -> str:
    written = json.dumps(value, ensure_ascii=False, indent=indent)
    try:
        written.encode()
    except UnicodeEncodeError:  # half a surrogate pair exists as an escape alone
        return json.dumps(value, indent=indent)
    return written


def _margin(text: str, at: int) -> str:
    """What the line of a place begins with."""
    line = text[text.rfind("\n", 0, at) + 1 : at]
    return line[: len(line) - len(line.lstrip(" \t"))]


def _indent(text: str) -> str:
    """One level of this document's own indentation."""
    found = re.search(r"\n([ \t]+)\S", text)
    return found[1] if found else "  "


class _Reader:
    """One pass over a text."""

    def __init__(self, text: str) -> None:
        self._text = text

    def wrong(self, wanted: str, at: int) -> UsageError:
        line = self._text.count("\n", 0, at) + 1
        column = at - (self._text.rfind("\n", 0, at) + 1) + 1
        return UsageError("config.syntax", f"Line {line}, column {column}: expected {wanted}.")

    def blank(self, at: int) -> int:
        return _after_blank(self._text, at)

    def value(self, at: int, depth: int) -> tuple[Node, int]:
        if self._text[at : at + 1] in _CLOSING:
            if depth >= _MOST_NESTING:
                raise self.wrong("less nesting", at)
            return self._container(at, depth + 1)
        found = _STRING.match(self._text, at) or _LITERAL.match(self._text, at)
        if not found:
            raise self.wrong("a value", at)
        return Node(at, found.end(), self._scalar(found[0], at)), found.end()

    def _scalar(self, written: str, at: int) -> Any:
        try:
            return json.loads(written)
        except ValueError:
            raise self.wrong("a value", at) from None

    def _container(self, start: int, depth: int) -> tuple[Node, int]:
        text = self._text
        closing = _CLOSING[text[start]]
        members: dict[Step, tuple[int, Node]] = {}
        at = self.blank(start + 1)
        while text[at : at + 1] != closing:
            begins = at
            step: Step = len(members)
            if closing == "}":
                step, at = self._name(at)
                if step in members:
                    raise self.wrong("each name once", begins)
            node, at = self.value(at, depth)
            members[step] = (begins, node)
            at = self.blank(at)
            if text[at : at + 1] == ",":
                at = self.blank(at + 1)
            elif text[at : at + 1] != closing:
                raise self.wrong(f"',' or '{closing}'", at)
        values = [node.value for _, node in members.values()]
        return Node(
            start, at + 1, values if closing == "]" else dict(zip(members, values, strict=True)), members
        ), at + 1

    def _name(self, at: int) -> tuple[str, int]:
        found = _STRING.match(self._text, at)
        if not found:
            raise self.wrong("a name", at)
        colon = self.blank(found.end())
        if self._text[colon : colon + 1] != ":":
            raise self.wrong("':'", colon)
        return str(self._scalar(found[0], at)), self.blank(colon + 1)
