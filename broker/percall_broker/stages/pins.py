"""Pins: which definitions of a server's tools are accepted, and what of a list of tools may be shown by them."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from percall.errors import WireError
from percall.rpc import tools as rpc
from percall_broker.crypto.proofs import digest
from percall_broker.model.keys import key_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from percall_broker.model.records import Grant, Server
    from percall_broker.store.protocol import Row

_TELLING = ("title", "description", "inputSchema", "outputSchema", "annotations")
_OTHERS = "other members"
_ANNOTATIONS = {
    "readOnlyHint": "readOnly",
    "destructiveHint": "destructive",
    "idempotentHint": "idempotent",
    "openWorldHint": "openWorld",
}

Annotations = tuple[tuple[str, bool], ...]


def holder_of(grant: Grant | None, server: Server) -> str:
    """For whom a sighting counts: everybody (empty), where the broker itself looks with the key that all share; else
    the grant alone, whose laptop says what it saw, or whose person's own key may open other tools.
    """
    if grant is None or (server.entry.delivery == "relay" and not key_of(grant, server).owner):
        return ""
    return grant.id


@dataclass(frozen=True, slots=True)
class Definition:
    """What a server says a tool is: its canonical text, and the digest of that."""

    tool: str
    digest: str
    text: str = field(repr=False)

    @classmethod
    def of(cls, tool: Any) -> Definition:
        """Of a tool in a list. Raises WireError for one that cannot be pinned."""
        text = rpc.canonical(tool)
        return cls(tool["name"], digest(text.encode()), text)

    @property
    def annotations(self) -> dict[str, bool]:
        """What the server says the tool does, by the names that policies use."""
        said = json.loads(self.text).get("annotations")
        said = said if isinstance(said, dict) else {}
        return {ours: said[theirs] for theirs, ours in _ANNOTATIONS.items() if type(said.get(theirs)) is bool}


@dataclass(frozen=True, slots=True)
class Pins:
    """The accepted definitions of a server's tools, for one who sees them: digests by tool.

    `seen` is each tool's digest as it was last seen, `differs` what of it was not as accepted; `annotations` are those
    on which all definitions agree that are accepted for everybody.
    """

    accepted: Mapping[str, tuple[str, ...]]
    seen: Mapping[str, str]
    differs: Mapping[str, str]
    annotations: Mapping[str, Annotations]

    def takes(self, definition: Definition) -> bool:
        """Whether it may be shown: it is accepted, or the first that is seen of this tool."""
        known = self.accepted.get(definition.tool)
        return known is None or definition.digest in known

    def changed(self, tool: str) -> str | None:
        """What of a tool is not as it was accepted; None when it is."""
        seen = self.seen.get(tool)
        if seen is None or seen in self.accepted.get(tool, (seen,)):
            return None
        return self.differs.get(tool) or _OTHERS


NO_PINS = Pins({}, {}, {}, {})


def pins_of_rows(accepted: list[Row], sightings: list[Row]) -> Pins:
    """The pins of the rows of `pins_of` and `sightings_of`."""
    everybodys: dict[str, list[Row]] = {}
    own: dict[str, list[Row]] = {}
    for row in accepted:
        (own if row["holder"] else everybodys).setdefault(row["tool"], []).append(row)
    counted = {**own, **everybodys}  # what a laptop saw first counts until something is accepted for everybody
    return Pins(
        accepted={tool: tuple(row["digest"] for row in rows) for tool, rows in counted.items()},
        seen={row["tool"]: row["digest"] for row in sightings},
        differs={row["tool"]: row["differs"] for row in sightings},
        annotations={
            tool: _agreed([json.loads(row["annotations"]) for row in rows]) for tool, rows in everybodys.items()
        },
    )


def _agreed(said: list[dict[str, bool]]) -> Annotations:
    return tuple((name, value) for name, value in said[0].items() if all(one.get(name) is value for one in said))


@dataclass(frozen=True, slots=True)
class Sifted:
    """A list of tools: those that may be shown, and each definition that was not what was last seen of its tool."""

    shown: list[Any]
    news: tuple[Definition, ...]
    withheld: tuple[str, ...]


def sift(pins: Pins, tools: list[Any]) -> Sifted:
    """A server's list of tools against what is accepted of it. What cannot be pinned is withheld."""
    definitions = [_definition(tool) for tool in tools[: rpc.MOST]]
    named: dict[str, set[str]] = {}
    for one in definitions:
        if one is not None:
            named.setdefault(one.tool, set()).add(one.digest)
    shown, withheld, news = [], [], {}
    for tool, one in zip(tools, definitions, strict=False):
        if one is None:
            continue
        if len(named[one.tool]) == 1:  # of two that go by one name, neither is what was accepted
            if pins.seen.get(one.tool) != one.digest:
                news[one.tool] = one
            if pins.takes(one):
                shown.append(tool)
                continue
        withheld.append(one.tool)
    return Sifted(shown, tuple(news.values()), tuple(dict.fromkeys(withheld)))


def _definition(tool: Any) -> Definition | None:
    try:
        return Definition.of(tool)
    except WireError:
        return None


def difference(before: str, after: str) -> tuple[str, ...]:
    """The members in which two definitions differ, in words that are ours alone."""
    old, new = json.loads(before), json.loads(after)
    names = {name for name in {*old, *new} if old.get(name) != new.get(name)}
    told = tuple(name for name in _TELLING if name in names)
    return (*told, _OTHERS) if names - set(told) else told
