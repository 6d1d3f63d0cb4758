"""A broker's answer, whoever it is: bounded, as it was sent, and about what was asked."""

from __future__ import annotations

import gzip
import ssl
import threading
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING

import httpx
import pytest
import trustme

from harness.loopback import Listening, Quiet
from percall import home, wire
from percall.errors import BrokerUnreachable, WireError
from percall.identity import Identity, client
from percall.identity.client import SignedClient

if TYPE_CHECKING:
    from pathlib import Path

SESSION = wire.Session("g_1", "alice", "default", "laptop", "active", 0, False, 1, ())


class Answering(Listening):
    """A broker that answers so."""

    def __init__(self, body: bytes = b"", coding: str = "", pieces: int = 0, seconds: float = 0.0) -> None:
        self.body, self.coding, self.pieces, self.seconds = body, coding, pieces, seconds
        self._over = threading.Event()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        return type("Handler", (_Handler,), {"answering": self})

    def think(self) -> None:
        """As long as the answer takes."""
        self._over.wait(self.seconds)

    def _ending(self) -> None:
        self._over.set()


class _Handler(Quiet, BaseHTTPRequestHandler):
    answering: Answering

    def do_GET(self) -> None:
        self.answering.think()
        self.send_response(200)
        if self.answering.coding:
            self.send_header("Content-Encoding", self.answering.coding)
        if self.answering.pieces:
            self.send_header("Connection", "close")
        else:
            self.send_header("Content-Length", str(len(self.answering.body)))
        self.end_headers()
        self.wfile.write(self.answering.body)
        try:
            for _ in range(self.answering.pieces):
                self.wfile.write(b" " * 1024 * 1024)
        except OSError:
            pass


def ask(answering: Answering) -> wire.Session:
    with answering as broker:
        login = home.Login("g_1", broker.url, "default", "alice", "laptop", "file", 1)
        with SignedClient.with_identity(login, Identity(bytes(32), "a.b.c")) as signed:
            return signed.session()


def test_an_answer_is_read_and_is_about_the_grant_that_asked() -> None:
    assert ask(Answering(wire.dump(wire.encode(SESSION)))) == SESSION
    other = wire.Session("g_2", "alice", "default", "laptop", "active", 0, False, 1, ())
    with pytest.raises(WireError) as caught:
        ask(Answering(wire.dump(wire.encode(other))))
    assert caught.value.code == "broker.stranger"


def test_what_takes_its_time_is_waited_for_as_long_as_it_may_take(monkeypatch: pytest.MonkeyPatch) -> None:
    """Policies that are tried; everything else answers at once, or not at all."""
    monkeypatch.setattr(client, "TIMEOUT_SECONDS", 0.2)
    with Answering(b"[]", seconds=1.0) as broker:
        login = home.Login("g_1", broker.url, "default", "alice", "laptop", "file", 1)
        with SignedClient.with_identity(login, Identity(bytes(32), "a.b.c")) as signed:
            with pytest.raises(BrokerUnreachable):
                signed.json("GET", "/v1/any")
            assert signed.json("GET", "/v1/any", patience=30) == []


def test_an_answer_without_end_takes_no_memory() -> None:
    with pytest.raises(BrokerUnreachable, match="larger than 67108864 bytes"):
        ask(Answering(pieces=80))


def test_what_grows_as_it_is_unpacked_is_not_unpacked() -> None:
    with pytest.raises(BrokerUnreachable, match="compressed"):
        ask(Answering(gzip.compress(b" " * 64 * 1024 * 1024), coding="gzip"))


def test_the_roots_of_the_system_are_believed_over_tls_and_not_even_read_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "roots.pem")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "roots.pem"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    with Answering(b"[]") as plain:
        plain._server.socket = context.wrap_socket(plain._server.socket, server_side=True)
        secure = plain.url.replace("http:", "https:")
        with client.open_http(secure) as trusting:
            assert trusting.get(secure).content == b"[]"
        with client.open_http(plain.url) as other, pytest.raises(httpx.ConnectError, match="VERIFY_FAILED"):
            other.get(secure)
