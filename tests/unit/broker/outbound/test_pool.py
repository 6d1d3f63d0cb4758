"""What a connection may be used for again, and by whom."""

from __future__ import annotations

import asyncio
import socket
import ssl
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest
import trustme
import uvloop

from percall_broker.model.errors import UpstreamFailed
from percall_broker.model.rules import parse_url
from percall_broker.outbound import http1, pool
from percall_broker.outbound.network import READ_BYTES, Network
from percall_broker.outbound.pool import Pool
from percall_broker.outbound.streams import Use
from percall_broker.outbound.upstream import Upstream
from unit.broker.outbound.test_upstream import EVIL, HOST, OK, QUICK, USE, Scripted, fetch, listening, nothing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence


LOOPS = [asyncio.new_event_loop, uvloop.new_event_loop]


async def loopback(_host: str, _port: int) -> Sequence[str]:
    return ["127.0.0.1"]


def contexts() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """An upstream's TLS, and ours that trusts it."""
    authority = trustme.CA()
    theirs, ours = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH), ssl.create_default_context()
    authority.issue_cert("127.0.0.1").configure_cert(theirs)
    authority.configure_trust(ours)
    return theirs, ours


@dataclass
class Standing:
    """An upstream that does nothing but what a test does with it, step by step, on a thread of the test's choice."""

    listener: socket.socket
    seen: list[bytes] = field(default_factory=list)
    connections: list[socket.socket] = field(default_factory=list)

    @property
    def port(self) -> int:
        return int(self.listener.getsockname()[1])

    def accept(self, answer: bytes) -> socket.socket:
        connection, _ = self.listener.accept()
        connection.settimeout(5)
        self.connections.append(connection)
        self.answer(connection, answer)
        return connection

    def answer(self, connection: socket.socket, answer: bytes) -> None:
        self.seen.append(connection.recv(65536))
        connection.sendall(answer)


@contextmanager
def standing() -> Iterator[Standing]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(5)
        upstream = Standing(listener)
        try:
            yield upstream
        finally:
            for connection in upstream.connections:
                connection.close()


def after_an_answer(then: Callable[[socket.socket], None], loop: Callable[[], asyncio.AbstractEventLoop]) -> Standing:
    """Two requests. After the first one's answer, something happens which the event loop has no time to notice."""

    async def run(server: Standing) -> None:
        upstream = Upstream(deadlines=QUICK)
        answering = asyncio.get_running_loop().run_in_executor(None, server.accept, OK)
        assert await fetch(upstream, server.port) == (200, b"ok")
        then(await answering)
        answering = asyncio.get_running_loop().run_in_executor(None, server.accept, OK)
        assert await fetch(upstream, server.port, "/second") == (200, b"ok")
        await answering
        await upstream.close()

    with standing() as server, asyncio.Runner(loop_factory=loop) as runner:
        runner.run(run(server))
    return server


@pytest.mark.parametrize("loop", LOOPS)
def test_bytes_that_nobody_has_read_yet_never_become_the_next_answer(
    loop: Callable[[], asyncio.AbstractEventLoop],
) -> None:
    server = after_an_answer(lambda connection: connection.sendall(EVIL), loop)
    assert [request.split(b" ", 2)[1] for request in server.seen] == [b"/x", b"/second"]


@pytest.mark.parametrize("loop", LOOPS)
def test_a_connection_that_the_upstream_has_closed_unnoticed_gets_no_request(
    loop: Callable[[], asyncio.AbstractEventLoop],
) -> None:
    server = after_an_answer(lambda connection: connection.close(), loop)
    assert [request.split(b" ", 2)[1] for request in server.seen] == [b"/x", b"/second"]


def test_a_request_is_never_sent_twice_also_when_its_warm_connection_ends_under_it() -> None:
    async def run(server: Standing) -> None:
        upstream = Upstream(deadlines=QUICK)
        loop = asyncio.get_running_loop()
        answering = loop.run_in_executor(None, server.accept, OK)
        await fetch(upstream, server.port, method="POST")
        connection = await answering

        def hang_up() -> None:
            server.answer(connection, b"")
            connection.close()

        hanging_up = loop.run_in_executor(None, hang_up)
        with pytest.raises(UpstreamFailed) as failed:
            await fetch(upstream, server.port, method="POST")
        await hanging_up
        assert failed.value.code in {"upstream.protocol", "upstream.cut"}
        server.listener.setblocking(False)
        with pytest.raises(BlockingIOError):
            server.listener.accept()
        await upstream.close()

    with standing() as server:
        asyncio.run(run(server))
    assert len(server.seen) == 2


@pytest.mark.parametrize("other", [Use("another", "server"), Use("grant", "another"), Use("grant", "server", "alice")])
def test_no_connection_serves_two_grants_or_two_servers_or_keys_of_one(other: Use) -> None:
    scripted = Scripted(*[OK] * 4)

    async def run() -> None:
        async with listening(scripted) as port:
            upstream = Upstream(deadlines=QUICK)
            for use in (USE, other, USE, other):
                await fetch(upstream, port, use=use)
            await upstream.close()

    asyncio.run(run())
    assert scripted.connections == 2


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("tls", [False, True])
def test_a_connection_that_was_made_to_wait_is_not_used_again_unheard(
    loop: Callable[[], asyncio.AbstractEventLoop], tls: bool
) -> None:
    """What it has sent since may be on this side already, behind TLS, where nobody sees it."""
    long = b"x" * (READ_BYTES * 2)
    scripted = Scripted(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(long) + long, OK)

    async def run() -> None:
        theirs, ours = contexts() if tls else (None, None)
        async with listening(scripted, ssl=theirs) as port:
            network = Network(loopback, QUICK, ours)
            lending = Pool(network, 1, 1)
            target = parse_url(f"http://127.0.0.1:{port}/")
            async with lending.lend(target, USE) as lent:
                await http1.send(lent.stream, "GET", "/", HOST, nothing())
                for _ in range(100_000):
                    if lent.stream._paused:
                        break
                    await asyncio.sleep(0)
                assert lent.stream._paused
                while lent.stream._size:
                    await lent.stream.read(1)
                assert not lent.stream.is_quiet
                lent.may_be_kept = True
            assert not lending._idle

    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(run())


@pytest.mark.parametrize("loop", LOOPS)
def test_what_is_written_to_a_connection_that_broke_off_this_moment_is_taken_by_nobody(
    loop: Callable[[], asyncio.AbstractEventLoop],
) -> None:
    async def run() -> None:
        async with listening(Scripted()) as port:
            stream = await Network(loopback, QUICK).connect("127.0.0.1", port)
            stream.close()
            assert not await stream.write(b"more")

    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(run())


def test_idle_connections_are_few_and_not_kept_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    scripted = Scripted(*[OK] * 6)

    async def run() -> list[int]:
        counts = []
        async with listening(scripted) as port:
            upstream = Upstream(deadlines=QUICK)
            monkeypatch.setattr(pool, "MAX_IDLE_CONNECTIONS", 2)
            for grant in "abc":
                await fetch(upstream, port, use=Use(grant, "server"))
            counts.append(len(upstream._loopback._idle))
            await fetch(upstream, port, use=Use("c", "server"))
            counts.append(scripted.connections)
            monkeypatch.setattr(pool, "IDLE_SECONDS", -1.0)
            await fetch(upstream, port, use=Use("c", "server"))
            counts += [scripted.connections, len(upstream._loopback._idle)]
            await upstream.close()
            counts.append(len(upstream._loopback._idle))
        return counts

    assert asyncio.run(run()) == [2, 3, 4, 1, 0]
