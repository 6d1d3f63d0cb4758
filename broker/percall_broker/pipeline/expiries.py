"""Grants and keys that will end soon, told to webhooks once each, days before."""

from __future__ import annotations

from typing import TYPE_CHECKING

from percall_broker.log import events

if TYPE_CHECKING:
    from percall_broker.store.protocol import Row, Store

AHEAD_SECONDS = 7 * 24 * 3600
GRANT_EVENT = "grant.expiring"
KEY_EVENT = "key.expiring"


class Expiries:
    """Looks ahead. `key_seconds` is how old a key may become that has no end of its own; 0 for any age."""

    def __init__(self, store: Store, key_seconds: int = 0) -> None:
        self._store = store
        self._key_seconds = key_seconds

    async def announce(self, now: float) -> None:
        """Records an event for each that ends soon, unless it was recorded before. Raises Unavailable."""
        for row in await self.grants(now):
            once = (row["id"], str(row["expires_at"]))
            told = {"grant": row["id"], "person": row["person"], "agent": row["agent"], "expires_at": row["expires_at"]}
            await self._store.append(*events.event(GRANT_EVENT, once, now, **told))
        for row in await self.keys(now):
            which = (row["server"], row["person"], str(row["version"]), str(row["expires_at"]))
            told = {name: row[name] for name in ("server", "person", "version", "created_at", "expires_at")}
            await self._store.append(*events.event(KEY_EVENT, which, now, **told))

    async def grants(self, now: float) -> list[Row]:
        """The active grants that end soon, the next one first. Raises Unavailable."""
        return await self._store.fetch("expiring_grants", now=int(now), until=int(now) + AHEAD_SECONDS)

    async def keys(self, now: float) -> list[Row]:
        """The keys in use that end soon, or should have ended: nothing here stops one. Raises Unavailable."""
        in_use = await self._store.fetch("keys_in_use", most_seconds=self._key_seconds)
        return [row for row in in_use if 0 < row["expires_at"] <= now + AHEAD_SECONDS]
