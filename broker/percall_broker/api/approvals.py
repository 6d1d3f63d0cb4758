"""The doors of an agent's own approvals: GET /v1/approvals, what it has asked; POST, to ask for a grant.

Signed by the device alone: nothing here approves anything.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from percall import wire
from percall_broker.asgi import answer_message, read_body, read_message, signed_request
from percall_broker.pipeline.signed import naming

if TYPE_CHECKING:
    from percall_broker.asgi import Message, Receive, Send
    from percall_broker.pipeline.approvals.requests import Requests
    from percall_broker.pipeline.signed import Signed

_MAX_BYTES = 64 * 1024


class OwnApprovalsDoor:
    """GET /v1/approvals: those of the grant that asks, newest first."""

    def __init__(self, signed: Signed, requests: Requests) -> None:
        self._signed = signed
        self._requests = requests

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """One request. Raises BrokerError before anything is answered."""
        body = await read_body(receive, 0)
        now = time.time()
        identity = await self._signed.identify_once(signed_request(scope, body), now)
        with naming(identity):
            own = await self._requests.own(identity, now)
        await answer_message(send, own)


class RequestDoor:
    """POST /v1/approvals: asks for a grant."""

    def __init__(self, signed: Signed, requests: Requests) -> None:
        self._signed = signed
        self._requests = requests

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """One request. Raises BrokerError before anything is answered."""
        body = await read_body(receive, _MAX_BYTES)
        wanted = read_message(wire.GrantRequest, body)
        now = time.time()
        identity = await self._signed.identify_once(signed_request(scope, body), now)
        with naming(identity):
            asked = await self._requests.request(identity, wanted, now)
        await answer_message(send, asked)
