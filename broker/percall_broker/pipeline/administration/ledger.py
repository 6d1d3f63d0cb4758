"""How what others rely on is changed, by administrators and by devices: each time one transaction with its entry in the
log and the epoch.

The epoch comes first. Its row makes changes wait for one another on every engine and replica, so that what a change
finds (a last administrator, a group's members) is still so when it is made, and no two of them lock one another out.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from percall_broker.model.errors import Conflict
from percall_broker.store.protocol import Statement

if TYPE_CHECKING:
    from collections.abc import Callable

    from percall_broker.store.protocol import Results, Row, Store

    Changed = dict[str, list[Row]]
    """What came of a change: the rows of each statement, by its name; of several of one name, the rows of all."""

_EPOCH = Statement("advance_epoch")
_ENDING = (Statement("end_approvals"), Statement("end_allowances"), Statement("ask_again"))
"""Whatever revoked a grant also ends what it was asking, and what it was allowed for a while. Whatever took somebody's
right to answer ends what they have allowed.
"""


class Ledger:
    """The store, for changes and readings. `changed` is called after each change, for the streams of this process."""

    def __init__(self, store: Store, changed: Callable[[], None]) -> None:
        self._store = store
        self._changed = changed

    async def change(self, *statements: Statement) -> Changed | None:
        """Makes a change; what came of it, or None when a required statement returned no row. Raises Unavailable."""
        whole = (_EPOCH, *statements, *_ENDING)
        results = await self._store.transact(*whole)
        if results is None:
            return None
        self._changed()
        done: Changed = {}
        for statement, rows in zip(whole, results, strict=True):
            done.setdefault(statement.name, []).extend(rows)
        return done

    async def append(self, *statements: Statement) -> Results:
        """Writes what changes nothing that others remember, such as a reading. Raises Unavailable."""
        return await self._store.append(*statements)

    async def fetch(self, name: str, /, **parameters: Any) -> list[Row]:
        """The rows of a reading statement. Raises Unavailable."""
        return await self._store.fetch(name, **parameters)


def keeping_an_administrator(
    *, person: str = "", device: str = "", thumbprint: str = "", grant_id: str = ""
) -> Statement:
    """Undoes a change that stops a person, a device (its id), a device key or a grant, if with it went the last
    administrator.
    """
    concerned = {"person": person, "device": device, "thumbprint": thumbprint, "grant_id": grant_id}
    return Statement("keep_an_administrator", {**concerned, "now": int(time.time())}, required=True)


def last_administrator(whose: str) -> Conflict:
    """The refusal that goes with it."""
    return Conflict(
        "administrator.last",
        f"{whose} is all that this broker's administration has: without it, nobody could change anything.",
        "First make another administrator, who logs in: percall-broker grant create NAME --administrator",
    )
