"""A call's arguments, sealed: apart from the record, which holds only their digest, so that they can be erased.

They are opened for an administrator who reads a call, for whoever is asked to approve it, and to try a draft of
policies on it. That reading is recorded first.
"""

from __future__ import annotations

from percall_broker.crypto import sodium
from percall_broker.model.errors import Unavailable


class SealedArguments:
    """Seals and opens arguments under one key of the broker's, bound to their call."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    def seal(self, call: str, arguments: bytes) -> bytes:
        """What goes into the store."""
        return sodium.seal(self._key, arguments, _context(call))

    def open(self, call: str, sealed: bytes) -> bytes:
        """The exact bytes of the arguments. Raises Unavailable when the seal is broken."""
        try:
            return sodium.unseal(self._key, sealed, _context(call))
        except sodium.SealBrokenError:
            raise Unavailable(
                "arguments.seal", f"The arguments of call {call} do not open.", "Was the store restored with its keys?"
            ) from None


def _context(call: str) -> bytes:
    return b"percall arguments\x00sealed\x00" + call.encode()
