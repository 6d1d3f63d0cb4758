"""Which key a request carries: its person's own where they have given one, else the shared one; and what bars that.

A personal key goes only where the entry sent it when its owner gave it, and is used only from device keys that were
introduced with its owner's passphrase. So neither an entry that an administrator changes, nor a device that somebody
enrols in the owner's name, widens it. There is no way round: who has a key of their own never falls back to the
shared one because theirs is barred.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING

from percall_broker.model.errors import InvalidInput
from percall_broker.model.records import Decision

if TYPE_CHECKING:
    from percall_broker.model.entry import Entry
    from percall_broker.model.records import Grant, Server

OWNERS = ("any", "personal", "shared")
"""Whose keys an entry allows."""
MAX_KEY_BYTES = 8 * 1024
MIN_KEY_BYTES = 8
_WHOLE = "Was it copied whole, and nothing else with it?"


@dataclass(frozen=True, slots=True)
class Key:
    """A version of a server's key. `owner` is the person whose own it is, empty for the shared one.

    `binding` is where the entry sends it now. Version 0: no key at all.
    """

    server: str = ""
    owner: str = ""
    version: int = 0
    binding: str = ""

    @property
    def secret(self) -> str:
        """What the vault knows it by."""
        return secret_name(self.owner, self.server) if self.owner else self.server


NO_KEY = Key()


def checked_key(secret: bytes) -> bytes:
    """An upstream key as it will stand in a header: one line of visible ASCII. Raises InvalidInput."""
    if not MIN_KEY_BYTES <= len(secret) <= MAX_KEY_BYTES:
        raise InvalidInput("secret.length", f"A key has {MIN_KEY_BYTES} to {MAX_KEY_BYTES} characters.", _WHOLE)
    if not all(0x20 <= byte <= 0x7E for byte in secret):  # noqa: PLR2004 - visible ASCII and the space
        raise InvalidInput("secret.characters", "A key is one line of visible ASCII characters.", _WHOLE)
    return secret


def secret_name(person: str, server: str) -> str:
    """What the vault knows a personal key by. Neither name holds a slash."""
    return f"personal/{person}/{server}"


def binding(entry: Entry) -> str:
    """A digest of where an entry sends its key, and in what place of a request: in hex."""
    slots = [[slot.kind, slot.name, slot.format] for slot in entry.slots]
    where = [entry.delivery, entry.url, sorted(entry.hosts), sorted(entry.connect.items()), slots]
    return sha256(json.dumps(where).encode()).hexdigest()


def key_of(grant: Grant, server: Server) -> Key:
    """The key that requests of this grant carry; NO_KEY where there is none."""
    if not server.entry.slots:
        return NO_KEY
    own = grant.keys.get(server.name)
    if own is not None and server.entry.key_owner != "shared":
        return Key(server.name, grant.person, own.version, server.binding)
    if server.secret_version and server.entry.key_owner != "personal":
        return Key(server.name, "", server.secret_version)
    return NO_KEY


def barred_key(grant: Grant, server: Server) -> Decision | None:
    """The refusal of what needs a key that there is none of, or that may not be used so; None when nothing stops it."""
    if not server.entry.slots:
        return None
    name, key = server.name, key_of(grant, server)
    if not key.version:
        return _missing(server)
    if not key.owner:
        return None
    if grant.keys[name].binding != server.binding:
        return _refusal(
            "key.moved",
            f"The entry of {name!r} was changed since {grant.person} gave a key for it: it would now go to "
            f"{places(server.entry)}. So it is not used.",
            f"If that is right: percall key confirm {name}. If not, tell your administrator.",
        )
    if not grant.vouched:
        return _refusal(
            "key.device",
            f"The agent {grant.agent!r} on this device was not introduced with {grant.person}'s passphrase, so "
            f"{grant.person}'s own key for {name!r} is not used from here.",
            f"If it is yours: percall key confirm {name} --agent {grant.agent}",
        )
    return None


def gone_key(grant: Grant, server: Server, owner: str) -> Decision | None:
    """The refusal to go on with a person's own key that is not the one to use any more; None for a shared key."""
    if not owner or key_of(grant, server).owner == owner:
        return None
    return _refusal(
        "key.removed", f"{owner}'s own key for {server.name!r} was removed while it was used.", "Call again."
    )


def places(entry: Entry) -> str:
    """Where an entry sends its key, for people: hosts, what stands in for them, and the slots there."""
    origins = ", ".join(entry.hosts) or entry.url
    slots = ", ".join(f"{slot.kind} {slot.name}" for slot in entry.slots)
    instead = "".join(f"; {place} in the place of {origin}" for origin, place in sorted(entry.connect.items()))
    return f"{origins} ({slots}){instead}"


def _missing(server: Server) -> Decision:
    name = server.name
    if server.entry.key_owner == "shared":
        next_step = f"Ask your administrator: percall-broker server rotate-key {name}"
        return _refusal("key.missing", f"The broker has no key for {name!r} yet.", next_step)
    next_step = f"Give it one of yours: percall key add {name}"
    if server.entry.key_owner == "personal":
        return _refusal(
            "key.missing", f"{name!r} is used with everybody's own key, and you have given none.", next_step
        )
    return _refusal("key.missing", f"The broker has no key for {name!r}: neither yours nor a shared one.", next_step)


def _refusal(code: str, message: str, next_step: str) -> Decision:
    return Decision(permitted=False, code=code, message=message, next_step=next_step)
