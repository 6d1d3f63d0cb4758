"""What watches the broker: GET /healthz and /readyz for whoever balances load, GET /metrics for Prometheus.

The first two say nothing that a stranger may not know. The figures are served on a listener of their own, never on the
door that laptops use; one that is not loopback wants a token.
"""

from __future__ import annotations

import contextlib
import hmac
import time
from typing import TYPE_CHECKING, Protocol

from percall import wire
from percall_broker.asgi import JSON, answer
from percall_broker.model.errors import Unavailable
from percall_broker.telemetry.metrics import CONTENT_TYPE

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from percall_broker.asgi import Door, Message, Receive, Send
    from percall_broker.store.protocol import Store
    from percall_broker.telemetry.metrics import Metrics

PATH_READY = "/readyz"
PATH_METRICS = "/metrics"


class HealthDoor:
    """The process answers: that is all it says. For a supervisor that restarts what does not."""

    async def __call__(self, _scope: Message, _receive: Receive, send: Send) -> None:
        """One request."""
        await answer(send, 200, b'{"alive":true}')


class Readiness(Protocol):
    """Whether calls can be decided."""

    async def problems(self) -> dict[str, str]:
        """What does not hold, by its name, with a stable code."""


class ReadyDoor:
    """200 when calls can be decided; 503, with the codes of what is wrong, when not."""

    def __init__(self, readiness: Readiness) -> None:
        self._readiness = readiness

    async def __call__(self, _scope: Message, _receive: Receive, send: Send) -> None:
        """One request."""
        problems = await self._readiness.problems()
        await answer(send, 503 if problems else 200, wire.dump({"ready": not problems, "problems": problems}))


class MetricsDoor:
    """The figures, once `look_up` has set those that are looked up when they are read; an empty `token` asks for none.

    `readiness` says which problems keep the broker from its work.
    """

    def __init__(
        self,
        metrics: Metrics,
        readiness: Readiness,
        token: bytes,
        look_up: Callable[[dict[str, str]], Awaitable[None]] | None = None,
    ) -> None:
        self._metrics = metrics
        self._readiness = readiness
        self._expected = b"Bearer " + token if token else b""
        self._look_up = look_up

    async def __call__(self, scope: Message, _receive: Receive, send: Send) -> None:
        """One request."""
        given = b"".join(value for name, value in scope["headers"] if name == b"authorization")
        if self._expected and not hmac.compare_digest(given, self._expected):
            challenge = [(b"www-authenticate", b"Bearer")]
            await answer(send, 401, b'{"error":{"code":"metrics.token"}}', JSON, challenge)
            return
        problems = await self._readiness.problems()
        self._metrics.not_ready(problems)
        if self._look_up is not None:
            await self._look_up(problems)
        await answer(send, 200, self._metrics.text(), CONTENT_TYPE)


class OpenCounts:
    """Sets the figures of what is open; `counted` says how many streams are, of both kinds."""

    def __init__(self, metrics: Metrics, store: Store, counted: Callable[[], tuple[int, int]]) -> None:
        self._metrics = metrics
        self._store = store
        self._counted = counted

    async def look_up(self, problems: dict[str, str]) -> None:
        """A store that cannot work is not waited for: the figures shall be there when it is they that are needed."""
        metrics = self._metrics
        streams, event_streams = self._counted()
        metrics.streams.set(streams)
        metrics.event_streams.set(event_streams)
        calls = windows = waiting = float("nan")
        if "store" not in problems:
            with contextlib.suppress(Unavailable):  # counted as a store error
                (found,) = await self._store.fetch("count_open", now_ms=int(time.time() * 1000))
                (queue,) = await self._store.fetch("count_deliveries")
                calls, windows, waiting = found["calls"], found["windows"], queue["waiting"]
        metrics.open_calls.set(calls)
        metrics.open_windows.set(windows)
        metrics.webhook_queue.set(waiting)


class ProbeApplication:
    """The listener for those who watch. GET alone, and of these paths alone, which change once the broker is open."""

    def __init__(self, doors: dict[str, Door]) -> None:
        self._doors = doors

    def opened(self, doors: dict[str, Door]) -> None:
        """What answers from now on."""
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
