"""The connections under the loop, where the machine, the network or the broker lets them down."""

from __future__ import annotations

import _thread
import socket
import threading
from contextlib import ExitStack, closing, contextmanager, suppress
from typing import TYPE_CHECKING, Self

import pytest

from percall.http1 import Address
from percall.run import connection
from percall.run.connection import Exchange, Pool
from percall.run.loop import Loop

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
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

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.pool.close()

    def until(self, holds: Callable[[], bool]) -> None:
        """Goes on until something holds."""
        self.loop._stopped = False  # it may have run before

        def look() -> None:
            self.loop.stop() if holds() else self.loop.later(0.0, look)

        look()
        self.loop.run()

    def send(self) -> Exchange:
        def failed(error: PercallError) -> None:
            self._hear(error.code)

        exchange = Exchange(ASK, lambda _status, _headers, body: self._hear(body), failed)
        self.pool.send(exchange)
        return exchange

    def hears(self, expected: int) -> list[bytes | str]:
        """What it has heard once that is so much."""
        self._expected = expected
        self.loop._stopped = False  # it may have run before
        self.loop.run()
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
    with broker(1, at_once) as address, Client(address) as client:

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
    with Client(Address.parse("https://127.0.0.1:1"), str(file)) as client:
        for _ in range(3):
            client.send()
        assert client.hears(3) == ["broker.ca_file"] * 3


def test_a_handshake_that_never_ends_holds_nothing_up_for_longer_than_an_answer_may_take(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(connection, "_SWEEP_SECONDS", 0.01)
    monkeypatch.setattr(connection, "ANSWER_SECONDS", 0.05)
    with socket.create_server(("127.0.0.1", 0)) as hanging, ExitStack() as stack:
        client = stack.enter_context(Client(Address.parse(f"https://127.0.0.1:{hanging.getsockname()[1]}")))
        client.send()
        client.send()
        assert client.hears(2) == ["broker.silent"] * 2
        hanging.settimeout(20)
        for _ in range(2):  # whose handshake has begun: Python keeps a connection open that ends right before
            with hanging.accept()[0] as begun:
                begun.recv(1)
        client.until(lambda: client.pool._opening == 0)


def test_what_waits_in_line_gets_the_connection_that_is_free_next_where_no_other_can_be_had(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    may_answer = threading.Event()
    with broker(2, may_answer) as address, Client(address) as client:
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


@contextmanager
def fickle(
    *answers: int, hangs: threading.Event | None = None, cuts: threading.Event | None = None
) -> Iterator[tuple[Address, list[socket.socket]]]:
    """What answers so many requests on each connection, and closes it at the next, or once it `cuts`; none while it
    hangs. What it has accepted.
    """
    accepted: list[socket.socket] = []

    def serve(connected: socket.socket, left: int) -> None:
        with connected, connected.makefile("rb") as received:
            while received.readline():
                while received.readline().strip():
                    pass
                if hangs is not None and hangs.is_set():
                    continue
                if not left or (cuts is not None and cuts.is_set()):
                    return
                connected.sendall(ANSWER)
                left -= 1

    def accept() -> None:
        with suppress(OSError):  # `shutdown` wakes it
            for left in answers:
                accepted.append(listening.accept()[0])
                threads.append(threading.Thread(target=serve, args=(accepted[-1], left)))
                threads[-1].start()

    with socket.create_server(("127.0.0.1", 0)) as listening:
        threads = [threading.Thread(target=accept)]
        threads[0].start()
        try:
            yield Address.parse(f"http://127.0.0.1:{listening.getsockname()[1]}"), accepted
        finally:
            listening.shutdown(socket.SHUT_RDWR)
            for thread in threads:
                thread.join()


@pytest.mark.parametrize(
    ("answers", "heard"),
    [
        ((0,), ["broker.unreachable"]),
        ((1, 1), [b"ok", b"ok"]),
        ((1, 0), [b"ok", "broker.unreachable"]),
    ],
)
def test_a_request_is_made_again_once_and_only_where_its_warm_connection_was_closed(
    answers: tuple[int, ...], heard: list[bytes | str]
) -> None:
    with fickle(*answers, 9) as (address, accepted), Client(address) as client:
        for expected in range(1, len(heard) + 1):
            client.send()
            client.hears(expected)
        assert (client.heard, len(accepted)) == (heard, len(answers))


def test_a_request_is_not_made_a_third_time_although_each_connection_was_a_warm_one() -> None:
    cuts = threading.Event()
    with fickle(9, 9, 9, cuts=cuts) as (address, accepted), Client(address) as client:
        client.send()
        client.send()
        client.hears(2)
        client.until(lambda: len(client.pool._idle) == 2)
        cuts.set()
        client.send()
        assert client.hears(3)[-1] == "broker.unreachable"
        assert len(accepted) == 2


def test_after_a_silence_nothing_goes_out_on_a_connection_that_was_free_meanwhile(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hangs = threading.Event()
    with fickle(9, 9, 9, hangs=hangs) as (address, accepted), Client(address) as client:
        client.send()
        client.send()
        client.hears(2)
        client.until(lambda: len(client.pool._idle) == 2)
        monkeypatch.setattr(connection, "_SWEEP_SECONDS", 0.01)
        monkeypatch.setattr(connection, "ANSWER_SECONDS", 0.05)
        hangs.set()
        client.send()
        client.hears(3)
        hangs.clear()
        client.send()
        assert client.hears(4) == [b"ok", b"ok", "broker.silent", b"ok"]
        assert len(accepted) == 3


def test_a_connection_that_the_broker_closes_while_it_is_free_is_let_go_of() -> None:
    with fickle(1, 1) as (address, accepted), Client(address) as client:
        client.send()
        client.hears(1)
        accepted[0].shutdown(socket.SHUT_RDWR)
        client.until(lambda: not client.pool._idle)
        assert not client.send().is_retry
        assert client.hears(2) == [b"ok", b"ok"]


def test_what_is_cancelled_while_it_waits_in_line_is_told_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "start_new_thread", none_left)
    with Client(Address.parse("http://127.0.0.1:1")) as client:
        client.pool.cancel(client.send())
        client.send()
        assert client.hears(1) == ["broker.unreachable"]
