"""How a tool's definition stands, and how it is written for a person: what the broker and its command line both say."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any

ACCEPTED, SEEN, CHANGED, OLD = "accepted", "first seen", "changed", "not seen now"
_TEXTS = ("name", "title", "description")
_SENTENCE = re.compile(r"(?<=[.!?;])\s+")


def written(definition: dict[str, Any]) -> list[str]:
    """A definition in lines: its texts sentence by sentence, the rest as JSON."""
    lines = []
    for name in _TEXTS:
        value = definition.get(name)
        if isinstance(value, str):
            lines.append(f"{name}:")
            lines += [f"    {sentence}" for line in value.splitlines() or [""] for sentence in _SENTENCE.split(line)]
    rest = {name: value for name, value in definition.items() if not (name in _TEXTS and isinstance(value, str))}
    return lines + json.dumps(rest, indent=2, sort_keys=True, ensure_ascii=False).splitlines()
