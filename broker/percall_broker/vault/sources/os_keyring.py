"""Key-encryption keys in the operating system's keyring, for a broker that runs in a person's session.

The keyring is asked in a helper process, which may hang without us; the keys stay in this process once they are read.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import TYPE_CHECKING, Any

from percall_broker.crypto import base64url, sodium
from percall_broker.model.errors import Unavailable
from percall_broker.vault.sources.protocol import KEYRING, Sealed, Wrapped

if TYPE_CHECKING:
    from pathlib import Path

PATIENCE_SECONDS = 15.0
_HELPER = "percall_broker.vault.sources.os_keyring_helper"
_NEWEST = "newest"
_MISSING = "keyring.item_missing"


class KeyringKeys:
    """The keys of the broker whose folder this is."""

    def __init__(self, home: Path) -> None:
        self._home = str(home)
        self._keys: dict[str, bytes] = {}

    async def newest(self) -> str:
        """The key that wraps from now on. Raises Sealed, Unavailable when there is none."""
        name = await self._read(_NEWEST)
        if name is None:
            raise Unavailable("keys.missing", "The keyring holds no key of this broker.", "Run: percall-broker init")
        return KEYRING + name

    async def wrap(self, data_key: bytes, context: bytes) -> Wrapped:
        """The data key, sealed under the newest key."""
        name = await self.newest()
        return Wrapped(name, sodium.seal(await self._key(name), data_key, context))

    async def unwrap(self, wrapped: Wrapped, context: bytes) -> bytes:
        """The data key. Raises SealBrokenError, Sealed, Unavailable."""
        return sodium.unseal(await self._key(wrapped.key), wrapped.ciphertext, context)

    async def rotate(self) -> str:
        """A new key in the keyring; its name."""
        before = await self._read(_NEWEST) or "kek-0000"
        name = f"kek-{int(before.removeprefix('kek-')) + 1:04}"
        await self._write(name, base64url.encode(sodium.new_key()))
        await self._key(KEYRING + name)  # it can be read back
        await self._write(_NEWEST, name)
        return KEYRING + name

    async def close(self) -> None:
        """Nothing to let go of."""

    async def _key(self, name: str) -> bytes:
        known = self._keys.get(name)
        if known is None:
            text = await self._read(name.removeprefix(KEYRING))
            try:
                known = base64url.decode(text or "")
            except ValueError:
                known = b""
            if len(known) != sodium.KEY_BYTES:
                raise Unavailable("keys.missing", f"The keyring does not hold {name}.", "Restore it from your copy.")
            self._keys[name] = known
        return known

    async def _read(self, item: str) -> str | None:
        answer = await self._helper({"item": f"{self._home}/{item}"})
        return answer.get("text")

    async def _write(self, item: str, text: str) -> None:
        await self._helper({"item": f"{self._home}/{item}", "text": text})

    async def _helper(self, asked: dict[str, str]) -> dict[str, Any]:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", _HELPER, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
        )
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                said, _ = await process.communicate(json.dumps(asked).encode())
        except TimeoutError:
            raise Sealed("keys.source_down", "The keyring does not answer.", "Unlock it.") from None
        finally:
            if process.returncode is None:  # it hangs, or nobody waits for its answer any more
                process.kill()
                await process.wait()
        try:
            answer: dict[str, Any] = json.loads(said)
        except ValueError:
            raise Sealed("keys.source_down", "The keyring's helper failed.", "See its words above.") from None
        if error := answer.get("error"):
            if error["code"] == _MISSING:
                return {}
            raise Sealed(error["code"], error["message"], error["next_step"])
        return answer
