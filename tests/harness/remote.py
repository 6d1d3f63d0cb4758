"""A remote MCP server made by hand: every byte of its answers is the test's own, also those that no SDK would send."""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlsplit

from harness.loopback import Listening, Quiet
from harness.upstream import CANARY, Seen

if TYPE_CHECKING:
    from collections.abc import Callable

SESSION = "upstream-session-1"


def entry(
    url: str, *, more: str = "", slots: str = '[[key.slot]]\nheader = "Authorization"\nformat = "Bearer {key}"'
) -> str:
    """An entry for a remote server on loopback."""
    return f"""
[server]
title = "A remote test server"
delivery = "relay"
url = "{url}/mcp"
{more}
{slots}
"""


@dataclass
class Remote(Listening):
    """Answers each message by what `behaviours` says of its tool or method; else with a plain result."""

    key: str = CANARY
    behaviours: dict[str, Callable[[Exchange], None]] = field(default_factory=dict)
    seen: list[Seen] = field(default_factory=list)
    released: threading.Event = field(default_factory=threading.Event)
    anyone: bool = False
    """Whether it answers without its key too."""
    gone: threading.Event = field(default_factory=threading.Event)

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        return type("Handler", (_Handler,), {"remote": self})

    def _ending(self) -> None:
        self.released.set()

    def bodies(self) -> list[bytes]:
        return [seen.body for seen in self.seen]


class Exchange:
    """One request at the remote server, and ways to answer it."""

    def __init__(self, handler: _Handler, message: dict[str, Any]) -> None:
        self._handler = handler
        self.remote = handler.remote
        self.headers = handler.headers
        self.path = handler.path
        self.query = dict(parse_qsl(urlsplit(handler.path).query))
        self.message = message

    def result(self, value: Any) -> dict[str, Any]:
        return {"jsonrpc": "2.0", "id": self.message.get("id"), "result": value}

    def text(self, text: str, *, is_error: bool = False) -> dict[str, Any]:
        return self.result({"content": [{"type": "text", "text": text}], "isError": is_error})

    def head(self, status: int, content: str, headers: dict[str, str], length: int | None = None) -> None:
        self._handler.send_response(status)
        if content:
            self._handler.send_header("Content-Type", content)
        for name, value in headers.items():
            self._handler.send_header(name.replace("_", "-"), value)
        if length is None:
            self._handler.send_header("Connection", "close")
            self._handler.close_connection = True
        else:
            self._handler.send_header("Content-Length", str(length))
        self._handler.end_headers()

    def write(self, data: bytes) -> None:
        self._handler.wfile.write(data)
        self._handler.wfile.flush()

    def json(self, value: Any, status: int = 200, **headers: str) -> None:
        data = value if isinstance(value, bytes) else json.dumps(value).encode()
        self.head(status, "application/json" if data else "", headers, len(data))
        self.write(data)

    def events(self, *values: Any, ids: bool = False, **headers: str) -> None:
        self.head(200, "text/event-stream", headers)
        for at, value in enumerate(values):
            self.event(value, f"event-{at}" if ids else "")

    def event(self, value: Any, identifier: str = "") -> None:
        named = f"id: {identifier}\n" if identifier else ""
        self.write(f"event: message\n{named}data: {json.dumps(value)}\n\n".encode())

    def flood(self) -> int:
        """How many of 512 messages, of a megabyte each, are taken, before nobody takes one for two seconds."""
        self.head(200, "text/event-stream", {})
        self._handler.connection.settimeout(2.0)
        data = {"jsonrpc": "2.0", "method": "notifications/message", "params": {"data": "x" * 1024 * 1024}}
        for taken in range(512):
            try:
                self.event(data)
            except TimeoutError:
                return taken
        return 512

    def until_the_client_leaves(self, beat: bytes = b": still here\n\n") -> None:
        try:
            while not self.remote.released.wait(0.02):
                self.write(beat)
        except OSError:
            self.remote.gone.set()


class _Handler(Quiet, BaseHTTPRequestHandler):
    remote: Remote

    def _serve(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        real = self.remote.key in self.path or any(self.remote.key in value for value in self.headers.values())
        self.remote.seen.append(Seen(self.command, self.path, dict(self.headers.items()), body, real))
        message = json.loads(body) if body else {}
        exchange = Exchange(self, message)
        method = message.get("method", self.command)
        name = str((message.get("params") or {}).get("name")) if method == "tools/call" else method
        behaviour = self.remote.behaviours.get(name) or self.remote.behaviours.get(method)
        if not (real or self.remote.anyone):
            return exchange.json({"error": "no key"}, 401, WWW_Authenticate="Bearer")
        if behaviour is not None:
            return behaviour(exchange)
        if "id" not in message or "method" not in message:
            return exchange.json(b"", 202)
        if method == "initialize":
            info = {"protocolVersion": message["params"]["protocolVersion"], "capabilities": {}}
            return exchange.json(exchange.result(info), Mcp_Session_Id=SESSION)
        return exchange.json(exchange.text(f"{method} {name}"))

    do_GET = do_POST = do_DELETE = _serve  # noqa: N815 - http.server's names
