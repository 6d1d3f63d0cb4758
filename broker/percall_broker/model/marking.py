"""Text from elsewhere, so that a reader sees what is there: characters that hide, reorder or control are shown by name.

A tool's name or an argument may hold a right-to-left override, a zero-width space or an escape sequence; what looks
harmless would then not be what is approved.
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass

_INVISIBLE_CATEGORIES = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
_VARIATION_SELECTORS = "".join(map(chr, (*range(0x180B, 0x1810), *range(0xFE00, 0xFE10), *range(0xE0100, 0xE01F0))))
_INVISIBLE = frozenset("\u115f\u1160\u3164\uffa0\u2800\u034f\u17b4\u17b5\U00016fe4\U0001d159" + _VARIATION_SELECTORS)
"""Letters and marks that take no ink: those of Default_Ignorable_Code_Point (Unicode, DerivedCoreProperties) that are
of no category above, and fillers. A model reads what is written in variation selectors; a person sees the letter.
"""
_SPACES = frozenset({" "})
_LAYOUT = frozenset("\n\t")
_MOST_MARKS = 4  # combining marks on one letter; more of them pile up over the lines around


@dataclass(frozen=True, slots=True)
class Run:
    """A piece of a text. `hidden`: it stands for one character that would not be seen, and `text` is its name."""

    text: str
    hidden: bool


def runs(text: str) -> list[Run]:
    """The text in pieces, in order. Line breaks and tabs stay what they are."""
    found: list[Run] = []
    plain: list[str] = []
    marks = 0
    for character in text:
        marks = marks + 1 if unicodedata.category(character) in {"Mn", "Me"} else 0
        if character not in _LAYOUT and (is_hidden(character) or marks > _MOST_MARKS):
            if plain:
                found.append(Run("".join(plain), hidden=False))
                plain = []
            found.append(Run(name_of(character), hidden=True))
        else:
            plain.append(character)
    if plain:
        found.append(Run("".join(plain), hidden=False))
    return found


def visible(text: str) -> str:
    """The text on one line, hidden characters named in place, line breaks and tabs too: `pay⟨U+202E⟩fdp`."""
    return "".join(_named(character) if character in _LAYOUT else character for character in visible_lines(text))


def visible_lines(text: str) -> str:
    """As `visible`, with its line breaks and tabs as they are: for what has lines of its own, not for a name."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(f"⟨{run.text.split()[0]}⟩" if run.hidden else run.text for run in runs(text))


def is_hidden(character: str) -> bool:
    """Whether a character would not be seen, or would change how others are."""
    category = unicodedata.category(character)
    is_other_space = category == "Zs" and character not in _SPACES
    return category in _INVISIBLE_CATEGORIES or is_other_space or character in _INVISIBLE


def _named(character: str) -> str:
    return f"⟨U+{ord(character):04X}⟩"


def name_of(character: str) -> str:
    """`U+202E RIGHT-TO-LEFT OVERRIDE`."""
    return f"U+{ord(character):04X} {unicodedata.name(character, '')}".rstrip()
