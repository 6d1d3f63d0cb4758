"""GET /v1/events: the stream that tells a shim what becomes of its grant and of the approvals that its calls wait for,
and brings a fresh nonce each minute.

Whatever changes, the session is read afresh and sent when it differs from the last one. A store that cannot be read
ends the stream, since nobody can say then that the grant still stands.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from typing import TYPE_CHECKING

from percall import wire
from percall_broker.asgi import read_body, signed_request
from percall_broker.model.errors import TooMany, Unavailable

if TYPE_CHECKING:
    from percall_broker.asgi import Message, Receive, Send
    from percall_broker.crypto.tokens import Nonces
    from percall_broker.pipeline.approvals.requests import Requests
    from percall_broker.pipeline.changes import Changes
    from percall_broker.pipeline.sessions import Sessions
    from percall_broker.pipeline.signed import Signed

MOST_STREAMS = 256
"""Of one grant: a shim for each server in each window of a client. Each change has every stream read its session."""
_READING_AT_ONCE = 2
"""Of all streams: what must not wait, calls and what cuts them, reads the same store."""
_HEADERS = [(b"content-type", b"text/event-stream"), (b"cache-control", b"no-store"), (b"x-accel-buffering", b"no")]


class EventsDoor:
    """The stream, one for each shim that runs."""

    def __init__(
        self, signed: Signed, sessions: Sessions, changes: Changes, nonces: Nonces, approvals: Requests
    ) -> None:
        self._signed = signed
        self._approvals = approvals
        self._sessions = sessions
        self._changes = changes
        self._nonces = nonces
        self._open: Counter[str] = Counter()
        self._reading = asyncio.Semaphore(_READING_AT_ONCE)

    @property
    def open(self) -> int:
        """How many there are."""
        return self._open.total()

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """One stream, until the laptop or the broker goes away. Raises BrokerError before anything is answered."""
        body = await read_body(receive, 0)
        grant = (await self._signed.identify_once(signed_request(scope, body), time.time())).grant.id
        if self._open[grant] >= MOST_STREAMS:
            raise TooMany("events.many", f"{MOST_STREAMS} shims of this grant run already.", "End some of them.")
        self._open[grant] += 1
        try:
            await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
            telling = asyncio.create_task(self._tell(grant, send))
            leaving = asyncio.create_task(_left(receive))
            try:
                await asyncio.wait((telling, leaving), return_when=asyncio.FIRST_COMPLETED)
            finally:
                leaving.cancel()
                telling.cancel()
                await asyncio.gather(telling, leaving, return_exceptions=True)
        finally:
            self._open[grant] -= 1
            if not self._open[grant]:
                del self._open[grant]
        await send({"type": "http.response.body", "body": b""})

    async def _tell(self, grant: str, send: Send) -> None:
        told = nonce = b""
        wake_at, answered_ms = 0.0, int(time.time() * 1000)
        while not self._changes.closed:
            # Before the reading: a change that comes while we read is looked at in the next round.
            generation, now = self._changes.generation, time.time()
            events = []
            fresh = self._nonces.current(now).encode()
            if fresh != nonce:
                nonce = fresh
                events.append(_event(wire.EVENT_NONCE, wire.dump({"nonce": fresh.decode()})))
            try:
                async with self._reading:
                    session = await self._sessions.of(grant, now)
                    answered = await self._approvals.answered(grant, answered_ms)
            except Unavailable:
                return
            if session is None:
                return
            text = wire.dump(wire.encode(session))
            if text != told:
                told = text
                events.append(_event(wire.EVENT_SESSION, text))
            if answered:
                answered_ms = max(row["answered_ms"] for row in answered)
                ids = [row["id"] for row in answered]
                events.append(_event(wire.EVENT_APPROVAL, wire.dump(wire.encode(wire.Answered(tuple(ids))))))
            if not events and now >= wake_at:
                events.append(b": still here\n\n")
            if events:
                wake_at = now + wire.HEARTBEAT_SECONDS
                await send({"type": "http.response.body", "body": b"".join(events), "more_body": True})
            await self._changes.next(generation, _pause(now, wake_at, session.expires_at))


def _pause(now: float, heartbeat_at: float, expires_at: int) -> float:
    """Until the next heartbeat, the next minute's nonce, or the grant's end: whichever comes first."""
    next_minute = (int(now) // 60 + 1) * 60
    times = [heartbeat_at, next_minute, *([expires_at] if expires_at > now else [])]
    return max(0.01, min(times) - now)


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _event(name: str, data: bytes) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (name.encode(), data)
