"""The egress listener's way to the broker: what a child is told where that way, or the answer, is not right."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import threading
from typing import TYPE_CHECKING

import pytest

from percall import wire
from percall.egress.listener import Listener
from percall.errors import IdentityError
from percall.http1 import Address
from percall.run import sender
from percall.run.broker import Signer
from percall.run.sender import Sender
from percall.run.windows import Windows
from unit.shim.run.conftest import SEED

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from unit.shim.run.small_broker import SmallBroker

ENTRY = wire.ServerEntry("keyed", 1, "egress", "", hosts=("https://api.example.com",), ways=("base-url",))


@contextlib.contextmanager
def answering(answer: bytes, closed: threading.Event | None = None) -> Iterator[str]:
    """The URL of what answers with these bytes, and closes the connection, which `closed` tells."""
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as listening:

        def serve() -> None:
            with contextlib.suppress(OSError):  # `shutdown` wakes it
                while True:
                    connection, _ = listening.accept()
                    with connection, connection.makefile("rb") as requests:
                        length = 0
                        while line := requests.readline().strip():
                            name, _, value = line.partition(b":")
                            length = int(value) if name == b"content-length" else length
                        requests.read(length)
                        connection.sendall(answer)
                    if closed is not None:
                        closed.set()

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            listening.shutdown(socket.SHUT_RDWR)
            thread.join()


def signer_for(url: str) -> Signer:
    signer = Signer(Address.parse(url))
    signer.accept(SEED, "token-of-g1")
    return signer


def told(send: Sender, *, keep: bool = False) -> tuple[int, str, str | None]:
    """The status and the error's code of a child's request in an open window, and whether it may be made again.

    `keep`: what connections there are stay open.
    """
    windows = Windows()
    windows.open("call-1", "credential-1")
    listener = Listener(ENTRY, "", windows.current, windows.redeemed, send)
    listener.start()
    connection = http.client.HTTPConnection("127.0.0.1", listener.port, timeout=20)
    try:
        connection.request("POST", f"/{listener.base_url_secret}/api.example.com/v1", b"a body")
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())["error"]["code"], answer.headers["x-should-retry"]
    finally:
        connection.close()
        listener.close()
        if not keep:
            send.close()


@pytest.mark.parametrize(
    "answer",
    [
        b"SSH-2.0-OpenSSH\r\n\r\n",
        b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\n\r\n" + bytes(wire.MAX_HEAD_BYTES + 1),
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nno size\r\n",
        b"HTTP/1.1 403 Forbidden\r\ntransfer-encoding: chunked\r\n\r\nno size\r\n",
    ],
)
def test_an_answer_that_cannot_be_read_leaves_unknown_what_became_of_the_request(answer: bytes) -> None:
    with answering(answer) as url:
        assert told(Sender(signer_for(url), None)) == (502, "egress.unknown", "false")


def test_a_request_that_fails_gives_its_place_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sender, "MAX_CONNECTIONS", 1)
    monkeypatch.setattr(sender, "_SILENCE_SECONDS", 5.0)
    with answering(b"SSH-2.0-OpenSSH\r\n\r\n") as url:
        send = Sender(signer_for(url), None)
        assert [told(send)[1] for _ in range(2)] == ["egress.unknown"] * 2


def test_one_request_after_another_goes_over_one_connection_and_is_challenged_once(broker: SmallBroker) -> None:
    send = Sender(signer_for(broker.url), None)
    assert [told(send, keep=True) for _ in range(2)] == [(404, "path.unknown", None)] * 2
    assert (broker.connections, broker.challenges) == (1, 1)
    send.close()


def test_a_connection_that_the_broker_has_closed_meanwhile_carries_nothing() -> None:
    refusal = wire.dump({"error": {"code": "request.rule", "message": "No.", "next_step": ""}})
    closed = threading.Event()
    with answering(b"HTTP/1.1 403 X\r\ncontent-length: %d\r\n\r\n%s" % (len(refusal), refusal), closed) as url:
        send = Sender(signer_for(url), None)
        for _ in range(2):
            assert told(send, keep=True) == (403, "request.rule", None)
            assert closed.wait(20)
            closed.clear()
        send.close()


@pytest.mark.parametrize("content", [None, "no certificate"])
def test_certificates_that_cannot_be_read_are_named(tmp_path: Path, content: str | None) -> None:
    file = tmp_path / "authority.pem"
    if content is not None:
        file.write_text(content)
    assert told(Sender(signer_for("https://127.0.0.1:1"), str(file))) == (503, "broker.ca_file", None)


def test_a_request_that_nobody_can_sign_is_refused_with_the_reason() -> None:
    signer = Signer(Address.parse("http://127.0.0.1:1"))
    signer.reject(IdentityError("keyring.locked", "It is locked."))
    assert told(Sender(signer, None)) == (403, "keyring.locked", None)


def test_a_request_waits_for_the_keyring_no_longer_than_it_may(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sender, "_IDENTITY_SECONDS", 0.0)
    assert told(Sender(Signer(Address.parse("http://127.0.0.1:1")), None)) == (403, "identity.waiting", None)


def test_a_request_waits_for_a_connection_no_longer_than_it_may(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sender, "MAX_CONNECTIONS", 0)
    monkeypatch.setattr(sender, "_SILENCE_SECONDS", 0.0)
    assert told(Sender(signer_for("http://127.0.0.1:1"), None)) == (503, "broker.busy", None)
