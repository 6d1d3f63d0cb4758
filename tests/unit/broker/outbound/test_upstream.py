"""The upstream client against real servers on loopback that answer byte by byte what a test says."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
import trustme
import uvloop

from percall_broker.model.errors import UpstreamFailed
from percall_broker.model.rules import parse_url
from percall_broker.outbound.http1 import check_head
from percall_broker.outbound.network import Deadlines, Network
from percall_broker.outbound.pool import Pool
from percall_broker.outbound.streams import Use
from percall_broker.outbound.upstream import Upstream

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence


OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
HOST = [(b"host", b"api.example.com")]
USE = Use("grant", "server")
QUICK = Deadlines(connect=2, first_byte=0.3, idle=0.3, write=2)


class Scripted:
    """Answers each request's head with the next script, and remembers the heads. None hangs; b"" closes at once."""

    def __init__(self, *scripts: bytes | None, end: bool = False) -> None:
        self.scripts = list(scripts)
        self.heads: list[bytes] = []
        self.connections = 0
        self.end = end
        self.open: set[asyncio.Task[None]] = set()

    def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.open.add(asyncio.create_task(self.serve(reader, writer)))

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while self.scripts:
                self.heads.append(await reader.readuntil(b"\r\n\r\n"))
                script = self.scripts.pop(0)
                if script is None:
                    await reader.read()
                    break
                writer.write(script)
                if self.end or not script:
                    break
            else:
                await reader.read()
        except (asyncio.IncompleteReadError, OSError):
            pass
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


@asynccontextmanager
async def listening(scripted: Scripted, **more: Any) -> AsyncIterator[int]:
    server = await asyncio.start_server(scripted.accept, "127.0.0.1", 0, **more)
    try:
        async with server:
            yield server.sockets[0].getsockname()[1]
    finally:
        await asyncio.gather(*scripted.open)


async def nothing() -> AsyncIterator[bytes]:
    for _ in range(0):
        yield b""


async def fetch(
    upstream: Upstream, port: int, path: str = "/x", method: str = "GET", use: Use = USE
) -> tuple[int, bytes]:
    url = parse_url(f"http://127.0.0.1:{port}{path}")
    async with upstream.send(method, url, HOST, nothing(), {}, use=use) as answer:
        return answer.status, b"".join([piece async for piece in answer.body])


def answered(
    *scripts: bytes | None, end: bool = False, times: int = 1, method: str = "GET"
) -> tuple[Scripted, list[tuple[int, bytes]]]:
    scripted = Scripted(*scripts, end=end)

    async def run() -> list[tuple[int, bytes]]:
        async with listening(scripted) as port:
            upstream = Upstream(deadlines=QUICK)
            try:
                return [await fetch(upstream, port, method=method) for _ in range(times)]
            finally:
                await upstream.close()

    return scripted, asyncio.run(run())


def refusal(*scripts: bytes | None, end: bool = False) -> str:
    with pytest.raises(UpstreamFailed) as failed:
        answered(*scripts, end=end)
    return failed.value.code


def test_the_request_goes_out_as_it_was_given_and_nothing_is_added() -> None:
    scripted, answers = answered(OK)
    assert answers == [(200, b"ok")]
    assert scripted.heads == [b"GET /x HTTP/1.1\r\nhost: api.example.com\r\n\r\n"]


def test_connections_are_kept_warm() -> None:
    scripted, answers = answered(OK, OK, OK, times=3)
    assert len(answers) == 3
    assert scripted.connections == 1


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"
EVIL = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"


@pytest.mark.parametrize("answer", [OK, CHUNKED])
@pytest.mark.parametrize("surplus", [EVIL, b"HTTP/1.1 200 OK\r\nX: ", b"\r\n", CHUNKED, b"0\r\n\r\n"])
def test_bytes_after_an_answer_never_become_the_next_one(answer: bytes, surplus: bytes) -> None:
    with contextlib.suppress(UpstreamFailed):  # refused is well; believed is not
        _, answers = answered(answer + surplus, OK, times=2)
        assert answers == [(200, b"ok"), (200, b"ok")]


def test_connections_stay_warm_after_chunked_answers_too() -> None:
    scripted, answers = answered(CHUNKED, CHUNKED, times=2)
    assert answers == [(200, b"ok"), (200, b"ok")]
    assert scripted.connections == 1


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\ncontent-length: 5\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2, 2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nContent-Length: +2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    ],
)
def test_an_ambiguous_length_is_refused(head: bytes) -> None:
    assert refusal(head) == "upstream.framing"


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.1 200 OK\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\nX: y\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nX: y\r\n folded\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nContent-Length : 2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nX: a\x00b\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/2 200\r\n\r\n",
        b"garbage\r\n\r\n",
        b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n" * 20,
        b"HTTP/1.1 200 OK\r\nX: " + b"a" * 100_000 + b"\r\n\r\n",
    ],
)
def test_a_head_that_could_be_read_differently_is_refused(head: bytes) -> None:
    assert refusal(head) == "upstream.head"


def test_informational_answers_are_passed_over() -> None:
    assert answered(b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" + OK)[1] == [(200, b"ok")]


def test_redirects_are_not_followed() -> None:
    scripted, answers = answered(b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n")
    assert answers == [(302, b"")]
    assert len(scripted.heads) == 1


@pytest.mark.parametrize(
    ("script", "code"),
    [
        (None, "upstream.timeout"),
        (b"HTTP/1.1 200 OK\r\nContent-Len", "upstream.timeout"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nok", "upstream.timeout"),
    ],
)
def test_an_upstream_that_stops_is_not_waited_for(script: bytes | None, code: str) -> None:
    assert refusal(script) == code


@pytest.mark.parametrize(
    "script",
    [
        b"",
        b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nok",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nok",
    ],
)
def test_an_answer_that_ends_early_is_a_failure_and_is_not_tried_again(script: bytes) -> None:
    assert refusal(script, end=True) == "upstream.protocol"


LONG = bytes(range(256)) * 4 * 1024 * 3


def long_answer(body: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(LONG) + body


def test_a_long_body_is_whole_and_its_connection_stays_warm() -> None:
    scripted, answers = answered(long_answer(LONG), OK, times=2)
    assert answers == [(200, LONG), (200, b"ok")]
    assert scripted.connections == 1


def test_bytes_behind_a_long_body_are_dropped() -> None:
    _, answers = answered(long_answer(LONG + EVIL), OK, times=2)
    assert answers == [(200, LONG), (200, b"ok")]


def test_a_long_body_that_ends_early_or_stops_is_a_failure() -> None:
    assert refusal(long_answer(LONG[:-1]), end=True) == "upstream.protocol"
    assert refusal(long_answer(LONG[:-1]), None) == "upstream.timeout"


def test_a_body_that_ends_with_its_connection_is_whole() -> None:
    assert answered(b"HTTP/1.1 200 OK\r\n\r\nuntil the end", end=True)[1] == [(200, b"until the end")]


async def over_tls(port: int, trust: ssl.SSLContext) -> bytes:
    """What https://api.example.com answers, which listens here."""

    async def checked(_host: str, _port: int) -> Sequence[str]:
        return ["127.0.0.1"]

    upstream = Upstream()
    upstream._public = Pool(Network(checked, QUICK, trust), 1, 1)
    url = parse_url(f"https://api.example.com:{port}/")
    try:
        async with upstream.send("GET", url, HOST, nothing(), {}, use=USE) as answer:
            return b"".join([piece async for piece in answer.body])
    finally:
        await upstream.close()


@pytest.mark.parametrize("is_cut", [False, True])
def test_a_body_that_ends_with_its_tls_connection_is_whole_only_when_the_upstream_says_so(is_cut: bool) -> None:
    authority = trustme.CA()
    theirs, ours = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH), ssl.create_default_context()
    authority.issue_cert("api.example.com").configure_cert(theirs)
    authority.configure_trust(ours)

    def serve(listener: socket.socket) -> None:
        with theirs.wrap_socket(listener.accept()[0], server_side=True) as connection:
            connection.recv(65536)
            connection.sendall(b"HTTP/1.1 200 OK\r\n\r\nuntil the end")
            if not is_cut:
                connection.unwrap()

    async def run(listener: socket.socket) -> bytes:
        serving = asyncio.get_running_loop().run_in_executor(None, serve, listener)
        try:
            return await over_tls(listener.getsockname()[1], ours)
        finally:
            await serving

    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        listener.settimeout(5)
        if is_cut:
            with pytest.raises(UpstreamFailed) as failed:
                runner.run(run(listener))
            assert failed.value.code == "upstream.cut"
        else:
            assert runner.run(run(listener)) == b"until the end"


async def one_public_send(resolved: Sequence[str], url: str, connect: dict[str, str] | None = None) -> bytes:
    async def resolve(_host: str, _port: int) -> Sequence[str]:
        return resolved

    upstream = Upstream(deadlines=QUICK, resolve=resolve)
    try:
        async with upstream.send("GET", parse_url(url), HOST, nothing(), connect or {}, use=USE) as answer:
            return b"".join([piece async for piece in answer.body])
    finally:
        await upstream.close()


@pytest.mark.parametrize("address", ["127.0.0.1", "10.0.0.1", "169.254.169.254", "::ffff:127.0.0.1", "100.64.0.1"])
def test_an_https_host_that_resolves_to_a_private_address_is_not_connected_to(address: str) -> None:
    with pytest.raises(UpstreamFailed) as failed:
        asyncio.run(one_public_send([address], "https://api.example.com/"))
    assert failed.value.code == "upstream.address"


def test_plain_http_goes_to_loopback_alone() -> None:
    with pytest.raises(UpstreamFailed) as failed:
        asyncio.run(one_public_send(["8.8.8.8"], "http://api.example.com/"))
    assert failed.value.code == "upstream.address"


def test_a_stand_in_that_an_administrator_named_gets_the_request_and_the_environments_proxy_does_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    scripted = Scripted(OK)

    async def run() -> bytes:
        async with listening(scripted) as port:
            stand_in = {"https://api.example.com": f"http://127.0.0.1:{port}"}
            return await one_public_send([], "https://api.example.com/a?b=c", stand_in)

    assert asyncio.run(run()) == b"ok"
    assert scripted.heads[0].startswith(b"GET /a?b=c HTTP/1.1\r\nhost: api.example.com\r\n")


@pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop])
@pytest.mark.parametrize(
    ("name", "trusted"), [("api.example.com", True), ("other.example.com", True), ("api.example.com", False)]
)
def test_tls_goes_to_the_checked_address_and_verifies_the_name(
    name: str, trusted: bool, loop: Callable[[], asyncio.AbstractEventLoop]
) -> None:
    authority = trustme.CA()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert(name).configure_cert(context)
    trust = ssl.create_default_context()
    if trusted:
        authority.configure_trust(trust)

    async def run() -> bytes:
        async with listening(Scripted(OK), ssl=context) as port:
            return await over_tls(port, trust)

    with asyncio.Runner(loop_factory=loop) as runner:
        if trusted and name == "api.example.com":
            assert runner.run(run()) == b"ok"
        else:
            with pytest.raises(UpstreamFailed) as failed:
                runner.run(run())
            assert failed.value.code == "upstream.tls"


def test_a_refused_connection_is_said_so() -> None:
    async def run() -> None:
        async with listening(Scripted()) as port:
            pass
        await fetch(Upstream(deadlines=QUICK), port)

    with pytest.raises(UpstreamFailed) as failed:
        asyncio.run(run())
    assert failed.value.code == "upstream.connect"


def test_a_long_answer_waits_for_its_reader() -> None:
    size = 64 * 1024 * 1024
    sent = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
        try:
            while sent < size:
                writer.write(bytes(65536))
                await writer.drain()
                sent += 65536
        except OSError:
            pass
        writer.close()

    async def run() -> None:
        async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
            url = parse_url(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/")
            upstream = Upstream()
            async with upstream.send("GET", url, HOST, nothing(), {}, use=USE) as answer:
                await anext(answer.body)
                before = -1
                while before != sent:  # until the sender stands still
                    before = sent
                    for _ in range(50):
                        await asyncio.sleep(0)
                assert sent < size // 2
            await upstream.close()

    asyncio.run(run())


def test_check_head_gives_the_status() -> None:
    assert check_head(b"HTTP/1.1 404 Not Found\r\nX: y").status == 404


@pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_a_request_that_is_cancelled_at_any_moment_leaves_no_connection_behind(
    loop: Callable[[], asyncio.AbstractEventLoop],
) -> None:
    async def run() -> None:
        scripted = Scripted(*[None] * 100)
        async with listening(scripted) as port:
            upstream = Upstream(deadlines=QUICK)
            for turns in range(40):
                task = asyncio.create_task(fetch(upstream, port))
                for _ in range(turns):
                    await asyncio.sleep(0)
                task.cancel()
                with pytest.raises((asyncio.CancelledError, UpstreamFailed)):
                    await task
                assert upstream._loopback.in_use == 0
            await upstream.close()

    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(run())
