"""The doors on the path of a call: POST and GET /v1/calls, POST /v1/settlements. Plain ASGI callables."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

import msgspec

from percall import wire
from percall_broker.asgi import answer, read_body, read_message, signed_request
from percall_broker.model.errors import InvalidInput
from percall_broker.model.standing import barred, require
from percall_broker.pipeline.administration.record import Filters

if TYPE_CHECKING:
    from percall_broker.asgi import Message, Receive, Send
    from percall_broker.model.records import Grant
    from percall_broker.pipeline.administration.record import Record
    from percall_broker.pipeline.call import CallPipeline
    from percall_broker.pipeline.settle import Settle
    from percall_broker.pipeline.signed import Signed

_MAX_CALL_BYTES = wire.MAX_HEAD_BYTES + 1 + wire.MAX_FRAME_BYTES
_encode = msgspec.json.Encoder().encode
_decode_head = msgspec.json.Decoder(wire.CallRequest).decode


class CallDoor:
    """POST /v1/calls: one call is decided."""

    def __init__(self, call: CallPipeline) -> None:
        self._call = call

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """One request. Raises BrokerError before anything is answered."""
        body = await read_body(receive, _MAX_CALL_BYTES)
        # Our own reading of what only we read; the frame, which others read too, gets the strict pass.
        line, _, frame = body.partition(b"\n")
        try:
            head = _decode_head(line)
        except (msgspec.DecodeError, UnicodeDecodeError):
            raise InvalidInput("wire.head", "The message's head is not in the form that it must have.") from None
        decided = await self._call(signed_request(scope, body), head, frame, time.time())
        await answer(send, 200, _encode(_members(decided)))


def _members(decided: wire.CallAnswer) -> dict[str, Any]:
    """As `wire.encode`, which copies deeply and so costs more than the rest of an answer."""
    members: dict[str, Any] = {"call": decided.call, "decision": decided.decision}
    if decided.refusal is not None:
        members["refusal"] = wire.encode(decided.refusal)
        if decided.approval is not None:
            members["approval"] = wire.encode(decided.approval)
        return members
    members["deadline_seconds"] = decided.deadline_seconds
    if decided.credential is not None:
        members["credential"] = decided.credential
    if decided.traceparent is not None:
        members["traceparent"] = decided.traceparent
    return members


class SettlementsDoor:
    """POST /v1/settlements: outcomes that had no later request to ride on."""

    def __init__(self, signed: Signed, settle: Settle) -> None:
        self._signed = signed
        self._settle = settle

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """One request. Raises BrokerError before anything is answered."""
        body = await read_body(receive, wire.MAX_HEAD_BYTES)
        settlements = read_message(wire.Settlements, body)
        now = time.time()
        identity = await self._signed.identify_once(signed_request(scope, body), now)
        await self._settle.settle(identity, settlements.settle, now)
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})


class OwnCallsDoor:
    """GET /v1/calls: the calls of the agent that asks, newest first, one JSON object a line. They are those that its
    device key has signed, whichever of its grants they were made with.
    """

    def __init__(self, signed: Signed, record: Record) -> None:
        self._signed = signed
        self._record = record

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """One request. Raises BrokerError before anything is answered."""
        body = await read_body(receive, 0)
        identity = await self._signed.identify_once(signed_request(scope, body), time.time())
        require(barred(identity.grant, time.time()))
        rows = self._record.calls(_filters(scope["query_string"], identity.grant))
        await answer(send, 200, b"".join([_encode(row) + b"\n" async for row in rows]), b"application/x-ndjson")


def _filters(query: bytes, grant: Grant) -> Filters:
    """The filters of a query; nobody else's calls can be named."""
    try:
        asked = dict(parse_qsl(query.decode("ascii"), strict_parsing=True, max_num_fields=16)) if query else {}
        texts = {name: asked.pop(name) for name in ("server", "tool", "decision") if name in asked}
        numbers = {name: int(asked.pop(name)) for name in ("since_ms", "until_ms", "limit") if name in asked}
    except ValueError:
        raise InvalidInput("request.query", "The query is not in the form that it must have.") from None
    if asked or any(not 0 <= number < 2**53 for number in numbers.values()):
        raise InvalidInput("request.query", "The query names something other than the filters there are.")
    numbers["limit"] = min(numbers.get("limit", 1000), wire.MAX_ROWS)
    return Filters(person=grant.person, device=grant.device, **texts, **numbers)  # type: ignore[arg-type]
