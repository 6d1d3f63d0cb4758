"""A broker stand-in that speaks the egress form of the wire over real HTTP, and a listener in front of it."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import json
import os
import socket
import subprocess
import sys
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING, Any

import pytest

from harness.loopback import RoomyServer
from percall import placeholder, wire
from percall.egress.listener import Listener
from percall.errors import BrokerUnreachable
from percall.wire import Window

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from percall.egress.sending import Message

LISTED = "https://api.example.com"


@pytest.fixture(autouse=True)
def _own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs keep their certificates in Percall's folder."""
    monkeypatch.setenv("PERCALL_HOME", str(tmp_path / "home"))


@dataclass
class Script:
    """How the stand-in answers."""

    status: int = 200
    headers: tuple[tuple[str, str], ...] = (("content-type", "application/json"),)
    pieces: tuple[bytes, ...] = ()
    refusal: tuple[int, str] | None = None
    released: threading.Event | None = None
    is_cut_short: bool = False
    cut_at: int | None = None
    """After so many bytes of its answer's body nothing comes any more."""


@dataclass
class StandIn:
    """What came, and what to answer; a credential works once."""

    answer: Callable[[wire.EgressRequest, bytes], Script]
    requests: list[tuple[wire.EgressRequest, bytes]] = field(default_factory=list)
    digests: list[bool] = field(default_factory=list)
    used: set[str] = field(default_factory=set)
    refused: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)
    port: int = 0


class Handler(BaseHTTPRequestHandler):
    stand_in: StandIn
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def do_POST(self) -> None:
        message = self.rfile.read(int(self.headers["content-length"]))
        head, body = wire.split(message)
        request = wire.decode(wire.EgressRequest, head)
        stand_in = self.stand_in
        with stand_in.lock:
            stand_in.digests.append(hashlib.sha256(message).hexdigest() == self.headers["x-digest"])
            stand_in.requests.append((request, body))
            given = {window.credential for window in request.windows if window.credential}
            script = stand_in.answer(request, body)
            if given & stand_in.used:
                script = Script(refusal=(403, "credential.used"))
                stand_in.refused.append("credential.used")
            stand_in.used |= given
        if script.refusal:
            status, code = script.refusal
            error = {"code": code, "message": "It was refused.", "next_step": "Ask an administrator."}
            data = json.dumps({"error": error}).encode()
            self.send_response(status)
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data[: script.cut_at])
            self.close_connection = True
            return
        self.send_response(200)
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        first = wire.join(wire.encode(wire.EgressAnswer(script.status, script.headers)))
        if script.cut_at is not None:
            self.wfile.write(b"%x\r\n%s" % (len(first), first[: script.cut_at]))
            self.close_connection = True
            return
        for index, piece in enumerate((first, *script.pieces)):
            if index == 2 and script.released is not None:  # after the first piece
                script.released.wait(20)
            self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece) if piece else b"")
            self.wfile.flush()
        if script.is_cut_short:
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)
            return
        self.wfile.write(b"0\r\n\r\n")


def echo(request: wire.EgressRequest, body: bytes) -> Script:
    seen = {"method": request.method, "url": request.url, "headers": dict(request.headers), "length": len(body)}
    return Script(pieces=(json.dumps(seen).encode(),))


class Answer:
    def __init__(self, connection: http.client.HTTPConnection, response: http.client.HTTPResponse) -> None:
        self.status = response.status
        self._connection, self._response = connection, response

    def chunks(self) -> Iterator[bytes]:
        try:
            while data := self._response.read1(65536):
                yield data
            if self._response.length:
                raise ConnectionError  # which `read1` passes over
        except (http.client.HTTPException, OSError, AttributeError) as error:  # the last: closed by another thread
            raise BrokerUnreachable("broker.cut", "The broker's answer was cut short.") from error

    def close(self) -> None:
        if (reading := self._connection.sock) is not None:  # else it would wait for the thread that reads
            with contextlib.suppress(OSError):  # which may be closing it just now
                reading.shutdown(socket.SHUT_RDWR)
        self._connection.close()


@dataclass
class Stage:
    """A listener, what stands behind it, and the windows."""

    stand_in: StandIn
    windows: list[Window] = field(default_factory=list)
    redeemed: list[str] = field(default_factory=list)
    listeners: list[Listener] = field(default_factory=list)

    def take_redeemed(self, call: str) -> None:
        self.redeemed.append(call)
        self.windows[:] = [Window(w.call) if w.call == call else w for w in self.windows]

    def send(self, path: str, message: Message) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", self.stand_in.port, timeout=30)
        try:
            connection.request(
                "POST",
                path,
                message.chunks(),
                {"content-length": str(message.length), "x-digest": message.digest.hex()},
            )
            return Answer(connection, connection.getresponse())
        except (OSError, http.client.HTTPException):
            connection.close()
            raise BrokerUnreachable("broker.unreachable", "The broker does not answer.") from None

    def listen(self, **changes: Any) -> Listener:
        members: dict[str, Any] = {
            "name": "example",
            "version": 1,
            "delivery": "egress",
            "label": "key stays in the broker",
            "environment": {"API_KEY": "{key}", "API_URL": f"{{listener:{LISTED}}}"},
            "placeholder": "exm_{random:24}",
            "ways": ("base-url",),
            "hosts": (LISTED, "https://*.wild.example.com"),
        }
        entry = wire.ServerEntry(**{**members, **changes})
        listener = Listener(
            entry,
            placeholder.make(entry.placeholder),
            lambda: tuple(self.windows),
            self.take_redeemed,
            self.send,
        )
        self.listeners.append(listener)
        listener.start()
        return listener


@pytest.fixture
def stage() -> Iterator[Stage]:
    stand_in = StandIn(echo)
    server = RoomyServer(("127.0.0.1", 0), type("Bound", (Handler,), {"stand_in": stand_in}))
    server.daemon_threads = True
    stand_in.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    stage = Stage(stand_in)
    yield stage
    for listener in stage.listeners:
        listener.close()
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def opened(stage: Stage) -> Stage:
    stage.windows.append(Window("call-1", "credential-1"))
    return stage


def child_environment(listener: Listener) -> dict[str, str]:
    base = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    return {**base, **listener.environment(base)}


def run_child(listener: Listener, *command: str, **more: str) -> str:
    done = subprocess.run(
        command, env={**child_environment(listener), **more}, capture_output=True, timeout=60, check=False, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def run_python(listener: Listener, code: str, **more: str) -> str:
    return run_child(listener, sys.executable, "-c", code, **more)


def raw(listener: Listener, data: bytes) -> bytes:
    """Bytes to the listener, and all that comes back until it closes."""
    with socket.create_connection(("127.0.0.1", listener.port), 20) as connection:
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
        answer = b""
        while piece := connection.recv(65536):
            answer += piece
        return answer


def ask(
    listener: Listener, method: str = "GET", path: str = "/v1/items", body: Any = None, **headers: str
) -> tuple[int, dict[str, str], bytes]:
    """One request in the base URL's form."""
    base = listener.environment({})["API_URL"].partition(f":{listener.port}")[2]
    connection = http.client.HTTPConnection("127.0.0.1", listener.port, timeout=30)
    try:
        connection.request(method, base + path, body, headers)
        response = connection.getresponse()
        return response.status, {name.lower(): value for name, value in response.getheaders()}, response.read()
    finally:
        connection.close()
