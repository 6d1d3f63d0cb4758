"""Warm connections: one that has carried an answer whole, and says nothing unasked, carries the next request.

The next of the same grant at the same server, and no other's. Whatever an upstream, or a proxy before it, makes of one
grant's requests, another's answers are not where it could show; and an upstream that knows its users by their
connections takes none for another.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from percall_broker.model.errors import UpstreamFailed

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from percall_broker.model.rules import Target
    from percall_broker.outbound.network import Network, Stream
    from percall_broker.outbound.streams import Use

MAX_IDLE_CONNECTIONS = 256
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
        # The one that was used last stands last, in both.
        self._idle: dict[Stream, tuple[float, tuple[str, Use]]] = {}
        self._warm: dict[tuple[str, Use], list[Stream]] = {}
        self.in_use = 0

    @asynccontextmanager
    async def lend(self, origin: Target, use: Use) -> AsyncIterator[Lent]:
        """A connection to an origin until the block ends. Raises UpstreamFailed."""
        await self._place()
        self.in_use += 1
        lent = None
        purpose = (origin.origin, use)
        try:
            lent = Lent(self._taken(purpose) or await self._network.connect(origin.host, origin.port))
            yield lent
        finally:
            self.in_use -= 1
            self._places.release()
            if lent is not None:
                self._take_back(lent, purpose)

    def close(self) -> None:
        """Lets go of every idle connection."""
        for stream in tuple(self._idle):
            self._drop(stream)

    async def _place(self) -> None:
        if not self._places.locked():
            await self._places.acquire()
            return
        try:
            async with asyncio.timeout(self._patience):
                await self._places.acquire()
        except TimeoutError:
            raise UpstreamFailed("upstream.busy", "Too many requests are under way.") from None

    def _taken(self, purpose: tuple[str, Use]) -> Stream | None:
        oldest = asyncio.get_running_loop().time() - IDLE_SECONDS
        while self._idle and next(iter(self._idle.values()))[0] < oldest:
            self._drop(next(iter(self._idle)))
        while streams := self._warm.get(purpose):
            stream = streams[-1]
            if stream.is_silent:
                self._forget(stream)
                return stream
            self._drop(stream)
        return None

    def _take_back(self, lent: Lent, purpose: tuple[str, Use]) -> None:
        if not lent.may_be_kept or not lent.stream.is_quiet:
            lent.stream.close()
            return
        if len(self._idle) >= MAX_IDLE_CONNECTIONS:
            self._drop(next(iter(self._idle)))
        self._idle[lent.stream] = (asyncio.get_running_loop().time(), purpose)
        self._warm.setdefault(purpose, []).append(lent.stream)

    def _drop(self, stream: Stream) -> None:
        self._forget(stream)
        stream.close()

    def _forget(self, stream: Stream) -> None:
        _, purpose = self._idle.pop(stream)
        self._warm[purpose].remove(stream)
        if not self._warm[purpose]:
            del self._warm[purpose]
