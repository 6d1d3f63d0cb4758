"""The processes that serve one store: each shows that it lives, by writing so."""

from __future__ import annotations

import secrets
import time
from typing import TYPE_CHECKING

from percall import __version__
from percall_broker.model.errors import Unavailable
from percall_broker.store.protocol import Row, Statement

if TYPE_CHECKING:
    from percall_broker.store.protocol import Store

SILENT_SECONDS = 35
"""Without a word for so long, a replica counts as gone: three sweeps, which beat, and some patience."""
_FORGOTTEN_SECONDS = 3600
_ID_BYTES = 9


class Replicas:
    """This process among the others. `url` is where laptops reach the broker, alike for all of them."""

    def __init__(self, store: Store, url: str) -> None:
        self._store = store
        self._url = url
        self._started_at = int(time.time())
        self.own_id = secrets.token_urlsafe(_ID_BYTES)

    async def beat(self) -> None:
        """Shows that this one lives. Raises Unavailable when the store cannot be written."""
        parameters = {"id": self.own_id, "url": self._url, "version": __version__, "started_at": self._started_at}
        (written,) = await self._store.append(Statement("beat", {**parameters, "seen_at": int(time.time())}))
        if not written:
            raise Unavailable("store.failed", "The store took what was written and kept nothing.")

    async def leave(self) -> None:
        """This one ends. Raises Unavailable."""
        seen_before = int(time.time()) - _FORGOTTEN_SECONDS
        await self._store.append(Statement("leave", {"id": self.own_id, "seen_before": seen_before}))

    async def alive(self) -> list[Row]:
        """Those that have shown themselves lately, oldest first."""
        return await self._store.fetch("list_replicas", seen_since=int(time.time()) - SILENT_SECONDS)
