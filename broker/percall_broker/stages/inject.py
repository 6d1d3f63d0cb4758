"""Step 5 of a relayed request: the key into its declared slots, and nothing else of the caller's but MCP's own headers.

A remote server is asked by the broker itself, so there is no placeholder: what stands in a slot is ours alone.
"""

from __future__ import annotations

import re
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING
from urllib.parse import quote

from percall_broker.model.errors import Unavailable
from percall_broker.model.rules import parse_url

if TYPE_CHECKING:
    from collections.abc import Mapping

    from percall_broker.model.entry import Entry
    from percall_broker.model.rules import Target

_VALUE = re.compile(r"[\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?")


def keyed(entry: Entry, key: bytes, headers: Mapping[str, str]) -> tuple[Target, tuple[tuple[str, str], ...]]:
    """Where the request goes and with which headers, the key in them: SECRET, never log.

    Raises Unavailable for a key that cannot stand where its slot is.
    """
    target = _target(entry.url)
    sent = dict(headers)
    try:
        text = key.decode("ascii")
    except UnicodeDecodeError:
        raise _unfit() from None
    for slot in entry.slots:
        value = slot.format.replace("{key}", text)
        if slot.kind == "query":
            pair = f"{quote(slot.name, safe='')}={quote(value, safe='')}"
            target = replace(target, query=f"{target.query}&{pair}" if target.query else pair)
        elif _VALUE.fullmatch(value):
            sent[slot.name.lower()] = value
        else:
            raise _unfit()
    return target, tuple(sent.items())


@lru_cache
def _target(url: str) -> Target:
    """An entry's URL never changes."""
    return parse_url(url)


def _unfit() -> Unavailable:
    return Unavailable(
        "credential.form", "The stored key cannot stand in its slot.", "Rotate it: percall-broker server rotate-key."
    )
