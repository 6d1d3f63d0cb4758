"""How administrators' changes are made: each one transaction with its entry in the log and the epoch.

The epoch comes first. Its row makes changes wait for one another on every engine and replica, so that what a change
finds (a last administrator, a group's members) is still so when it is made, and no two of them lock one another out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from percall_broker.store.protocol import Statement

if TYPE_CHECKING:
    from collections.abc import Callable

    from percall_broker.store.protocol import Row, Store

_EPOCH = Statement("advance_epoch")


class Ledger:
    """The store, for changes and readings. `changed` is called after each change, for the streams of this process."""

    def __init__(self, store: Store, changed: Callable[[], None] = lambda: None) -> None:
        self._store = store
        self._changed = changed

    async def change(self, *statements: Statement) -> list[list[Row]] | None:
        """Makes a change; the rows of each statement, or None when a required one returned none. Raises Unavailable."""
        done = await self._store.transact(_EPOCH, *statements)
        if done is None:
            return None
        self._changed()
        return done[1:]

    async def fetch(self, name: str, /, **parameters: Any) -> list[Row]:
        """The rows of a reading statement. Raises Unavailable."""
        return await self._store.fetch(name, **parameters)
