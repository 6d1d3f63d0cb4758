"""Secrets at rest: each version under a data key of its own, which a key-encryption key wraps.

Both seals are bound to their row, so that bytes copied to another row do not open. Data keys may stay in memory for
minutes; a secret stays only as long as its request. Nothing here logs, and no error quotes a secret.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from percall_broker.crypto import sodium
from percall_broker.model.errors import Conflict, NotFound, Unavailable
from percall_broker.store.protocol import Row, Statement, Store

if TYPE_CHECKING:
    from percall_broker.vault.keys import KeyFolder

KEPT_SECONDS = 300.0
"""How long an unwrapped data key may stay in memory."""
_OWN = "broker/"
_OWN_VERSION = 1


@dataclass(frozen=True, slots=True)
class _Unwrapped:
    """A sealed secret, and its data key until a time on the monotonic clock."""

    sealed: bytes
    data_key: bytes = field(repr=False)  # SECRET, never log
    until: float


class Vault:
    """Seals secrets into the store, opens them for one request, and wraps them anew when the key changes."""

    def __init__(self, store: Store, keys: KeyFolder) -> None:
        self._store = store
        self._keys = keys
        self._unwrapped: dict[tuple[str, int], _Unwrapped] = {}

    def sealing(self, name: str, version: int, secret: bytes) -> Statement:
        """The statement that stores a secret, for the transaction of the change that it belongs to. Raises Unavailable.

        It is required: a version that exists stands, and the transaction is undone.
        """
        data_key = sodium.new_key()
        wrapper = self._keys.newest()
        parameters = {
            "name": name,
            "version": version,
            "sealed": sodium.seal(data_key, secret, _context(name, version, "sealed")),
            "wrapped_key": self._wrap(data_key, name, version, wrapper),
            "key_encryption_key": wrapper,
            "created_at": int(time.time()),
        }
        return Statement("add_secret", parameters, required=True)

    async def seal(self, name: str, version: int, secret: bytes) -> None:
        """Stores a secret on its own. Raises Conflict when that version exists, Unavailable."""
        if await self._store.transact(self.sealing(name, version, secret)) is None:
            raise Conflict("secret.exists", f"Version {version} of the secret of {name!r} exists already.")

    async def unseal(self, name: str, version: int) -> bytes:
        """The secret, for one request whose intent is recorded. Raises NotFound, Unavailable."""
        kept = self._unwrapped.get((name, version))
        now = time.monotonic()
        if kept is None or kept.until <= now:
            kept = await self._unwrap(name, version, now + KEPT_SECONDS)
        try:
            return sodium.unseal(kept.data_key, kept.sealed, _context(name, version, "sealed"))
        except sodium.SealBrokenError:
            raise _broken(name, version) from None

    async def own_key(self, purpose: str) -> bytes:
        """One of the broker's own keys (signing, nonce, credential, arguments), made when first asked for.

        Raises Unavailable.
        """
        name = _OWN + purpose
        try:
            return await self.unseal(name, _OWN_VERSION)
        except NotFound:
            # Another replica may be doing the same; the first one's stands, and both read it back.
            await self._store.transact(self.sealing(name, _OWN_VERSION, sodium.new_key()))
            return await self.unseal(name, _OWN_VERSION)

    async def rotate(self) -> tuple[str, int]:
        """Makes a new key-encryption key and wraps every secret's data key anew; the key's name, and how many.

        The old keys' files stay until `forget_unused_keys`. Raises Unavailable.
        """
        newest = self._keys.add()
        wrapped = 0
        # A broker that serves meanwhile may still have wrapped by the old key: until nothing is left.
        while rows := await self._store.fetch("secrets_wrapped_by_others", key_encryption_key=newest):
            for row in rows:
                wrapped += await self._rewrap(row, newest)
        return newest, wrapped

    async def forget_unused_keys(self) -> list[str]:
        """Deletes the key-encryption keys that wrap nothing any more, but never the newest; their names."""
        in_use = {row["key_encryption_key"] for row in await self._store.fetch("key_encryption_keys_in_use")}
        unused = [name for name in self._keys.names()[:-1] if name not in in_use]
        for name in unused:
            self._keys.remove(name)
        return unused

    async def _rewrap(self, row: Row, wrapper: str) -> int:
        name, version = row["name"], row["version"]
        data_key = self._open(row)
        rewrapped = Statement(
            "rewrap_secret",
            {
                "name": name,
                "version": version,
                "wrapped_key": self._wrap(data_key, name, version, wrapper),
                "key_encryption_key": wrapper,
                "old_key_encryption_key": row["key_encryption_key"],
            },
        )
        (changed,) = await self._store.append(rewrapped)
        return len(changed)

    async def _unwrap(self, name: str, version: int, until: float) -> _Unwrapped:
        rows = await self._store.fetch("read_secret", name=name, version=version)
        if not rows:
            raise NotFound("secret.missing", f"There is no version {version} of a secret of {name!r}.")
        unwrapped = _Unwrapped(rows[0]["sealed"], self._open(rows[0]), until)
        now = time.monotonic()
        self._unwrapped = {key: kept for key, kept in self._unwrapped.items() if kept.until > now}
        self._unwrapped[name, version] = unwrapped
        return unwrapped

    def _wrap(self, data_key: bytes, name: str, version: int, wrapper: str) -> bytes:
        return sodium.seal(self._keys.key(wrapper), data_key, _context(name, version, "wrapped_key"))

    def _open(self, row: Row) -> bytes:
        name, version = row["name"], row["version"]
        try:
            key = self._keys.key(row["key_encryption_key"])
            return sodium.unseal(key, row["wrapped_key"], _context(name, version, "wrapped_key"))
        except sodium.SealBrokenError:
            raise _broken(name, version) from None


def _context(name: str, version: int, column: str) -> bytes:
    return json.dumps(["secrets", name, version, column]).encode()


def _broken(name: str, version: int) -> Unavailable:
    return Unavailable(
        "secret.seal",
        f"Version {version} of the secret of {name!r} does not open.",
        "Restore the store and the keys from the same backup.",
    )
