"""The keyring for machines without one: each grant's item in a file, encrypted under a passphrase.

Argon2id (3 passes over 64 MiB, the second choice of RFC 9106) makes the key, XChaCha20-Poly1305 seals the item and
binds it to its grant and parameters. The one module of the laptop that does so; chosen by name, never by default.
"""

from __future__ import annotations

import base64
import os
from dataclasses import dataclass

from nacl.exceptions import CryptoError
from nacl.pwhash import argon2id
from nacl.secret import Aead

from percall import home, wire
from percall.errors import IdentityError, WireError

PASSES = 3
MEMORY_BYTES = 64 * 1024 * 1024
_MOST_PASSES = 16
_MOST_MEMORY_BYTES = 1024 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Sealed:
    """One sealed item, as it lies on the disk; bytes in base64."""

    version: int
    passes: int
    memory_bytes: int
    salt: str
    box: str


def seal(grant: str, text: str, passphrase: bytes) -> None:
    """Keeps the item of a grant. Raises UsageError when the file cannot be written."""
    salt = os.urandom(argon2id.SALTBYTES)
    box = _box(passphrase, salt, PASSES, MEMORY_BYTES).encrypt(
        text.encode(), _bound(grant, PASSES, MEMORY_BYTES), os.urandom(Aead.NONCE_SIZE)
    )
    record = Sealed(1, PASSES, MEMORY_BYTES, _text(salt), _text(box))
    home.write(_path(grant), wire.dump(wire.encode(record)))


def unseal(grant: str, passphrase: bytes) -> str:
    """The item of a grant.

    Raises IdentityError when it is missing or damaged, or the passphrase is wrong; UsageError when it cannot be read.
    """
    data = home.read(_path(grant))
    if data is None:
        raise IdentityError(
            "keyring.item_missing",
            f"The keyring file of grant {grant} is missing in {home.folder()}.",
            "Ask the administrator for a new invite, then run `percall login URL --invite CODE --keyring file`.",
        )
    try:
        record = wire.decode(Sealed, wire.strict_json(data))
        salt, box = base64.b64decode(record.salt, validate=True), base64.b64decode(record.box, validate=True)
        if record.version != 1 or record.passes > _MOST_PASSES or record.memory_bytes > _MOST_MEMORY_BYTES:
            raise ValueError  # noqa: TRY301 - one answer to all that is damaged
        bound = _bound(grant, record.passes, record.memory_bytes)
        return _box(passphrase, salt, record.passes, record.memory_bytes).decrypt(box, bound).decode()
    except (WireError, ValueError):
        raise IdentityError(
            "keyring.damaged",
            f"The keyring file {home.path(_path(grant))} is damaged.",
            "Delete it, ask the administrator for a new invite, then run `percall login` again.",
        ) from None
    except CryptoError:
        raise IdentityError(
            "keyring.passphrase",
            "The passphrase does not open the keyring file.",
            "Check the passphrase, or the file that PERCALL_PASSPHRASE_FILE names.",
        ) from None


def _box(passphrase: bytes, salt: bytes, passes: int, memory_bytes: int) -> Aead:
    return Aead(argon2id.kdf(Aead.KEY_SIZE, passphrase, salt, passes, memory_bytes))


def _bound(grant: str, passes: int, memory_bytes: int) -> bytes:
    return wire.dump(["percall keyring", 1, grant, passes, memory_bytes])


def _path(grant: str) -> str:
    return home.record_path("keyring", grant, ".sealed")


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()
