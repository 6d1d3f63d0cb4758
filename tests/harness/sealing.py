"""An item in the keyring file, as a login leaves it."""

from __future__ import annotations

from percall.identity import keyring_file


def sealed(grant: str, text: str, passphrase: bytes) -> None:
    """Seals it under a lock of its own."""
    lock = keyring_file.new_lock()
    keyring_file.seal(grant, text, lock, lock.key(passphrase))
