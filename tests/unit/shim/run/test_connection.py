"""The connections under the loop, where the machine, the network or the broker lets them down."""

from __future__ import annotations

import _thread
import socket
import threading
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

import pytest

from percall.http1 import Address
from percall.run import connection
from percall.run.connection import Exchange, Pool
from percall.run.loop import Loop

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from percall.errors import PercallError

ASK = b"GET / HTTP/1.1\r\nhost: b\r\n\r\n"
ANSWER = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"


def none_left(*_: object) -> None:
    """As Python says it where a thread is to be started."""
    raise RuntimeError("can't start new thread")


@contextmanager
def broker(requests: int, may_answer: threading.Event) -> Iterator[Address]:
    """What takes one connection, and so many requests on it."""

    def serve() -> None:
        with closing(listening.accept()[0]) as connected, connected.makefile("rb") as received:
            for _ in range(requests):
                while received.readline().strip():
                    pass
                may_answer.wait()
                connected.sendall(ANSWER)

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=serve)
        thread.start()
        yield Address.parse(f"http://127.0.0.1:{listening.getsockname()[1]}")
        thread.join()


class Client:
    """Sends exchanges, and hears what becomes of each: its answer's body, or its error's code."""

    def __init__(self, address: Address, ca_file: str | None = None) -> None:
        self.heard: list[bytes | str] = []
        self.loop = Loop()
        self.pool = Pool(self.loop, address, ca_file)
        self._expected = 0

    def send(self) -> Exchange:
        def failed(error: PercallError) -> None:
            self._hear(error.code)

        exchange = Exchange(ASK, lambda _status, _headers, body: self._hear(body), failed)
        self.pool.send(exchange)
        return exchange

    def hears(self, expected: int) -> list[bytes | str]:
        """What it has heard once that is so much."""
        self._expected = expected
        self.loop.run()
        self.pool.close()
        return self.heard

    def _hear(self, said: bytes | str) -> None:
        self.heard.append(said)
        if len(self.heard) == self._expected:
            self.loop.stop()


def test_without_a_thread_to_connect_in_what_waits_is_told_and_what_comes_next_tries_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    at_once = threading.Event()
    at_once.set()
    with broker(1, at_once) as address:
        client = Client(address)

        def try_again() -> None:
            assert client.heard == ["broker.unreachable"] * 2
            monkeypatch.setattr(connection, "start_new_thread", _thread.start_new_thread)
            client.send()

        monkeypatch.setattr(connection, "start_new_thread", none_left)
        client.send()
        client.send()
        client.loop.call_soon(try_again)
        assert client.hears(3)[-1] == b"ok"


@pytest.mark.parametrize("content", [None, "no certificate"])
def test_where_the_brokers_certificates_cannot_be_read_that_is_told(tmp_path: Path, content: str | None) -> None:
    file = tmp_path / "authority.pem"
    if content is not None:
        file.write_text(content)
    client = Client(Address.parse("https://127.0.0.1:1"), str(file))
    for _ in range(3):
        client.send()
    assert client.hears(3) == ["broker.ca_file"] * 3


def test_a_handshake_that_never_ends_holds_nothing_up_for_longer_than_an_answer_may_take(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(connection, "_SWEEP_SECONDS", 0.01)
    monkeypatch.setattr(connection, "ANSWER_SECONDS", 0.05)
    with socket.create_server(("127.0.0.1", 0)) as hanging:
        client = Client(Address.parse(f"https://127.0.0.1:{hanging.getsockname()[1]}"))
        client.send()
        client.send()
        assert client.hears(2) == ["broker.silent"] * 2


def test_what_waits_in_line_gets_the_connection_that_is_free_next_where_no_other_can_be_had(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    may_answer = threading.Event()
    with broker(2, may_answer) as address:
        client = Client(address)
        first = client.send()

        def second() -> None:
            if not first.was_sent:
                client.loop.later(0.0, second)
                return
            monkeypatch.setattr(connection, "start_new_thread", none_left)
            client.send()
            client.loop.call_soon(may_answer.set)  # once it is known that there is no other

        second()
        assert client.hears(2) == [b"ok", b"ok"]
