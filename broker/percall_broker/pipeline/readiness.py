"""Whether this broker can do its work: write to the store, open its keys, and read the schema as it is.

Says which of them does not hold, by a stable code and nothing more: strangers may ask. It is looked at once a second at
most, however often it is asked, and a store that hangs counts as one that cannot.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Protocol

from percall_broker.model.errors import BrokerError
from percall_broker.telemetry.metrics import PROBLEMS

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

KEPT_SECONDS = 1.0
_PATIENCE_SECONDS = 5.0
_PURPOSE = "nonce"


class Keys(Protocol):
    """What this asks of the vault."""

    async def own_key(self, purpose: str) -> bytes:
        """One of the broker's own keys. Raises Unavailable."""


class Readiness:
    """`beat` writes to the store, `check_schema` reads its schema; both raise Unavailable."""

    def __init__(
        self, beat: Callable[[], Awaitable[None]], check_schema: Callable[[], Awaitable[None]], keys: Keys
    ) -> None:
        self._beat = beat
        self._check_schema = check_schema
        self._keys = keys
        self._known: dict[str, str] = {}
        self._known_until = 0.0
        self._look = asyncio.Lock()

    async def problems(self) -> dict[str, str]:
        """What does not hold, by its name: store, schema, keys; with the code of the error that says so."""
        async with self._look:
            if time.monotonic() >= self._known_until:
                # Side by side: who asks waits for the slowest, and not for all of them.
                found = await asyncio.gather(
                    _problem(self._beat()), _problem(self._check_schema()), _problem(self._keys.own_key(_PURPOSE))
                )
                self._known = {name: code for name, code in zip(PROBLEMS, found, strict=True) if code}
                self._known_until = time.monotonic() + KEPT_SECONDS
            return self._known


async def _problem(trying: Awaitable[object]) -> str:
    try:
        async with asyncio.timeout(_PATIENCE_SECONDS):
            await trying
    except TimeoutError:
        return "store.slow"
    except BrokerError as error:
        return error.code
    return ""
