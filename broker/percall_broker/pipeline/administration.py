"""What an administrator changes and reads: people's grants, the catalogue of servers, their keys, and the record.

Each change is one transaction: the change, its log entry, and the epoch that tells every replica. Nothing here hands
out a secret; an invite is handed out once, and only its hash is kept.
"""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass, field
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import msgspec

from percall_broker.log import changes
from percall_broker.log.canonical import canonical
from percall_broker.model import entry_file
from percall_broker.model.entry import Entry
from percall_broker.model.errors import Conflict, InvalidInput, NotFound
from percall_broker.store.protocol import Row, Statement

if TYPE_CHECKING:
    from collections.abc import Callable

    from percall_broker.log.arguments import SealedArguments
    from percall_broker.model.records import Identity
    from percall_broker.store.protocol import Store
    from percall_broker.vault import Vault

INVITE_SECONDS = 15 * 60
MAX_SECRET_BYTES = 8 * 1024
MIN_SECRET_BYTES = 8
_INVITE_BYTES = 20
_GRANT_BYTES = 12
_EPOCH = Statement("advance_epoch")


@dataclass(frozen=True, slots=True)
class NewGrant:
    """A grant to be made. `servers` by name, each with the patterns of its scope; `expires_at` in seconds, 0: never."""

    person: str
    servers: dict[str, dict[str, list[str]]]
    agent: str = ""
    expires_at: int = 0
    administrator: bool = False


@dataclass(frozen=True, slots=True)
class Filters:
    """Which calls to list; empty and 0 filter nothing. Times are in milliseconds."""

    person: str = ""
    grant_id: str = ""
    agent: str = ""
    server: str = ""
    tool: str = ""
    decision: str = ""
    since_ms: int = 0
    until_ms: int = 0
    limit: int = 1000


@dataclass(frozen=True, slots=True)
class Invite:
    """A grant that was made, and the code that enrols one device for it, once, until `expires_at`."""

    grant: str
    person: str
    expires_at: int
    code: str = field(repr=False)  # SECRET, never log


def hash_of_code(code: str) -> str:
    """What is kept of an invite's code."""
    return sha256(code.strip().encode()).hexdigest()


class Administration:
    """The changes and readings. `changed` is called after each change, for the streams of this process.

    Every method raises Unavailable when the store cannot.
    """

    def __init__(
        self, store: Store, vault: Vault, arguments: SealedArguments, changed: Callable[[], None] = lambda: None
    ) -> None:
        self._store = store
        self._vault = vault
        self._arguments = arguments
        self._changed = changed

    # --- grants -------------------------------------------------------------------------------------------------------

    async def create_grant(self, by: Identity | None, new: NewGrant) -> Invite:
        """A grant and its invite. Raises InvalidInput, NotFound when a server is not there."""
        _check_name(new.person, "person")
        if new.agent:
            _check_name(new.agent, "agent")
        if not new.servers and not new.administrator:
            raise InvalidInput("grant.empty", "A grant names at least one server.")
        now = int(time.time())
        if new.expires_at and new.expires_at <= now:
            raise InvalidInput("grant.expiry", "The grant would have expired already.")
        for name, scope in new.servers.items():
            if not any(scope.values()):
                raise InvalidInput("grant.empty", f"The grant names no tool, prompt or resource of {name!r}.")
        grant, code = "g_" + secrets.token_urlsafe(_GRANT_BYTES), secrets.token_urlsafe(_INVITE_BYTES)
        scope_text = canonical({"servers": new.servers})
        created = {"created_at": now, "created_by": by.grant.person if by else "init"}
        details: dict[str, Any] = {"grant": grant, "for": new.person, "for_agent": new.agent, "scope": new.servers}
        invite = {"code_hash": hash_of_code(code), "grant_id": grant, "expires_at": now + INVITE_SECONDS}
        row = {"id": grant, "person": new.person, "agent": new.agent, "administrator": int(new.administrator)}
        done = await self._store.transact(
            changes.change(by, "grant.create", **details, expires_at=new.expires_at, administrator=new.administrator),
            *(Statement("active_server", {"name": name}, required=True) for name in sorted(new.servers)),
            Statement("add_person", {"name": new.person, "created_at": now}),
            Statement(
                "add_grant", {**row, "scope": scope_text, "expires_at": new.expires_at, **created}, required=True
            ),
            Statement("add_invite", invite),
            _EPOCH,
        )
        if done is None:
            known = {row["name"] for row in await self._store.fetch("list_servers")}
            missing = ", ".join(sorted(set(new.servers) - known)) or "?"
            raise NotFound("server.unknown", f"There is no server {missing}.", "See: percall-broker server list.")
        self._changed()
        return Invite(grant, new.person, now + INVITE_SECONDS, code)

    async def grants(self) -> list[Row]:
        """Every grant, oldest first."""
        rows = await self._store.fetch("list_grants")
        return [_grant_row(row) for row in rows]

    async def grant(self, identifier: str) -> Row:
        """One grant. Raises NotFound."""
        rows = await self._store.fetch("read_grant", id=identifier)
        if not rows:
            raise NotFound("grant.unknown", f"There is no grant {identifier!r}.", "See: percall-broker grant list.")
        return _grant_row(rows[0])

    async def set_grant_state(self, by: Identity, identifier: str, state: str) -> Row:
        """Suspends, resumes or revokes. Raises NotFound; Conflict when it is so already, or is revoked for good."""
        done = await self._store.transact(
            Statement("set_grant_state", {"id": identifier, "state": state}, required=True),
            changes.change(by, f"grant.{state}", grant=identifier),
            _EPOCH,
        )
        found = await self.grant(identifier)
        if done is None:
            advice = "A revoked grant stays revoked; create another." if found["state"] == "revoked" else ""
            raise Conflict("grant.state", f"The grant is {found['state']} already.", advice)
        self._changed()
        return found

    # --- servers ------------------------------------------------------------------------------------------------------

    async def add_server(self, by: Identity, name: str, text: str, connect: dict[str, str], secret: bytes) -> Row:
        """A server of the catalogue, with its key where it needs one. Raises InvalidInput, Conflict."""
        _check_name(name, "server")
        entry = entry_file.read(text, connect=connect)
        if not entry.slots and secret:
            raise InvalidInput("server.key", "This server has no key to be given.")
        version = await self._next_secret_version(name) if entry.slots else 0
        sealed = [self._vault.sealing(name, version, _checked_secret(secret))] if entry.slots else []
        parameters = {"name": name, "entry": _text_of(entry), "secret_version": version, "created_at": int(time.time())}
        done = await self._store.transact(
            Statement("add_server", parameters, required=True),
            *sealed,
            changes.change(by, "server.add", server=name, title=entry.title, secret_version=version),
            _EPOCH,
        )
        if done is None:
            raise Conflict("server.exists", f"There is a server {name!r} already.", "Remove it first, or update it.")
        self._changed()
        return await self.server(name)

    async def update_server(self, by: Identity, name: str, text: str, connect: dict[str, str]) -> Row:
        """Replaces an entry; its key stays. Raises InvalidInput, NotFound."""
        before = await self.server(name)
        entry = entry_file.read(text, connect=connect)
        if bool(entry.slots) != bool(before["secret_version"]):
            raise InvalidInput("server.key", "An entry with a key cannot replace one without, nor the reverse.")
        await self._change_server(
            name,
            Statement("update_server", {"name": name, "entry": _text_of(entry)}, required=True),
            changes.change(by, "server.update", server=name, title=entry.title),
        )
        return await self.server(name)

    async def remove_server(self, by: Identity, name: str) -> None:
        """Takes a server out of the catalogue; its calls are refused from now on. Raises NotFound."""
        await self._change_server(
            name,
            Statement("remove_server", {"name": name}, required=True),
            changes.change(by, "server.remove", server=name),
        )

    async def rotate_key(self, by: Identity, name: str, secret: bytes) -> Row:
        """Gives a server a new key: the next request uses it, and no call fails. Raises InvalidInput, NotFound."""
        before = await self.server(name)
        if not before["secret_version"]:
            raise InvalidInput("server.key", f"The server {name!r} has no key.")
        version = await self._next_secret_version(name)
        await self._change_server(
            name,
            Statement("set_secret_version", {"name": name, "secret_version": version}, required=True),
            self._vault.sealing(name, version, _checked_secret(secret)),
            changes.change(by, "server.rotate_key", server=name, secret_version=version),
        )
        return await self.server(name)

    async def servers(self) -> list[Row]:
        """The catalogue, by name."""
        return [_server_row(row) for row in await self._store.fetch("list_servers")]

    async def server(self, name: str) -> Row:
        """One server. Raises NotFound."""
        for row in await self.servers():
            if row["server"] == name:
                return row
        raise NotFound("server.unknown", f"There is no server {name!r}.", "See: percall-broker server list.")

    async def _change_server(self, name: str, *statements: Statement) -> None:
        if await self._store.transact(*statements, _EPOCH) is None:
            raise NotFound("server.unknown", f"There is no server {name!r}.", "See: percall-broker server list.")
        self._changed()

    async def _next_secret_version(self, name: str) -> int:
        rows = await self._store.fetch("newest_secret_version", name=name)
        return int(rows[0]["version"]) + 1

    # --- the record ---------------------------------------------------------------------------------------------------

    async def calls(self, filters: Filters) -> list[Row]:
        """Calls with their outcomes, newest first."""
        parameters = {name: getattr(filters, name) for name in Filters.__dataclass_fields__}
        return [call_row(row) for row in await self._store.fetch("list_calls", **parameters)]

    async def calls_after(self, seq: int, limit: int = 500) -> list[Row]:
        """Calls recorded after a row of the log, oldest first; each with its `seq`."""
        rows = await self._store.fetch("calls_after", seq=seq, limit=limit)
        return [{"seq": row["seq"], **call_row(row)} for row in rows]

    async def changes(self, since_ms: int, until_ms: int, limit: int) -> list[Row]:
        """What administrators changed and read, newest first. A change made on the broker's machine has no person."""
        rows = await self._store.fetch("list_changes", since_ms=since_ms, until_ms=until_ms, limit=limit)
        return [_change_row(msgspec.json.decode(row["entry"])) for row in rows]

    async def last_seq(self) -> int:
        """The newest row of the log."""
        return int((await self._store.fetch("last_seq"))[0]["seq"])

    async def story(self, call: str) -> list[Any]:
        """A call from request to outcome: its entries, oldest first. Raises NotFound."""
        rows = await self._store.fetch("show_call", call=call)
        if not rows:
            raise NotFound("call.unknown", f"There is no call {call!r}.", "See: percall-broker log list.")
        return [msgspec.json.decode(row["entry"]) for row in rows]

    async def read_arguments(self, by: Identity, call: str) -> str:
        """The arguments of a call, after recording that they were read. Raises NotFound."""
        await self.story(call)
        await self._store.append(changes.reading(by, "arguments.read", call=call))
        rows = await self._store.fetch("read_arguments", call=call)
        return self._arguments.open(call, bytes(rows[0]["sealed"])).decode() if rows else ""


def _written(milliseconds: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(milliseconds / 1000)) + f".{milliseconds % 1000:03}Z"


def _change_row(entry: Row) -> Row:
    return {
        "change": entry["id"],
        "time": _written(entry["time_ms"]),
        "person": entry["person"],
        "agent": entry["agent"],
        "action": entry["action"],
        "server": entry["server"],
        "call": entry["call"],
        "details": entry["details"],
    }


def call_row(row: Row) -> Row:
    """A call as people and scripts see it."""
    return {
        "call": row["call"],
        "time": _written(row["time_ms"]),
        "person": row["person"],
        "agent": row["agent"],
        "device": row["device_name"] or row["device"],
        "server": row["server"],
        "tool": row["tool"],
        "decision": row["decision"],
        "reason": row["reason"],
        "outcome": row["outcome"] or ("refused" if row["decision"] == "forbid" else ""),
        "duration_ms": row["duration_ms"],
        "grant": row["grant_id"],
    }


def _grant_row(row: Row) -> Row:
    state = row["state"]
    if state == "active" and row["expires_at"] and row["expires_at"] <= time.time():
        state = "expired"
    scope = msgspec.json.decode(row["scope"])["servers"]
    return {
        "grant": row["id"],
        "person": row["person"],
        "agent": row["agent"],
        "device": row["device_name"],
        "state": state,
        "enrolled": bool(row["device"]),
        "administrator": bool(row["administrator"]),
        "servers": scope,
        "expires_at": row["expires_at"],
        "created_at": row["created_at"],
        "created_by": row["created_by"],
    }


def _server_row(row: Row) -> Row:
    entry = msgspec.json.decode(row["entry"], type=Entry)
    return {
        "server": row["name"],
        "title": entry.title,
        "delivery": entry.delivery,
        "label": entry_file.label(entry),
        "version": row["version"],
        "secret_version": row["secret_version"],
        "secret_created_at": row["secret_created_at"],
        "command": list(entry.command),
        "ways": list(entry.ways),
        "hosts": list(entry.hosts),
        "connect": entry.connect,
        "attribution": entry.attribution,
        "tools": [
            {"match": list(rule.match), "requests": [_request_text(request) for request in rule.requests]}
            for rule in entry.tools
        ],
        "default_tools": list(entry.default_tools),
    }


def _request_text(rule: Any) -> str:
    return f"{','.join(rule.methods)} {rule.origin}{rule.path}"


def _text_of(entry: Entry) -> str:
    return canonical(msgspec.to_builtins(entry))


def _checked_secret(secret: bytes) -> bytes:
    """A key as it will stand in a header: one line of visible ASCII."""
    if not MIN_SECRET_BYTES <= len(secret) <= MAX_SECRET_BYTES:
        raise InvalidInput("secret.length", f"A key has {MIN_SECRET_BYTES} to {MAX_SECRET_BYTES} characters.")
    if not all(0x20 <= byte <= 0x7E for byte in secret):  # noqa: PLR2004 - visible ASCII and the space
        raise InvalidInput("secret.characters", "A key is one line of visible ASCII characters.")
    return secret


_NAME_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._@+-")
_NAME_LENGTH = 64


def _check_name(name: str, what: str) -> None:
    if not name or len(name) > _NAME_LENGTH or not set(name) <= _NAME_CHARACTERS or name[0] in ".-":
        raise InvalidInput(
            f"{what}.name",
            f"{name!r} cannot be the name of a {what}.",
            f"Use up to {_NAME_LENGTH} letters, digits and . _ @ + -",
        )
