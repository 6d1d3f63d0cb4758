"""The catalogue of servers, and their keys. Nothing here hands out a secret."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import msgspec

from percall_broker.log import changes
from percall_broker.log.canonical import canonical
from percall_broker.model import entry_file
from percall_broker.model.entry import Entry
from percall_broker.model.errors import Conflict, InvalidInput, NotFound
from percall_broker.pipeline.administration.names import check_name
from percall_broker.pipeline.administration.rows import frozen_row
from percall_broker.store.protocol import Row, Statement

if TYPE_CHECKING:
    from percall_broker.model.records import Identity
    from percall_broker.pipeline.administration.ledger import Ledger
    from percall_broker.vault import Vault

MAX_SECRET_BYTES = 8 * 1024
MIN_SECRET_BYTES = 8


class Servers:
    """The catalogue. Every method raises Unavailable when the store cannot."""

    def __init__(self, ledger: Ledger, vault: Vault) -> None:
        self._ledger = ledger
        self._vault = vault

    async def add(
        self, by: Identity, name: str, text: str, connect: dict[str, str], secret: bytes, expires_at: int = 0
    ) -> Row:
        """A server of the catalogue, with its key where it needs one. Raises InvalidInput, Conflict.

        `expires_at` is when that key ends at its issuer, in seconds; 0 where nobody said.
        """
        check_name(name, "server")
        entry = entry_file.read(text, connect=connect)
        if not entry.slots and (secret or expires_at):
            raise InvalidInput("server.key", "This server has no key to be given.")
        version = await self._next_secret_version(name) if entry.slots else 0
        sealed = [*await self._sealing(name, version, secret, expires_at)] if entry.slots else []
        parameters = {"name": name, "entry": _text_of(entry), "secret_version": version, "created_at": int(time.time())}
        done = await self._ledger.change(
            Statement("add_server", parameters, required=True),
            *sealed,
            changes.change(by, "server.add", server=name, title=entry.title, secret_version=version),
        )
        if done is None:
            raise Conflict("server.exists", f"There is a server {name!r} already.", "Remove it first, or update it.")
        return await self.show(name)

    async def update(self, by: Identity, name: str, text: str, connect: dict[str, str]) -> Row:
        """Replaces an entry; its key stays. Raises InvalidInput, NotFound."""
        before = await self.show(name)
        entry = entry_file.read(text, connect=connect)
        if bool(entry.slots) != bool(before["secret_version"]):
            raise InvalidInput("server.key", "An entry with a key cannot replace one without, nor the reverse.")
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
            changes.change(by, "server.remove", server=name),
        )

    async def set_state(self, by: Identity, name: str, state: str) -> Row:
        """Suspends or resumes. Raises NotFound; Conflict when it is so already."""
        before = await self.show(name)
        done = await self._ledger.change(
            Statement("set_server_state", {"name": name, "state": state}, required=True),
            changes.change(by, f"server.{state}", server=name),
        )
        if done is None:
            raise Conflict("server.state", f"The server {name!r} is {before['state']} already.")
        return await self.show(name)

    async def rotate_key(self, by: Identity, name: str, secret: bytes, expires_at: int = 0) -> Row:
        """Gives a server a new key: the next request uses it, and no call fails. Raises InvalidInput, NotFound."""
        before = await self.show(name)
        if not before["secret_version"]:
            raise InvalidInput("server.key", f"The server {name!r} has no key.")
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
            raise InvalidInput("server.key", f"The server {name!r} has no key.")
        await self._change(
            name,
            _key_end(name, version, expires_at),
            changes.change(by, "server.key_end", server=name, secret_version=version, expires_at=expires_at),
        )
        return await self.show(name)

    async def listed(self) -> list[Row]:
        """The catalogue, by name."""
        return [_server_row(row) for row in await self._ledger.fetch("list_servers")]

    async def show(self, name: str) -> Row:
        """One server. Raises NotFound."""
        for row in await self.listed():
            if row["server"] == name:
                return row
        raise NotFound("server.unknown", f"There is no server {name!r}.", "See: percall-broker server list.")

    async def _change(self, name: str, *statements: Statement) -> None:
        if await self._ledger.change(*statements) is None:
            raise NotFound("server.unknown", f"There is no server {name!r}.", "See: percall-broker server list.")

    async def _sealing(self, name: str, version: int, secret: bytes, expires_at: int) -> tuple[Statement, ...]:
        sealing = await self._vault.sealing(name, version, _checked_secret(secret))
        return (sealing, _key_end(name, version, expires_at)) if expires_at else (sealing,)

    async def _next_secret_version(self, name: str) -> int:
        rows = await self._ledger.fetch("newest_secret_version", name=name)
        return int(rows[0]["version"]) + 1


def _server_row(row: Row) -> Row:
    entry = msgspec.json.decode(row["entry"], type=Entry)
    return {
        "server": row["name"],
        "title": entry.title,
        "delivery": entry.delivery,
        "label": entry_file.label(entry),
        "state": row["state"],
        "frozen": frozen_row(row),
        "version": row["version"],
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
            {"match": list(rule.match), "requests": [_request_text(request) for request in rule.requests]}
            for rule in entry.tools
        ],
        "default_tools": list(entry.default_tools),
        "probe": {"tool": entry.probe.tool, "arguments": json.loads(entry.probe.arguments)} if entry.probe else None,
        "launches": list(entry.recognition.launches),
        "keys": list(entry.key_names),
    }


def _request_text(rule: Any) -> str:
    return f"{','.join(rule.methods)} {rule.origin}{rule.path}"


def _text_of(entry: Entry) -> str:
    return canonical(msgspec.to_builtins(entry))


def _key_end(name: str, version: int, expires_at: int) -> Statement:
    if expires_at and expires_at <= time.time():
        raise InvalidInput("secret.expired", "A key that has ended already is of no use.", "Check its end.")
    return Statement("set_secret_end", {"name": name, "version": version, "expires_at": expires_at}, required=True)


def _checked_secret(secret: bytes) -> bytes:
    """A key as it will stand in a header: one line of visible ASCII."""
    if not MIN_SECRET_BYTES <= len(secret) <= MAX_SECRET_BYTES:
        raise InvalidInput("secret.length", f"A key has {MIN_SECRET_BYTES} to {MAX_SECRET_BYTES} characters.")
    if not all(0x20 <= byte <= 0x7E for byte in secret):  # noqa: PLR2004 - visible ASCII and the space
        raise InvalidInput("secret.characters", "A key is one line of visible ASCII characters.")
    return secret
