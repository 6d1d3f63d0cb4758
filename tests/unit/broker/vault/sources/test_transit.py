"""Transit, of a real OpenBao; and what answers badly, on loopback."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING

import pytest

from harness.loopback import Listening, Quiet
from harness.openbao import OpenBao, openbao
from harness.resetting import resetting
from percall_broker.crypto.sodium import SealBrokenError
from percall_broker.model.errors import InvalidInput, Unavailable
from percall_broker.vault.sources import KeyFolder, KeySources, Sealed, Wrapped, transit
from percall_broker.vault.sources.transit import TransitKeys

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.anyio
KEY = b"k" * 32


@pytest.fixture(scope="module")
def bao(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenBao]:
    with openbao(tmp_path_factory.mktemp("openbao")) as running:
        yield running


async def test_a_data_key_comes_back_for_its_own_context_alone(bao: OpenBao) -> None:
    bao.make_key("first")
    source = TransitKeys(bao.url, bao.token, key="first")
    wrapped = await source.wrap(KEY, b"row 1")
    assert wrapped.key == await source.newest() == "transit:first:v1"
    assert KEY not in wrapped.ciphertext
    assert await source.unwrap(wrapped, b"row 1") == KEY
    for broken, context in (
        (wrapped, b"row 2"),
        (Wrapped(wrapped.key, wrapped.ciphertext[:-8] + b"AAAAAAA="), b"row 1"),
    ):
        with pytest.raises(SealBrokenError):
            await source.unwrap(broken, context)
    await source.close()


async def test_a_rotation_makes_a_version_and_the_old_one_still_opens(bao: OpenBao) -> None:
    bao.make_key("turning")
    source = TransitKeys(bao.url, bao.token, key="turning")
    old = await source.wrap(KEY, b"c")
    assert await source.rotate() == "transit:turning:v2"
    new = await source.wrap(KEY, b"c")
    assert new.key == "transit:turning:v2"
    assert [await source.unwrap(wrapped, b"c") for wrapped in (old, new)] == [KEY, KEY]
    await source.close()


async def test_a_broker_moves_from_files_to_transit(bao: OpenBao, tmp_path: Path) -> None:
    bao.make_key("moved")
    files = KeyFolder(tmp_path / "keys")
    files.add()
    old = await files.wrap(KEY, b"c")
    both = KeySources("transit:", {"kek-": files, "transit:": TransitKeys(bao.url, bao.token, key="moved")})
    assert await both.unwrap(old, b"c") == KEY
    assert (await both.wrap(KEY, b"c")).key == "transit:moved:v1"
    with pytest.raises(Unavailable) as caught:
        await both.unwrap(Wrapped("aws:arn", b""), b"c")
    assert caught.value.code == "keys.source"
    await both.close()


async def test_a_token_that_anybody_may_read_is_not_used(bao: OpenBao, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.touch(0o600)
    token.write_text(bao.token.read_text())
    bao.make_key("guarded")
    source = TransitKeys(bao.url, token, key="guarded")
    token.chmod(0o644)
    with pytest.raises(Sealed, match="Others may read") as caught:
        await source.newest()
    assert (caught.value.code, f"chmod o= {token}" in caught.value.next_step) == ("keys.token", True)
    token.chmod(0o640)  # an agent's, in the broker's group
    assert await source.newest() == "transit:guarded:v1"
    await source.close()


async def test_a_token_that_was_renewed_is_read_again(bao: OpenBao, tmp_path: Path) -> None:
    bao.make_key("renewed")
    token = tmp_path / "token"
    token.touch(0o600)
    token.write_text("not a token")
    source = TransitKeys(bao.url, token, key="renewed")
    with pytest.raises(Sealed) as caught:
        await source.newest()
    assert caught.value.code == "keys.forbidden"
    token.write_text(bao.token.read_text())
    assert await source.newest() == "transit:renewed:v1"
    await source.close()


async def test_a_key_that_is_not_there_is_named(bao: OpenBao) -> None:
    source = TransitKeys(bao.url, bao.token, key="nowhere")
    with pytest.raises(Unavailable) as caught:
        await source.newest()
    assert caught.value.code == "keys.missing"
    assert "nowhere" in caught.value.message
    await source.close()


@dataclass
class Answering(Listening):
    """Says the same to everybody, or nothing as long as it is held."""

    status: int = 200
    body: bytes = b""
    held: threading.Event | None = None

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        return type("Handler", (_Handler,), {"source": self})

    def _ending(self) -> None:
        if self.held is not None:
            self.held.set()


class _Handler(Quiet, BaseHTTPRequestHandler):
    source: Answering

    def _serve(self) -> None:
        if self.source.held is not None:
            self.source.held.wait(30)
        self.send_response(self.source.status)
        self.send_header("Content-Length", str(len(self.source.body)))
        self.end_headers()
        self.wfile.write(self.source.body)

    do_GET = do_POST = _serve  # noqa: N815 - http.server's names


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (503, b'{"errors":["Vault is sealed"]}', Sealed),
        (500, b"", Sealed),
        (429, b"{}", Sealed),
        (403, b'{"errors":["permission denied"]}', Sealed),
        (302, b"", Sealed),
        (200, b"<html>", Unavailable),
        (200, b"[]", Unavailable),
        (200, b'{"data":{"ciphertext":7}}', Unavailable),
        (200, b'{"data":{"ciphertext":"plain"}}', Unavailable),
        (400, b'{"errors":["encryption key not found"]}', Unavailable),
        (404, b"{}", Unavailable),
    ],
)
async def test_a_source_that_answers_badly_wraps_nothing(
    status: int, body: bytes, kind: type[Unavailable], tmp_path: Path
) -> None:
    (tmp_path / "token").touch(0o600)
    (tmp_path / "token").write_text("secret-token")
    with Answering(status, body) as far:
        source = TransitKeys(far.url, tmp_path / "token")
        with pytest.raises(Unavailable) as caught:
            await source.wrap(KEY, b"c")
        assert type(caught.value) is kind
        assert "secret-token" not in caught.value.message + caught.value.next_step
        await source.close()


async def test_a_source_that_hangs_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transit, "TIMEOUT_SECONDS", 0.2)
    (tmp_path / "token").touch(0o600)
    (tmp_path / "token").write_text("t")
    with Answering(held=threading.Event()) as far:
        source = TransitKeys(far.url, tmp_path / "token")
        with pytest.raises(Sealed) as caught:
            await source.newest()
        assert caught.value.code == "keys.source_down"
        await source.close()


@pytest.mark.parametrize("anyio_backend", [("asyncio", {"use_uvloop": True})])
async def test_a_source_whose_connections_are_reset_is_down_whatever_that_raises(tmp_path: Path) -> None:
    """In the instant that they are made, too, when what comes out of httpx is no error of httpx's."""
    (tmp_path / "token").write_text("t")
    with resetting() as url:
        source = TransitKeys(url, tmp_path / "token")
        for _ in range(1000):
            with pytest.raises(Sealed):
                await source.newest()
        await source.close()


@pytest.mark.parametrize("address", ["http://vault.example.com:8200", "vault", "https://v.example/path", "file:///x"])
def test_a_token_goes_to_an_origin_over_tls_or_on_loopback_alone(address: str, tmp_path: Path) -> None:
    if address == "vault":
        address = "vault example"
    with pytest.raises(InvalidInput):
        TransitKeys(address, tmp_path / "token")
