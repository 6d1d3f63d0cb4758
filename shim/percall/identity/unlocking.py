"""How the keyring file opens: by a key that `percall unlock` left with the kernel, a passphrase file, or a passphrase.

Whoever starts `percall run` gives it neither terminal nor passphrase; so it looks where the person has unlocked it.
"""

from __future__ import annotations

from percall import home
from percall.identity import kernel_keyring, keyring_file, passphrase

TYPE_CHECKING = False  # `typing` itself costs 3 ms
if TYPE_CHECKING:
    from collections.abc import Callable

    from percall.identity.keyring_file import Lock


def opened(lock: Lock, passphrase_file: str, ask: Callable[[], bytes]) -> bytes:
    """A lock's key: SECRET, never log. `ask` gives the passphrase, where nothing else is there.

    Raises IdentityError.
    """
    kept = kernel_keyring.find(lock.name)
    if kept is not None:
        return kept.key
    return lock.key(passphrase.from_file(passphrase_file) if passphrase_file else ask())


def locks() -> dict[Lock, str]:
    """The locks of this device's keyring files, each with a grant whose item it locks. Raises PercallError."""
    grants = [login.grant for login in home.logins() if login.keyring == "file"]
    return {keyring_file.lock_of(grant): grant for grant in grants}


def unlock(secret: bytes, seconds: int) -> int:
    """Leaves the keys of all locks with the kernel, once the passphrase is known to fit; until when.

    Seconds since the epoch. Raises PercallError.
    """
    keys: dict[Lock, bytes] = {}
    for lock, grant in locks().items():
        keys[lock] = lock.key(secret)
        keyring_file.unseal(grant, keys[lock])
    return min(kernel_keyring.keep(lock.name, key, seconds) for lock, key in keys.items())


def lock() -> int:
    """Takes them back, from every process at once; how many there were. Raises PercallError."""
    if not kernel_keyring.is_there():
        return 0
    return sum(kernel_keyring.forget(one.name) for one in locks())


def unlocked_until(grant: str) -> int:
    """Until when a grant's item is unlocked, in seconds since the epoch; 0: it is not. Raises PercallError."""
    kept = kernel_keyring.find(keyring_file.lock_of(grant).name)
    return kept.until if kept is not None else 0
