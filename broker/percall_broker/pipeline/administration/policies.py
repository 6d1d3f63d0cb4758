"""The organisation's policies: applied whole, kept in versions, asked about, and tried on what was recorded."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from percall_broker import policy
from percall_broker.crypto.proofs import digest
from percall_broker.log import changes
from percall_broker.log.canonical import canonical
from percall_broker.model.errors import Conflict, InvalidInput, NotFound, Unavailable
from percall_broker.model.moments import stamp
from percall_broker.model.standing import state_of
from percall_broker.policy import BUILT_IN, Asked, Evaluator
from percall_broker.policy.trial import Trials
from percall_broker.stages.approval import refused_for_good
from percall_broker.stages.decide import decide
from percall_broker.stages.frame import Frame, of_label
from percall_broker.stages.policy import asked_of, decision_of
from percall_broker.store.protocol import Statement

if TYPE_CHECKING:
    from collections.abc import Mapping

    from percall_broker.log.arguments import SealedArguments
    from percall_broker.model.records import Decision, Grant, Identity
    from percall_broker.pipeline.administration.ledger import Ledger
    from percall_broker.policy import Policies, Verdict
    from percall_broker.policy.trial import Call
    from percall_broker.stages.lookup import Lookup
    from percall_broker.store.protocol import Row

_PAGE = 500
MOST_REPLAYED = 100_000
MOST_DAYS = 90


@dataclass(frozen=True, slots=True)
class Question:
    """A call that somebody might make. `draft` are policies to ask instead of those in force; empty for those."""

    person: str
    agent: str
    server: str
    tool: str
    arguments: str
    draft: dict[str, str]


class PolicyBook:
    """The policies. Every method raises Unavailable when the store cannot."""

    def __init__(self, ledger: Ledger, lookup: Lookup, arguments: SealedArguments) -> None:
        self._trials = Trials()
        self._ledger = ledger
        self._lookup = lookup
        self._arguments = arguments

    async def apply(self, by: Identity, files: Mapping[str, str], message: str, expected: int) -> Row:
        """Puts policies into force, on every replica, for the very next call; all of these files or none.

        `expected` is the version that they replace, -1 for any. The version's row has `nobody_in` too: the groups that
        policies ask and in which there is nobody who could answer. Raises InvalidInput, Conflict when it is another.
        """
        if not files:
            raise InvalidInput("policy.empty", "There is no policy file, and without any nothing would be permitted.")
        policies = await asyncio.to_thread(policy.read, files, 0)
        version = await self._newest()
        if expected not in {-1, version}:
            raise Conflict("policy.changed", f"Version {version} is in force by now.", "Look at it, then apply again.")
        text = canonical(dict(files))
        row = {"version": version + 1, "files": text, "message": message}
        done = await self._ledger.change(
            Statement(
                "add_policies",
                {**row, "created_at": int(time.time()), "created_by": by.grant.person},
                required=True,
            ),
            # What was decided on the policies before is not recorded any more: it is decided again.
            Statement("touch_servers", {"name": ""}),
            Statement("end_approvals_of_policies", {"version": version + 1}),
            Statement("end_allowances_of_policies"),
            changes.change(by, "policy.apply", version=version + 1, files=sorted(files), digest=digest(text.encode())),
        )
        if done is None:
            raise Conflict("policy.changed", "Somebody applied others meanwhile.", "Look at them, then apply again.")
        return {**await self.show(version + 1), "nobody_in": await self._nobody_in(policies)}

    async def asked(self) -> frozenset[str]:
        """The groups that the policies in force ask."""
        return _asked(await self._lookup.policies(await self._newest()))

    async def listed(self) -> list[Row]:
        """The versions, newest first; 0 is what ships with the broker."""
        rows: list[Row] = [dict(row) for row in await self._ledger.fetch("list_policies")]
        return [*rows, {"version": 0, "message": "ships with Percall", "created_at": 0, "created_by": ""}]

    async def show(self, version: int = -1) -> Row:
        """One version with its files; -1 for the one in force. Raises NotFound."""
        wanted = await self._newest() if version < 0 else version
        if wanted == 0:
            return {"version": 0, "message": "ships with Percall", "created_at": 0, "created_by": "", "files": BUILT_IN}
        rows = await self._ledger.fetch("read_policies", version=wanted)
        if not rows:
            raise NotFound("policy.version", f"There is no version {wanted}.", "See: percall-broker policy list.")
        return {**rows[0], "files": msgspec.json.decode(rows[0]["files"])}

    async def explain(self, question: Question, now: float) -> Row:
        """What would happen to a call, and which rule decides. Raises InvalidInput, NotFound."""
        server = await self._lookup.server(question.server, fresh=True)
        if server is None or server.state == "removed":
            raise NotFound("server.unknown", f"There is no server {question.server!r}.")
        grant = await self._grant_of(question, now)
        arguments = _json_object(question.arguments)
        asked = Frame("tools/call", "tool", (question.tool,), digest(arguments), arguments)
        version = 0 if question.draft else server.policy_version
        decision = decide(grant, question.server, server, asked, now)
        pins = await self._lookup.pins(server, grant, fresh=True)
        verdict = await self._verdict(question.draft, version, (asked_of(grant, server, asked, "", pins), now))
        if decision.permitted:
            decision = decision_of(decision, verdict, version)
            if decision.permitted or decision.ask:
                decision = refused_for_good(decision, grant, server.name, asked.label) or decision
        return {**_told(decision), "grant": grant.id, "groups": list(grant.groups), "policy_version": version}

    async def replay(self, by: Identity, draft: Mapping[str, str], days: int, now: float) -> Row:
        """What a draft would have decided otherwise on the calls of the last days; recorded, as arguments are read.

        Calls that the grant itself, a person or a limit refused stay refused, and are not counted. `complete` says
        whether all calls of those days were tried, or the oldest MOST_REPLAYED. Raises InvalidInput.
        """
        if not 0 < days <= MOST_DAYS:
            raise InvalidInput("policy.days", f"Between 1 and {MOST_DAYS} days.")
        differences, seen, after, complete = [], 0, 0, False
        since_ms = int((now - days * 86400) * 1000)
        async with self._trials.begun(draft) as trial:
            await self._ledger.append(changes.reading(by, "policy.replay", days=days))
            while seen < MOST_REPLAYED and not complete:
                rows = await self._ledger.fetch("calls_to_replay", since_ms=since_ms, after=after, limit=_PAGE)
                decided = [row for row in rows if _is_judged(row)]
                seen += len(decided)
                calls = [(await self._recorded(row), row["time_ms"] / 1000) for row in decided]
                for row, verdict in zip(decided, await trial.verdicts(calls), strict=True):
                    was = _effect(row)
                    if verdict.effect != was:
                        differences.append(_difference(row, was, verdict))
                complete = len(rows) < _PAGE
                after = rows[-1]["seq"] if rows else after
        return {"calls": seen, "changed": differences, "complete": complete}

    async def _newest(self) -> int:
        return int((await self._ledger.fetch("newest_policies"))[0]["version"])

    async def _nobody_in(self, policies: Policies) -> list[str]:
        asked = sorted(_asked(policies))
        members = [await self._ledger.fetch("list_members", group_name=group) for group in asked]
        return [
            group
            for group, people in zip(asked, members, strict=True)
            if not any(person["state"] == "active" for person in people)
        ]

    async def _verdict(self, draft: dict[str, str], version: int, call: Call) -> Verdict:
        if not draft:
            return Evaluator()(await self._lookup.policies(version), *call)
        async with self._trials.begun(draft) as trial:
            (verdict,) = await trial.verdicts([call])
        return verdict

    async def _grant_of(self, question: Question, now: float) -> Grant:
        rows = await self._ledger.fetch("list_grants")
        theirs = [row for row in rows if row["person"] == question.person and not row["administrator"]]
        others: dict[str, str] = {}
        for row in sorted(theirs, key=lambda row: row["state"] != "active"):
            grant = await self._lookup.grant(row["id"], fresh=True)
            if grant is None or question.server not in grant.servers:
                continue
            if row["agent"] in {question.agent, ""}:
                return grant
            if others.get(row["agent"]) != "active":
                others[row["agent"]] = state_of(grant, now)
        standing = sorted(agent for agent, state in others.items() if state == "active")
        stopped = (f" That of {agent} is {state}." for agent, state in sorted(others.items()) if state != "active")
        raise NotFound(
            "grant.unknown",
            f"{question.person} has no grant for {question.server} with the agent {question.agent!r}."
            + "".join(stopped),
            f"Add --agent {' or --agent '.join(standing)}." if standing else "See: percall-broker grant list.",
        )

    async def _recorded(self, row: Row) -> Asked:
        """A call as it was. Its groups are those of today, and its server's delivery and tools too."""
        entry = msgspec.json.decode(row["entry"])
        server = await self._lookup.server(row["server"])
        pins = await self._lookup.pins(server, None) if server else None
        grant = await self._lookup.grant(row["grant_id"])
        method = str(entry["method"])
        kind, subjects = of_label(method, row["tool"])
        is_tool = kind == "tool"
        return Asked(
            person=row["person"],
            agent=row["agent"],
            device=row["device_name"],
            groups=grant.groups if grant else (),
            server=row["server"],
            delivery=server.entry.delivery if server else "",
            method=method,
            kind=kind,
            subjects=subjects,
            client=str(entry.get("client", "")),
            digest=str(entry["arguments"]),
            arguments=self._opened(row) if is_tool else b"",
            annotations=pins.annotations.get(row["tool"], ()) if pins and is_tool else (),
        )

    def _opened(self, row: Row) -> bytes:
        """A call's arguments; none where they were erased, or do not open any more."""
        if row["sealed"] is None:
            return b""
        try:
            return self._arguments.open(row["call"], bytes(row["sealed"]))
        except Unavailable:
            return b""


def _asked(policies: Policies) -> frozenset[str]:
    return frozenset(one.ask for one in policies.policies.values() if one.ask)


def _json_object(text: str) -> bytes:
    try:
        value = msgspec.json.decode(text or "{}")
    except msgspec.DecodeError:
        value = None
    if not isinstance(value, dict):
        raise InvalidInput("policy.arguments", "The arguments are not a JSON object.")
    return text.encode() or b"{}"


def _is_judged(row: Row) -> bool:
    """Whether it was the policies that decided a recorded call: not its grant, who said no to it, or a limit."""
    reason = str(row["reason"])
    return row["decision"] == "permit" or (reason.startswith("policy.") and reason != "policy.limit")


def _effect(row: Row) -> str:
    """What the policies said to a recorded call, before anybody answered."""
    if row["reason"] == "policy.ask" or row["reason"].startswith("approval."):
        return "ask"
    return str(row["decision"])


def _told(decision: Decision) -> Row:
    return {
        "decision": "permit" if decision.permitted else "ask" if decision.ask else "forbid",
        "reason": decision.code,
        "message": decision.message,
        "policies": list(decision.policies),
        "ask": list(decision.ask),
        "limits": [f"{limit.most} in {limit.seconds} s by {name}" for name, limit in decision.limits],
        "observed": decision.observed,
    }


def _difference(row: Row, was: str, verdict: Verdict) -> dict[str, Any]:
    return {
        "call": row["call"],
        "time": stamp(row["time_ms"] / 1000),
        "person": row["person"],
        "agent": row["agent"],
        "server": row["server"],
        "tool": row["tool"],
        "was": was,
        "would_be": verdict.effect,
        "policies": list(verdict.policies),
    }
