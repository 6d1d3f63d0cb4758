"""Key-encryption keys in files: one each, readable by the broker alone, kept apart from the store they protect.

The folder is the broker's own, or the one in which systemd hands a unit its credentials; that one is read only.
"""

from __future__ import annotations

import os
import re
import stat
import tempfile
from pathlib import Path

from percall_broker.crypto import base64url, sodium
from percall_broker.model.errors import Conflict, Unavailable
from percall_broker.vault.sources.protocol import Wrapped

_NAME = re.compile(r"kek-(\d{4,})\.key")
_OTHERS = 0o077
_STRANGERS = 0o007  # systemd gives the unit's user its right by an access list, whose mask shows as the group's


class KeyFolder:
    """The key-encryption keys of a folder. New secrets are wrapped by the newest."""

    def __init__(self, folder: Path, *, is_given: bool = False) -> None:
        """`is_given`: somebody else fills the folder, such as systemd; nothing is ever written there."""
        self._folder = folder
        self._is_given = is_given
        self._keys: dict[str, bytes] = {}

    async def newest(self) -> str:
        """The key that wraps from now on. Raises Unavailable when there is none."""
        names = self.names()
        if not names:
            advice = "Give the unit its credential." if self._is_given else "Run `percall-broker init`, or restore it."
            raise Unavailable("keys.missing", f"There is no key in {self._folder}.", advice)
        return names[-1]

    async def wrap(self, data_key: bytes, context: bytes) -> Wrapped:
        """The data key, sealed under the newest key. Raises Unavailable."""
        name = await self.newest()
        return Wrapped(name, sodium.seal(self.key(name), data_key, context))

    async def unwrap(self, wrapped: Wrapped, context: bytes) -> bytes:
        """The data key. Raises SealBrokenError, Unavailable."""
        return sodium.unseal(self.key(wrapped.key), wrapped.ciphertext, context)

    async def rotate(self) -> str:
        """A new key in the folder; in a folder that is given, the newest one. Raises Unavailable."""
        return await self.newest() if self._is_given else self.add()

    async def close(self) -> None:
        """Nothing to let go of."""

    def names(self) -> list[str]:
        """The names of the keys, oldest first. Raises Unavailable."""
        try:
            found = [match for name in os.listdir(self._folder) if (match := _NAME.fullmatch(name))]  # noqa: PTH208
        except OSError as error:
            raise self._unreadable(error) from error
        return [match[0].removesuffix(".key") for match in sorted(found, key=lambda match: int(match[1]))]

    def add(self) -> str:
        """Makes a new key, on the disk for good when this returns; its name. Raises Conflict, Unavailable.

        Whole or not at all: the newest key is the one that wraps from now on, and half a key would wrap nothing.
        """
        names = self.names() if self._folder.exists() else []
        number = int(names[-1].removeprefix("kek-")) + 1 if names else 1
        name = f"kek-{number:04}"
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor, unfinished = tempfile.mkstemp(dir=self._folder, prefix=f".{name}.")  # created 0600
            try:
                with os.fdopen(descriptor, "w", encoding="ascii") as file:
                    file.write(base64url.encode(sodium.new_key()) + "\n")
                    file.flush()
                    os.fsync(file.fileno())
                self._path(name).hardlink_to(unfinished)  # fails where the name is taken, unlike a rename
            finally:
                Path(unfinished).unlink()
            # A secret wrapped by a key whose name never reached the disk would be lost.
            folder = os.open(self._folder, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
        except FileExistsError:
            raise Conflict("keys.rotating", "Another rotation has just made a key.", "Wait for it to end.") from None
        except OSError as error:
            raise Unavailable("keys.write", f"No key could be written to {self._folder}: {error.strerror}.") from error
        return name

    def key(self, name: str) -> bytes:
        """The bytes of a key. Raises Unavailable when it is missing, damaged, or readable by others."""
        known = self._keys.get(name)
        if known is None:
            known = self._keys[name] = self._read(name)
        return known

    def _read(self, name: str) -> bytes:
        path = self._path(name)
        if name not in self.names():
            raise Unavailable(
                "keys.missing", f"There is no key {name} in {self._folder}.", "Restore it from your copy."
            )
        barred = _STRANGERS if self._is_given else _OTHERS
        try:
            with path.open(encoding="ascii") as file:
                if stat.S_IMODE(os.fstat(file.fileno()).st_mode) & barred:
                    raise Unavailable("keys.mode", f"Others may read {path}.", f"Run: chmod 600 {path}")
                key = base64url.decode(file.read().strip())
        except OSError as error:
            raise self._unreadable(error) from error
        except ValueError:
            key = b""
        if len(key) != sodium.KEY_BYTES:
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
