"""Key-encryption keys: one file each, readable by the broker alone, kept apart from the store they protect.

Whoever has both the store and these files has every secret; whoever has one of them has none.
"""

from __future__ import annotations

import os
import re
import stat
from typing import TYPE_CHECKING

from percall_broker.crypto import base64url
from percall_broker.crypto.sodium import KEY_BYTES, new_key
from percall_broker.model.errors import Unavailable

if TYPE_CHECKING:
    from pathlib import Path

_NAME = re.compile(r"kek-(\d{4,})\.key")


class KeyFolder:
    """The key-encryption keys of a folder. New secrets are wrapped by the newest."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._keys: dict[str, bytes] = {}

    def names(self) -> list[str]:
        """The names of the keys, oldest first."""
        try:
            found = [match for name in os.listdir(self._folder) if (match := _NAME.fullmatch(name))]  # noqa: PTH208
        except OSError as error:
            raise self._unreadable(error) from error
        return [match[0].removesuffix(".key") for match in sorted(found, key=lambda match: int(match[1]))]

    def newest(self) -> str:
        """The key that wraps from now on. Raises Unavailable when there is none."""
        names = self.names()
        if not names:
            raise Unavailable(
                "keys.missing", f"There is no key in {self._folder}.", "Run `percall-broker init`, or restore the keys."
            )
        return names[-1]

    def add(self) -> str:
        """Makes a new key, on the disk for good when this returns; its name. Raises Unavailable."""
        names = self.names() if self._folder.exists() else []
        number = int(names[-1].removeprefix("kek-")) + 1 if names else 1
        name = f"kek-{number:04}"
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = os.open(self._path(name), os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "w", encoding="ascii") as file:
                file.write(base64url.encode(new_key()) + "\n")
                file.flush()
                os.fsync(file.fileno())
            # A secret wrapped by a key whose name never reached the disk would be lost.
            folder = os.open(self._folder, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
        except OSError as error:
            raise Unavailable("keys.write", f"No key could be written to {self._folder}: {error.strerror}.") from error
        return name

    def key(self, name: str) -> bytes:
        """The bytes of a key. Raises Unavailable when it is missing, damaged, or readable by others."""
        known = self._keys.get(name)
        if known is None:
            known = self._keys[name] = self._read(name)
        return known

    def remove(self, name: str) -> None:
        """Deletes a key for good. Only for one that wraps nothing any more."""
        self._keys.pop(name, None)
        self._path(name).unlink(missing_ok=True)

    def _read(self, name: str) -> bytes:
        path = self._path(name)
        try:
            with path.open(encoding="ascii") as file:
                if stat.S_IMODE(os.fstat(file.fileno()).st_mode) & 0o077:
                    raise Unavailable("keys.mode", f"Others may read {path}.", f"Run: chmod 600 {path}")
                key = base64url.decode(file.read().strip())
        except OSError as error:
            raise self._unreadable(error) from error
        except ValueError:
            key = b""
        if len(key) != KEY_BYTES:
            raise Unavailable("keys.damaged", f"{path} does not hold a key.", "Restore it from a backup.")
        return key

    def _path(self, name: str) -> Path:
        if not _NAME.fullmatch(f"{name}.key"):
            raise Unavailable("keys.name", f"{name!r} is not the name of a key.")
        return self._folder / f"{name}.key"

    def _unreadable(self, error: OSError) -> Unavailable:
        return Unavailable(
            "keys.missing",
            f"The keys in {self._folder} cannot be read: {error.strerror}.",
            "Restore them, or the rights.",
        )
