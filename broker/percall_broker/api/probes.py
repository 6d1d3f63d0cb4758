"""What watches the broker: GET /healthz and /readyz for whoever balances load, GET /metrics for Prometheus.

The first two say nothing that a stranger may not know. The figures are served on a listener of their own, never on the
door that laptops use; one that is not loopback wants a token.
"""

from __future__ import annotations

import hmac
import time
from typing import TYPE_CHECKING

from percall import wire
from percall_broker.asgi import JSON, answer
from percall_broker.model.errors import Unavailable
from percall_broker.telemetry.metrics import CONTENT_TYPE

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from percall_broker.asgi import Message, Receive, Send
    from percall_broker.pipeline.readiness import Readiness
    from percall_broker.store.protocol import Store
    from percall_broker.telemetry.metrics import Metrics

    Door = Callable[[Message, Receive, Send], Awaitable[None]]

PATH_HEALTH = "/healthz"
PATH_READY = "/readyz"
PATH_METRICS = "/metrics"


class HealthDoor:
    """The process answers: that is all it says. For a supervisor that restarts what does not."""

    async def __call__(self, _scope: Message, _receive: Receive, send: Send) -> None:
        """One request."""
        await answer(send, 200, b'{"alive":true}')


class ReadyDoor:
    """200 when calls can be decided; 503, with the codes of what is wrong, when not."""

    def __init__(self, readiness: Readiness) -> None:
        self._readiness = readiness

    async def __call__(self, _scope: Message, _receive: Receive, send: Send) -> None:
        """One request."""
        problems = await self._readiness.problems()
        await answer(send, 503 if problems else 200, wire.dump({"ready": not problems, "problems": problems}))


class MetricsDoor:
    """The figures. `counted` sets those that are looked up when they are read; an empty `token` asks for none."""

    def __init__(self, metrics: Metrics, store: Store, counted: Callable[[], tuple[int, int]], token: bytes) -> None:
        self._metrics = metrics
        self._store = store
        self._counted = counted
        self._expected = b"Bearer " + token if token else b""

    async def __call__(self, scope: Message, _receive: Receive, send: Send) -> None:
        """One request."""
        given = b"".join(value for name, value in scope["headers"] if name == b"authorization")
        if self._expected and not hmac.compare_digest(given, self._expected):
            challenge = [(b"www-authenticate", b"Bearer")]
            await answer(send, 401, b'{"error":{"code":"metrics.token"}}', JSON, challenge)
            return
        await self._look_up()
        await answer(send, 200, self._metrics.text(), CONTENT_TYPE)

    async def _look_up(self) -> None:
        metrics = self._metrics
        streams, event_streams = self._counted()
        metrics.streams.set(streams)
        metrics.event_streams.set(event_streams)
        try:
            (found,) = await self._store.fetch("count_open", now_ms=int(time.time() * 1000))
            (queue,) = await self._store.fetch("count_deliveries")
        except Unavailable:
            # Counted as a store error: the other figures still say what they know.
            for unknown in (metrics.open_calls, metrics.open_windows, metrics.webhook_queue):
                unknown.set(float("nan"))
            return
        metrics.open_calls.set(found["calls"])
        metrics.open_windows.set(found["windows"])
        metrics.webhook_queue.set(queue["waiting"])


class ProbeApplication:
    """The listener for those who watch. GET alone, and of these paths alone."""

    def __init__(self, doors: dict[str, Door]) -> None:
        self._doors = doors

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            return
        door = self._doors.get(scope["path"])
        if door is None or scope["method"] != "GET":
            await answer(send, 404, b'{"error":{"code":"request.path"}}')
            return
        await door(scope, receive, send)
