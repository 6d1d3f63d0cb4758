"""A fake upstream API on loopback that answers only to the real key, and remembers what it saw."""

from __future__ import annotations

import base64
import json
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import parse_qs, urlsplit

from harness.loopback import Listening, Quiet

CANARY = "test_CANARYkeyThatMustNeverReachTheLaptop0123"


@dataclass
class Seen:
    """One request as the upstream saw it."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    key_was_real: bool


@dataclass
class Upstream(Listening):
    """Serves JSON for any path; 401 unless the key stands in a bearer, basic, header, query or body slot.

    `answers` are by the beginning of a path, or of a host and a path.
    """

    key: str
    answers: dict[str, Any] = field(default_factory=dict)
    redirects: dict[str, str] = field(default_factory=dict)
    seen: list[Seen] = field(default_factory=list)
    stream_ended: threading.Event = field(default_factory=threading.Event)

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        return type("Handler", (_Handler,), {"upstream": self})

    def _ending(self) -> None:
        self.stream_ended.set()

    def with_real_key(self) -> list[str]:
        return [f"{seen.method} {seen.path}" for seen in self.seen if seen.key_was_real]


def body_of(request: BaseHTTPRequestHandler) -> bytes:
    """A request's whole body, chunked or not."""
    length = int(request.headers.get("Content-Length") or 0)
    body = request.rfile.read(length) if length else b""
    if "chunked" in (request.headers.get("Transfer-Encoding") or ""):
        while size := int(request.rfile.readline(), 16):
            body += request.rfile.read(size)
            request.rfile.readline()
        request.rfile.readline()
    return body


class _Handler(Quiet, BaseHTTPRequestHandler):
    upstream: Upstream

    def _key_is_real(self, body: bytes) -> bool:
        key = self.upstream.key
        given = self.headers.get("Authorization", "")
        scheme, _, value = given.partition(" ")
        if scheme.lower() in {"bearer", "token"} and value == key:
            return True
        if scheme.lower() == "basic" and key in base64.b64decode(value).decode().split(":", 1):
            return True
        if any(value == key for value in self.headers.values()):
            return True
        if key in (text for values in parse_qs(urlsplit(self.path).query).values() for text in values):
            return True
        return key.encode() in body

    def _serve(self) -> None:
        body = body_of(self)
        real = self._key_is_real(body)
        path = urlsplit(self.path).path
        self.upstream.seen.append(Seen(self.command, self.path, dict(self.headers.items()), body, real))
        if path == "/stream" and real:
            return self._stream()
        if not real:
            return self._answer(401, {"message": "Bad credentials"})
        if path == "/reflect":
            return self._answer(200, {"you_sent": dict(self.headers.items())})
        if path in self.upstream.redirects:
            return self._answer(307, {}, location=self.upstream.redirects[path])
        place = self.headers.get("Host", "") + path
        for prefix, answer in self.upstream.answers.items():
            if path.startswith(prefix) or place.startswith(prefix):
                return self._answer(200, answer)
        return self._answer(200, {"method": self.command, "path": path, "ok": True})

    def _answer(self, status: int, value: Any, *, location: str = "") -> None:
        data = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        if location:
            self.send_header("Location", location)
        self.end_headers()
        self.wfile.write(data)

    def _stream(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        try:
            while not self.upstream.stream_ended.wait(0.02):
                self.wfile.write(b"5\r\ntick\n\r\n")
        except OSError:
            pass
        finally:
            self.close_connection = True

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = _serve  # noqa: N815 - http.server's names
