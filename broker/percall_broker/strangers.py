"""What those may cost us who have not shown who they are: they have no large body read, and their failures counted.

In front of every door. An address (as `model.peers` tells it) may fail so often at once and so often a second; a device
that shows a grant of ours, and a browser that shows a session of ours, are counted apart, so that one office behind one
address is not shut out by one of its own.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from percall import wire
from percall_broker.asgi import signed_request
from percall_broker.model.errors import BrokerError, TooMany

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from percall_broker.asgi import ErrorAnswers, Message, Receive, Send
    from percall_broker.model.peers import TrustedProxies
    from percall_broker.pipeline.signed import Signed

FAILURES_AT_ONCE = 100
FAILURES_A_SECOND = 2.0
FREE_BYTES = 64 * 1024
"""How much of a body is taken in before the request's head must be signed; more arrives with the head anyway."""
_REMEMBERED = 10_000

_scope: ContextVar[Any] = ContextVar("scope")


class Strangers:
    """Counts failures, in buckets that leak. `session` names the console's session that a request shows, if any."""

    def __init__(
        self,
        signed: Signed,
        proxies: TrustedProxies,
        session: Callable[[Message], str],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._signed = signed
        self._proxies = proxies
        self._session = session
        self._clock = clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()
        self._full_until = 0.0

    def refused(self) -> str:
        """The request at hand was not authenticated: count it. Its client's address."""
        scope = _scope.get(None)
        if scope is None:
            return ""
        address, key, now = self._address(scope), self._key(scope), self._clock()
        level = min(self._level(key, now) + 1, FAILURES_AT_ONCE)
        self._buckets[key] = (level, now)
        self._buckets.move_to_end(key)
        if len(self._buckets) > _REMEMBERED:
            self._buckets.popitem(last=False)
        if level >= FAILURES_AT_ONCE:
            self._full_until = now + 1 / FAILURES_A_SECOND
        return address

    def check(self, scope: Message) -> None:
        """Refuse whoever has failed too often. Raises TooMany."""
        now = self._clock()
        if now >= self._full_until:
            return  # nobody has
        if self._level(self._key(scope), now) > FAILURES_AT_ONCE - 1:
            raise TooMany(
                wire.CODE_RATE,
                "Too many requests from this address were not authenticated.",
                "Wait a few seconds, then see that this machine is logged in: percall status.",
            )

    def _level(self, key: str, now: float) -> float:
        level, at = self._buckets.get(key, (0.0, now))
        return max(0.0, level - (now - at) * FAILURES_A_SECOND)

    def _address(self, scope: Message) -> str:
        client = scope.get("client")
        return self._proxies.client(client[0] if client else "", scope["headers"])

    def _key(self, scope: Message) -> str:
        address = self._address(scope)
        try:
            shown = self._signed.shown(signed_request(scope, b""))
        except BrokerError:
            shown = self._session(scope)
        return f"{address} {shown}".rstrip()


class Front:
    """The ASGI callable in front of all doors."""

    def __init__(
        self,
        inside: Callable[[Message, Receive, Send], Awaitable[None]],
        strangers: Strangers,
        signed: Signed,
        errors: ErrorAnswers,
    ) -> None:
        self._inside = inside
        self._strangers = strangers
        self._signed = signed
        self._errors = errors

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            return
        _scope.set(scope)
        try:
            self._strangers.check(scope)
        except TooMany as error:
            await self._errors.send(send, error)
            return
        taken = 0
        is_known = False

        async def receive_from_known() -> Message:
            nonlocal taken, is_known
            if taken >= FREE_BYTES and not is_known:
                await self._signed.vouch(signed_request(scope, b""), time.time())
                is_known = True
            message = await receive()
            taken += len(message.get("body", b""))
            return message

        await self._inside(scope, receive_from_known, send)
