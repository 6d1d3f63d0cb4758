"""A text, however it is spelt: each of its characters as it is, or escaped as URLs, JSON, scripts and HTML escape it.

Encoders differ in which characters they escape, and in how: in JSON Go escapes `&` but not `+`, and .NET both, in
capitals; in a URL JavaScript leaves `'`, where Python writes `%27`. So each character is taken in any of its spellings,
whatever the others are in; a list of whole spellings would have no end.
"""

from __future__ import annotations

import re
from functools import lru_cache
from html.entities import html5

_PLAIN_OR_ONE = re.compile("[A-Za-z0-9]+|.", re.DOTALL)
_SHORT_ESCAPES = {"\b": "\\b", "\t": "\\t", "\n": "\\n", "\f": "\\f", "\r": "\\r", '"': '\\"', "/": "\\/", "'": "\\'"}
_SURROGATES = range(0xD800, 0xE000)


class Spelt:
    """Where a text stands in some bytes, in whatever spelling. SECRET as the text is, never log."""

    __slots__ = ("_anchor_at", "_firsts", "_parts", "anchor", "longest")

    def __init__(self, text: bytes) -> None:
        pieces = _PLAIN_OR_ONE.findall(text.decode("utf-8", "surrogateescape"))
        self._parts = tuple((piece.encode(),) if piece.isalnum() and piece.isascii() else of(piece) for piece in pieces)
        self._firsts = frozenset(spelling[:1] for spelling in self._parts[0])
        lengths = [max(map(len, part)) for part in self._parts]
        self.longest = sum(lengths)
        plain = [(part[0], sum(lengths[:at])) for at, part in enumerate(self._parts) if len(part) == 1]
        # Sought first, since that costs next to nothing; and how far before it the text may begin.
        self.anchor, self._anchor_at = max(plain, key=lambda found: len(found[0]), default=(b"", self.longest))

    def __repr__(self) -> str:
        """Nothing of the text."""
        return "Spelt()"

    def spans(self, data: bytes) -> list[tuple[int, int]]:
        """Where it stands, from each beginning to the last end; they may overlap."""
        found: list[tuple[int, int]] = []
        at, tried = data.find(self.anchor), 0
        while at >= 0:
            for start in range(max(tried, at - self._anchor_at), at + 1):
                end = self._end(data, start)
                if end >= 0:
                    found.append((start, end))
            tried = at + 1
            at = data.find(self.anchor, at + 1)
        return found

    def undecided(self, data: bytes) -> int:
        """Where the longest ending that may yet become the text begins."""
        earliest = len(data)
        for first in self._firsts:
            at = data.find(first, max(0, len(data) - self.longest + 1))
            while 0 <= at < earliest:
                if self._may_go_on(data, at):
                    earliest = at
                at = data.find(first, at + 1)
        return earliest

    def _end(self, data: bytes, start: int) -> int:
        if data[start : start + 1] not in self._firsts:
            return -1
        places = {start}
        for part in self._parts:
            places = {at + len(one) for at in places for one in part if data.startswith(one, at)}
            if not places:
                return -1
        return max(places)

    def _may_go_on(self, data: bytes, start: int) -> bool:
        """Whether the data ends within a spelling of the text that begins there."""
        places = {start}
        for part in self._parts:
            beyond = set()
            for at in places:
                for one in part:
                    if data.startswith(one, at):
                        beyond.add(at + len(one))
                    elif len(data) - at < len(one) and one.startswith(data[at:]):
                        return True
            if not beyond:
                return False
            places = beyond
        return False


@lru_cache(maxsize=4096)
def of(character: str) -> tuple[bytes, ...]:
    """Every spelling of one character; a byte that is no UTF-8 is a lone surrogate, as `surrogateescape` has it."""
    raw = character.encode("utf-8", "surrogateescape")
    percent = "".join(f"%{byte:02X}" for byte in raw)
    found = {percent, percent.lower()}
    if character == " ":
        found.add("+")
    if ord(character) not in _SURROGATES:
        found |= {character} | _backslashed(character) | _entities(character)
    # What was escaped may be escaped again: JSON in JSON, a URL in a URL's query, HTML in JSON.
    found |= {spelling.replace("\\", "\\\\").replace('"', '\\"') for spelling in found}
    found |= {spelling.replace("%", "%25") for spelling in found}
    found |= {spelling.replace("&", "\\u0026") for spelling in found}
    return tuple(sorted({raw} | {spelling.encode() for spelling in found}))


def _backslashed(character: str) -> set[str]:
    """As JSON and programming languages escape it."""
    units = character.encode("utf-16-be").hex(" ", 2).split()
    found = {"".join(f"\\u{unit}" for unit in units), "".join(f"\\u{unit.upper()}" for unit in units)}
    if ord(character) <= 0xFF:  # noqa: PLR2004 - two digits
        found |= {f"\\x{ord(character):02x}", f"\\x{ord(character):02X}"}
    if character in _SHORT_ESCAPES:
        found.add(_SHORT_ESCAPES[character])
    return found


def _entities(character: str) -> set[str]:
    """As HTML and XML write it."""
    number = ord(character)
    found = {f"&#{number};", f"&#{number:03};", f"&#x{number:x};", f"&#x{number:X};"}
    return found | {f"&{name}" for name, meant in html5.items() if meant == character and name.endswith(";")}
