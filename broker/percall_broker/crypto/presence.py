"""Presence keys: which public halves and derivations are accepted, and whether a signature is one of theirs.

The private half is derived from a passphrase at the person's terminal; nothing here could.
"""

from __future__ import annotations

from percall import wire
from percall_broker.crypto import base64url, sodium
from percall_broker.model.errors import InvalidInput

_SALT_BYTES = 16
_NEXT = "Run `percall login` of this version again."


def check(key: wire.PresenceKey) -> None:
    """Refuse a key that would accept signatures nobody made, or a derivation that is cheap to guess.

    Raises InvalidInput.
    """
    stretch = key.stretch
    try:
        sound = sodium.is_sound_public_key(base64url.decode(key.public_key))
        salted = len(base64url.decode(stretch.salt)) == _SALT_BYTES
    except ValueError:
        sound = salted = False
    if not sound:
        raise InvalidInput("presence.unsound", "The presence key is not a sound Ed25519 key.", _NEXT)
    if not salted or not wire.is_bounded(stretch):
        raise InvalidInput("presence.stretch", "The presence key is not derived in a way that holds here.", _NEXT)


def holds(public_key: str, text: bytes, signature: str) -> bool:
    """Whether a signature over the text is this key's."""
    try:
        return sodium.signature_holds(base64url.decode(public_key), text, base64url.decode(signature))
    except ValueError:
        return False
