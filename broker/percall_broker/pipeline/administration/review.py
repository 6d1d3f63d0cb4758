"""After a restore: the grants that it suspended, and those that an administrator lets work again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from percall_broker.log import changes
from percall_broker.model.errors import Conflict, InvalidInput
from percall_broker.model.moments import stamp
from percall_broker.model.records import MOST_TOGETHER
from percall_broker.pipeline.administration.automations import refuse_automation
from percall_broker.store.protocol import Row, Statement

if TYPE_CHECKING:
    from percall_broker.model.records import Identity
    from percall_broker.pipeline.administration.grants import Grants
    from percall_broker.pipeline.administration.ledger import Ledger


class Review:
    """What a restored store needs of an administrator. Every method raises Unavailable when the store cannot."""

    def __init__(self, ledger: Ledger, grants: Grants) -> None:
        self._ledger = ledger
        self._grants = grants

    async def show(self) -> Row:
        """The last restore, and the grants that wait; `restored_at` 0 when this store was never restored."""
        restores = await self._ledger.fetch("last_restore")
        used = {row["grant_id"]: row for row in await self._ledger.fetch("grants_to_review")}
        waiting = [
            {**row, "calls": used[row["grant"]]["calls"], "last_call": _written(used[row["grant"]]["last_call_ms"])}
            for row in await self._grants.listed()
            if row["grant"] in used
        ]
        last = restores[0] if restores else {"restored_at": 0, "backup_created_at": 0, "log_until_ms": 0}
        return {
            "restored_at": last["restored_at"],
            "backup_created_at": last["backup_created_at"],
            "log_until": _written(last["log_until_ms"]),
            "grants": waiting,
        }

    async def resume(self, by: Identity, identifiers: list[str]) -> Row:
        """All of them or none work again. Raises InvalidInput, Conflict when one does not wait (any more); Forbidden to
        an automation, where one administers.
        """
        if not identifiers or len(identifiers) > MOST_TOGETHER:
            raise InvalidInput("review.which", f"Name 1 to {MOST_TOGETHER} grants.", "See: percall-broker review show.")
        identifiers = sorted(set(identifiers))
        for row in await self._grants.listed():
            if row["grant"] in identifiers:
                await refuse_automation(self._ledger, by, row["person"], administers=row["administrator"])
        done = await self._ledger.change(
            *(Statement("resume_restored_grant", {"id": one}, required=True) for one in identifiers),
            changes.change(by, "review.resume", grants=identifiers),
        )
        waiting = {row["grant_id"] for row in await self._ledger.fetch("grants_to_review")}
        if done is None:
            strangers = ", ".join(one for one in identifiers if one not in waiting) or "one of them"
            raise Conflict(
                "review.grant",
                f"Not waiting for a review: {strangers}.",
                "None was resumed. See: percall-broker review show.",
            )
        return {"resumed": identifiers, "waiting": len(waiting)}


def _written(milliseconds: int) -> str:
    return stamp(milliseconds / 1000) if milliseconds else ""
