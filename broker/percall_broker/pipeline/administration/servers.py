"""The catalogue of servers, and their keys. Nothing here hands out a secret."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

import msgspec

from percall_broker.log import changes
from percall_broker.log.canonical import canonical
from percall_broker.model import entry_file, entry_text
from percall_broker.model.entry import Entry
from percall_broker.model.errors import Conflict, InvalidInput
from percall_broker.model.keys import binding, checked_key, secret_name
from percall_broker.model.names import check_name
from percall_broker.model.rules import loopback_origins
from percall_broker.pipeline.administration import unknown
from percall_broker.pipeline.administration.automations import not_its_stop, refuse_loopback, stopped_itself
from percall_broker.pipeline.administration.keys import personal_key_row
from percall_broker.pipeline.administration.rows import frozen_row
from percall_broker.store.protocol import Row, Statement

if TYPE_CHECKING:
    from percall_broker.model.records import Identity
    from percall_broker.pipeline.administration.ledger import Ledger
    from percall_broker.vault import Vault


class Servers:
    """The catalogue. Every method raises Unavailable when the store cannot."""

    def __init__(self, ledger: Ledger, vault: Vault) -> None:
        self._ledger = ledger
        self._vault = vault

    async def add(
        self, by: Identity, name: str, text: str, connect: dict[str, str], secret: bytes, expires_at: int = 0
    ) -> Row:
        """A server of the catalogue, with its shared key where one is given: until there is one, people use their own.

        `expires_at` is when that key ends at its issuer, in seconds; 0 where nobody said.
        Raises InvalidInput, Conflict; Forbidden to an automation that may not name what is on this machine.
        """
        check_name(name, "server")
        entry = entry_file.read(text, connect=connect)
        refuse_loopback(by, loopback_origins(entry))
        if expires_at and not secret:
            raise InvalidInput("server.key", "There is no key whose end could be said.", "Give the key too, or no end.")
        _check_takes_shared(entry, name, given=bool(secret))
        version = await self._next_secret_version(name) if secret else 0
        sealed = [*await self._sealing(name, version, secret, expires_at)] if secret else []
        parameters = {"name": name, "entry": _text_of(entry), "secret_version": version, "created_at": int(time.time())}
        done = await self._ledger.change(
            Statement("add_server", parameters, required=True),
            *sealed,
            changes.change(by, "server.add", server=name, title=entry.title, secret_version=version),
        )
        if done is None:
            advice = f"To change it: percall-broker server update {name}, or server rotate-key {name} for its key."
            raise Conflict("server.exists", f"There is a server {name!r} already.", advice)
        return await self.show(name)

    async def update(self, by: Identity, name: str, text: str, connect: dict[str, str]) -> Row:
        """Replaces an entry; its key stays. Raises InvalidInput, NotFound; Forbidden as `add`."""
        before = await self.show(name)
        entry = entry_file.read(text, connect=connect)
        refuse_loopback(by, loopback_origins(entry) - loopback_origins(await self._entry(name)))
        if before["secret_version"] and not entry.slots:
            raise InvalidInput(
                "server.key",
                "An entry without a key cannot replace one that has one.",
                f"Give it slots, or remove the server first: percall-broker server remove {name}",
            )
        await self._change(
            name,
            Statement("update_server", {"name": name, "entry": _text_of(entry)}, required=True),
            changes.change(by, "server.update", server=name, title=entry.title),
        )
        return await self.show(name)

    async def remove(self, by: Identity, name: str) -> None:
        """Takes a server out of the catalogue; its calls are refused from now on. Raises NotFound."""
        await self._change(
            name,
            Statement("remove_server", {"name": name}, required=True),
            Statement("remove_freeze", {"kind": "server", "name": name}),
            *(
                Statement(one, {"server": name})
                for one in ("forget_pins", "forget_sightings", "forget_all_definitions")
            ),
            changes.change(by, "server.remove", server=name),
        )

    async def set_state(self, by: Identity, name: str, state: str) -> Row:
        """Suspends or resumes. Raises NotFound; Conflict when it is so already; Forbidden to an automation that resumes
        what somebody else has suspended.
        """
        await self.show(name)
        done = await self._ledger.change(
            *(stopped_itself(by, "server.suspended", server=name) if state == "active" else ()),
            Statement("set_server_state", {"name": name, "state": state}, required=True),
            changes.change(by, f"server.{state}", server=name),
        )
        found = await self.show(name)
        if done is None and found["state"] != state:
            raise not_its_stop(by)
        if done is None:
            raise Conflict("server.state", f"The server {name!r} is {state} already.")
        return found

    async def rotate_key(self, by: Identity, name: str, secret: bytes, expires_at: int = 0) -> Row:
        """Gives a server a new shared key, or its first: the next request uses it, and no call fails.

        Raises InvalidInput, NotFound.
        """
        _check_takes_shared(await self._entry(name), name, given=True)
        version = await self._next_secret_version(name)
        await self._change(
            name,
            Statement("set_secret_version", {"name": name, "secret_version": version}, required=True),
            *await self._sealing(name, version, secret, expires_at),
            changes.change(by, "server.rotate_key", server=name, secret_version=version),
        )
        return await self.show(name)

    async def set_key_end(self, by: Identity, name: str, expires_at: int) -> Row:
        """Says when the key in use ends at its issuer; 0 for never. It goes on being used. Raises InvalidInput,
        NotFound.
        """
        before = await self.show(name)
        version = before["secret_version"]
        if not version:
            raise InvalidInput(
                "server.key",
                f"The server {name!r} has no key.",
                f"Give it one: percall-broker server rotate-key {name}",
            )
        await self._change(
            name,
            _key_end(name, version, expires_at),
            changes.change(by, "server.key_end", server=name, secret_version=version, expires_at=expires_at),
        )
        return await self.show(name)

    async def accept_key(self, by: Identity, name: str, person: str) -> Row:
        """Makes the key that a person offered the shared one; theirs ends with it. Raises NotFound, Conflict."""
        _check_takes_shared(await self._entry(name), name, given=True)
        rows = await self._ledger.fetch("list_personal_keys", person=person, server=name)
        if not rows or not rows[0]["offered_at"]:
            raise Conflict(
                "key.offer", f"{person} has offered no key for {name!r}.", f"There: percall key offer {name}"
            )
        version, theirs = await self._next_secret_version(name), {"person": person, "server": name}
        # That it is opened is on record before it is.
        await self._ledger.append(changes.reading(by, "key.open", server=name, owner=person))
        secret = await self._vault.unseal(secret_name(person, name), rows[0]["version"])
        done = await self._ledger.change(
            Statement("take_offered_key", {**theirs, "version": rows[0]["version"]}, required=True),
            Statement("set_secret_version", {"name": name, "secret_version": version}, required=True),
            *await self._sealing(name, version, secret),
            Statement("forget_personal_secrets", theirs),
            Statement("touch_grants", {"person": person, "device": ""}),
            changes.change(by, "server.accept_key", server=name, owner=person, secret_version=version),
        )
        if done is None:
            raise Conflict("key.offer", f"{person}'s offer, or the server, changed meanwhile.", "Look again.")
        return await self.show(name)

    async def listed(self) -> list[Row]:
        """The catalogue, by name."""
        keys: dict[str, list[Row]] = {}
        for row in await self._ledger.fetch("list_personal_keys", person="", server=""):
            keys.setdefault(row["server"], []).append(row)
        rows = await self._ledger.fetch("list_servers")
        return [_server_row(row, keys.get(row["name"], [])) for row in rows]

    async def show(self, name: str) -> Row:
        """One server. Raises NotFound."""
        for row in await self.listed():
            if row["server"] == name:
                return row
        raise unknown.server(name)

    async def entry(self, name: str) -> Row:
        """A server's entry in TOML, and the stand-ins for its hosts, which no TOML says. Raises NotFound."""
        entry = await self._entry(name)
        return {"server": name, "entry": entry_text.written(entry), "connect": entry.connect}

    async def _entry(self, name: str) -> Entry:
        for row in await self._ledger.fetch("list_servers"):
            if row["name"] == name:
                return msgspec.json.decode(row["entry"], type=Entry)
        raise unknown.server(name)

    async def _sealing(self, name: str, version: int, secret: bytes, expires_at: int = 0) -> tuple[Statement, ...]:
        sealing = await self._vault.sealing(name, version, checked_key(secret), fingerprinted=True)
        return (sealing, _key_end(name, version, expires_at)) if expires_at else (sealing,)

    async def _change(self, name: str, *statements: Statement) -> None:
        if await self._ledger.change(*statements) is None:
            raise unknown.server(name)

    async def _next_secret_version(self, name: str) -> int:
        rows = await self._ledger.fetch("newest_secret_version", name=name)
        return int(rows[0]["version"]) + 1


def _check_takes_shared(entry: Entry, name: str, *, given: bool) -> None:
    """Raises InvalidInput for a shared key that the entry would not use."""
    if given and not entry.slots:
        raise InvalidInput("server.key", f"The server {name!r} has no key to be given.", "Its entry has no slots.")
    if given and entry.key_owner == "personal":
        raise InvalidInput(
            "server.key",
            f"The server {name!r} is used with everybody's own key, never a shared one.",
            f"Each gives theirs: percall key add {name}",
        )


def _server_row(row: Row, keys: list[Row]) -> Row:
    entry = msgspec.json.decode(row["entry"], type=Entry)
    place = binding(entry)
    return {
        "server": row["name"],
        "title": entry.title,
        "delivery": entry.delivery,
        "label": entry_file.label(entry),
        "state": row["state"],
        "frozen": frozen_row(row),
        "version": row["version"],
        "key_owner": entry.key_owner if entry.slots else "",
        "secret_version": row["secret_version"],
        "secret_created_at": row["secret_created_at"],
        "secret_expires_at": row["secret_expires_at"],
        "command": list(entry.command),
        "url": entry.url,
        "ways": list(entry.ways),
        "hosts": list(entry.hosts),
        "connect": entry.connect,
        "attribution": entry.attribution,
        "tools": [
            {"match": list(rule.match), "requests": [entry_text.request_text(request) for request in rule.requests]}
            for rule in entry.tools
        ],
        "default_tools": list(entry.default_tools),
        "probe": {"tool": entry.probe.tool, "arguments": json.loads(entry.probe.arguments)} if entry.probe else None,
        "launches": list(entry.recognition.launches),
        "keys": list(entry.key_names),
        # moved: its owner has not seen where the entry sends it now, so it is not used until they have.
        "personal_keys": [{**personal_key_row(key), "moved": key["binding"] != place} for key in keys],
    }


def _text_of(entry: Entry) -> str:
    return canonical(msgspec.to_builtins(entry))


def _key_end(name: str, version: int, expires_at: int) -> Statement:
    if expires_at and expires_at <= time.time():
        raise InvalidInput("secret.expired", "A key that has ended already is of no use.", "Check its end.")
    return Statement("set_secret_end", {"name": name, "version": version, "expires_at": expires_at}, required=True)
