"""Secrets at rest: each version under a data key of its own, which a key-encryption key wraps.

Both seals are bound to their row, so that bytes copied to another row do not open. Data keys may stay in memory for as
long as the settings say; a secret stays only as long as its request. Nothing here logs, and no error quotes a secret.
"""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from percall_broker.crypto import sodium
from percall_broker.model.errors import Conflict, NotFound, Unavailable
from percall_broker.store.protocol import Row, Statement, Store
from percall_broker.vault.sources import Sealed, Wrapped

if TYPE_CHECKING:
    from collections.abc import Callable

    from percall_broker.vault.sources import KeySource

KEPT_SECONDS = 300
"""How long an unwrapped data key stays in memory, unless the settings say otherwise."""
REWRAPPED_TOGETHER = 100
"""Secrets wrapped anew in one commit: short enough that no call waits for it."""
_AT_ONCE = 16
_PAUSE_SECONDS = 5.0
_NO_KEY = "The broker cannot open the key of this server now: the source of its own keys fails."
_LATER = "Try again soon. What is wrong with it: percall-broker status, for an administrator."
_OWN = "broker/"
_OWN_VERSION = 1
_FINGERPRINT = "fingerprint"


@dataclass(frozen=True, slots=True)
class _Unwrapped:
    """A sealed secret, and its data key until a time on the monotonic clock; asked for anew from `renew_at` on."""

    sealed: bytes
    data_key: bytes = field(repr=False)  # SECRET, never log
    renew_at: float
    until: float


class Vault:
    """Seals secrets into the store, opens them for one request, and wraps them anew when the key changes.

    A source that is down does not stop what was unwrapped less than `kept_seconds` ago; `source_failure` is what it
    last said, None once it answers again.
    """

    def __init__(
        self,
        store: Store,
        source: KeySource,
        kept_seconds: float = KEPT_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._source = source
        self._kept_seconds = kept_seconds
        self._clock = clock
        self._unwrapped: dict[tuple[str, int], _Unwrapped] = {}
        self._under_way: dict[tuple[str, int], asyncio.Task[_Unwrapped]] = {}
        self._renew_from = 0.0
        self.source_failure: Sealed | None = None

    async def sealing(self, name: str, version: int, secret: bytes, *, fingerprinted: bool = False) -> Statement:
        """The statement that stores a secret, for the transaction of the change that it belongs to. Raises Unavailable.

        It is required: a version that exists stands, and the transaction is undone. `fingerprinted`: copies of it are
        to be found, by a fingerprint that only this broker can make.
        """
        data_key = sodium.new_key()
        wrapped = await self._source.wrap(data_key, _context(name, version, "wrapped_key"))
        parameters = {
            "name": name,
            "version": version,
            "sealed": sodium.seal(data_key, secret, _context(name, version, "sealed")),
            "wrapped_key": wrapped.ciphertext,
            "key_encryption_key": wrapped.key,
            "fingerprint": await self._fingerprint(secret) if fingerprinted else "",
            "created_at": int(time.time()),
        }
        return Statement("add_secret", parameters, required=True)

    async def unseal(self, name: str, version: int) -> bytes:
        """The secret, for one request whose intent is recorded. Raises NotFound, Unavailable."""
        kept = self._unwrapped.get((name, version))
        now = self._clock()
        if kept is None or kept.until <= now:
            kept = await asyncio.shield(self._unwrapping(name, version))
        elif kept.renew_at <= now and self._renew_from <= now:
            self._unwrapping(name, version)  # nobody waits for it: what is kept still holds
        try:
            return sodium.unseal(kept.data_key, kept.sealed, _context(name, version, "sealed"))
        except sodium.SealBrokenError:
            raise _broken(name, version) from None

    async def unseal_for_call(self, name: str, version: int) -> bytes:
        """As `unseal`, in words for whoever calls: which source fails, where and why, is for those who operate it.

        Raises NotFound, Unavailable.
        """
        try:
            return await self.unseal(name, version)
        except Unavailable as error:
            if error.code.startswith("keys."):
                raise Unavailable(error.code, _NO_KEY, _LATER) from None
            raise

    async def own_key(self, purpose: str) -> bytes:
        """One of the broker's own keys, named by what it is for; made when first asked for.

        Raises Unavailable.
        """
        name = _OWN + purpose
        try:
            return await self.unseal(name, _OWN_VERSION)
        except NotFound:
            # Another replica may be doing the same; the first one's stands, and both read it back.
            await self._store.transact(await self.sealing(name, _OWN_VERSION, sodium.new_key()))
            return await self.unseal(name, _OWN_VERSION)

    async def rotate(self) -> tuple[str, int, list[str]]:
        """Makes a new key-encryption key and wraps every secret's data key anew.

        Gives the key's name, how many it wrapped, and the keys that had wrapped them. Those stay, since backups open
        with them alone. Nothing is made before each key in use has opened something: another key may bear the same
        name, as where the settings name another source than the broker's.
        Raises Unavailable; Conflict where somebody else makes the keys, and has made no newer one.
        """
        in_use = [row["key_encryption_key"] for row in await self._store.fetch("key_encryption_keys_in_use")]
        for key in in_use:
            for row in await self._store.fetch("a_secret_wrapped_by", key_encryption_key=key):
                await self._open(row)
        before = await self._source.newest()
        newest, wrapped = await self._source.rotate(), 0
        # A broker that serves meanwhile may still have wrapped by the old key, another rotation may have made a newer
        # one: until nothing is left.
        while rows := await self._wrapped_by_others(newest):
            wrapped += await self._rewrap(rows)
            newest = await self._source.newest()
        if newest == before and not wrapped:
            advice = "Add the new one to your source first: docs/how-to/key-encryption-keys.md."
            raise Conflict("keys.same", f"There is no newer key than {newest}, which wraps everything already.", advice)
        return newest, wrapped, sorted(set(in_use) - {newest})

    async def close(self) -> None:
        """Ends what is under way, and lets go of the source."""
        under_way = list(self._under_way.values())
        for task in under_way:
            task.cancel()
        await asyncio.gather(*under_way, return_exceptions=True)
        await self._source.close()

    async def _fingerprint(self, secret: bytes) -> str:
        return sodium.mac(await self.own_key(_FINGERPRINT), secret).hex()

    async def _wrapped_by_others(self, newest: str) -> list[Row]:
        return await self._store.fetch("secrets_wrapped_by_others", key_encryption_key=newest, limit=REWRAPPED_TOGETHER)

    async def _rewrap(self, rows: list[Row]) -> int:
        gate = asyncio.Semaphore(_AT_ONCE)

        async def rewrapped(row: Row) -> Statement:
            name, version = row["name"], row["version"]
            async with gate:
                wrapped = await self._source.wrap(await self._open(row), _context(name, version, "wrapped_key"))
            parameters = {
                "name": name,
                "version": version,
                "wrapped_key": wrapped.ciphertext,
                "key_encryption_key": wrapped.key,
                "old_key_encryption_key": row["key_encryption_key"],
            }
            return Statement("rewrap_secret", parameters)

        results = await self._store.append(*await asyncio.gather(*(rewrapped(row) for row in rows)))
        return sum(map(len, results))

    def _unwrapping(self, name: str, version: int) -> asyncio.Task[_Unwrapped]:
        """The one unwrapping of this secret that is under way, whoever waits for it."""
        task = self._under_way.get((name, version))
        if task is None:
            task = self._under_way[name, version] = asyncio.ensure_future(self._unwrap(name, version))
            task.add_done_callback(lambda done: self._unwrapping_ended(name, version, done))
        return task

    def _unwrapping_ended(self, name: str, version: int, task: asyncio.Task[_Unwrapped]) -> None:
        del self._under_way[name, version]
        if not task.cancelled() and isinstance(task.exception(), Sealed):
            self._renew_from = self._clock() + _PAUSE_SECONDS

    async def _unwrap(self, name: str, version: int) -> _Unwrapped:
        rows = await self._store.fetch("read_secret", name=name, version=version)
        if not rows:
            raise NotFound("secret.missing", f"There is no version {version} of a secret of {name!r}.")
        data_key = await self._open(rows[0])
        now = self._clock()
        unwrapped = _Unwrapped(
            rows[0]["sealed"], data_key, renew_at=now + self._kept_seconds / 2, until=now + self._kept_seconds
        )
        self._unwrapped[name, version] = unwrapped
        asyncio.get_running_loop().call_later(self._kept_seconds, self._let_go, name, version, unwrapped)
        return unwrapped

    def _let_go(self, name: str, version: int, unwrapped: _Unwrapped) -> None:
        """Also of what nobody asks for any more; what was asked for anew meanwhile has a time of its own."""
        if self._unwrapped.get((name, version)) is unwrapped:
            del self._unwrapped[name, version]

    async def _open(self, row: Row) -> bytes:
        name, version = row["name"], row["version"]
        wrapped = Wrapped(row["key_encryption_key"], row["wrapped_key"])
        try:
            data_key = await self._source.unwrap(wrapped, _context(name, version, "wrapped_key"))
        except sodium.SealBrokenError:
            raise _broken(name, version) from None
        except Sealed as error:
            self.source_failure = error
            raise
        self.source_failure = None
        return data_key


def _context(name: str, version: int, column: str) -> bytes:
    return json.dumps(["secrets", name, version, column]).encode()


def _broken(name: str, version: int) -> Unavailable:
    return Unavailable(
        "secret.seal",
        f"Version {version} of the secret of {name!r} does not open.",
        "Restore the store and the keys from the same backup.",
    )
