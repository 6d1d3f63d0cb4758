"""Whether the person is there: a signature of their presence key over this very request, by its proof's id.

A device's signature says which machine asks, and an agent with a shell has that too; this one needs a passphrase that
only a person types. Asked for after the proof held, so that each signature serves once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from percall import wire
from percall_broker.crypto import presence
from percall_broker.model.errors import Forbidden
from percall_broker.store.protocol import Row, Statement

if TYPE_CHECKING:
    from percall_broker.stages.authenticate import SignedRequest
    from percall_broker.store.protocol import Store

MOST_WRONG = 5
WRONG_SECONDS = 15 * 60
"""So many wrong signatures in so long a time, and the next ones of whoever guessed are not even looked at."""


class Presence:
    """Checks presence signatures. `public_url` is the broker's configured URL, without a path.

    Wrong ones are counted in this process alone: a guess costs a passphrase's derivation anyway.
    """

    def __init__(self, store: Store, public_url: str) -> None:
        self._store = store
        self._public_url = public_url
        self._wrong: dict[tuple[str, str], list[float]] = {}

    async def stretch_of(self, person: str) -> wire.Stretch | None:
        """How a person's presence key is derived; None where they have none. Raises Unavailable."""
        row = await self._key_of(person)
        return None if row is None else wire.Stretch(row["kind"], row["salt"], row["passes"], row["memory_bytes"])

    async def require(self, person: str, request: SignedRequest, jti: str, now: float, *, guesser: str = "") -> str:
        """The person's public key, when it has signed this request. Raises Forbidden, Unavailable.

        `jti` is the id of the request's proof, which has been checked. `guesser` is whose wrong signatures are counted
        together: a device key's thumbprint; empty for all that enrol, since invites can be had without end. Counted for
        the person alone, any agent of theirs could shut them out, and with them whoever would stop it.
        """
        row = await self._key_of(person)
        if row is None:
            raise Forbidden(
                "presence.unset",
                f"{person} has set no passphrase, so nobody can change this as {person}.",
                "Ask an administrator for a new invite, and log in with it at a terminal.",
            )
        if not request.presence:
            raise Forbidden(
                wire.CODE_PRESENCE,
                "This needs a person's presence: the device's signature alone changes nothing.",
                "Run the command at a terminal, where it asks for your passphrase.",
            )
        recent = [at for at in self._wrong.get((person, guesser), ()) if at > now - WRONG_SECONDS]
        if len(recent) >= MOST_WRONG:
            raise Forbidden(
                "presence.wait",
                f"The passphrase of {person} was wrong {MOST_WRONG} times from here.",
                f"Wait {int(recent[0] + WRONG_SECONDS - now) // 60 + 1} minutes, then try again.",
            )
        url = self._public_url + request.path
        text = wire.presence_text(request.method, url, request.body_digest, jti)
        if not presence.holds(row["public_key"], text, request.presence):
            self._wrong[person, guesser] = [*recent, now]
            raise Forbidden(
                "presence.wrong", "The passphrase is wrong. Nothing was changed.", "Try again, with the right one."
            )
        self._wrong.pop((person, guesser), None)
        return str(row["public_key"])

    async def _key_of(self, person: str) -> Row | None:
        rows = await self._store.fetch("read_presence_key", person=person)
        return rows[0] if rows else None


def setting(person: str, key: wire.PresenceKey, now: float) -> Statement:
    """The statement that gives a person a presence key; the first one stands. Raises InvalidInput."""
    return Statement("add_presence_key", _row_of(person, key, now), required=True)


def changing(person: str, key: wire.PresenceKey, old_public_key: str, now: float) -> Statement:
    """The statement that puts a key in the place of the one that has signed for it. Raises InvalidInput."""
    return Statement(
        "change_presence_key", {**_row_of(person, key, now), "old_public_key": old_public_key}, required=True
    )


def _row_of(person: str, key: wire.PresenceKey, now: float) -> Row:
    presence.check(key)
    stretch = {name: getattr(key.stretch, name) for name in ("kind", "salt", "passes", "memory_bytes")}
    return {"person": person, **stretch, "public_key": key.public_key, "created_at": int(now)}
