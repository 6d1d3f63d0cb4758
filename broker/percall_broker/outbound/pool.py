"""Warm connections: one that has carried an answer whole, and says nothing unasked, carries the next request."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from percall_broker.model.errors import UpstreamFailed

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from percall_broker.model.rules import Target
    from percall_broker.outbound.network import Network, Stream

MAX_IDLE_CONNECTIONS = 64
IDLE_SECONDS = 55.0
"""Below the 60 s after which load balancers drop idle connections."""


class Lent:
    """A connection in use. It is closed after it unless its user says that it `may_be_kept`."""

    __slots__ = ("may_be_kept", "stream")

    def __init__(self, stream: Stream) -> None:
        self.stream = stream
        self.may_be_kept = False


class Pool:
    """Connections over one network, at most `limit` in use at a time; who waits longer than `patience` is refused."""

    def __init__(self, network: Network, limit: int, patience: float) -> None:
        self._network = network
        self._places = asyncio.Semaphore(limit)
        self._patience = patience
        self._idle: list[tuple[float, str, Stream]] = []  # the one that was used last stands last
        self.in_use = 0

    @asynccontextmanager
    async def lend(self, origin: Target) -> AsyncIterator[Lent]:
        """A connection to an origin until the block ends. Raises UpstreamFailed."""
        await self._place()
        self.in_use += 1
        lent = None
        try:
            lent = Lent(self._warm(origin.origin) or await self._network.connect(origin.host, origin.port))
            yield lent
        finally:
            self.in_use -= 1
            self._places.release()
            if lent is not None:
                self._take_back(lent, origin.origin)

    def close(self) -> None:
        """Lets go of every idle connection."""
        while self._idle:
            self._idle.pop()[2].close()

    async def _place(self) -> None:
        if not self._places.locked():
            await self._places.acquire()
            return
        try:
            async with asyncio.timeout(self._patience):
                await self._places.acquire()
        except TimeoutError:
            raise UpstreamFailed("upstream.busy", "Too many requests are under way.") from None

    def _warm(self, origin: str) -> Stream | None:
        oldest = asyncio.get_running_loop().time() - IDLE_SECONDS
        for idle in reversed(tuple(self._idle)):
            since, to, stream = idle
            if to == origin or since < oldest:
                self._idle.remove(idle)
                if since >= oldest and stream.is_quiet:
                    return stream
                stream.close()
        return None

    def _take_back(self, lent: Lent, origin: str) -> None:
        if not lent.may_be_kept or not lent.stream.is_quiet:
            lent.stream.close()
            return
        if len(self._idle) >= MAX_IDLE_CONNECTIONS:
            self._idle.pop(0)[2].close()
        self._idle.append((asyncio.get_running_loop().time(), origin, lent.stream))
