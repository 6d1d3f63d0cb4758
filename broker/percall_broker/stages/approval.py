"""Step 4 of a call: where a decision is `ask`, whether somebody has answered, or whom to ask.

Nothing here permits by itself. A call that was approved is recorded together with the statement of `using`, which uses
the approval up, or holds the answer that lasts: without it, there is no record, and so no call.
"""

from __future__ import annotations

import secrets
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import msgspec

from percall import wire
from percall_broker.crypto.proofs import digest
from percall_broker.log import events
from percall_broker.log.canonical import canonical
from percall_broker.model.records import Approved, Waiting
from percall_broker.stages.shape import rule_of, subject
from percall_broker.store.protocol import Statement

if TYPE_CHECKING:
    from percall_broker.model.records import Decision, Grant, Identity, Server
    from percall_broker.stages.frame import Frame
    from percall_broker.stages.shape import Shapes
    from percall_broker.store.protocol import Row, Store

PENDING_SECONDS = 3600
"""How long a question waits for its answer."""
REQUEST_SECONDS = 3 * 24 * 3600
"""How long a request for a grant does."""
MOST_PENDING = 20
"""How many questions of one grant wait at a time."""
MAX_SHOWN_BYTES = 256 * 1024
"""The largest arguments that are shown to somebody, and so can be approved."""
REQUESTED_EVENT = "approval.requested"
_ID_BYTES = 12


class ApprovalStage:
    """Looks for answers, and puts questions. `public_url` is the broker's, below which people answer."""

    def __init__(self, store: Store, shapes: Shapes, public_url: str) -> None:
        self._store = store
        self._shapes = shapes
        self._public_url = public_url

    async def __call__(  # noqa: PLR0911 - one answer for each thing that may be found
        self, decision: Decision, identity: Identity, server: Server, frame: Frame, session: str, now: float
    ) -> Decision:
        """The decision, once the answers there are were looked at. Raises Unavailable."""
        if not decision.permitted and not decision.ask:
            return decision
        refusal = refused_for_good(decision, identity.grant, server.name, frame.label)
        if refusal is not None:
            return refusal
        if decision.permitted:
            return decision
        if len(frame.arguments) > MAX_SHOWN_BYTES:
            return _too_large(decision)
        asked = {"grant_id": identity.grant.id, "now": int(now)}
        newest = await self._store.fetch("find_approval", subject=subject(server.name, frame, decision), **asked)
        if newest:
            return await self._found(decision, newest[0], now)
        where = {"server": server.name, "tool": frame.label, "rule": rule_of(decision), "session": session}
        for row in await self._store.fetch("find_allowances", **asked, **where):
            varying = msgspec.json.decode(row["varying"], type=list[str])
            call = (identity.grant.id, server.name, frame.method, frame.label, frame.arguments)
            if self._shapes(*call, varying) == row["shape"]:
                return await self._approved(decision, row["id"], lasting=True, more={"varying": varying})
        return decision

    async def _found(self, decision: Decision, row: Row, now: float) -> Decision:
        """What the newest question about this very call has come to."""
        if row["state"] == "pending":
            waiting = Waiting(row["id"], row["expires_at"], page(self._public_url, row["id"]))
            return _waits(decision, waiting)
        if row["state"] == "denied":
            return await self._denied(decision, row["id"])
        waited_ms = int(now * 1000) - row["asked_ms"]
        told = {"asked": row["call"], "scope": row["scope"], "waited_ms": waited_ms}
        return await self._approved(decision, row["id"], lasting=False, more=told)

    async def _approved(self, decision: Decision, approval: str, *, lasting: bool, more: dict[str, Any]) -> Decision:
        told = {"id": approval, "answer": "allow", "lasting": lasting, "by": await self._who(approval), **more}
        who = " and ".join(dict.fromkeys(one["person"] for one in told["by"]))
        return replace(
            decision,
            permitted=True,
            code="approval.lasting" if lasting else "approval.once",
            message=f"{who} approved it.",
            approved=Approved(approval, lasting, told),
        )

    async def _denied(self, decision: Decision, approval: str) -> Decision:
        who = " and ".join(dict.fromkeys(one["person"] for one in await self._who(approval)))
        return replace(
            decision,
            code="approval.denied",
            message=f"{who} has denied this call ({approval}).",
            next_step="Do something else; the same call is not asked about again for a while.",
            ask=(),
            approval=approval,
        )

    async def _who(self, approval: str) -> list[dict[str, str]]:
        rows = await self._store.fetch("who_answered", approval=approval)
        return [
            {"person": row["answered_by"], "group": row["group_name"], "presence": row["presence"]}
            for row in rows
            if row["answered_by"]
        ]

    async def asks_for_more(self, identity: Identity, now: float) -> bool:
        """Whether this grant asks as much as it may already. Raises Unavailable."""
        rows = await self._store.fetch("count_asked", grant_id=identity.grant.id, now=int(now))
        return bool(rows[0]["pending"] >= MOST_PENDING)

    def question(
        self, decision: Decision, identity: Identity, server: Server, frame: Frame, session: str, now: float
    ) -> tuple[Decision, tuple[Statement, ...]]:
        """The decision as it stands once it was asked, and the statements that ask. The first ones are required."""
        row = {
            "kind": "call",
            "server": server.name,
            "method": frame.method,
            "tool": frame.label,
            "subject": subject(server.name, frame, decision),
            "arguments": frame.digest,
            "call": identity.jti,
            "session": session,
            "policies": canonical_list(decision.policies),
            "policy_version": decision.policy_version,
            "separate": int(decision.separate),
            "reason": decision.message,
            "wanted": "",
        }
        waiting, statements = asking(identity, row, decision.ask, self._public_url, now)
        return _waits(decision, waiting), statements


def using(decision: Decision, identity: Identity, server: str, frame: Frame, now: float) -> list[Statement]:
    """What must hold of the approval when the call that it lets pass is recorded; none where none was needed."""
    approved = decision.approved
    if approved is None:
        return []
    held = {"approval": approved.id, "now": int(now)}
    if approved.lasting:
        return [Statement("hold_allowance", held, required=True)]
    bound = {"call": identity.jti, "grant_id": identity.grant.id, "subject": subject(server, frame, decision)}
    return [Statement("use_approval", {**held, **bound}, required=True)]


def asking(
    identity: Identity, row: Row, groups: tuple[str, ...], public_url: str, now: float, seconds: int = PENDING_SECONDS
) -> tuple[Waiting, tuple[Statement, ...]]:
    """A new question of a grant to some groups (an empty one: the administrators), as statements of one transaction."""
    grant = identity.grant
    identifier = "ap_" + secrets.token_urlsafe(_ID_BYTES)
    waiting = Waiting(identifier, int(now) + seconds, page(public_url, identifier))
    asked = {
        **row,
        "id": waiting.id,
        "grant_id": grant.id,
        "person": grant.person,
        "agent": grant.agent,
        "device": grant.device_name,
        "asked_ms": int(now * 1000),
        "expires_at": waiting.expires_at,
    }
    seen = digest(canonical({**asked, "groups": sorted(groups)}).encode())
    told = {name: asked[name] for name in ("person", "agent", "server", "tool", "expires_at")}
    return waiting, (
        Statement("hold_grant", {"id": grant.id, "version": grant.version, "device": grant.device}, required=True),
        Statement("close_approvals", {"grant_id": grant.id, "subject": row["subject"], "now": int(now)}),
        Statement("add_approval", {**asked, "digest": seen, "most": MOST_PENDING, "now": int(now)}, required=True),
        *(Statement("add_approval_group", {"approval": waiting.id, "group_name": group}) for group in groups),
        *events.event(
            REQUESTED_EVENT,
            (waiting.id,),
            now,
            approval=waiting.id,
            wanted=row["kind"],
            **told,
            groups=list(groups),
            url=waiting.url,
        ),
    )


def told(decision: Decision) -> wire.Asked | None:
    """What a laptop learns of the approval that its call waits for; None where it waits for none."""
    waiting = decision.waiting
    return None if waiting is None else wire.Asked(waiting.id, waiting.expires_at, decision.ask, waiting.url)


def page(public_url: str, approval: str) -> str:
    """Where a person answers it in a browser."""
    return f"{public_url}/console/approvals/{approval}"


def canonical_list(texts: tuple[str, ...]) -> str:
    """A list of texts, as it is stored."""
    return msgspec.json.encode(texts).decode()


def _waits(decision: Decision, waiting: Waiting) -> Decision:
    groups = " and ".join(decision.ask)
    return replace(
        decision,
        waiting=waiting,
        message=f"{decision.message} It waits for approval by {groups} ({waiting.id}).",
        next_step="Call the tool again with exactly the same arguments to go on waiting. "
        "See what became of it: percall approvals",
    )


def refused_for_good(decision: Decision, grant: Grant, server: str, tool: str) -> Decision | None:
    """The refusal, where somebody has said `never` to this tool for the grant's person; None where nobody has."""
    approval = grant.nevers.get((server, tool))
    if approval is None:
        return None
    return replace(
        decision,
        permitted=False,
        code="approval.never",
        message=f"{tool} was refused to {grant.person} for good ({approval}).",
        next_step="Whoever may approve it can lift that: percall-broker approval lift " + approval,
        ask=(),
        approval=approval,
    )


def many(decision: Decision) -> Decision:
    """The refusal of a call that would ask for more than one grant may at a time."""
    return replace(
        decision,
        waiting=None,
        code="approval.many",
        message=f"This call needs approval, and {MOST_PENDING} others of this grant wait for theirs.",
        next_step="Wait for some of them: percall approvals",
        ask=(),
    )


def _too_large(decision: Decision) -> Decision:
    return replace(
        decision,
        code="approval.size",
        message=f"This call needs approval, and its arguments are larger than {MAX_SHOWN_BYTES // 1024} KiB, "
        "so that nobody could read them.",
        next_step="Make it smaller calls.",
        ask=(),
    )
