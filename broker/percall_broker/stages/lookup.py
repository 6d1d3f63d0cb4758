"""What is known of grants and servers, remembered between calls.

Remembering is safe because nothing is permitted on it alone: the statement that records an intent checks state and
versions again in its own transaction. A refusal must come from a fresh reading, or a resumed grant would stay shut.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

import msgspec

from percall_broker import policy
from percall_broker.model.entry import Entry
from percall_broker.model.keys import binding
from percall_broker.model.records import Freeze, Grant, PersonalKey, Scope, Server
from percall_broker.policy import BUILT_IN
from percall_broker.stages.pins import holder_of, pins_of_rows

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from percall_broker.policy import Policies
    from percall_broker.stages.pins import Pins
    from percall_broker.store.protocol import Row, Store


_KEPT_POLICIES = 8
_KEPT_PINS = 4096


class _ScopeText(msgspec.Struct):
    servers: dict[str, Scope] = {}


_decode_scope = msgspec.json.Decoder(_ScopeText).decode
_decode_entry = msgspec.json.Decoder(Entry).decode


def grant_of_row(row: Row, held: Sequence[Row] = ()) -> Grant:
    """The grant of a row of `read_grant`, with what its person holds by the rows of `held_by`."""
    values: dict[str, Any] = {name: value for name, value in row.items() if not name.startswith("frozen_")}
    flags = ("administrator", "claimable", "automation", "vouched")
    values |= {name: bool(row[name]) for name in flags if name in row}
    values["may"] = areas_of(row["may"])
    keys, groups, nevers = ([one for one in held if one["what"] == what] for what in ("key", "group", "never"))
    values["keys"] = {key["server"]: PersonalKey(key["version"], key["name"]) for key in keys}
    values["groups"] = tuple(sorted(group["name"] for group in groups))
    values["nevers"] = {(never["server"], never["tool"]): never["name"] for never in nevers}
    del values["scope"]
    return Grant(servers=_decode_scope(row["scope"]).servers, freeze=freeze_of_row(row), **values)


def _named(names: Iterable[str]) -> str:
    """Some names as a JSON object's, which both engines read by one function."""
    return msgspec.json.encode(dict.fromkeys(names)).decode()


def areas_of(may: str) -> tuple[str, ...]:
    """The areas of an automation's grant, from its row."""
    return tuple(area for area in may.split(",") if area)


def server_of_row(row: Row) -> Server:
    """The server of a row of `read_server`."""
    entry = _decode_entry(row["entry"])
    return Server(
        row["name"],
        row["version"],
        entry,
        row["state"],
        row["secret_version"],
        freeze_of_row(row),
        row["policy_version"],
        binding(entry),
    )


def freeze_of_row(row: Row) -> Freeze | None:
    """The freeze that a row tells of, in its columns `frozen_…`."""
    if row["frozen_kind"] is None:
        return None
    return Freeze(row["frozen_kind"], row["frozen_name"], row["frozen_reason"], row["frozen_by"], row["frozen_at"])


class Lookup:
    """Grants and servers by name, read from the store when they are not remembered. Raises Unavailable."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._grants: dict[str, Grant] = {}
        self._servers: dict[str, Server] = {}
        self._policies: OrderedDict[int, Policies] = OrderedDict()  # never change, so never forgotten but for room
        self._reading: dict[int, asyncio.Task[Policies]] = {}
        self._pins: dict[tuple[str, str], tuple[tuple[int, int], Pins]] = {}
        self._readings = 0

    async def grant(self, identifier: str, *, fresh: bool = False) -> Grant | None:
        """A grant, in whatever state it is; None when there is none of this id."""
        known = None if fresh else self._grants.get(identifier)
        if known is not None:
            return known
        return (await self._read_grants([identifier])).get(identifier)

    async def grants(self, identifiers: Collection[str]) -> dict[str, Grant]:
        """Those of some grants that there are, by their ids: in two readings, however many they are."""
        known = {one: self._grants[one] for one in identifiers if one in self._grants}
        unknown = [one for one in identifiers if one not in known]
        return known | await self._read_grants(unknown) if unknown else known

    async def _read_grants(self, identifiers: list[str]) -> dict[str, Grant]:
        reading = self._readings
        rows = await self._store.fetch("read_grants", grants=_named(identifiers))
        # After the grants, whose versions rise when they change: what is recorded fits what was decided on.
        held = await self._store.fetch("held_by", persons=_named(row["person"] for row in rows)) if rows else []
        found = {row["id"]: grant_of_row(row, [one for one in held if one["person"] == row["person"]]) for row in rows}
        for identifier in identifiers:
            self._grants.pop(identifier, None)
        if reading == self._readings:  # else they were forgotten while we read, and may be old already
            self._grants |= found
        return found

    async def server(self, name: str, *, fresh: bool = False) -> Server | None:
        """A server, active or removed; None when there is none of this name."""
        known = None if fresh else self._servers.get(name)
        if known is not None:
            return known
        reading = self._readings
        rows = await self._store.fetch("read_server", name=name)
        if not rows:
            self._servers.pop(name, None)
            return None
        found = server_of_row(rows[0])
        if reading == self._readings:
            self._servers[name] = found
        return found

    async def pins(self, server: Server, grant: Grant | None, *, fresh: bool = False) -> Pins:
        """What is accepted of a server's tools, for a grant; None for what is accepted for everybody.

        Remembered for these versions of server and grant, one of which rises when a tool is seen changed.
        """
        holder = holder_of(grant, server)
        versions = (server.version, grant.version if grant is not None else 0)
        known = self._pins.get((server.name, holder))
        if known is not None and known[0] == versions and not fresh:
            return known[1]
        reading = self._readings
        accepted = await self._store.fetch("pins_of", server=server.name, holder=holder)
        found = pins_of_rows(accepted, await self._store.fetch("sightings_of", server=server.name, holder=holder))
        if reading == self._readings:
            if len(self._pins) >= _KEPT_PINS:
                self._pins.clear()
            self._pins[server.name, holder] = (versions, found)
        return found

    async def policies(self, version: int) -> Policies:
        """The policies of a version, parsed once, by whoever comes first; 0 for those that ship with the broker."""
        known = self._policies.get(version)
        if known is not None:
            return known
        reading = self._reading.get(version)
        if reading is None:
            reading = self._reading[version] = asyncio.ensure_future(self._read(version))
            reading.add_done_callback(lambda _: self._reading.pop(version))
        return await asyncio.shield(reading)

    async def _read(self, version: int) -> Policies:
        files: dict[str, str] = BUILT_IN
        if version:
            rows = await self._store.fetch("read_policies", version=version)
            files = msgspec.json.decode(rows[0]["files"], type=dict[str, str])
        found = await asyncio.to_thread(policy.read, files, version)
        self._policies[version] = found
        if len(self._policies) > _KEPT_POLICIES:
            self._policies.popitem(last=False)
        return found

    def forget(self) -> None:
        """Something changed: read everything anew."""
        self._readings += 1
        self._grants.clear()
        self._servers.clear()
        self._pins.clear()
