"""Rows of several subjects, as people and scripts see them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from percall_broker.store.protocol import Row


def frozen_row(row: Row) -> Row | None:
    """The freeze that a row tells of, as people and scripts see it; None where there is none."""
    if row["frozen_kind"] is None:
        return None
    return {"by": row["frozen_by"], "reason": row["frozen_reason"], "created_at": row["frozen_at"]}


def device_row(row: Row) -> Row:
    """A device as people and scripts see it."""
    return {
        "device": row["id"],
        "person": row["person"],
        "name": row["name"],
        "state": row["state"],
        "agents": row["keys"],
        "grants": row["grants"],
        "frozen": frozen_row(row),
        "created_at": row["created_at"],
    }
