"""The keyring for machines without one: each grant's item in a file, encrypted under a passphrase.

Argon2id (3 passes over 64 MiB, the second choice of RFC 9106) makes the key, XChaCha20-Poly1305 seals the item and
binds it to its grant and parameters. The one module of the laptop that does so; chosen by name, never by default.
"""

from __future__ import annotations

import base64
import os
from hashlib import sha256

from nacl.bindings import crypto_pwhash_argon2id_MEMLIMIT_MIN, crypto_pwhash_SALTBYTES
from nacl.exceptions import CryptoError
from nacl.secret import Aead

from percall import home, wire
from percall.errors import IdentityError, WireError
from percall.lean import dataclass

PASSES = 3
MEMORY_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Lock:
    """What makes a key of the passphrase: the salt, and what Argon2id spends. All files of a device share one.

    Those that were sealed before that was so have one each.
    """

    salt: bytes
    passes: int
    memory_bytes: int

    @property
    def name(self) -> str:
        """What its key goes by while it is kept unlocked."""
        return f"percall:{sha256(self.salt).hexdigest()[:32]}"

    def key(self, passphrase: bytes) -> bytes:
        """SECRET, never log."""
        from nacl.pwhash import argon2id  # noqa: PLC0415 - not for a file that is unlocked

        return argon2id.kdf(Aead.KEY_SIZE, passphrase, self.salt, self.passes, self.memory_bytes)


def new_lock() -> Lock:
    """A lock for a device's first file."""
    return Lock(os.urandom(crypto_pwhash_SALTBYTES), PASSES, MEMORY_BYTES)


@dataclass(frozen=True, slots=True)
class Sealed:
    """One sealed item, as it lies on the disk; bytes in base64."""

    version: int
    passes: int
    memory_bytes: int
    salt: str
    box: str


def lock_of(grant: str) -> Lock:
    """The lock of a grant's item. Raises IdentityError when it is missing or damaged, UsageError when unreadable."""
    return _read(grant)[0]


def seal(grant: str, text: str, lock: Lock, key: bytes) -> None:
    """Keeps the item of a grant under a lock's key. Raises UsageError when the file cannot be written."""
    box = Aead(key).encrypt(text.encode(), _bound(grant, lock), os.urandom(Aead.NONCE_SIZE))
    record = Sealed(1, lock.passes, lock.memory_bytes, _text(lock.salt), _text(box))
    home.write(_path(grant), wire.dump(wire.encode(record)))


def unseal(grant: str, key: bytes) -> str:
    """The item of a grant, by its lock's key.

    Raises IdentityError when it is missing or damaged, or the key is of another passphrase; UsageError when it cannot
    be read.
    """
    lock, box = _read(grant)
    try:
        return Aead(key).decrypt(box, _bound(grant, lock)).decode()
    except ValueError:
        raise _damaged(grant) from None
    except CryptoError:
        raise IdentityError(
            "keyring.passphrase",
            "The passphrase does not open the keyring file.",
            "Check the passphrase, or the file that PERCALL_PASSPHRASE_FILE names.",
        ) from None


def _read(grant: str) -> tuple[Lock, bytes]:
    data = home.read(_path(grant))
    if data is None:
        raise IdentityError(
            "keyring.item_missing",
            f"The keyring file of grant {grant} is missing in {home.folder()}.",
            "Ask the administrator for a new invite, then run `percall login URL --invite CODE --keyring file`.",
        )
    try:
        record = wire.decode(Sealed, wire.strict_json(data))
        lock = Lock(base64.b64decode(record.salt, validate=True), record.passes, record.memory_bytes)
        box = base64.b64decode(record.box, validate=True)
    except (WireError, ValueError):
        raise _damaged(grant) from None
    # Before anything is derived: neither time nor memory is spent on what nobody of ours has written.
    is_bounded = (
        1 <= lock.passes <= wire.MAX_STRETCH_PASSES
        and crypto_pwhash_argon2id_MEMLIMIT_MIN <= lock.memory_bytes <= wire.MAX_STRETCH_MEMORY_BYTES
    )
    if record.version != 1 or not is_bounded or len(lock.salt) != crypto_pwhash_SALTBYTES:
        raise _damaged(grant)
    return lock, box


def _damaged(grant: str) -> IdentityError:
    return IdentityError(
        "keyring.damaged",
        f"The keyring file {home.path(_path(grant))} is damaged.",
        "Delete it, ask the administrator for a new invite, then run `percall login` again.",
    )


def _bound(grant: str, lock: Lock) -> bytes:
    return wire.dump(["percall keyring", 1, grant, lock.passes, lock.memory_bytes])


def _path(grant: str) -> str:
    return home.record_path("keyring", grant, ".sealed")


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()
