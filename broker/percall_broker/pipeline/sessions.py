"""What a grant may use right now, for its shim: read afresh, so that a session never shows what has ended."""

from __future__ import annotations

from typing import TYPE_CHECKING

from percall_broker.stages.session import session_of

if TYPE_CHECKING:
    from percall import wire
    from percall_broker.stages.lookup import Lookup


class Sessions:
    """Sessions of grants."""

    def __init__(self, lookup: Lookup) -> None:
        self._lookup = lookup

    async def of(self, grant_id: str, now: float) -> wire.Session | None:
        """The session of a grant in any state; None when there is no such grant. Raises Unavailable."""
        grant = await self._lookup.grant(grant_id, fresh=True)
        if grant is None:
            return None
        servers = [await self._lookup.server(name) for name in grant.servers]
        return session_of(grant, [server for server in servers if server is not None], now)
