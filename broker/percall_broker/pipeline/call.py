"""One gated call, from a signed request to a decision and, where it is permitted, a call credential.

    1  authenticate: whose grant, which device key, a nonce of ours; a replay is caught by the unique id in step 5
    2  parse the frame strictly, and digest its arguments' exact bytes
    3  decide by the grant's patterns; the default is no
    4  (presence: where a decision is `ask`, a person answers it here; comes later)
    5  record it durably: a permit on condition that grant and entry are still those decided on; a refusal too
    6  issue the call credential

Nothing is handed out that is not recorded. Where something changed in between, it is read and decided again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from percall import wire
from percall_broker.model.errors import Conflict
from percall_broker.pipeline.signed import renewed, replayed
from percall_broker.stages import credential, frame
from percall_broker.stages.decide import decide
from percall_broker.telemetry.steps import Steps

if TYPE_CHECKING:
    from percall_broker.crypto.tokens import CallCredentials
    from percall_broker.model.records import Identity
    from percall_broker.pipeline.settle import Settle
    from percall_broker.pipeline.signed import Signed
    from percall_broker.stages.authenticate import SignedRequest
    from percall_broker.stages.lookup import Lookup
    from percall_broker.stages.record import Recorder
    from percall_broker.telemetry.metrics import Metrics

_ATTEMPTS = 4
_MAX_CLIENT_CHARACTERS = 200


class CallPipeline:
    """Decides calls."""

    def __init__(
        self,
        signed: Signed,
        lookup: Lookup,
        recorder: Recorder,
        credentials: CallCredentials,
        settle: Settle,
        metrics: Metrics,
    ) -> None:
        self._signed = signed
        self._lookup = lookup
        self._recorder = recorder
        self._credentials = credentials
        self._settle = settle
        self._metrics = metrics

    async def __call__(
        self, request: SignedRequest, head: wire.CallRequest, body: bytes, now: float
    ) -> wire.CallAnswer:
        """The decision on one call. Raises BrokerError where nothing can be decided."""
        steps = Steps()
        identity = await self._signed.identify(request, now)  # 1
        steps.done("authenticate")
        asked = frame.parse(body)  # 2
        steps.done("parse")
        settling = self._settle.start(identity, head.settle, now)
        try:
            return await self._decide_and_record(identity, head, asked, steps, now)  # 3 to 6
        finally:
            await settling
            self._metrics.decided(steps.seconds())

    async def _decide_and_record(
        self, identity: Identity, head: wire.CallRequest, asked: frame.Frame, steps: Steps, now: float
    ) -> wire.CallAnswer:
        client = head.client[:_MAX_CLIENT_CHARACTERS]
        seen = None
        for attempt in range(_ATTEMPTS):
            # What is remembered may be old: good enough to permit on, since step 5 checks it, never to refuse on.
            grant = await self._lookup.grant(identity.grant.id, fresh=attempt > 0) or identity.grant
            server = await self._lookup.server(head.server, fresh=attempt > 0)
            identity = renewed(identity, grant)
            decision = decide(grant, head.server, server, asked, now)  # 3
            steps.done("decide")

            if not decision.permitted or server is None:
                if attempt == 0:
                    continue
                if not await self._recorder.refusal(identity, head.server, asked, decision, client, now):  # 5
                    raise replayed()
                steps.done("record")
                self._metrics.call_refused(server, decision.code)
                refusal = wire.Refusal(decision.code, decision.message, decision.next_step)
                return wire.CallAnswer(identity.jti, "forbid", refusal=refusal)

            if await self._recorder.intent(identity, server, asked, decision, client, now):  # 5
                steps.done("record")
                self._metrics.call_permitted(server)
                issued = credential.issue(self._credentials, identity, server, asked, now)  # 6
                steps.done("issue")
                return wire.CallAnswer(identity.jti, "permit", server.entry.deadline_seconds, issued)

            # Not recorded, though nothing has changed since the last look: then this id was here before.
            if seen == (grant.version, server.version):
                raise replayed()
            seen = (grant.version, server.version) if attempt else None
        raise Conflict("call.changing", "The grant or the server keeps changing.", "Try again.")
