"""Keys as administrators see them: who holds one, and where copies of one and the same are. Never a key."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from percall_broker.pipeline.administration.ledger import Ledger
    from percall_broker.store.protocol import Row


class Keys:
    """Every method raises Unavailable when the store cannot."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    async def copies(self) -> list[Row]:
        """The holders of keys that more than one server or person holds; the same `key` number means the same key.

        Number 0: given before fingerprints were kept, so that nobody knows; `owner` is empty for a shared key.
        """
        held: dict[str, list[Row]] = {}
        for row in await self._ledger.fetch("held_keys"):
            held.setdefault(row["fingerprint"], []).append(row)
        unknown = held.pop("", [])
        several = [rows for rows in held.values() if len(rows) > 1]
        numbered = [(number, row) for number, rows in enumerate(several, 1) for row in rows]
        return [_row(number, row) for number, row in [*numbered, *((0, row) for row in unknown)]]


def _row(number: int, row: Row) -> Row:
    return {"key": number, **{name: row[name] for name in ("server", "owner", "version", "created_at")}}


def personal_key_row(row: Row) -> Row:
    """A personal key as people and scripts see it."""
    return {name: row[name] for name in ("server", "person", "version", "offered_at", "created_at")}
