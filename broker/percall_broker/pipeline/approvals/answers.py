"""A person's answer to an approval, and its taking back.

1  the person is there, and has seen this very question: by its digest, which their presence covers
2  the answer is one that can be given: what it lets pass can be read, and is told to whoever gives it
3  in one transaction: the question is still open and as it was seen, somebody else's where that is asked for, and the
   person is in a group that must answer

A device's signature alone answers nothing, and an automation never does.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from percall import wire
from percall_broker.log import changes
from percall_broker.model.errors import BrokerError, Conflict, Forbidden, InvalidInput
from percall_broker.pipeline.approvals.grants import granting
from percall_broker.stages.approval import canonical_list
from percall_broker.stages.shape import members, rule
from percall_broker.store.protocol import Statement

if TYPE_CHECKING:
    from percall_broker.model.records import Identity
    from percall_broker.pipeline.administration.ledger import Ledger
    from percall_broker.pipeline.approvals.inbox import Inbox
    from percall_broker.stages.shape import Shapes
    from percall_broker.store.protocol import Row

ANSWERS = ("allow", "deny", "never")
SCOPES = ("once", "shape", "session")
ALLOWED_SECONDS = 15 * 60
"""How long an allowed call may be made, once."""
MOST_SECONDS = 8 * 3600
"""How long calls of one shape may be allowed at most."""
SESSION_SECONDS = 12 * 3600
"""When an answer for a session ends at the latest."""
PROOFS = ("passphrase", "passkey")


@dataclass(frozen=True, slots=True)
class Answer:
    """What a person says: `answer` is allow, deny or never.

    An allow is for `once`; for the call's `shape` during `seconds`; or for its shape during the `session` of the shim
    that asked. The shape: the same grant, server and tool, arguments of the same names, and the same values but for the
    members named in `varying`. `digest` is the approval's, as the person has seen it.
    """

    answer: str
    digest: str
    scope: str = "once"
    seconds: int = 0
    varying: tuple[str, ...] = ()


class Answers:
    """Each method raises Forbidden, InvalidInput, NotFound, Conflict, Unavailable.

    `by` has shown presence (`Identity.presence`); `proof` are statements that its proof rests on, required too.
    """

    def __init__(self, ledger: Ledger, inbox: Inbox, shapes: Shapes) -> None:
        self._ledger = ledger
        self._inbox = inbox
        self._shapes = shapes

    async def answer(self, by: Identity, approval: str, given: Answer, proof: tuple[Statement, ...] = ()) -> Row:
        """Answers. The approval afterwards: still pending where others have to answer too."""
        _check_presence(by)  # 1
        row = await self._inbox.read(approval)
        await self._inbox.show(by, approval)  # to see it is to be asked, or to be an administrator
        now = time.time()
        lasting = await self._checked(row, given, now)  # 2
        time_ms = int(now * 1000)
        told = _told(row, given, lasting, time_ms)
        shown = {"approval": approval, "person": by.grant.person, "presence": by.presence}
        done = await self._ledger.change(  # 3
            # The grants first, as the calls that wait for them lock them first.
            *([_touching(row)] if given.answer == "never" else []),
            Statement(
                "hold_approval",
                {"id": approval, "digest": given.digest, "person": by.grant.person, "now": int(now)},
                required=True,
            ),
            Statement("answer_for_groups", {**shown, "time_ms": time_ms, "now": int(now)}, required=True),
            *proof,
            *self._deciding(by, row, given, lasting, now),
            changes.change(by, f"approval.{given.answer}", server=row["server"], call=row["call"], **told),
        )
        if done is None:
            raise await self._why_not(by, approval, given)
        return await self._inbox.show(by, approval)

    async def lift(self, by: Identity, approval: str, proof: tuple[Statement, ...] = ()) -> Row:
        """Takes back an answer that holds for more than one call: a `never`, or an allowance before its end."""
        _check_presence(by)
        row = await self._inbox.read(approval)
        await self._inbox.show(by, approval)
        judge = {"approval": approval, "person": by.grant.person, "now": int(time.time())}
        done = await self._ledger.change(
            _touching(row),
            Statement("may_judge", judge, required=True),
            Statement("lift_answer", {"id": approval, "person": by.grant.person}, required=True),
            Statement("end_approval", {"id": approval}),
            *proof,
            changes.change(by, "approval.lift", server=row["server"], call=row["call"], **_about(row)),
        )
        if done is None:
            if not await self._ledger.fetch("may_judge", **judge):
                raise Forbidden("approval.group", "Only somebody who may answer this, or an administrator, lifts it.")
            raise Conflict(
                "approval.lasting",
                f"No answer to {approval} holds any more.",
                "What became of it: percall-broker approval show.",
            )
        return await self._inbox.show(by, approval)

    async def _checked(self, row: Row, given: Answer, now: float) -> Row | None:
        """The row of an answer that lasts; None for one that does not. Raises InvalidInput, Conflict."""
        _check_form(row, given)
        if given.answer == "deny" or row["kind"] != "call":
            return None
        groups = [one["group_name"] for one in await self._ledger.fetch("who_answered", approval=row["id"])]
        lasting = {
            "id": row["id"],
            "effect": given.answer,
            **{name: row[name] for name in ("grant_id", "person", "server", "tool")},
            "rule": rule(row["policy_version"], groups, separate=bool(row["separate"])),
            "shape": "",
            "varying": canonical_list(given.varying),
            "session": "",
            "expires_at": 0,
        }
        if given.answer == "never":
            return lasting
        exact = await self._inbox.exact(row)
        if given.scope == "once":
            return None
        if len(groups) > 1:
            raise InvalidInput(
                "approval.scope", "Where several groups must approve, a call is allowed once.", "Allow it once."
            )
        unknown = sorted(set(given.varying) - set(members(row["method"], exact)))
        if unknown:
            raise InvalidInput("approval.varying", f"The call has no argument {unknown[0]!r}.")
        call = (row["grant_id"], row["server"], row["method"], row["tool"], exact)
        seconds = given.seconds if given.scope == "shape" else SESSION_SECONDS
        session = row["session"] if given.scope == "session" else ""
        until = int(now) + seconds
        return {**lasting, "shape": self._shapes(*call, given.varying), "session": session, "expires_at": until}

    def _deciding(self, by: Identity, row: Row, given: Answer, lasting: Row | None, now: float) -> list[Statement]:
        """What the answer does, once it may be given."""
        time_ms = int(now * 1000)
        more = []
        if lasting is not None:
            who = {"given_by": by.grant.person, "given_ms": time_ms}
            more.append(Statement("add_lasting_answer", {**lasting, **who}, required=True))
        if given.answer != "allow":
            denied = {"id": row["id"], "answer": given.answer, "time_ms": time_ms}
            return [Statement("deny_approval", denied, required=True), *more]
        allowed = {"id": row["id"], "scope": given.scope, "time_ms": time_ms, "expires_at": int(now) + ALLOWED_SECONDS}
        # Where others must say yes as well, this one's is kept, and the question stays open.
        decided = Statement("allow_approval", allowed, required=lasting is not None or row["kind"] == "grant")
        return [decided, *more, *(granting(row, by, now) if row["kind"] == "grant" else [])]

    async def _why_not(self, by: Identity, approval: str, given: Answer) -> BrokerError:
        row = await self._inbox.show(by, approval)
        if row["state"] == "pending" and row["digest"] != given.digest:
            return Conflict("approval.changed", "This is not what you have seen.", "Look at it again.")
        if not row["answerable"]:
            code = "approval.answered" if row["state"] != "pending" else "approval.not_yours"
            kind = Conflict if row["state"] != "pending" else Forbidden
            return kind(code, row["why_not"])
        if row["kind"] == "grant" and not await self._ledger.fetch("known_server", name=row["server"]):
            told = f"There is no server {row['server']!r} here, so nobody can be granted it."
            return Conflict("server.unknown", told, f"Deny it: percall-broker approval deny {approval}")
        return Conflict("approval.changing", "Something changed meanwhile; nothing was answered.", "Try again.")


def _check_presence(by: Identity) -> None:
    if by.grant.automation or by.presence not in PROOFS:
        raise Forbidden(
            wire.CODE_PRESENCE,
            "An approval needs a person who is there: neither a device's signature nor an automation gives one.",
            "Answer at a terminal, with your passphrase, or in the console.",
        )


def _check_form(row: Row, given: Answer) -> None:
    if given.answer not in ANSWERS or given.scope not in SCOPES:
        raise InvalidInput("approval.answer", f"An answer is one of {', '.join(ANSWERS)}, for {', '.join(SCOPES)}.")
    if row["kind"] == "grant" and (given.answer == "never" or given.scope != "once"):
        raise InvalidInput("approval.answer", "A request for a grant is allowed or denied.")
    if given.answer != "allow" and given.scope != "once":
        raise InvalidInput("approval.scope", "Only an allow has a scope.")
    if given.scope == "shape" and not 60 <= given.seconds <= MOST_SECONDS:  # noqa: PLR2004 - a minute
        raise InvalidInput("approval.seconds", f"Between a minute and {MOST_SECONDS // 3600} hours.")
    if given.scope == "session" and not row["session"]:
        raise InvalidInput("approval.session", "Who asked has not said which session it is.", "Give it some minutes.")
    if given.varying and given.scope == "once":
        raise InvalidInput("approval.varying", "An allow for once is for this very call.")


def _touching(row: Row) -> Statement:
    return Statement("touch_grants", {"person": row["person"], "device": ""})


def _about(row: Row) -> dict[str, Any]:
    told = {"approval": row["id"], "for": row["person"], "for_agent": row["agent"], "tool": row["tool"]}
    return {**told, "policy_version": row["policy_version"]}


def _told(row: Row, given: Answer, lasting: Row | None, time_ms: int) -> dict[str, Any]:
    """What the record says of an answer; its `presence` the entry has anyway."""
    told = {**_about(row), "answer": given.answer, "waited_ms": time_ms - row["asked_ms"]}
    if given.answer == "allow":
        told["scope"] = given.scope
    if lasting is not None:
        told |= {"until": lasting["expires_at"], "varying": msgspec.json.decode(lasting["varying"])}
    if row["wanted"]:
        told["wanted"] = msgspec.json.decode(row["wanted"])
    return told
