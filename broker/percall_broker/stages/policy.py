"""Step 3 of a call, too: what the organisation's policies say of it, once the grant has said yes.

The policies are those of the version that was read with the server, in one statement: a server's version rises with
each change of policies, so that what is recorded is what was decided on.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from percall_broker.model.counting import counted
from percall_broker.model.records import Decision
from percall_broker.policy import Asked, Evaluator

if TYPE_CHECKING:
    from percall_broker.model.records import Grant, Limit, Server
    from percall_broker.policy import Verdict
    from percall_broker.stages.frame import Frame
    from percall_broker.stages.lookup import Lookup
    from percall_broker.stages.pins import Pins

_EACH = {60: "a minute", 3600: "an hour", 86400: "a day"}


class PolicyStage:
    """Puts calls to the policies in force."""

    def __init__(self, lookup: Lookup) -> None:
        self._lookup = lookup
        self._evaluate = Evaluator()

    async def __call__(
        self, permitted: Decision, grant: Grant, server: Server, frame: Frame, client: str, pins: Pins, now: float
    ) -> Decision:
        """The decision on a call that its grant permits. Raises Unavailable."""
        policies = await self._lookup.policies(server.policy_version)
        verdict = self._evaluate(policies, asked_of(grant, server, frame, client, pins), now)
        return decision_of(permitted, verdict, policies.version)


def asked_of(grant: Grant, server: Server, frame: Frame, client: str, pins: Pins) -> Asked:
    """A call as policies see it."""
    return Asked(
        person=grant.person,
        agent=grant.agent,
        device=grant.device_name,
        groups=grant.groups,
        server=server.name,
        delivery=server.entry.delivery,
        method=frame.method,
        kind=frame.kind,
        subjects=frame.subjects,
        client=client,
        digest=frame.digest,
        arguments=frame.arguments if frame.kind == "tool" else b"",
        annotations=pins.annotations.get(frame.subjects[0], ()) if frame.kind == "tool" else (),
    )


def changed(tool: str, server: str, differs: str) -> Decision:
    """The refusal of a tool that is not what was accepted; in our words alone, for the server's may be the attack."""
    return Decision(
        permitted=False,
        code="pin.changed",
        message=f"The tool {tool!r} is not what was accepted: the server changed its {differs.replace(',', ', ')}.",
        next_step=f"Ask your administrator, who can look at it: percall-broker server pin {server}",
    )


def decision_of(permitted: Decision, verdict: Verdict, version: int) -> Decision:
    """The verdict as a decision; a permit keeps the grant's own words."""
    decided = replace(
        permitted,
        policies=verdict.policies,
        policy_version=version,
        ask=verdict.ask,
        separate=verdict.separate,
        limits=verdict.limits,
        observed=verdict.observed,
    )
    if verdict.effect == "permit":
        return decided
    return replace(
        decided,
        permitted=False,
        code=verdict.code,
        message=verdict.message,
        next_step="Ask your administrator, who can change the policy, if you need this.",
    )


def exhausted(decision: Decision, policy: str, limit: Limit, again_in: int) -> Decision:
    """The refusal of a call whose policy permits no more of them for now; `again_in` is in seconds."""
    return replace(
        decision,
        permitted=False,
        code="policy.limit",
        message=f"The policy {policy} permits {limit.most} of these calls {_EACH[limit.seconds]}.",
        policies=(policy,),
        limits=(),
        next_step=f"Try again in {counted(max(1, -(-again_in // 60)), 'minute')}.",
    )
