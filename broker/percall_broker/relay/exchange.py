"""Steps 6 and 7 of a relayed request: the evaluated bytes to the upstream, and its answer back at the client's pace.

An answer is one message or a stream of events; each message is looked at whole before it goes on. Cut within a second
when the grant is revoked, at the call's deadline, and when the client goes away. A stream that began and cannot go on
ends with an answer that says why.
"""

from __future__ import annotations

import asyncio
import time
from functools import partial
from typing import TYPE_CHECKING, Any

import structlog

from percall import wire
from percall.errors import WireError
from percall.rpc import frames, http_headers, refusals
from percall_broker.asgi import ClientGone
from percall_broker.held import Held
from percall_broker.model.errors import BrokerError, NotFound, TooMany, UpstreamFailed, refusal
from percall_broker.outbound.redaction import Redactor
from percall_broker.outbound.streams import MAX_OPEN, Leaving, StreamCut, ended_by_leaving
from percall_broker.outbound.upstream import in_one_piece
from percall_broker.pipeline.relay import Place, of_open_call
from percall_broker.relay import heads
from percall_broker.relay.events import EventReader, message_event, read_event
from percall_broker.relay.watch import Watch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from percall_broker.asgi import Headers, Receive, Send
    from percall_broker.outbound.streams import OpenStreams
    from percall_broker.outbound.upstream import Upstream, UpstreamAnswer
    from percall_broker.pipeline.relay import Permitted, RelayPipeline, Seen

_OK, _ACCEPTED, _NO_CONTENT, _BAD, _SERVER_ERROR = 200, 202, 204, 400, 500
_NO_STATUS = 600
_UNAUTHORIZED, _NOT_FOUND = 401, 404
_MAX_ERROR_BYTES = 64 * 1024
_REFUSING_SECONDS = 10.0

log = structlog.get_logger()


class Exchange:
    """One permitted request's way there and back. What becomes of it is said in `seen`."""

    def __init__(
        self,
        pipeline: RelayPipeline,
        upstream: Upstream,
        streams: OpenStreams,
        permitted: Permitted,
        seen: Seen,
        method: str,
        receive: Receive,
        send: Send,
    ) -> None:
        self._pipeline = pipeline
        self._upstream = upstream
        self._streams = streams
        self._permitted = permitted
        self._seen = seen
        self._watch = Watch(permitted, seen)
        self._method = method
        self._receive = receive
        self._send = send
        self._begun = False
        self._resumable = False

    async def __call__(self) -> None:
        """All of it. Raises BrokerError where no answer has begun, ClientGone."""
        permitted, seen = self._permitted, self._seen
        if self._streams.count(permitted.use) >= MAX_OPEN:
            raise TooMany(
                "relay.many", f"This grant has {MAX_OPEN} requests under way at this server.", "Wait for some."
            )
        leaving = Leaving()
        left = None if permitted.deadline is None else max(0.0, permitted.deadline - time.time())
        try:
            try:
                async with asyncio.timeout(left) as limit:
                    with (
                        self._streams.hold(permitted.use, limit, endless=left is None),
                        ended_by_leaving(self._receive, limit) as leaving,
                    ):
                        await self._forward()
            except (TimeoutError, StreamCut):
                if leaving.has_left:
                    raise ClientGone from None
                seen.outcome = seen.outcome or "unknown"
                raise await self._pipeline.why_cut(permitted, is_ending=self._streams.is_ending) from None
        except ClientGone:
            if self._resumable and not self._watch.answered:
                seen.outcome = ""
            raise
        except BrokerError as error:
            if not self._begun:
                raise
            await self._last_words(of_open_call(error, seen))

    async def _forward(self) -> None:
        permitted = self._permitted
        sending = self._upstream.send(
            self._method,
            permitted.target,
            heads.to_upstream(permitted, self._method),
            in_one_piece(permitted.body),
            permitted.server.entry.connect,
            use=permitted.use,
            patient=True,
        )
        async with sending as came:  # 6
            content = heads.content_type(came)
            session = heads.session_of(came.headers)
            headers = heads.to_client(content, self._seen.call, permitted.bound.session(session) if session else "")
            if came.status in {_ACCEPTED, _NO_CONTENT} or (came.status == _OK and self._method == "DELETE"):
                await self._nothing_more(came.status, headers)
            elif came.status != _OK:
                await self._other_status(came)
            elif content == http_headers.EVENTS:  # 7
                self._pipeline.begun(permitted, self._seen)
                await self._events(came, headers, session or permitted.session)
            elif content == http_headers.JSON:
                await self._whole(came, headers)
            else:
                raise UpstreamFailed("upstream.type", "The server's answer is neither JSON nor a stream of events.")

    # --- One message --------------------------------------------------------------------------------------------------

    async def _whole(self, came: UpstreamAnswer, headers: Headers) -> None:
        redactor = Redactor(self._permitted.key)
        with Held("the server's answer") as held:
            async for piece in came.body:
                held.add(redactor.feed(piece))
                if held.size > wire.MAX_FRAME_BYTES:
                    raise UpstreamFailed(
                        "upstream.size", f"The answer is longer than {wire.MAX_FRAME_BYTES} bytes.", "Ask for less."
                    )
            held.add(redactor.flush())
            if not await _looked_at(held, self._watch.look) or not self._watch.answered:
                raise UpstreamFailed("upstream.message", "The server's answer is not the answer to the request.")
            await self._act()
            await self._begin(_OK, [*headers, (b"content-length", b"%d" % held.size)])
            left = held.size
            for piece in held.pieces():
                left -= len(piece)
                await self._piece(piece, more=left > 0)

    async def _nothing_more(self, status: int, headers: Headers) -> None:
        if self._permitted.id is not None and self._method == "POST":
            raise UpstreamFailed("upstream.message", "The server took the request and answered nothing.")
        await self._answer(status, [pair for pair in headers if pair[0] != b"content-type"], b"")

    async def _other_status(self, came: UpstreamAnswer) -> None:
        """Neither yes nor a message accepted: the upstream's own JSON-RPC error where it gave one, else ours."""
        if came.status < _BAD:
            raise UpstreamFailed(
                "upstream.redirect",
                "The server answered with a redirect, which is never followed.",
                "An administrator may change `url` in the server's entry.",
            )
        self._seen.outcome = "failed" if came.status < _SERVER_ERROR else "unknown"
        if came.status == _UNAUTHORIZED:
            raise UpstreamFailed(
                "upstream.key",
                "The server does not accept the key that the broker holds.",
                "An administrator may give a new one: percall-broker server rotate-key.",
            )
        body = Redactor(self._permitted.key).redact(await _beginning(came))
        message = self._watch.look(body) if heads.content_type(came) == http_headers.JSON else None
        outcome = f"The server answered with the HTTP status {came.status}."
        if came.status == _NOT_FOUND and self._permitted.session and not _knows_no_method(message):
            raise NotFound(wire.CODE_SESSION_ENDED, "The server does not know this session any more.", "Begin anew.")
        if message is not None and came.status < _NO_STATUS:
            await self._answer(came.status, heads.to_client(http_headers.JSON, self._seen.call), message)
        elif self._method != "POST" and came.status < _SERVER_ERROR:
            await self._answer(came.status, heads.to_client("text/plain", ""), outcome.encode())
        else:
            raise UpstreamFailed("upstream.status", outcome)

    # --- A stream of events -------------------------------------------------------------------------------------------

    async def _events(self, came: UpstreamAnswer, headers: Headers, session: str) -> None:
        redactor = Redactor(self._permitted.key)
        rewrite = partial(self._rewritten, session)
        await self._begin(_OK, headers)
        with EventReader() as reader:
            async for piece in came.body:
                await self._pass_on(rewrite, reader.feed(redactor.feed(piece)))
            rest = (*reader.feed(redactor.flush()), *reader.end())
            await self._pass_on(rewrite, rest)
        if not self._watch.answered and self._resumable:
            self._seen.outcome = ""  # the client comes back for the rest
        elif not self._watch.answered:
            raise UpstreamFailed("upstream.closed", "The server ended its stream before it answered.")
        await self._piece(b"", more=False)

    async def _pass_on(self, rewrite: Callable[[bytes], bytes | None], events: Iterable[bytes | Held]) -> None:
        for event in events:
            if isinstance(event, bytes):
                written = rewrite(event)
                await self._act()
                if written:
                    await self._piece(written)
            else:
                with event:
                    passes = await _looked_at(event, rewrite)
                    await self._act()
                    for piece in event.pieces() if passes else ():
                        await self._piece(piece)

    async def _act(self) -> None:
        """What a message asks of us, before it goes on: a record, or an answer in the client's place."""
        permitted, watch = self._permitted, self._watch
        while watch.first_seen:
            await self._pipeline.observed(permitted, watch.first_seen.pop())
        if watch.news:
            news, watch.news = watch.news, ()
            await self._pipeline.tools_seen(permitted, news)
        while watch.tasks:
            await self._pipeline.became_task(permitted, watch.tasks.pop())
        while watch.refused:
            await self._refuse(watch.refused.pop())

    def _rewritten(self, session: str, raw: bytes) -> bytes | None:
        """The event as the client may have it: its id bound to the session, its message looked at."""
        permitted, seen = self._permitted, self._seen
        event = read_event(raw)
        if event.id:
            place = Place(event.id, permitted.method, permitted.id, seen.call, seen.began_ms)
            event.id = permitted.bound.place(place, session)
            self._resumable = bool(session)
        if event.data:
            event.data = self._watch.look(event.data)
            if event.data is None and event.id is None:
                return None
        return bytes(event)

    async def _last_words(self, error: BrokerError) -> None:
        """The stream has begun and cannot go on: whoever waits for an answer is told why there is none."""
        said = self._permitted.message
        if not self._watch.answered and said is not None:
            await self._piece(message_event(refusals.answer(said.value, refusal(error)).rstrip(b"\n")))
        await self._piece(b"", more=False)

    # --- Towards the client -------------------------------------------------------------------------------------------

    async def _begin(self, status: int, headers: Headers) -> None:
        self._begun = True
        await self._send({"type": "http.response.start", "status": status, "headers": headers})

    async def _piece(self, data: bytes, *, more: bool = True) -> None:
        await self._send({"type": "http.response.body", "body": data, "more_body": more})

    async def _answer(self, status: int, headers: Headers, body: bytes) -> None:
        length = [] if status == _NO_CONTENT else [(b"content-length", b"%d" % len(body))]
        await self._begin(status, [*headers, *length])
        await self._piece(body, more=False)

    # --- On the client's behalf ---------------------------------------------------------------------------------------

    async def _refuse(self, identifier: Any) -> None:
        """Answers a request of the upstream's in the same session. It is no matter of the call's whether it arrives."""
        permitted = self._permitted
        if frames.id_key(identifier) is None:
            return
        body = refusals.error_line(identifier, refusals.REFUSED, refusals.SAMPLING_REFUSED).rstrip(b"\n")
        headers = heads.to_upstream(permitted.answering(body), "POST")
        try:
            async with (
                asyncio.timeout(_REFUSING_SECONDS),
                self._upstream.send(
                    "POST",
                    permitted.target,
                    headers,
                    in_one_piece(body),
                    permitted.server.entry.connect,
                    use=permitted.use,
                ) as came,
            ):
                await _beginning(came)
        except (TimeoutError, UpstreamFailed):
            log.warning("a server was not told that its request is refused", server=permitted.server.name)


_looking = asyncio.Lock()


async def _looked_at(held: Held, look: Callable[[bytes], bytes | None]) -> bool:
    """Puts in its place what may go on of a message, and says whether anything may.

    Long ones are read one at a time, and apart from the event loop, which others wait for.
    """
    if not held.is_long:
        return _put(held, held.whole(), look)
    async with _looking:
        return await asyncio.to_thread(lambda: _put(held, held.whole(), look))


def _put(held: Held, data: bytes, look: Callable[[bytes], bytes | None]) -> bool:
    message = look(data)
    if message is not None and message is not data:
        held.replace(message)
    return message is not None


def _knows_no_method(message: bytes | None) -> bool:
    """Whether a 404 is about the method: with a session, it otherwise says that the session is gone, in any words."""
    if message is None:
        return False
    try:
        error = wire.strict_json(message).get("error")
    except WireError:
        return False
    return isinstance(error, dict) and error.get("code") == refusals.METHOD_NOT_FOUND


async def _beginning(came: UpstreamAnswer) -> bytes:
    """As much of a body as an error may be long."""
    pieces, size = [], 0
    async for piece in came.body:
        pieces.append(piece)
        size += len(piece)
        if size > _MAX_ERROR_BYTES:
            break
    return b"".join(pieces)
