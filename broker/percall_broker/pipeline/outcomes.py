"""Outcomes that the broker has seen itself, as of relayed calls: recorded beside the next call, in its commit.

So no client waits for the record of what it has already. Where no call follows, they go after 40 ms; what the store
does not take then is offered again until it does. A broker that is killed before that leaves them to the sweep.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING

import structlog

from percall_broker.model.errors import Unavailable

if TYPE_CHECKING:
    from percall import wire
    from percall_broker.model.records import Identity
    from percall_broker.pipeline.settle import Settle

_PATIENCE_SECONDS = 0.04
_AGAIN_SECONDS = 5.0
_MOST_GOING = 10_000

log = structlog.get_logger()


class Outcomes:
    """Those that wait. One event loop."""

    def __init__(self, settle: Settle) -> None:
        self._settle = settle
        self._waiting: list[tuple[Identity, wire.Settlement]] = []
        self._going: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._closing = asyncio.Event()

    def add(self, identity: Identity, settlement: wire.Settlement) -> None:
        """An outcome."""
        self._waiting.append((identity, settlement))
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_PATIENCE_SECONDS, self.go)

    def go(self) -> None:
        """Puts all that wait on their way: right before a call is recorded, so that one commit does for both."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        waiting, self._waiting = self._waiting, []
        for identity, settlement in waiting:
            task = asyncio.create_task(self._record(identity, settlement))
            self._going.add(task)
            task.add_done_callback(self._going.discard)

    async def close(self) -> None:
        """The broker ends: what waits is recorded first."""
        self._closing.set()
        self.go()
        await asyncio.gather(*self._going)

    async def _record(self, identity: Identity, settlement: wire.Settlement) -> None:
        while True:
            is_last = self._closing.is_set() or len(self._going) > _MOST_GOING
            try:
                await self._settle.settle(identity, (settlement,), time.time())
            except Unavailable as error:
                if is_last:
                    log.warning("an outcome was not recorded; the sweep will", code=error.code)
                    return
            else:
                return
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._closing.wait(), _AGAIN_SECONDS)
