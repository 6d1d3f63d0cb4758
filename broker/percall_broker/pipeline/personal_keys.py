"""What people do with keys of their own, being there. Nobody else can, an administrator included.

1  the person is there: `Signed.present`, whose steps refuse everyone else
2  a grant of theirs names the server, and its entry takes personal keys
3  the change, on condition that the presence key which signed it is still theirs; one transaction

Giving a key, or confirming where it goes, also vouches for the device key that asks: from now on it may use them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from percall import wire
from percall_broker.log import changes
from percall_broker.model.errors import Conflict, Forbidden, InvalidInput, NotFound, refusal
from percall_broker.model.keys import barred_key, checked_key, places, secret_name
from percall_broker.model.standing import closed
from percall_broker.store.protocol import Statement

if TYPE_CHECKING:
    from percall_broker.model.records import Grant, Identity, Server
    from percall_broker.pipeline.administration.ledger import Ledger
    from percall_broker.pipeline.signed import Signed
    from percall_broker.stages.authenticate import SignedRequest
    from percall_broker.stages.lookup import Lookup
    from percall_broker.store.protocol import Row
    from percall_broker.vault import Vault


class PersonalKeys:
    """Every method raises Unauthenticated, Forbidden, Unavailable."""

    def __init__(self, ledger: Ledger, signed: Signed, lookup: Lookup, vault: Vault) -> None:
        self._ledger = ledger
        self._signed = signed
        self._lookup = lookup
        self._vault = vault

    async def listed(self, request: SignedRequest, now: float) -> wire.PersonalKeys:
        """The signer's person's keys, by server, each with what bars its use from the signer's device and agent.

        And the servers that take one. Raises Forbidden where the signer's grant does not stand.
        """
        identity = await self._signed.standing(request, now)
        keys = await self._told(identity.grant, "", now)
        servers = [await self._lookup.server(name) for name in sorted(await self._named(identity.grant, now))]
        places_of = [
            wire.KeyPlace(server.name, places(server.entry), server.binding)
            for server in servers
            if server is not None and server.state != "removed" and _takes_personal(server)
        ]
        return wire.PersonalKeys(keys, tuple(places_of))

    async def change(
        self, request: SignedRequest, asked: wire.KeyChange, secret: bytes, now: float
    ) -> wire.PersonalKeys:
        """Changes the key for one server; what it is now, or nothing where it was removed.

        `secret` is there for add and rotate alone. Raises InvalidInput, Conflict, NotFound too.
        """
        identity, public_key = await self._signed.present(request, now)  # 1
        if bool(secret) != (asked.verb in {"add", "rotate"}):
            raise InvalidInput("key.secret", f"To {asked.verb} a key, {'one is' if not secret else 'none is'} needed.")
        changing = await self._statements(identity, asked, secret, now)  # 2
        person = {"person": identity.grant.person, "public_key": public_key}
        done = await self._ledger.change(Statement("is_presence_key", person, required=True), *changing)  # 3
        if done is None:
            raise Conflict("key.changing", "Your key or your passphrase was changed meanwhile.", "Try again.")
        grant = await self._lookup.grant(identity.grant.id, fresh=True)
        return wire.PersonalKeys(await self._told(grant or identity.grant, asked.server, now))

    async def _statements(
        self, identity: Identity, asked: wire.KeyChange, secret: bytes, now: float
    ) -> list[Statement]:
        """What a verb changes."""
        grant, name = identity.grant, asked.server
        mine = {"person": grant.person, "server": name}
        held = await self._ledger.fetch("list_personal_keys", **mine)
        if asked.verb == "add" and held:
            raise Conflict(
                "key.exists", f"You have given a key for {name!r} already.", f"To replace it: percall key rotate {name}"
            )
        if asked.verb != "add" and not held:
            raise NotFound(
                "key.unknown", f"You have no key of your own for {name!r}.", f"To give one: percall key add {name}"
            )
        version = await self._next_version(mine) if secret else held[0]["version"]
        change = changes.change(identity, f"key.{asked.verb}", server=name, owner=grant.person, secret_version=version)
        touched = Statement("touch_grants", {"person": grant.person, "device": ""})
        vouched = Statement(
            "vouch_device_key", {"thumbprint": grant.device, "person": grant.person, "created_at": int(now)}
        )
        match asked.verb:
            case "add" | "rotate":
                server = await self._server(grant, asked, now)
                sealing = await self._vault.sealing(
                    secret_name(grant.person, name), version, checked_key(secret), fingerprinted=True
                )
                given = {**mine, "version": version, "binding": server.binding}
                if asked.verb == "rotate":
                    return [Statement("rotate_personal_key", given, required=True), sealing, vouched, change]
                added = Statement("add_personal_key", {**given, "now": int(now)}, required=True)
                return [added, sealing, vouched, touched, change]
            case "confirm":
                if not asked.binding:
                    raise InvalidInput("key.binding", "To confirm is to say where the key goes.")
                server = await self._server(grant, asked, now)
                bound = Statement("confirm_personal_key", {**mine, "binding": server.binding}, required=True)
                return [bound, vouched, touched, change]
            case "offer" | "withdraw":
                offered_at = int(now) if asked.verb == "offer" else 0
                return [Statement("offer_personal_key", {**mine, "offered_at": offered_at}, required=True), change]
            case "remove":
                removed = Statement("remove_personal_keys", mine, required=True)
                return [removed, Statement("forget_personal_secrets", mine), touched, change]
            case _:
                raise InvalidInput("key.verb", f"A key cannot be {asked.verb!r}.")

    async def _server(self, grant: Grant, asked: wire.KeyChange, now: float) -> Server:
        """A server that a grant of this person names, that takes personal keys, and sends them where they have seen.

        Raises Forbidden, InvalidInput, Conflict.
        """
        name = asked.server
        server = await self._lookup.server(name, fresh=True)
        # A server that exists and one that does not look alike to somebody whose grants name neither.
        if name not in await self._named(grant, now) or server is None or server.state == "removed":
            raise Forbidden("key.server", *_unnamed(name))
        if not _takes_personal(server):
            which = "a shared key alone" if server.entry.slots else "no key"
            raise InvalidInput("key.owner", f"The server {name!r} is used with {which}.")
        if asked.binding not in {"", server.binding}:
            raise Conflict(
                "key.moved",
                f"The entry of {name!r} was changed meanwhile: your key would go to {places(server.entry)}.",
                "Nothing was changed. Look again.",
            )
        return server

    async def _named(self, grant: Grant, now: float) -> set[str]:
        """The servers that grants of this person name."""
        scopes = await self._ledger.fetch("scopes_of", person=grant.person, now=int(now))
        return {name for row in scopes for name in msgspec.json.decode(row["scope"])["servers"]}

    async def _next_version(self, mine: Row) -> int:
        rows = await self._ledger.fetch("newest_personal_key_version", **mine)
        return int(rows[0]["version"]) + 1

    async def _told(self, grant: Grant, name: str, now: float) -> tuple[wire.PersonalKey, ...]:
        rows = await self._ledger.fetch("list_personal_keys", person=grant.person, server=name)
        named = await self._named(grant, now)
        return tuple([await self._row(grant, row, is_named=row["server"] in named) for row in rows])

    async def _row(self, grant: Grant, row: Row, *, is_named: bool) -> wire.PersonalKey:
        name = row["server"]
        server = await self._lookup.server(name)
        refused = closed(name, server)
        goes_to, told = "", None
        if refused is None and server is not None:
            refused, goes_to = barred_key(grant, server), places(server.entry)
        if refused is not None:
            told = refusal(refused)
        elif not is_named:
            told = wire.Refusal("key.server", *_unnamed(name))
        return wire.PersonalKey(name, row["version"], row["created_at"], row["offered_at"], goes_to, told)


def _unnamed(server: str) -> tuple[str, str]:
    """That no grant names a server, and what to do: in the words of a refusal."""
    return f"No grant of yours names the server {server!r}.", "Ask your administrator."


def _takes_personal(server: Server) -> bool:
    return bool(server.entry.slots) and server.entry.key_owner != "shared"
