"""Several sources as one: the chosen one wraps, and what another one wrapped still opens, so that a broker may move."""

from __future__ import annotations

from typing import TYPE_CHECKING

from percall_broker.model.errors import Unavailable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from percall_broker.vault.sources.protocol import KeySource, Wrapped


class KeySources:
    """Sources by the prefix of their keys' names; `chosen` is the prefix of the one that wraps."""

    def __init__(self, chosen: str, sources: Mapping[str, KeySource]) -> None:
        self._chosen = sources[chosen]
        self._sources = sources

    async def newest(self) -> str:
        """The chosen source's newest key."""
        return await self._chosen.newest()

    async def wrap(self, data_key: bytes, context: bytes) -> Wrapped:
        """The data key, wrapped by the chosen source."""
        return await self._chosen.wrap(data_key, context)

    async def unwrap(self, wrapped: Wrapped, context: bytes) -> bytes:
        """The data key, by the source that wrapped it. Raises SealBrokenError, Unavailable."""
        for prefix, source in self._sources.items():
            if wrapped.key.startswith(prefix):
                return await source.unwrap(wrapped, context)
        raise Unavailable(
            "keys.source",
            f"The key {wrapped.key!r} is of a source that the settings do not name.",
            "Keep the old source's settings until `percall-broker key rotate` has wrapped everything anew.",
        )

    async def rotate(self) -> str:
        """A new key in the chosen source."""
        return await self._chosen.rotate()

    async def close(self) -> None:
        """Closes them all."""
        for source in self._sources.values():
            await source.close()
