"""A bridge to a remote server in this process, with nothing between the two but what a test does by hand.

The bridge, its requests, their signatures and the reading of answers are the product's own. Sockets and clock are not:
what was sent lies in `Connections.sent` until the test answers it or cuts it, and time passes when the test says so.
"""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any, cast

from percall import home, wire
from percall.errors import BrokerUnreachable
from percall.http1 import Address
from percall.run.approvals import Approvals
from percall.run.bridge import Bridge
from percall.run.broker import Broker, Signer
from percall.run.loop import Timer

if TYPE_CHECKING:
    from collections.abc import Callable

    from percall.run.connection import Exchange
    from percall.run.loop import Loop
    from percall.run.shim import Shim

URL = "http://127.0.0.1:9"
SUSPENDED = wire.Refusal("grant.suspended", "This agent's grant is suspended.", "Ask your administrator to resume it.")


class Clock:
    """The part of the loop that a bridge uses."""

    def __init__(self) -> None:
        self.timers: list[Timer] = []

    def later(self, _seconds: float, callback: Callable[[], None]) -> Timer:
        timer = Timer(callback)
        self.timers.append(timer)
        return timer

    def passes(self) -> None:
        """All that was to happen later happens now, in order."""
        timers, self.timers = self.timers, []
        for timer in timers:
            if timer.callback is not None:
                timer.callback()


class Lines:
    """The client's end of a pipe, or a person's who reads stderr."""

    def __init__(self) -> None:
        self.waiting = 0
        self.written: list[bytes] = []

    def write(self, line: bytes) -> None:
        self.written.append(line)

    def say(self, sentence: str) -> None:
        self.written.append(sentence.encode())

    def frames(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.written]


class Sent:
    """One request on its way, and what a test may let become of it."""

    def __init__(self, exchange: Exchange) -> None:
        exchange.was_sent = True
        head, _, self.body = exchange.request.partition(b"\r\n\r\n")
        first, *lines = head.decode().split("\r\n")
        self.method, self.path, _ = first.split(" ")
        self.headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
        self.message: dict[str, Any] = json.loads(self.body) if self.body else {}
        self.exchange = exchange
        self.is_over = False
        self._has_begun = False

    @property
    def session(self) -> str:
        return self.headers.get("mcp-session-id", "")

    def answer(self, message: Any, **headers: str) -> None:
        self._begin({"content-type": "application/json", **_named(headers)})
        self._piece(json.dumps(message).encode())
        self.end()

    def event(self, message: Any, identifier: str = "", **headers: str) -> None:
        """One event of a stream that stays open."""
        self._begin({"content-type": "text/event-stream", **_named(headers)})
        place = f"id: {identifier}\n" if identifier else ""
        data = f"data: {json.dumps(message)}\n" if message is not None else ""
        self._piece(f"{place}{data}\n".encode())

    def end(self) -> None:
        if not self.is_over:
            self.is_over = True
            if self.exchange.ended is not None:
                self.exchange.ended()

    def status(self, status: int, code: str = "") -> None:
        """An answer that is no 200; with the broker's error, if it has a code."""
        if not self.is_over:
            self.is_over = True
            error = {"error": {"code": code, "message": f"It is {code}.", "next_step": ""}}
            self.exchange.done(status, {}, json.dumps(error).encode() if code else b"")

    def cut(self) -> None:
        if not self.is_over:
            self.is_over = True
            self.exchange.failed(BrokerUnreachable("broker.away", "The connection was cut."))

    def _begin(self, headers: dict[str, str]) -> None:
        if not self._has_begun and not self.is_over and self.exchange.began is not None:
            self._has_begun = True
            self.exchange.began(headers)

    def _piece(self, piece: bytes) -> None:
        if not self.is_over and self.exchange.stream is not None:
            self.exchange.stream(piece)


def _named(headers: dict[str, str]) -> dict[str, str]:
    return {name.replace("_", "-"): value for name, value in headers.items()}


class Connections(Broker):
    """The broker as the bridge sees it, without sockets."""

    def __init__(self, clock: Clock, login: home.Login) -> None:
        signer = Signer(Address.parse(URL))
        signer.accept(bytes(range(32)), "token")
        super().__init__(cast("Loop", clock), login, signer)
        self.sent: list[Sent] = []

    def exchange(self, exchange: Exchange) -> None:
        self.sent.append(Sent(exchange))

    def cancel(self, exchange: Exchange) -> None:
        for sent in self.sent:
            if sent.exchange is exchange:
                sent.is_over = True

    @property
    def under_way(self) -> list[Sent]:
        self.sent = [sent for sent in self.sent if not sent.is_over]
        return self.sent


class Laptop:
    """What a bridge needs of its shim, and the bridge."""

    def __init__(self, deadline_seconds: int = 0) -> None:
        entry = wire.ServerEntry("far", 1, "relay", "", deadline_seconds=deadline_seconds)
        granted = wire.GrantedServer(entry, tools=("*",))
        session = wire.Session("g1", "alice", "default", "laptop", "active", 0, False, 1, (granted,))
        login = home.Login("g1", URL, "default", "alice", "laptop", "file", time.time_ns())
        self.loop = Clock()
        self.client = Lines()
        self.stderr = Lines()
        self.broker = Connections(self.loop, login)
        self.approvals = Approvals(cast("Loop", self.loop), self.broker, self.client.write)
        self.exit_code: int | None = None
        self.bridge = Bridge(cast("Shim", self), home.Found(login, session, granted))

    def finish(self, code: int) -> None:
        self.exit_code = code

    def grant_ended(self, refusal: wire.Refusal) -> None:
        self.bridge.refuse_all(refusal)

    def says(self, method: str, params: dict[str, Any] | None = None, **members: Any) -> None:
        """The client sends a message."""
        message = {"jsonrpc": "2.0", "method": method, "params": params or {}, **members}
        self.bridge.from_client(json.dumps(message).encode())

    def sent(self, method: str) -> Sent:
        """The one request of this JSON-RPC (or HTTP) method that is under way."""
        (found,) = [one for one in self.broker.under_way if method in {one.message.get("method"), one.method}]
        return found
