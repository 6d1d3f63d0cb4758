"""Presence in a browser: a passkey signs the digest of one exact change, and that serves for it alone, once.

1  what is to be changed, as the form says it and as its page showed it, with an id and a nonce of ours
2  the challenge: the digest of all that, so that the passkey's answer is worth nothing for anything else
3  the person's own passkey has signed that challenge, a moment ago, its person verified
4  the id is new: from now on, the same answer is refused

Nothing is kept between asking and answering: the browser brings the change back, and every replica can check it.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from hashlib import sha256
from typing import TYPE_CHECKING

from percall import wire
from percall_broker.crypto import passkeys
from percall_broker.log import changes
from percall_broker.log.canonical import canonical
from percall_broker.model.errors import Conflict, Forbidden, InvalidInput, NotFound, Unauthenticated
from percall_broker.model.records import Identity
from percall_broker.store.protocol import Statement

if TYPE_CHECKING:
    from collections.abc import Mapping

    from percall_broker.crypto.passkeys import Origin
    from percall_broker.crypto.tokens import Nonces
    from percall_broker.pipeline.administration.ledger import Ledger
    from percall_broker.pipeline.console.sessions import Session
    from percall_broker.store.protocol import Row, Store

_KIND = "percall console 1"
_REMEMBERED_SECONDS = 2 * wire.MAX_SKEW_SECONDS + 15 * 60
_MOST_NAME_CHARACTERS = 64
_ENROL = "Enrol one with your passphrase: percall-broker console --enrol"


@dataclass(frozen=True, slots=True)
class Change:
    """One exact change. `shown` is what its page showed of `subject`; `values` are the form's other fields.

    `id` and `nonce` are the broker's: the nonce says when, the id that it happens once.
    """

    action: str
    subject: str
    shown: str
    values: Mapping[str, str] = field(hash=False, repr=False)  # may hold a new key
    id: str
    nonce: str


class PasskeyPresence:
    """Passkeys and what they sign. Every method raises Unavailable when the store cannot."""

    def __init__(self, store: Store, ledger: Ledger, nonces: Nonces, origin: Origin) -> None:
        self._store = store
        self._ledger = ledger
        self._nonces = nonces
        self.origin = origin

    def new(self, action: str, subject: str, shown: str, values: Mapping[str, str], now: float) -> Change:
        """A change that somebody wants to make (1)."""
        return Change(action, subject, shown, values, secrets.token_urlsafe(16), self._nonces.current(now))

    def challenge(self, change: Change, session: Session | None) -> bytes:
        """What a passkey must sign for this change, in this session and at this broker (2)."""
        who = {"session": session.token_hash, "person": session.person} if session else {}
        exact: Row = {
            "kind": _KIND,
            "origin": self.origin.url,
            "action": change.action,
            "subject": change.subject,
            **who,
        }
        exact |= {"shown": change.shown, "values": dict(change.values), "id": change.id, "nonce": change.nonce}
        return sha256(canonical(exact).encode()).digest()

    async def asking(self, change: Change, session: Session) -> Row:
        """What the browser is to ask a passkey for. Raises Forbidden where the person has none."""
        known = await self._store.fetch("list_passkeys", person=session.person)
        if not known:
            raise Forbidden("passkey.none", f"{session.person} has no passkey here, so this changes nothing.", _ENROL)
        return passkeys.request_options(self._usable(), self.challenge(change, session), [row["id"] for row in known])

    async def given(self, change: Change, session: Session, credential: Row, now: float) -> Identity:
        """The person, there, for this change (3, 4). Raises Forbidden, Unauthenticated."""
        row = await self._passkey(passkeys.credential_id(credential))
        if row is None or row["person"] != session.person:
            raise Forbidden("passkey.stranger", f"That is no passkey of {session.person}'s.", _ENROL)
        await self._asserted(change, session, credential, row, now)
        return Identity(session.grant, change.id, "passkey")

    def asking_anybody(self, change: Change) -> Row:
        """What the browser is to ask any passkey of this broker for: who its person is."""
        return passkeys.request_options(self._usable(), self.challenge(change, None), [])

    async def person(self, change: Change, credential: Row, now: float) -> tuple[str, str]:
        """Whose passkey it is that signs in, and its id. Raises Unauthenticated, Forbidden."""
        row = await self._passkey(passkeys.credential_id(credential))
        if row is None:
            raise Unauthenticated("passkey.unknown", "This passkey is not known here.", "Sign in with a link.")
        await self._asserted(change, None, credential, row, now)
        return str(row["person"]), str(row["id"])

    async def asking_new(self, change: Change, session: Session) -> Row:
        """What the browser is to make. Raises Forbidden where the session may not enrol one."""
        if not session.may_enrol:
            raise Forbidden("passkey.invite", "A link to sign in enrols no passkey.", _ENROL)
        known = await self._store.fetch("list_passkeys", person=session.person)
        challenge = self.challenge(change, session)
        return passkeys.creation_options(self._usable(), session.person, challenge, [row["id"] for row in known])

    async def enrol(self, change: Change, session: Session, credential: Row, now: float) -> None:
        """Remembers a new passkey, once a link. Raises Forbidden, InvalidInput, Conflict."""
        name = change.values.get("name", "").strip()
        if not 0 < len(name) <= _MOST_NAME_CHARACTERS or not name.isprintable():
            raise InvalidInput("passkey.name", f"A name has 1 to {_MOST_NAME_CHARACTERS} printable characters.")
        self._check_fresh(change, now)
        made = passkeys.made(self._usable(), credential, self.challenge(change, session))
        row = {"id": made.id, "person": session.person, "name": name, "public_key": made.public_key, "now": int(now)}
        by = Identity(session.grant, change.id, "passphrase")  # the one that made the link
        done = await self._ledger.change(
            Statement("close_enrolment", {"token_hash": session.token_hash, "now": int(now)}, required=True),
            Statement("active_person", {"name": session.person}, required=True),
            Statement("add_passkey", row, required=True),
            changes.change(by, "passkey.enrol", passkey=made.id, name=name),
        )
        if done is None:
            raise Conflict("passkey.enrolled", "This link has enrolled a passkey already, or its time is over.", _ENROL)

    async def listed(self, person: str = "") -> list[Row]:
        """Everybody's passkeys, or one person's, without their keys."""
        rows = await self._store.fetch("list_passkeys", person=person)
        members = ("id", "person", "name", "created_at", "used_at")
        return [{"passkey" if name == "id" else name: row[name] for name in members} for row in rows]

    async def remove(self, by: Identity, identifier: str) -> Row:
        """Forgets a passkey, anybody's, and ends what it has signed in: where one is lost. Raises NotFound."""
        done = await self._ledger.change(
            Statement("remove_passkey", {"id": identifier}, required=True),
            Statement("end_sessions_of_passkey", {"id": identifier}),
            changes.change(by, "passkey.remove", passkey=identifier),
        )
        if done is None:
            raise NotFound("passkey.unknown", "There is no such passkey.", "See: percall-broker passkey list.")
        (forgotten,) = done["remove_passkey"]
        return {"passkey": identifier, **forgotten}

    async def _asserted(self, change: Change, session: Session | None, credential: Row, row: Row, now: float) -> None:
        self._check_fresh(change, now)
        count = passkeys.asserted(
            self._usable(),
            credential,
            self.challenge(change, session),
            public_key=row["public_key"],
            sign_count=row["sign_count"],
        )
        used = {"id": row["id"], "person": row["person"], "sign_count": count, "now": int(now)}
        remembered = {"jti": f"console {change.id}", "expires_at": int(now) + _REMEMBERED_SECONDS}
        done = await self._store.transact(
            Statement("remember_proof", remembered, required=True), Statement("use_passkey", used, required=True)
        )
        if done is None:
            raise Forbidden("passkey.replayed", "This answer of the passkey was here before.", "Try again.")

    def _check_fresh(self, change: Change, now: float) -> None:
        if not self._nonces.holds(change.nonce, now):
            raise Forbidden("passkey.late", "The passkey was asked too long ago.", "Try again.")

    def _usable(self) -> Origin:
        if not self.origin.relying_party:
            raise InvalidInput(
                "passkey.address",
                "Passkeys need a name, and this broker is reached by a bare address.",
                "Serve it under a name: --public-url.",
            )
        return self.origin

    async def _passkey(self, identifier: str) -> Row | None:
        rows = await self._store.fetch("read_passkey", id=identifier)
        return rows[0] if rows else None
