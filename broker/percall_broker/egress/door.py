"""POST /v1/egress: one API request of a child, on to the upstream with the key, and its answer back without it.

    1  spool the message and take its digest, which the proof covers
    2  have it authenticated, decided, recorded, and the key unsealed (pipeline.request)
    3  put the key into its slots
    4  forward; redact the answer's head and body, and stream them at the laptop's pace

Cut within a second when the grant is revoked, when its window's time is over, and when the laptop goes away. A plain
ASGI callable: nothing of a web framework stands on the path of a request.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Protocol

from percall import wire
from percall.errors import WireError
from percall_broker.asgi import signed_head
from percall_broker.egress import heads, slots
from percall_broker.egress.spool import Spool
from percall_broker.model.errors import BrokerError, Forbidden, InvalidInput, TooMany, Unavailable
from percall_broker.model.rules import parse_url
from percall_broker.outbound.http1 import BODYLESS, WITH_CONTENT
from percall_broker.outbound.redaction import Redactor
from percall_broker.outbound.streams import MAX_OPEN, StreamCut, ended_by_leaving
from percall_broker.outbound.upstream import in_one_piece

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from percall_broker.asgi import Message, Receive, Send
    from percall_broker.model.entry import Entry
    from percall_broker.outbound.streams import OpenStreams
    from percall_broker.outbound.upstream import Upstream, UpstreamAnswer
    from percall_broker.pipeline.request import Permitted
    from percall_broker.stages.authenticate import SignedRequest
    from percall_broker.telemetry.metrics import Metrics
    from percall_broker.telemetry.steps import Steps, Tracing

SMALL_ANSWER_BYTES = 64 * 1024
"""An answer of a known length up to this goes out in one piece."""
_THREAD_BYTES = 256 * 1024


class RequestPipeline(Protocol):
    """What the door asks: whether a request may be made, and the key for it."""

    def admit(self, request: SignedRequest) -> None:
        """Refuse whoever shows no grant, before the body is read. Raises Unauthenticated."""

    async def __call__(
        self,
        request: SignedRequest,
        head: wire.EgressRequest,
        now: float,
        steps: Steps,
        objection: BrokerError | None,
        asks: Callable[[Entry], Awaitable[bool]],
    ) -> Permitted:
        """A request that is permitted and durably recorded. Raises BrokerError otherwise; so it does the objection.

        `asks` tells whether the request asks for the key, in a slot of the entry.
        """


class EgressDoor:
    """The ASGI callable."""

    def __init__(
        self,
        pipeline: RequestPipeline,
        upstream: Upstream,
        streams: OpenStreams,
        metrics: Metrics,
        tracing: Tracing,
    ) -> None:
        self._pipeline = pipeline
        self._upstream = upstream
        self._streams = streams
        self._metrics = metrics
        self._tracing = tracing

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """One request. Raises BrokerError, ClientGone.

        Where it is cut, the answer stays incomplete, so that the laptop cannot take it as whole.
        """
        self._pipeline.admit(signed_head(scope, ""))  # a stranger fills no disk
        with Spool() as spool:
            await spool.fill(receive)  # 1
            try:
                head = wire.decode(wire.EgressRequest, spool.head())
            except WireError as error:
                raise InvalidInput(error.code, error.message) from None
            traceparent = head.windows[0].traceparent if head.windows else None
            with self._tracing.begin("percall.request", traceparent) as steps:
                signed = signed_head(scope, spool.digest)
                await self._decided(signed, receive, spool, head, _Answer(send), steps)

    async def _decided(
        self,
        signed: SignedRequest,
        receive: Receive,
        spool: Spool,
        head: wire.EgressRequest,
        answer: _Answer,
        steps: Steps,
    ) -> None:
        asks = partial(_asks_for_key, head=head, spool=spool)
        permitted = await self._pipeline(signed, head, time.time(), steps, _objection(head), asks)  # 2
        if self._streams.count(permitted.use) >= MAX_OPEN:
            raise TooMany(
                "request.many", f"This grant has {MAX_OPEN} requests under way at this server.", "Wait for some."
            )
        try:
            async with asyncio.timeout(permitted.deadline - time.time()) as limit:
                with (
                    self._streams.hold(permitted.use, limit, calls=permitted.calls),
                    ended_by_leaving(receive, limit),
                ):
                    await self._forward(permitted, head, spool, answer, steps)
        except (TimeoutError, StreamCut):
            raise Forbidden(
                "request.cut",
                "Cut off: its call was answered or too late, its grant or key was revoked, suspended or frozen, or the "
                "broker ended.",
                "The upstream may have got it: look there before it is tried again.",
            ) from None

    async def _forward(
        self, permitted: Permitted, head: wire.EgressRequest, spool: Spool, answer: _Answer, steps: Steps
    ) -> None:
        entry = permitted.server.entry
        target = parse_url(head.url, escaped_slashes=entry.escaped_slashes)
        outgoing = await _with_key(permitted, head, target.query, spool)  # 3
        length = spool.body_length if outgoing.body is None else len(outgoing.body)
        headers = heads.to_upstream(
            outgoing.headers,
            authority=target.authority,
            body_length=length,
            has_body=length > 0 or head.method in WITH_CONTENT,
        )
        body = spool.body_pieces() if outgoing.body is None else in_one_piece(outgoing.body)
        redactor = Redactor(permitted.key)
        start = time.perf_counter()
        sending = self._upstream.send(
            head.method, replace(target, query=outgoing.query), headers, body, entry.connect, use=permitted.use
        )
        async with sending as came:  # 4
            self._metrics.answered(permitted.server, time.perf_counter() - start)
            steps.done("upstream")
            await _pass_on(came, head.method, redactor, answer)
            steps.done("answer")


class _Answer:
    """What goes back to the laptop."""

    def __init__(self, send: Send) -> None:
        self._send = send

    async def begin(self, headers: list[tuple[bytes, bytes]]) -> None:
        await self._send({"type": "http.response.start", "status": 200, "headers": headers})

    async def piece(self, data: bytes, *, more: bool = True) -> None:
        await self._send({"type": "http.response.body", "body": data, "more_body": more})


def _objection(head: wire.EgressRequest) -> BrokerError | None:
    try:
        heads.check(head.headers)
    except BrokerError as error:
        return error
    return None


async def _asks_for_key(entry: Entry, head: wire.EgressRequest, spool: Spool) -> bool:
    plain = _plain(entry, head, parse_url(head.url, escaped_slashes=entry.escaped_slashes).query, spool)
    _, asks = await _injected(entry, head.placeholder, head.placeholder, plain)
    return asks


async def _with_key(permitted: Permitted, head: wire.EgressRequest, query: str | None, spool: Spool) -> slots.Outgoing:
    entry = permitted.server.entry
    plain = _plain(entry, head, query, spool)
    try:
        key = permitted.key.decode()
    except UnicodeDecodeError:
        raise Unavailable("credential.form", "The stored key is not text.", "Rotate the key.") from None
    outgoing, _ = await _injected(entry, head.placeholder, key, plain)
    return outgoing


def _plain(entry: Entry, head: wire.EgressRequest, query: str | None, spool: Spool) -> slots.Outgoing:
    """The request as the child made it."""
    return slots.Outgoing(head.headers, query, spool.body() if slots.needs_body(entry.slots) else None)


async def _injected(entry: Entry, placeholder: str, key: str, plain: slots.Outgoing) -> tuple[slots.Outgoing, bool]:
    if plain.body is not None and len(plain.body) > _THREAD_BYTES:  # so much JSON would hold up every other request
        return await asyncio.to_thread(slots.inject, entry.slots, placeholder, key, plain)
    return slots.inject(entry.slots, placeholder, key, plain)


async def _pass_on(came: UpstreamAnswer, method: str, redactor: Redactor, answer: _Answer) -> None:
    headers = heads.to_child(came.headers, redactor)
    line = wire.join(wire.encode(wire.EgressAnswer(came.status, headers)))
    length = _length(came, method)
    own = [(b"content-type", wire.MEDIA_TYPE.encode()), (b"cache-control", b"no-store")]
    if length is not None:
        own.append((b"content-length", str(len(line) + length).encode()))
    if length is not None and length <= SMALL_ANSWER_BYTES:
        body = redactor.redact(b"".join([piece async for piece in came.body]))
        await answer.begin(own)
        await answer.piece(line + body, more=False)
        return
    await answer.begin(own)
    await answer.piece(line)
    async for piece in came.body:
        if known := redactor.feed(piece):
            await answer.piece(known)
    await answer.piece(redactor.flush(), more=False)


def _length(came: UpstreamAnswer, method: str) -> int | None:
    """How long the upstream's body will be, where that is known."""
    if method == "HEAD" or came.status in BODYLESS:
        return 0
    for name, value in came.headers:
        if name.lower() == b"content-length":
            return int(value)
    return None
