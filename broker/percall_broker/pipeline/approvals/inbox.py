"""What waits for people, and what became of it: listed, shown, and opened. That arguments were opened is recorded.

A person sees what was asked of a group that they are in, and what their own agents asked; an administrator sees all.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from percall_broker.crypto.proofs import digest
from percall_broker.log import changes
from percall_broker.model.errors import Conflict, Forbidden, NotFound, Unavailable
from percall_broker.stages.approval import page
from percall_broker.stages.shape import members

if TYPE_CHECKING:
    from percall_broker.log.arguments import SealedArguments
    from percall_broker.model.records import Identity
    from percall_broker.pipeline.administration.ledger import Ledger
    from percall_broker.store.protocol import Row

MOST_LISTED = 500


@dataclass(frozen=True, slots=True)
class Filters:
    """Which to list; empty and 0 filter nothing. `state` is one of APPROVAL_STATES, `kind` call or grant.

    `mine`: only those that whoever looks may answer now. A page has `limit` rows, the newest first; the next one begins
    `before` the last row's `seq`.
    """

    state: str = ""
    kind: str = ""
    person: str = ""
    agent: str = ""
    server: str = ""
    mine: bool = False
    before: int = 0
    limit: int = 100


class Inbox:
    """The approvals. Every method raises Unavailable when the store cannot. `by` is who looks."""

    def __init__(self, ledger: Ledger, arguments: SealedArguments, public_url: str) -> None:
        self._ledger = ledger
        self._arguments = arguments
        self._public_url = public_url

    async def listed(self, by: Identity, filters: Filters) -> list[Row]:
        """A page of them, newest first."""
        asked = {name: getattr(filters, name) for name in ("state", "kind", "person", "agent", "server", "before")}
        rows = await self._ledger.fetch(
            "list_approvals",
            viewer=by.grant.person,
            sees_all=int(_sees_all(by)),
            mine=int(filters.mine),
            limit=min(filters.limit, MOST_LISTED),
            now=int(time.time()),
            **asked,
        )
        return [self._row(row) for row in rows]

    async def show(self, by: Identity, approval: str) -> Row:
        """One, with the groups that must answer and who has. `answerable` says whether `by` may answer it now,
        `why_not` in a sentence why not. Raises NotFound.
        """
        row = await self.read(approval)
        groups = await self._ledger.fetch("who_answered", approval=approval)
        own = {one["name"] for one in await self._ledger.fetch("groups_of", person=by.grant.person)}
        named = {one["group_name"] for one in groups}
        if not (_sees_all(by) or row["person"] == by.grant.person or own & named):
            raise _unknown(approval)
        open_groups = {one["group_name"] for one in groups if not one["answered_by"]}
        refusal = _why_not(by, row, own, open_groups)
        told = [
            {
                "group": one["group_name"],
                "person": one["answered_by"],
                "presence": one["presence"],
                "answered_at": one["answered_ms"] // 1000,
            }
            for one in groups
        ]
        return {
            **self._row(row),
            "groups": told,
            "varying": msgspec.json.decode(row["varying"]),
            "answerable": refusal is None,
            "why_not": "" if refusal is None else refusal.message,
        }

    async def open(self, by: Identity, approval: str) -> Row:
        """The same with the call's `arguments`, whole; that they were opened is recorded first. Raises NotFound.

        `arguments` has `text` (as the client wrote it: show it as text), `bytes`, `digest` and `names`, those of its
        members; `text` is None where they cannot be shown, and then nobody may allow the call.
        """
        row = await self.show(by, approval)
        if row["kind"] != "call":
            return {**row, "arguments": None}
        reading = changes.reading(by, "arguments.read", call=row["call"], approval=approval)
        await self._ledger.append(reading)
        try:
            exact = await self.exact(row)
        except Conflict as error:
            return {**row, "arguments": {"text": None, "bytes": 0, "digest": row["digest_of_arguments"], "names": []},
                    "answerable": False, "why_not": row["why_not"] or error.message}  # fmt: skip
        names = sorted(members(row["method"], exact))
        shown = {"text": exact.decode(), "bytes": len(exact), "digest": row["digest_of_arguments"], "names": names}
        return {**row, "arguments": shown}

    async def read(self, approval: str) -> Row:
        """The stored row. Raises NotFound."""
        rows = await self._ledger.fetch("read_approval", id=approval, now=int(time.time()))
        if not rows:
            raise _unknown(approval)
        return rows[0]

    async def exact(self, row: Row) -> bytes:
        """The exact bytes of a call's arguments. Raises Conflict where they are not there to be read any more."""
        rows = await self._ledger.fetch("read_arguments", call=row["call"])
        wanted = row.get("digest_of_arguments", row.get("arguments"))
        try:
            exact = self._arguments.open(row["call"], bytes(rows[0]["sealed"])) if rows else b""
        except Unavailable:
            exact = None
        if exact is None or digest(exact) != wanted:
            raise Conflict(
                "approval.unreadable",
                "The call's arguments cannot be shown any more, so nobody can allow it.",
                "Deny it, or let it expire; the agent can call again.",
            )
        return exact

    def _row(self, row: Row) -> Row:
        told: dict[str, Any] = {
            "approval": row["id"],
            "seq": row["seq"],
            "kind": row["kind"],
            "state": row["state"],
            "person": row["person"],
            "agent": row["agent"],
            "device": row["device"],
            "server": row["server"],
            "method": row["method"],
            "tool": row["tool"],
            "reason": row["reason"],
            "policies": msgspec.json.decode(row["policies"]),
            "policy_version": row["policy_version"],
            "separate": bool(row["separate"]),
            "has_session": bool(row["session"]),
            "wanted": msgspec.json.decode(row["wanted"]) if row["wanted"] else None,
            "call": row["call"],
            "grant": row["grant_id"],
            "digest": row["digest"],
            "digest_of_arguments": row["arguments"],
            "asked_at": row["asked_ms"] // 1000,
            "expires_at": row["expires_at"],
            "answer": row["answer"],
            "scope": row["scope"],
            "answered_at": row["answered_ms"] // 1000,
            "lasting": row["lasting"],
            "lasts_until": row["lasts_until"],
            "used_by": row["used_by"],
            "url": page(self._public_url, row["id"]),
        }
        return told


def _sees_all(by: Identity) -> bool:
    return by.grant.administrator and not by.grant.automation


def _why_not(by: Identity, row: Row, own: set[str], open_groups: set[str]) -> Forbidden | Conflict | None:
    """Why this person may not answer now; None where they may. For people to see: the answer's statements decide."""
    if row["state"] != "pending":
        return Conflict("approval.answered", f"{row['id']} is not open any more: {row['state']}.")
    if row["separate"] and row["person"] == by.grant.person:
        return Forbidden("approval.separate", "Whoever asks must not answer; somebody else has to.")
    may = own | ({""} if _sees_all(by) else set())
    if not may & open_groups:
        wanted = " and ".join(sorted(open_groups)) if any(open_groups) else "the administrators"
        return Forbidden("approval.group", f"Somebody of {wanted} must answer this.")
    return None


def _unknown(approval: str) -> NotFound:
    return NotFound(
        "approval.unknown", f"There is no approval {approval[:32]!r}.", "See: percall-broker approval list."
    )
