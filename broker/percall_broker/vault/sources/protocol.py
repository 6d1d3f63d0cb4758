"""What the vault asks of a source of key-encryption keys, and the error that says that one does not answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from percall_broker.model.errors import Unavailable

FILES, KEYRING, TRANSIT, AWS = "kek-", "keyring:", "transit:", "aws:"
"""What the names of a source's keys begin with."""


class Sealed(Unavailable):
    """The source does not answer now, and may later: a serving broker goes on, a starting one waits."""


@dataclass(frozen=True, slots=True)
class Wrapped:
    """A data key as it is stored: its ciphertext, and the name of the key-encryption key that opens it."""

    key: str
    ciphertext: bytes


class KeySource(Protocol):
    """Key-encryption keys, by name. A name begins with the source's own prefix.

    Every method raises Sealed when the source does not answer, and Unavailable when it answers that it cannot.
    """

    async def newest(self) -> str:
        """The name of the key that wraps from now on."""

    async def wrap(self, data_key: bytes, context: bytes) -> Wrapped:
        """The data key, wrapped by the newest key and bound to the context."""

    async def unwrap(self, wrapped: Wrapped, context: bytes) -> bytes:
        """The data key. Raises crypto.sodium.SealBrokenError where it was wrapped otherwise, or for another context."""

    async def rotate(self) -> str:
        """Makes a new key, kept for good when this returns; its name. What older keys wrapped still opens."""

    async def close(self) -> None:
        """Lets go of connections."""
