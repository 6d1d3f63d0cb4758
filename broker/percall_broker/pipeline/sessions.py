"""What a grant may use right now, for its shim: read afresh, so that a session never shows what has ended."""

from __future__ import annotations

from typing import TYPE_CHECKING

from percall import wire
from percall_broker.stages.lookup import areas_of
from percall_broker.stages.session import session_of

if TYPE_CHECKING:
    from percall_broker.model.records import Grant
    from percall_broker.stages.lookup import Lookup
    from percall_broker.stages.presence import Presence
    from percall_broker.store.protocol import Store


class Sessions:
    """Sessions of grants."""

    def __init__(self, store: Store, lookup: Lookup, presence: Presence) -> None:
        self._store = store
        self._lookup = lookup
        self._presence = presence

    async def of(self, grant_id: str, now: float) -> wire.Session | None:
        """The session of a grant in any state; None when there is no such grant. Raises Unavailable."""
        grant = await self._lookup.grant(grant_id, fresh=True)
        if grant is None:
            return None
        servers = [await self._lookup.server(name) for name in grant.servers]
        stretch = None if grant.automation else await self._presence.stretch_of(grant.person)
        known = [server for server in servers if server is not None]
        return session_of(grant, known, now, stretch, await self._automations(grant, now))

    async def _automations(self, grant: Grant, now: float) -> tuple[wire.Automation, ...]:
        if grant.automation:
            return (wire.Automation(grant.person, grant.may),)
        if not grant.administrator:
            return ()
        rows = await self._store.fetch("automations", now=int(now))
        return tuple(wire.Automation(row["person"], areas_of(row["may"])) for row in rows)
