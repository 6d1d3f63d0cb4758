"""How a call is decided and recorded, whatever door it came through: against the newest reading, in one statement.

What is remembered may be old: good enough to permit on, since the recording statement checks it in its own
transaction, never to refuse on. Where something changed in between, it is read and decided again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from percall_broker.model.errors import Conflict
from percall_broker.model.keys import NO_KEY, barred_key, key_of
from percall_broker.model.records import Decision
from percall_broker.pipeline.signed import renewed, replayed
from percall_broker.stages.approval import many
from percall_broker.stages.decide import decide
from percall_broker.stages.policy import PolicyStage, changed

if TYPE_CHECKING:
    from percall_broker.model.records import Caller, Identity, Server
    from percall_broker.stages.approval import ApprovalStage
    from percall_broker.stages.frame import Frame
    from percall_broker.stages.lookup import Lookup
    from percall_broker.stages.record import Recorder
    from percall_broker.stages.tasks import Tasks
    from percall_broker.store.protocol import Statement
    from percall_broker.telemetry.metrics import Metrics
    from percall_broker.telemetry.steps import Steps

_LOOKS = 4


@dataclass(frozen=True, slots=True)
class Attempt:
    """What came: what is asked of which server, by what, and when."""

    server: str
    frame: Frame
    caller: Caller
    steps: Steps
    now: float


@dataclass(frozen=True, slots=True)
class Decided:
    """A decision that is on record. `server` is there where it was permitted."""

    identity: Identity
    decision: Decision
    server: Server | None


class Deciding:
    """Decides and records. `tasks` are there where the calls of this door are those of remote servers."""

    def __init__(
        self,
        lookup: Lookup,
        approvals: ApprovalStage,
        recorder: Recorder,
        metrics: Metrics,
        tasks: Tasks | None = None,
    ) -> None:
        self._lookup = lookup
        self._policy = PolicyStage(lookup)
        self._approvals = approvals
        self._recorder = recorder
        self._metrics = metrics
        self._tasks = tasks

    async def __call__(self, identity: Identity, attempt: Attempt) -> Decided:
        """The decision on one call. Raises Unauthenticated for a replay, Conflict, Unavailable."""
        name, steps = attempt.server, attempt.steps
        seen = None
        for look in range(_LOOKS):
            grant = await self._lookup.grant(identity.grant.id, fresh=look > 0) or identity.grant
            server = await self._lookup.server(name, fresh=look > 0)
            identity = renewed(identity, grant)
            decision = decide(grant, name, server, attempt.frame, attempt.now)
            if decision.permitted and server is not None:
                decision = await self._narrowed(decision, identity, server, attempt, fresh=look > 0)
            steps.done("decide")

            if not decision.permitted or server is None:
                if look == 0:
                    continue
                if server is None or not decision.ask:
                    return await self._refused(decision, identity, server, attempt)
                if waits := await self._asked(decision, identity, server, attempt):
                    return waits
                continue

            # A relayed call is itself the request that carries the key; another one's requests come by egress.
            key = key_of(grant, server) if self._tasks is not None else NO_KEY
            client = attempt.caller.client
            if await self._recorder.intent(identity, server, attempt.frame, decision, key, client, attempt.now):
                steps.done("record")
                self._metrics.call_decided(server, decision)
                _note(steps, identity, server, decision, attempt.frame)
                return Decided(identity, decision, server)

            if spent := await self._recorder.spent(identity, decision, attempt.now):
                return await self._refused(spent, identity, server, attempt)

            # Not recorded, though nothing has changed since the last look: then this id was here before.
            if seen == (grant.version, server.version, key):
                raise replayed(identity)
            seen = (grant.version, server.version, key) if look else None
        raise Conflict("call.changing", "The grant or the server keeps changing.", "Try again.")

    async def _narrowed(
        self, permitted: Decision, identity: Identity, server: Server, attempt: Attempt, *, fresh: bool
    ) -> Decision:
        """What is left of a grant's permission: at this door, for its own tasks, with its key, for tools as they were
        accepted, under the policies and the approvals that they ask for.
        """
        grant, asked, caller, now = identity.grant, attempt.frame, attempt.caller, attempt.now
        if shut := another_door(server, relayed=self._tasks is not None):
            return shut
        if self._tasks is not None and (refused := await self._tasks.refusal(server.name, grant.id, asked)):
            return refused
        if unkeyed := barred_key(grant, server):
            return unkeyed
        pins = await self._lookup.pins(server, grant, fresh=fresh)
        if asked.kind == "tool" and (differs := pins.changed(asked.label)):
            return changed(asked.label, server.name, differs)
        ruled = await self._policy(permitted, grant, server, asked, caller.client, pins, now)
        return await self._approvals(ruled, identity, server, asked, caller.session, now)

    async def _asked(self, decision: Decision, identity: Identity, server: Server, attempt: Attempt) -> Decided | None:
        """A call that waits for an approval, which it asks for where nobody has; None when all must be looked at again.

        A further attempt of the same call joins the question there is.
        """
        asked, caller, now = attempt.frame, attempt.caller, attempt.now
        statements: tuple[Statement, ...] = ()
        if decision.waiting is None:
            asking = self._approvals.question(decision, identity, server, asked, caller.session, now)
            decision, statements = asking
        if await self._recorder.question(identity, server.name, asked, decision, caller.client, now, statements):
            return self._recorded(decision, identity, server, attempt)
        if not statements or await self._recorder.is_recorded(identity):
            raise replayed(identity)
        if await self._approvals.asks_for_more(identity, now):
            return await self._refused(many(decision), identity, server, attempt)
        return None

    async def _refused(
        self, decision: Decision, identity: Identity, server: Server | None, attempt: Attempt
    ) -> Decided:
        client = attempt.caller.client
        if not await self._recorder.refusal(identity, attempt.server, attempt.frame, decision, client, attempt.now):
            raise replayed(identity)
        return self._recorded(decision, identity, server, attempt)

    def _recorded(self, decision: Decision, identity: Identity, server: Server | None, attempt: Attempt) -> Decided:
        """What is not permitted, and on record as that."""
        attempt.steps.done("record")
        self._metrics.call_decided(server, decision)
        _note(attempt.steps, identity, server, decision)
        return Decided(identity, decision, None)


def _note(
    steps: Steps, identity: Identity, server: Server | None, decision: Decision, permitted: Frame | None = None
) -> None:
    """What a call's span shows. What was asked for is shown of a permitted call alone: the rest may be anything."""
    if steps.traceparent is None:
        return
    told = {
        "percall.call": identity.jti,
        "percall.server": server.name if server is not None else "unknown",
        "percall.decision": decision.effect,
        "percall.reason": decision.code,
    }
    if permitted is not None:
        told["mcp.method.name"] = permitted.method
        if permitted.kind == "tool":
            told["gen_ai.tool.name"] = permitted.label
    steps.note(told)


def another_door(server: Server, *, relayed: bool) -> Decision | None:
    """The refusal of what came through the wrong door for its server's delivery; None when it is the right one."""
    if (server.entry.delivery == "relay") == relayed:
        return None
    where = "is launched on the laptop" if relayed else "is reached through the broker"
    return Decision(
        permitted=False,
        code="server.delivery",
        message=f"The server {server.name!r} {where}.",
        next_step=f"Use it with: percall run {server.name}.",
    )
