"""What the broker gives a client to hand back: a text, sealed and bound to whom it was given, readable by any replica.

Nothing of it is stored: the key is the broker's own, so that it holds after a restart too.
"""

from __future__ import annotations

import json

from percall_broker.crypto import base64url, sodium

MAX_CHARACTERS = 8192


class SealBroken(Exception):  # noqa: N818 - what was found
    """Not one of ours, or given to someone else, or for something else."""


class Seals:
    """Seals texts under one key of the broker's. `bound` is all that must be the same when it comes back."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    def seal(self, text: str, *bound: str) -> str:
        """The text as visible ASCII."""
        return base64url.encode(sodium.seal(self._key, text.encode(), _context(bound)))

    def open(self, sealed: str, *bound: str) -> str:
        """The text. Raises SealBroken."""
        if len(sealed) > MAX_CHARACTERS:
            raise SealBroken
        try:
            return sodium.unseal(self._key, base64url.decode(sealed), _context(bound)).decode()
        except (ValueError, sodium.SealBrokenError):
            raise SealBroken from None


def _context(bound: tuple[str, ...]) -> bytes:
    return json.dumps(["percall seal", *bound]).encode()
