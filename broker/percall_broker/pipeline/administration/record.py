"""The record, as administrators read it: calls, changes, one call's story, and arguments, whose reading is recorded."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from percall_broker.log import changes
from percall_broker.model.errors import NotFound
from percall_broker.model.moments import fine_stamp

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from percall_broker.log.arguments import SealedArguments
    from percall_broker.model.records import Identity
    from percall_broker.pipeline.administration.ledger import Ledger
    from percall_broker.store.protocol import Row

_MOST_AFTER = 500
ROWS_A_TURN = 200
"""How much of a listing is made in one turn of the event loop: a millisecond's work."""
_LATE_SECONDS = 2.0
"""How much later than others a call may be committed that was numbered before them, as PostgreSQL does."""


@dataclass(frozen=True, slots=True)
class Filters:
    """Which calls to list; empty and 0 filter nothing. Times are in milliseconds, `device` is a key's thumbprint.

    `secret_version` is one of the server's shared key, or of the key of its `secret_owner`; with an owner alone, all of
    theirs. A page has `limit` rows; the next one begins `before` the last row's `seq`.
    """

    person: str = ""
    grant_id: str = ""
    agent: str = ""
    server: str = ""
    tool: str = ""
    decision: str = ""
    since_ms: int = 0
    until_ms: int = 0
    limit: int = 1000
    secret_owner: str = ""
    secret_version: int = 0
    device: str = ""
    before: int = 0


class Record:
    """The log's readings. Every method raises Unavailable when the store cannot."""

    def __init__(self, ledger: Ledger, arguments: SealedArguments) -> None:
        self._ledger = ledger
        self._arguments = arguments

    async def calls(self, filters: Filters) -> AsyncIterator[Row]:
        """Calls with their outcomes, newest first. Where a key is named, only what used it, calls or not."""
        async for row in _in_turns(await self._listed(filters)):
            yield call_row(row)

    async def calls_with_approvals(self, filters: Filters) -> list[Row]:
        """The same, each with its `seq` and its approval's `approval_state`; empty without one, or once long over."""
        more = ("seq", "approval_state")
        return [{**call_row(row), **{name: row[name] for name in more}} for row in await self._listed(filters)]

    async def _listed(self, filters: Filters) -> list[Row]:
        parameters = {name: getattr(filters, name) for name in Filters.__dataclass_fields__}
        of_key = int(bool(filters.secret_owner or filters.secret_version))
        return await self._ledger.fetch("list_calls", **parameters, of_key=of_key, now=int(time.time()))

    async def calls_after(self, seq: int, now: float) -> tuple[int, list[Row]]:
        """Calls recorded after a row of the log, oldest first; each with its `seq`. And after which row to look next
        time: the newest ones come again then, since others that were numbered before them may yet be committed.
        """
        rows = await self._ledger.fetch("calls_after", seq=seq, limit=_MOST_AFTER)
        settled = [row["seq"] for row in rows if row["time_ms"] < (now - _LATE_SECONDS) * 1000]
        return max(settled, default=seq), [{"seq": row["seq"], **call_row(row)} for row in rows]

    async def changes(self, since_ms: int, until_ms: int, limit: int) -> AsyncIterator[Row]:
        """What administrators changed and read, newest first. A change made on the broker's machine has no person."""
        rows = await self._ledger.fetch("list_changes", since_ms=since_ms, until_ms=until_ms, limit=limit)
        async for row in _in_turns(rows):
            yield _change_row(msgspec.json.decode(row["entry"]))

    async def last_seq(self) -> int:
        """The newest row of the log."""
        return int((await self._ledger.fetch("last_seq"))[0]["seq"])

    async def story(self, call: str) -> list[Any]:
        """A call from request to outcome: its entries, oldest first. Raises NotFound."""
        rows = await self._ledger.fetch("show_call", call=call)
        if not rows:
            raise NotFound("call.unknown", f"There is no call {call!r}.", "See: percall-broker log list.")
        return [msgspec.json.decode(row["entry"]) for row in rows]

    async def read_arguments(self, by: Identity, call: str) -> str:
        """The arguments of a call, after recording that they were read. Raises NotFound."""
        await self.story(call)
        await self._ledger.append(changes.reading(by, "arguments.read", call=call))
        rows = await self._ledger.fetch("read_arguments", call=call)
        return self._arguments.open(call, bytes(rows[0]["sealed"])).decode() if rows else ""


async def _in_turns(rows: list[Row]) -> AsyncIterator[Row]:
    """The rows of a listing that may be long. What is made of them happens in here, so calls need not wait for all."""
    for first in range(0, len(rows), ROWS_A_TURN):
        await asyncio.sleep(0)
        for row in rows[first : first + ROWS_A_TURN]:
            yield row


def _change_row(entry: Row) -> Row:
    return {
        "change": entry["id"],
        "time": fine_stamp(entry["time_ms"]),
        "person": entry["person"],
        "agent": entry["agent"],
        "action": entry["action"],
        "presence": entry.get("presence", ""),  # empty in what was recorded before it was
        "server": entry["server"],
        "call": entry["call"],
        "details": entry["details"],
    }


def call_row(row: Row) -> Row:
    """A call as people and scripts see it."""
    return {
        "call": row["call"],
        "time": fine_stamp(row["time_ms"]),
        "time_ms": row["time_ms"],
        "person": row["person"],
        "agent": row["agent"],
        "device": row["device_name"] or row["device"],
        "server": row["server"],
        "tool": row["tool"],
        "decision": row["decision"],
        "reason": row["reason"],
        "outcome": row["outcome"] or ("refused" if row["decision"] == "forbid" else ""),
        "duration_ms": row["duration_ms"],
        "approval": row["approval"],
        "approver": row["approver"],
        "grant": row["grant_id"],
    }
