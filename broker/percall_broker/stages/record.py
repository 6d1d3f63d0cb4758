"""Step 5 of a call: the intent, durable before anything is handed out; and the other entries on the path of a call.

Each writing is one conditional statement, which checks in its own transaction what was decided on. These functions
report whether it found its condition met; why it did not is for the pipeline to find out.
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any

from percall_broker.log.canonical import canonical
from percall_broker.model.standing import barred
from percall_broker.stages.approval import using
from percall_broker.stages.policy import exhausted
from percall_broker.store.protocol import Statement

if TYPE_CHECKING:
    from collections.abc import Callable

    from percall import wire
    from percall_broker.model.keys import Key
    from percall_broker.model.records import Decision, Identity, Server
    from percall_broker.stages.frame import Frame
    from percall_broker.store.protocol import Store

_ID_BYTES = 16


def _who(identity: Identity) -> dict[str, Any]:
    grant = identity.grant
    return {"grant_id": grant.id, "person": grant.person, "agent": grant.agent, "device": grant.device}


def _entry(**members: Any) -> str:
    return canonical(members)


class Recorder:
    """Writes the log. `seal(call, arguments)` seals a call's arguments for those who may read them later."""

    def __init__(self, store: Store, seal: Callable[[str, bytes], bytes]) -> None:
        self._store = store
        self._seal = seal

    async def intent(
        self, identity: Identity, server: Server, frame: Frame, decision: Decision, key: Key, client: str, now: float
    ) -> bool:
        """A permitted call, and its sealed arguments. `key` is what the call itself carries.

        False: the grant, the entry or the key changed, or the id is a replay.
        """
        time_ms, grant = int(now * 1000), identity.grant
        deadline_ms = time_ms + server.entry.deadline_seconds * 1000
        entry = _entry(
            **_call_members(identity, server.name, frame, decision, client, time_ms),
            deadline_ms=deadline_ms,
            delivery=server.entry.delivery,
            grant_version=grant.version,
            server_version=server.version,
            **(_carried(key) if key.version else {}),
        )
        record = Statement(
            "record_call",
            {
                **_call_row(identity, server.name, frame, decision, time_ms),
                "entry": entry,
                "grant_version": grant.version,
                "server_version": server.version,
                "deadline_ms": deadline_ms,
                "now": int(now),
                **_carried(key),
                "binding": key.binding,
            },
            required=True,
        )
        counted = _counting(identity, decision, time_ms)
        used = using(decision, identity, server.name, frame, now)
        if counted or used:
            # On its own, not with the turn's other calls: rows are locked in one order, counters, grants, approvals.
            return await self._store.transact(*counted, *self._all(record, frame), *used) is not None
        return bool((await self._store.append(*self._all(record, frame)))[0])

    async def spent(self, identity: Identity, decision: Decision, now: float) -> Decision | None:
        """The refusal that a permit with limits becomes when one of them is reached; None when none is."""
        for policy, limit in decision.limits:
            since_ms = int(now * 1000) - limit.seconds * 1000
            (row,) = await self._store.fetch(
                "read_limit", policy=policy, person=identity.grant.person, since_ms=since_ms
            )
            if row["uses"] >= limit.most:
                return exhausted(decision, policy, limit, (row["first_ms"] - since_ms) // 1000)
        return None

    async def refusal(
        self, identity: Identity, server: str, frame: Frame, decision: Decision, client: str, now: float
    ) -> bool:
        """A forbidden call, and its sealed arguments where the grant stands. False: the id is a replay."""
        time_ms = int(now * 1000)
        entry = _entry(**_call_members(identity, server, frame, decision, client, time_ms))
        record = Statement("record_refusal", {**_call_row(identity, server, frame, decision, time_ms), "entry": entry})
        # Of whoever was shut out, the digest in the entry alone: nobody could stop them from filling the disk.
        kept = self._all(record, frame) if barred(identity.grant, now) is None else [record]
        return bool((await self._store.append(*kept))[0])

    async def question(
        self,
        identity: Identity,
        server: str,
        frame: Frame,
        decision: Decision,
        client: str,
        now: float,
        asking: tuple[Statement, ...] = (),
    ) -> bool:
        """A call that waits for an approval, together with what asks for it, where nobody was asked yet.

        False: the id is a replay; or what asks found its condition unmet.
        """
        time_ms = int(now * 1000)
        entry = _entry(**_call_members(identity, server, frame, decision, client, time_ms))
        row = {**_call_row(identity, server, frame, decision, time_ms), "entry": entry}
        record = Statement("record_question", row, required=True)
        return await self._store.transact(*asking, *self._all(record, frame)) is not None

    async def is_recorded(self, identity: Identity, kind: str = "call") -> bool:
        """Whether a call, or another `kind` of entry, with this id was here before. Raises Unavailable."""
        return bool(await self._store.fetch("is_recorded", kind=kind, id=identity.jti))

    def _all(self, record: Statement, frame: Frame) -> list[Statement]:
        """The record of a call, and its sealed arguments."""
        if not frame.arguments:
            return [record]
        call, entry = record.parameters["id"], record.parameters["entry"]
        sealed = self._seal(call, frame.arguments)
        return [record, Statement("store_arguments", {"call": call, "entry": entry, "sealed": sealed})]

    async def request(
        self,
        identity: Identity,
        server: Server,
        request: wire.EgressRequest,
        calls: tuple[str, ...],
        decision: Decision,
        key: Key,
        now: float,
        *,
        is_keyed: bool,
    ) -> bool:
        """An API request that may carry a key, in the window of `calls[0]`; outside any when there is none.

        Where the request brings call credentials, they are redeemed with it, and that of `calls[0]` must be unused.
        False: something is not as it was decided on, that credential was used, the window is shut, or a replay.
        """
        time_ms, grant = int(now * 1000), identity.grant
        bound: dict[str, Any] = {
            "time_ms": time_ms,
            "grant_id": grant.id,
            "grant_version": grant.version,
            "device": grant.device,
            "server": server.name,
            "now": int(now),
        }
        intent = {
            **bound,
            "id": identity.jti,
            "server_version": server.version,
            "reason": decision.code,
            "entry": _entry(
                **_request_members(identity, server.name, request, calls, decision, time_ms),
                **_carried(key),
                **({} if is_keyed else {"keyed": False}),
            ),
            **_carried(key),
            "carried_version": key.version if is_keyed else 0,
            "binding": key.binding,
        }
        if not calls:
            record = Statement(
                "record_request_of_no_call",
                {**intent, "person": grant.person, "agent": grant.agent, "tool": ""},
                required=True,
            )
        else:
            limited = {**intent, "call": calls[0], "max_requests": server.entry.max_requests}
            record = Statement("record_request", limited, required=True)
        openings = [
            Statement(
                "redeem",
                {**bound, "call": window.call, "entry": _redemption(identity, window.call, time_ms)},
                required=window.call == calls[0],
            )
            for window in request.windows
            if window.credential is not None
        ]
        locks = [Statement("lock_call", {"call": call}) for call in calls[:1]]
        return await self._store.transact(*locks, *openings, record) is not None

    async def request_refusal(
        self,
        identity: Identity,
        request: wire.EgressRequest,
        calls: tuple[str, ...],
        tool: str,
        decision: Decision,
        now: float,
    ) -> bool:
        """A forbidden API request. False: the id is a replay."""
        time_ms = int(now * 1000)
        record = Statement(
            "record_request_refusal",
            {
                "id": identity.jti,
                "call": calls[0] if calls else "",
                "time_ms": time_ms,
                **_who(identity),
                "server": request.server,
                "tool": tool,
                "reason": decision.code,
                "entry": _entry(**_request_members(identity, request.server, request, calls, decision, time_ms)),
            },
        )
        return bool((await self._store.append(record))[0])

    async def message(self, identity: Identity, server: Server, method: str, key: Key, now: float) -> bool:
        """A message to a remote server that is no call; `method` is the message's, or HTTP's where there is none.

        False: the grant, the entry or the key changed, or the id is a replay.
        """
        time_ms, grant = int(now * 1000), identity.grant
        entry = _entry(
            kind="request",
            request=identity.jti,
            calls=[],
            time_ms=time_ms,
            **_who(identity),
            server=server.name,
            method=method,
            url=server.entry.url.partition("?")[0],
            decision="permit",
            reason="grant.server",
            **_carried(key),
        )
        record = Statement(
            "record_request_of_no_call",
            {
                "id": identity.jti,
                "time_ms": time_ms,
                **_who(identity),
                "grant_version": grant.version,
                "server": server.name,
                "server_version": server.version,
                "tool": method,
                "reason": "grant.server",
                "entry": entry,
                "now": int(now),
                **_carried(key),
                "carried_version": key.version,
                "binding": key.binding,
            },
        )
        return bool((await self._store.append(record))[0])

    async def observation(self, identity: Identity, server: str, method: str, now: float) -> None:
        """A server's request to the client outside any call. Raises Unavailable."""
        time_ms = int(now * 1000)
        bound = {"kind": "observed", "id": secrets.token_urlsafe(_ID_BYTES), "call": "", "time_ms": time_ms}
        entry = _entry(**bound, **_who(identity), server=server, method=method)
        record = Statement(
            "record_change",
            {**bound, **_who(identity), "server": server, "reason": method, "entry": entry},
            required=True,
        )
        await self._store.append(record)


def _carried(key: Key) -> dict[str, Any]:
    """Which key went along."""
    return {"secret_owner": key.owner, "secret_version": key.version}


def _redemption(identity: Identity, call: str, time_ms: int) -> str:
    return _entry(kind="redemption", call=call, request=identity.jti, time_ms=time_ms, **_who(identity))


def _call_members(
    identity: Identity, server: str, frame: Frame, decision: Decision, client: str, time_ms: int
) -> dict[str, Any]:
    return {
        "kind": "call",
        "call": identity.jti,
        "time_ms": time_ms,
        **_who(identity),
        "server": server,
        "method": frame.method,
        "tool": frame.label,
        "arguments": frame.digest,
        "client": client,
        "decision": decision.effect,
        "reason": decision.code,
        "policies": list(decision.policies),
        "policy_version": decision.policy_version,
        **({"waits_for": decision.waiting.id, "groups": list(decision.ask)} if decision.waiting else {}),
        **({"approval": decision.approved.told} if decision.approved else {}),
        **({"observed": decision.observed} if decision.observed else {}),
    }


def _call_row(identity: Identity, server: str, frame: Frame, decision: Decision, time_ms: int) -> dict[str, Any]:
    """What every record of a call has in columns of its own."""
    about = decision.approved or decision.waiting
    return {
        "id": identity.jti,
        "time_ms": time_ms,
        **_who(identity),
        "server": server,
        "tool": frame.label,
        "reason": decision.code,
        "approval": about.id if about else decision.approval,
    }


def _counting(identity: Identity, decision: Decision, time_ms: int) -> list[Statement]:
    """One use more of each limit."""
    statements = []
    for policy, limit in sorted(decision.limits):
        counter = {"policy": policy, "person": identity.grant.person}
        use = {"call": identity.jti, "time_ms": time_ms, "since_ms": time_ms - limit.seconds * 1000, "most": limit.most}
        statements += [Statement("lock_limit", counter), Statement("use_limit", {**counter, **use}, required=True)]
    return statements


def _request_members(
    identity: Identity,
    server: str,
    request: wire.EgressRequest,
    calls: tuple[str, ...],
    decision: Decision,
    time_ms: int,
) -> dict[str, Any]:
    return {
        "kind": "request",
        "request": identity.jti,
        "calls": list(calls),
        "time_ms": time_ms,
        **_who(identity),
        "server": server,
        "method": request.method,
        # Without the query: it may hold what the person would not want kept in clear, or the key's place.
        "url": request.url.partition("?")[0],
        "decision": "permit" if decision.permitted else "forbid",
        "reason": decision.code,
    }


def settlement(identity: Identity, settled: wire.Settlement, now: float) -> Statement:
    """The statement for a call's outcome as its shim saw it."""
    told = {"outcome": settled.outcome, "duration_ms": settled.duration_ms, "reason": "call.settled"}
    return _outcome({"call": settled.call, "grant_id": identity.grant.id, **told}, settled.observed, now)


def overdue(row: dict[str, Any], now: float) -> Statement:
    """The statement for a call that nobody settled in time: its outcome is unknown."""
    told = {"outcome": "unknown", "duration_ms": row["deadline_ms"] - row["time_ms"], "reason": "call.overdue"}
    return _outcome({"call": row["call"], "grant_id": row["grant_id"], **told}, {}, now)


def _outcome(told: dict[str, Any], observed: dict[str, int], now: float) -> Statement:
    row = {**told, "time_ms": int(now * 1000)}
    return Statement("record_outcome", {**row, "entry": _entry(kind="outcome", observed=observed, **row)})
