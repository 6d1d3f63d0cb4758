"""Keys that Linux itself keeps in memory for a time, for all processes of this user, however they were started.

The kernel's keyrings (keyrings(7)): a key of type `user` in the user keyring, with a time-out that the kernel keeps.
It is in no file, no environment and no process, and is gone after the time-out or a restart. This calls add_key(2) and
keyctl(2) itself, for want of a maintained library; other systems have no such thing.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import sys
import time

from percall.errors import IdentityError
from percall.lean import dataclass

_SYSTEM_CALLS = {"x86_64": (248, 250), "aarch64": (217, 219), "riscv64": (217, 219)}
"""add_key and keyctl, by machine."""
_PROCESS_KEYRING, _USER_KEYRING = -2, -4
_LINK, _SEARCH, _READ, _SET_TIMEOUT, _INVALIDATE = 8, 10, 11, 15, 21
_TYPE = b"user"
_KEY_BYTES, _TIME_BYTES = 32, 8
_GONE = {126, 127, 128}  # ENOKEY, EKEYEXPIRED, EKEYREVOKED: Linux's own, which `errno` lacks elsewhere


@dataclass(frozen=True, slots=True)
class Kept:
    """A key that is kept, until a time in seconds since the epoch. Its repr does not show it."""

    key: bytes  # SECRET, never log
    until: int

    def __repr__(self) -> str:
        return f"Kept(until={self.until})"


def is_there() -> bool:
    """Whether this system has such keyrings, and lets this process use them; many containers do not."""
    try:
        _reach()
    except OSError:
        return False
    return True


def keep(name: str, key: bytes, seconds: int) -> int:
    """Keeps a key of 32 bytes; until when, in seconds since the epoch. Raises IdentityError."""
    until = int(time.time()) + seconds
    payload = key + until.to_bytes(_TIME_BYTES, "big")
    try:
        forget(name)
        _reach()
        serial = _add_key(_TYPE, name.encode(), payload, ctypes.c_size_t(len(payload)), _USER_KEYRING)
        try:
            _keyctl(_SET_TIMEOUT, serial, seconds)
        except OSError:
            forget(name)
            raise
    except OSError as error:
        raise IdentityError(
            "unlock.kernel",
            f"The kernel's keyring does not take the key: {error.strerror}.",
            "Name a passphrase file instead: PERCALL_PASSPHRASE_FILE.",
        ) from None
    return until


def find(name: str) -> Kept | None:
    """What is kept under a name, and not past its time; None when there is nothing, or no such keyring.

    The kernel ends it by itself, but for one whose keeper was killed before it could say when.
    """
    try:
        serial = _found(name)
        held = ctypes.create_string_buffer(_KEY_BYTES + _TIME_BYTES)
        size = _keyctl(_READ, serial, held, ctypes.c_size_t(len(held)))
    except OSError:
        return None
    if size != len(held):
        return None
    kept = Kept(held.raw[:_KEY_BYTES], int.from_bytes(held.raw[_KEY_BYTES:], "big"))
    if kept.until > time.time():
        return kept
    with contextlib.suppress(OSError):
        forget(name)
    return None


def forget(name: str) -> bool:
    """Ends a key for everybody, at once; whether there was one. Raises OSError where there is no such keyring."""
    try:
        _keyctl(_INVALIDATE, _found(name))
    except OSError as error:
        if error.errno in _GONE:
            return False
        raise
    return True


def _found(name: str) -> int:
    _reach()
    return _keyctl(_SEARCH, _USER_KEYRING, _TYPE, name.encode(), 0)


def _reach() -> None:
    """Makes the user keyring this process's own for its life: a process of cron or a desktop may lack the link."""
    _keyctl(_LINK, _USER_KEYRING, _PROCESS_KEYRING)


def _add_key(*arguments: object) -> int:
    return _system_call(0, *arguments)


def _keyctl(operation: int, *arguments: object) -> int:
    return _system_call(1, operation, *arguments)


def _system_call(which: int, *arguments: object) -> int:
    """Raises OSError."""
    numbers = _SYSTEM_CALLS.get(os.uname().machine) if sys.platform == "linux" and sys.maxsize > 2**32 else None
    if numbers is None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    library = ctypes.CDLL(None, use_errno=True)
    words = [ctypes.c_long(argument) if isinstance(argument, int) else argument for argument in arguments]
    library.syscall.restype = ctypes.c_long
    result = int(library.syscall(ctypes.c_long(numbers[which]), *words))
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result
