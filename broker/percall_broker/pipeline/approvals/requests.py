"""What a grant has asked, as its own laptop sees it; and asking for more than a grant names, for a while.

A request is only a question: a device's signature is enough to put it, and an administrator who is there answers it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from percall import wire
from percall_broker.crypto.proofs import digest
from percall_broker.log import changes
from percall_broker.log.canonical import canonical
from percall_broker.model.errors import BrokerError, Conflict, InvalidInput
from percall_broker.model.names import check_name
from percall_broker.model.standing import barred, require
from percall_broker.stages.approval import MOST_PENDING, REQUEST_SECONDS, asking, page

if TYPE_CHECKING:
    from percall_broker.model.records import Identity
    from percall_broker.pipeline.administration.ledger import Ledger
    from percall_broker.store.protocol import Row

_MOST_LISTED = 100
_MOST_REASON_CHARACTERS = 500
_MOST_PATTERNS = 50
_MOST_PATTERN_CHARACTERS = 200


class Requests:
    """Each method raises Forbidden, and Unavailable when the store cannot."""

    def __init__(self, ledger: Ledger, public_url: str) -> None:
        self._ledger = ledger
        self._public_url = public_url

    async def own(self, identity: Identity, now: float) -> wire.OwnApprovals:
        """What this grant has asked, newest first."""
        require(barred(identity.grant, now))
        rows = await self._ledger.fetch("own_approvals", grant_id=identity.grant.id, now=int(now), limit=_MOST_LISTED)
        return wire.OwnApprovals(tuple(self._own(row) for row in rows))

    async def answered(self, grant: str, since_ms: int) -> list[Row]:
        """Those of a grant that were answered since: `id` and `answered_ms`, oldest first."""
        return await self._ledger.fetch("answered_approvals", grant_id=grant, since_ms=since_ms)

    async def request(self, identity: Identity, wanted: wire.GrantRequest, now: float) -> wire.OwnApproval:
        """Asks the administrators for a grant. Raises InvalidInput, Conflict."""
        require(barred(identity.grant, now))
        scope = _checked(identity, wanted)
        subject = digest(canonical({"request": wanted.server, "scope": scope, "seconds": wanted.seconds}).encode())
        row = {
            "kind": "grant",
            "server": wanted.server,
            "method": "",
            "tool": ", ".join(wanted.tools)[:200],
            "subject": subject,
            "arguments": "",
            "call": "",
            "session": "",
            "policies": "[]",
            "policy_version": 0,
            "separate": 0,
            "reason": wanted.reason,
            "wanted": canonical({"scope": scope, "seconds": wanted.seconds, "tools": list(wanted.tools)}),
        }
        waiting, statements = asking(identity, row, ("",), self._public_url, now, REQUEST_SECONDS)
        told: dict[str, Any] = {"approval": waiting.id, "tools": list(wanted.tools), "seconds": wanted.seconds}
        asked = changes.change(identity, "approval.request", server=wanted.server, **told)
        if await self._ledger.change(*statements, asked) is None:
            raise await self._why_not(identity, subject, now)
        (own,) = [one for one in (await self.own(identity, now)).approvals if one.id == waiting.id]
        return own

    async def _why_not(self, identity: Identity, subject: str, now: float) -> BrokerError:
        asked = {"grant_id": identity.grant.id, "now": int(now)}
        if newest := await self._ledger.fetch("find_approval", subject=subject, **asked):
            identifier = newest[0]["id"]
            if newest[0]["state"] == "denied":
                return Conflict("approval.denied", f"This was asked, and denied ({identifier}).")
            return Conflict("approval.asked", f"This is being asked already: {identifier}.", "See: percall approvals")
        (counted,) = await self._ledger.fetch("count_asked", **asked)
        if counted["pending"] >= MOST_PENDING:
            return Conflict("approval.many", f"{MOST_PENDING} questions of this grant wait for their answers.")
        return Conflict("approval.changing", "The grant has just changed.", "Try again.")

    def _own(self, row: Row) -> wire.OwnApproval:
        return wire.OwnApproval(
            id=row["id"],
            kind=row["kind"],
            state=row["state"],
            server=row["server"],
            tool=row["tool"],
            reason=row["reason"],
            asked_at=row["asked_ms"] // 1000,
            expires_at=row["expires_at"],
            url=page(self._public_url, row["id"]),
        )


def _checked(identity: Identity, wanted: wire.GrantRequest) -> dict[str, list[str]]:
    """What the grant would name of that server: what is asked for, and what the asking grant names already."""
    check_name(wanted.server, "server")
    if not wanted.tools or len(wanted.tools) > _MOST_PATTERNS:
        raise InvalidInput("request.tools", "A request names at least one tool.")
    if any(not tool or len(tool) > _MOST_PATTERN_CHARACTERS or not tool.isprintable() for tool in wanted.tools):
        raise InvalidInput("request.tools", "A tool's name or pattern is one line of printable characters.")
    if not 60 <= wanted.seconds <= wire.MAX_REQUEST_SECONDS:  # noqa: PLR2004 - a minute
        raise InvalidInput(
            "request.seconds",
            f"A request is for a minute at least, {wire.MAX_REQUEST_SECONDS // 86400} days at most.",
            "Say how long with --for: 30m, 2h, or 7d.",
        )
    if len(wanted.reason) > _MOST_REASON_CHARACTERS or not wanted.reason.isprintable():
        raise InvalidInput("request.reason", f"A reason is one line of at most {_MOST_REASON_CHARACTERS} characters.")
    has = identity.grant.servers.get(wanted.server)
    named = {"tools": has.tools, "prompts": has.prompts, "resources": has.resources} if has else {}
    scope = {name: sorted(patterns) for name, patterns in named.items()}
    return {"prompts": [], "resources": [], **scope, "tools": sorted({*scope.get("tools", ()), *wanted.tools})}
