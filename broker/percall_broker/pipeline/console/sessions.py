"""Who is signed in to the console, and for how long.

A session acts for one grant, which is read anew for each request: with the grant, the device or the person ends the
session, in the same instant. Only the token's hash is kept. A session alone reads, an administrator's everything,
anybody else's what is asked of them; it changes nothing.
"""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass, field
from hashlib import sha256
from typing import TYPE_CHECKING

from percall_broker.log import changes
from percall_broker.model.errors import Forbidden, Unauthenticated
from percall_broker.model.records import Identity
from percall_broker.model.standing import barred
from percall_broker.store.protocol import Statement

if TYPE_CHECKING:
    from percall_broker.crypto.tokens import ConsoleTokens
    from percall_broker.model.records import Grant
    from percall_broker.stages.lookup import Lookup
    from percall_broker.store.protocol import Store

LINK_SECONDS = 5 * 60
IDLE_SECONDS = 30 * 60
LONGEST_SECONDS = 12 * 3600
ENROL_SECONDS = 10 * 60
_BYTES = 32
_MOST_CHARACTERS = 128
_SIGN_IN = "Sign in again: percall-broker console"


@dataclass(frozen=True, slots=True)
class Opened:
    """A session that was opened. `token` is the cookie's value."""

    person: str
    may_enrol: bool
    token: str = field(repr=False)  # SECRET, never log


@dataclass(frozen=True, slots=True)
class Session:
    """Somebody who is signed in. `how`: link, passkey or provider. `may_enrol`: a passkey, now, once."""

    token_hash: str
    grant: Grant
    how: str
    may_enrol: bool

    @property
    def person(self) -> str:
        """Who."""
        return self.grant.person

    @property
    def administers(self) -> bool:
        """Whether it is an administrator's."""
        return self.grant.administrator

    def asking(self) -> Identity:
        """The identity under which this request is recorded."""
        return Identity(self.grant, secrets.token_urlsafe(16))


class ConsoleSessions:
    """Links and sessions. Every method raises Unavailable when the store cannot."""

    def __init__(self, store: Store, lookup: Lookup, tokens: ConsoleTokens) -> None:
        self._store = store
        self._lookup = lookup
        self._tokens = tokens

    async def link(self, by: Identity, *, enrol: bool) -> tuple[str, int]:
        """A code that signs its maker in, once, and until when. `enrol`: and lets them make a passkey.

        Making one is recorded. Raises Forbidden to an automation.
        """
        if by.grant.automation:
            raise Forbidden("automation.console", "The console is for people.", "An automation has the commands.")
        code, expires_at = secrets.token_urlsafe(_BYTES), int(time.time()) + LINK_SECONDS
        purpose = "enrol" if enrol else "sign-in"
        link = {"code_hash": _hash(code), "grant_id": by.grant.id, "purpose": purpose, "expires_at": expires_at}
        recorded = changes.change(by, "console.link", purpose=purpose)
        await self._store.transact(Statement("add_console_link", link), recorded)
        return code, expires_at

    async def open_by_link(self, code: str, now: float) -> Opened:
        """Signs in whoever holds a link, once. Raises Unauthenticated."""
        used = await self._store.transact(
            Statement("use_console_link", {"code_hash": _hash(code), "now": int(now)}, required=True)
        )
        if used is None:
            raise Unauthenticated(
                "console.link", "This link was used, has expired, or is none of this broker's.", _SIGN_IN
            )
        row = used[0][0]
        return await self.open(row["grant_id"], "link", now, may_enrol=row["purpose"] == "enrol")

    async def open_of(self, person: str, how: str, now: float, *, passkey: str = "") -> Opened:
        """Signs in a person who has shown who they are, by the passkey of that id or elsewhere. Raises Forbidden where
        they have no grant that stands.
        """
        rows = await self._store.fetch("grant_to_sign_in", person=person, now=int(now))
        if not rows:
            raise Forbidden("console.grant", f"{person} has no grant here that stands.")
        return await self.open(rows[0]["id"], how, now, passkey=passkey)

    async def open(self, grant_id: str, how: str, now: float, *, may_enrol: bool = False, passkey: str = "") -> Opened:
        """A session for a grant; recorded. Raises Unauthenticated where it, or the passkey, does not stand."""
        grant = await self._standing(grant_id, now)
        token = self._tokens.new()
        row = {"token_hash": _hash(token), "grant_id": grant.id, "how": how, "passkey": passkey, "now": int(now)}
        row |= {"may_enrol_until": int(now) + ENROL_SECONDS if may_enrol else 0}
        by = Identity(grant, secrets.token_urlsafe(16), "passkey" if how == "passkey" else "")
        held = {"id": passkey, "person": grant.person}
        done = await self._store.transact(
            *([Statement("hold_passkey", held, required=True)] if passkey else []),
            Statement("forget_console", {"now": int(now), "seen_since": int(now) - IDLE_SECONDS}),
            Statement("forget_console_links", {"now": int(now)}),
            Statement("add_console_session", {**row, "expires_at": int(now) + LONGEST_SECONDS}),
            changes.change(by, "console.sign_in", how=how),
        )
        if done is None:
            raise Unauthenticated("passkey.unknown", "This passkey is not known here.", "Sign in with a link.")
        return Opened(grant.person, may_enrol, token)

    async def of(self, token: str, now: float, *, touch: bool = True) -> Session:
        """Whose session a cookie names. `touch`: the person did something, so that it is not idle.

        Raises Unauthenticated.
        """
        if not token:  # any page of the web can have a browser ask without it, and learns nothing by that
            raise Unauthenticated("console.session", "You are not signed in.", _SIGN_IN, tried=False)
        found = await self._store.fetch(
            "read_console_session", token_hash=_hash(token), now=int(now), seen_since=int(now) - IDLE_SECONDS
        )
        if not found:
            raise Unauthenticated("console.session", "You are not signed in, or were away for too long.", _SIGN_IN)
        row = found[0]
        try:
            grant = await self._standing(row["grant_id"], now)
        except Unauthenticated:
            await self.close(token)
            raise
        if touch and row["seen_at"] < int(now):
            await self._store.append(
                Statement("see_console_session", {"token_hash": row["token_hash"], "now": int(now)})
            )
        return Session(row["token_hash"], grant, row["how"], row["may_enrol_until"] > now)

    def name(self, token: str) -> str:
        """What tells one session's requests from others', before anything is read of it; empty for no token of ours."""
        return _hash(token) if self._tokens.is_ours(token) else ""

    async def close(self, token: str) -> None:
        """Signs out."""
        await self._store.append(Statement("end_console_session", {"token_hash": _hash(token)}))

    async def _standing(self, grant_id: str, now: float) -> Grant:
        grant = await self._lookup.grant(grant_id, fresh=True)
        if grant is None or grant.automation or barred(grant, now) is not None:
            raise Unauthenticated(
                "console.grant", "The grant behind this sign-in does not stand any more.", "Ask an administrator."
            )
        return grant


def _hash(secret: str) -> str:
    return sha256(secret[:_MOST_CHARACTERS].encode()).hexdigest()
