"""One gated call, from a signed request to a decision and, where it is permitted, a call credential.

    1  authenticate: whose grant, which device key, a nonce of ours; a replay is caught by the unique id in step 5
    2  parse the frame strictly, and digest its arguments' exact bytes
    3  decide by the grant's patterns, and what narrows them: its key, the tools as they were accepted, the policies;
       the default is no
    4  where the policies ask for an approval: has somebody given it? If not, they are asked, and the call waits
    5  record it durably: a permit on condition that grant, entry and approval are still those decided on; a refusal too
    6  issue the call credential

Nothing is handed out that is not recorded.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from percall import wire
from percall_broker.model.errors import refusal
from percall_broker.model.records import Caller
from percall_broker.pipeline.deciding import Attempt
from percall_broker.pipeline.signed import naming
from percall_broker.stages import approval, credential, frame

if TYPE_CHECKING:
    from percall_broker.crypto.tokens import CallCredentials
    from percall_broker.model.records import Identity
    from percall_broker.pipeline.deciding import Deciding
    from percall_broker.pipeline.settle import Settle
    from percall_broker.pipeline.signed import Signed
    from percall_broker.stages.authenticate import SignedRequest
    from percall_broker.telemetry.metrics import Metrics
    from percall_broker.telemetry.steps import Steps, Tracing

_MAX_CLIENT_CHARACTERS = 200
_MAX_SESSION_CHARACTERS = 64


class CallPipeline:
    """Decides calls."""

    def __init__(
        self,
        signed: Signed,
        deciding: Deciding,
        credentials: CallCredentials,
        settle: Settle,
        metrics: Metrics,
        tracing: Tracing,
    ) -> None:
        self._signed = signed
        self._deciding = deciding
        self._credentials = credentials
        self._settle = settle
        self._metrics = metrics
        self._tracing = tracing

    async def __call__(
        self, request: SignedRequest, head: wire.CallRequest, body: bytes, now: float
    ) -> wire.CallAnswer:
        """The decision on one call. Raises BrokerError where nothing can be decided."""
        with self._tracing.begin("percall.call", head.traceparent) as steps:
            identity = await self._signed.identify(request, now)  # 1
            steps.done("authenticate")
            with naming(identity):
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
        attempt = Attempt(head.server, asked, calling(head.client, head.session), steps, now)
        decided = await self._deciding(identity, attempt)  # 3, 4, 5
        call, decision, server = decided.identity.jti, decided.decision, decided.server
        if server is None:
            asking = approval.told(decision)
            return wire.CallAnswer(call, "ask" if asking else "forbid", refusal=refusal(decision), approval=asking)
        issued = credential.issue(self._credentials, decided.identity, server, asked, now)  # 6
        steps.done("issue")
        return wire.CallAnswer(call, "permit", server.entry.deadline_seconds, issued, traceparent=steps.traceparent)


def calling(client: str, session: str) -> Caller:
    """Who calls, as the laptop says, at the length that is kept."""
    return Caller(client[:_MAX_CLIENT_CHARACTERS], session[:_MAX_SESSION_CHARACTERS])
