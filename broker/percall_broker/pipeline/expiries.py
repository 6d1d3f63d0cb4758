"""Grants that will expire soon, told to webhooks once each, days before."""

from __future__ import annotations

from typing import TYPE_CHECKING

from percall_broker.log import events

if TYPE_CHECKING:
    from percall_broker.store.protocol import Store

AHEAD_SECONDS = 7 * 24 * 3600
LOOK_SECONDS = 600.0
GRANT_EVENT = "grant.expiring"


class Expiries:
    """Looks ahead."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def announce(self, now: float) -> None:
        """Records an event for each that expires soon, unless it was recorded before. Raises Unavailable."""
        for row in await self._store.fetch("expiring_grants", now=int(now), until=int(now) + AHEAD_SECONDS):
            key = (row["id"], str(row["expires_at"]))
            told = {"grant": row["id"], "person": row["person"], "agent": row["agent"], "expires_at": row["expires_at"]}
            await self._store.append(*events.event(GRANT_EVENT, key, now, **told))
