"""GET and POST /v1/claims, where a known device picks up what waits for its person, and DELETE /v1/agent."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from percall import wire
from percall_broker.asgi import answer_message, read_body, read_message, signed_request

if TYPE_CHECKING:
    from percall_broker.asgi import Message, Receive, Send
    from percall_broker.pipeline.claims import Claims
    from percall_broker.pipeline.signed import Signed

_MAX_CLAIM_BYTES = 16 * 1024


class WaitingDoor:
    """GET /v1/claims: what waits."""

    def __init__(self, signed: Signed, claims: Claims) -> None:
        self._signed = signed
        self._claims = claims

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """One request. Raises BrokerError before anything is answered."""
        body = await read_body(receive, 0)
        now = time.time()
        identity = await self._signed.identify_once(signed_request(scope, body), now)
        await answer_message(send, await self._claims.waiting(identity, now))


class ClaimDoor:
    """POST /v1/claims: picks it up for one agent, whose new key signs the header `percall-introduction`."""

    def __init__(self, signed: Signed, claims: Claims) -> None:
        self._signed = signed
        self._claims = claims

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """One request. Raises BrokerError before anything is answered."""
        body = await read_body(receive, _MAX_CLAIM_BYTES)
        asked = read_message(wire.Claim, body)
        request, now = signed_request(scope, body), time.time()
        identity = await self._signed.identify_once(request, now)
        introductions = [value for name, value in scope["headers"] if name == wire.HEADER_INTRODUCTION.encode()]
        introduction = introductions[0].decode("latin-1") if len(introductions) == 1 else ""
        claimed = await self._claims.claim(identity, asked, introduction, request.body_digest, now)
        await answer_message(send, claimed)


class DepartureDoor:
    """DELETE /v1/agent: ends what the signer's own key holds."""

    def __init__(self, signed: Signed, claims: Claims) -> None:
        self._signed = signed
        self._claims = claims

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """One request. Raises BrokerError before anything is answered."""
        body = await read_body(receive, 0)
        identity = await self._signed.identify_once(signed_request(scope, body), time.time())
        await answer_message(send, await self._claims.leave(identity))
