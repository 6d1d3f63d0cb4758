"""A provider that is slow, endless, or sends us elsewhere gets no further, and holds nobody up."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
import select
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import SecretStr

from harness.loopback import RoomyServer
from harness.resetting import resetting
from percall_broker.model.errors import BrokerError
from percall_broker.oidc import Client, Provider, provider

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.anyio
MEGABYTE = b"x" * 1024 * 1024
REDIRECT = "http://127.0.0.1:1/callback"


class Hostile(BaseHTTPRequestHandler):
    """Describes itself well, and answers `where` as `how` says."""

    where = ""
    how: Callable[[Hostile], None]
    asked: list[str]

    def do_GET(self) -> None:
        self.asked.append(self.path)
        url = f"http://{self.headers['Host']}"
        if self.path == self.where:
            type(self).how(self)
        elif self.path.startswith("/.well-known"):
            endpoints = {"authorization_endpoint": "/auth", "token_endpoint": "/token", "jwks_uri": "/jwks"}
            self.answer({"issuer": url, **{name: url + path for name, path in endpoints.items()}})
        else:
            self.answer(
                {"keys": [{"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}
            )

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.do_GET()

    def answer(self, value: dict[str, Any]) -> None:
        self.begin(200, {"Content-Type": "application/json"})
        self.wfile.write(json.dumps(value).encode())

    def begin(self, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, text in headers.items():
            self.send_header(name, text)
        self.end_headers()

    def floods(self) -> None:
        self.begin(200, {"Content-Type": "application/json"})
        with contextlib.suppress(OSError):
            for _ in range(64):
                self.wfile.write(MEGABYTE)
            self.asked.append("took it all")

    def inflates(self) -> None:
        self.begin(200, {"Content-Type": "application/json", "Content-Encoding": "gzip"})
        self.wfile.write(gzip.compress(MEGABYTE * 64))

    def drips(self) -> None:
        self.begin(200, {"Content-Type": "application/json"})
        with contextlib.suppress(OSError):
            while not select.select([self.connection], [], [], 0.02)[0]:  # until the client hangs up
                self.wfile.write(b" ")

    def redirects(self) -> None:
        self.begin(307, {"Location": "/elsewhere"})

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture(params=["/.well-known/openid-configuration", "/jwks", "/token"])
def hostile(request: pytest.FixtureRequest) -> Iterator[tuple[type[Hostile], Provider]]:
    handler = type("Handler", (Hostile,), {"where": request.param, "asked": []})
    server = RoomyServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    issuer = f"http://127.0.0.1:{server.server_address[1]}"
    yield handler, Provider(Client(issuer, "percall", SecretStr("secret"), "openid", "email", "groups"))
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.mark.parametrize(
    ("how", "codes"),
    [
        (Hostile.floods, {"sign_in.size"}),
        (Hostile.inflates, {"sign_in.form"}),
        (Hostile.drips, {"sign_in.unreachable"}),
        (Hostile.redirects, {"sign_in.unreachable", "sign_in.token", "sign_in.code"}),
    ],
)
async def test_a_provider_that_misbehaves_is_given_up_and_named(
    hostile: tuple[type[Hostile], Provider],
    how: Callable[[Hostile], None],
    codes: set[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    handler, ours = hostile
    handler.how = how
    monkeypatch.setattr(provider, "_TIMEOUT_SECONDS", 0.5)
    with pytest.raises(BrokerError) as caught:
        await ours.account("code", "v" * 43, "nonce", REDIRECT, time.time())
    assert caught.value.code in codes
    assert caught.value.next_step
    assert "/elsewhere" not in handler.asked
    assert "took it all" not in handler.asked


async def test_a_provider_that_accepts_and_says_nothing_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(provider, "_TIMEOUT_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        issuer = f"http://127.0.0.1:{silent.getsockname()[1]}"
        ours = Provider(Client(issuer, "percall", SecretStr("secret"), "openid", "email", "groups"))
        with pytest.raises(BrokerError) as caught:
            await ours.authorization_endpoint()
    assert caught.value.code == "sign_in.unreachable"


@pytest.mark.parametrize("anyio_backend", [("asyncio", {"use_uvloop": True})])
async def test_a_provider_whose_connections_are_reset_is_given_up_whatever_that_raises() -> None:
    with resetting() as issuer:
        ours = Provider(Client(issuer, "percall", SecretStr("secret"), "openid", "email", "groups"))
        for _ in range(5):
            # Many at once, so that the reset is there before httpx looks at its connection.
            asking = [ours.authorization_endpoint() for _ in range(20)]
            said = await asyncio.gather(*asking, return_exceptions=True)
            assert {getattr(error, "code", error) for error in said} == {"sign_in.unreachable"}
