"""What leaves a connection, and in how many pieces; and what a stranger can make it cost."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import subprocess
import sys
from contextlib import AsyncExitStack, asynccontextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import pytest
import trustme
import uvicorn

from percall_broker.connection import MAX_HEAD_BYTES, MOST_PIPELINED, Connection, Handshake, HeadWithBody, Room

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytestmark = pytest.mark.anyio
HEAD, BODY = b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\n", b"body"


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, bool]]:
    """The loop that the broker runs in: TLS is made of its own."""
    return "asyncio", {"use_uvloop": find_spec("uvloop") is not None}


class Wire(asyncio.Transport):
    """Remembers what is written on it, piece by piece."""

    def __init__(self) -> None:
        super().__init__()
        self.pieces: list[bytes] = []
        self.is_closed = False

    def write(self, data: Any) -> None:
        assert not self.is_closed
        self.pieces.append(bytes(data))

    def close(self) -> None:
        self.is_closed = True

    def is_closing(self) -> bool:
        return self.is_closed


async def test_a_small_answer_is_one_piece_and_so_is_the_next_one() -> None:
    wire = Wire()
    transport = HeadWithBody(wire)
    for _ in range(2):
        transport.write(HEAD)
        transport.write(BODY)
        transport.answered()
    assert wire.pieces == [HEAD + BODY] * 2


async def test_a_head_without_a_body_yet_leaves_at_the_next_turn_of_the_loop() -> None:
    wire = Wire()
    transport = HeadWithBody(wire)
    transport.write(HEAD)
    await asyncio.sleep(0)
    assert wire.pieces == [HEAD]
    transport.write(BODY)
    transport.write(BODY)
    assert wire.pieces == [HEAD, BODY, BODY]


@pytest.mark.parametrize("end", [HeadWithBody.answered, HeadWithBody.close])
async def test_an_answer_that_is_only_a_head_leaves_when_it_ends(end: Any) -> None:
    wire = Wire()
    transport = HeadWithBody(wire)
    transport.write(HEAD)
    end(transport)
    assert wire.pieces == [HEAD]


async def application(scope: Any, receive: Any, send: Any) -> None:
    """Answers whole, in two pieces, once the request's body is there, or with more than a connection takes at once."""
    whole = scope["path"] not in {"/streamed", "/much"}
    headers = [(b"content-length", b"4")] if whole else []
    if scope["path"] == "/body":
        while (await receive()).get("more_body"):
            pass
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    if scope["path"] == "/slow":
        await scope["state"]["finish"].wait()
    if not whole:
        first = b"first" if scope["path"] == "/streamed" else bytes(MUCH)
        await send({"type": "http.response.body", "body": first, "more_body": True})
        if scope["path"] == "/much" and (finish := scope["state"]["finish"]):
            await finish.wait()
        await asyncio.sleep(0)
    await send({"type": "http.response.body", "body": BODY})


MUCH = 16 * 1024 * 1024
LAST = b"4\r\nbody\r\n0\r\n\r\n"
Opened = tuple[asyncio.StreamReader, asyncio.StreamWriter]
REQUEST = b"GET /whole HTTP/1.1\r\nhost: x\r\n\r\n"


class Tls:
    """A server's side, and a client's that trusts it."""

    def __init__(self) -> None:
        authority = trustme.CA()
        self.server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        authority.issue_cert("127.0.0.1").configure_cert(self.server)
        self.client = ssl.create_default_context()
        authority.configure_trust(self.client)


@pytest.fixture(scope="module")
def tls() -> Tls:
    return Tls()


class Serving:
    """A server whose connections are ours."""

    def __init__(self, address: tuple[str, int], tls: Tls | None, opened: AsyncExitStack) -> None:
        self.address = address
        self._tls = tls
        self._opened = opened

    async def __call__(self) -> Opened:
        """A client's connection to it."""
        return await self.connect(self._tls.client if self._tls else None)

    async def connect(self, context: ssl.SSLContext | None = None) -> Opened:
        """One with TLS or without, whatever the server speaks."""
        reader, writer = await asyncio.open_connection(*self.address, ssl=context)
        self._opened.callback(writer.close)
        return reader, writer


@asynccontextmanager
async def served(
    most: int = 100, finish: asyncio.Event | None = None, tls: Tls | None = None
) -> AsyncIterator[Serving]:
    """A server, and what opens a connection to it."""

    class Ours(Connection):
        room = Room(most)

    config = uvicorn.Config(application, http=Ours, lifespan="off", log_config=None, log_level="error", port=0)
    config.load()
    state = uvicorn.Server(config).server_state

    def arrives() -> asyncio.Protocol:
        connection = Ours(config=config, server_state=state, app_state={"finish": finish})
        return connection if tls is None else Handshake(connection, tls.server)

    server = await asyncio.get_running_loop().create_server(arrives, "127.0.0.1")
    async with server, AsyncExitStack() as opened:
        yield Serving(server.sockets[0].getsockname(), tls, opened)


async def answered(opened: Opened, request: bytes = REQUEST) -> bool:
    """Whether a request on it is answered; else the connection has ended."""
    reader, writer = opened
    try:
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        return head.startswith(b"HTTP/1.1 200 ") and await reader.readexactly(len(BODY)) == BODY
    except (ConnectionError, asyncio.IncompleteReadError):
        return False


@pytest.mark.parametrize("is_encrypted", [False, True])
async def test_a_real_connection_serves_whole_and_streamed_answers_one_after_another(
    *, is_encrypted: bool, tls: Tls
) -> None:
    async with served(tls=tls if is_encrypted else None) as connect:
        reader, writer = await connect()
        for path, end in (("/whole", BODY), ("/streamed", b"4\r\nbody\r\n0\r\n\r\n"), ("/whole", BODY)):
            writer.write(f"GET {path} HTTP/1.1\r\nhost: x\r\n\r\n".encode())
            answer = await reader.readuntil(b"\r\n\r\n")
            assert answer.startswith(b"HTTP/1.1 200 ")
            rest = await reader.readuntil(end)
            assert rest == end or rest == b"5\r\nfirst\r\n" + end


@pytest.mark.parametrize("endless", [b"a:\r\n", b"x" * 1024, b"a: " + b"y" * 1024])
@pytest.mark.parametrize("before", [b"", REQUEST])
async def test_a_head_without_end_is_refused(endless: bytes, before: bytes) -> None:
    async with served() as connect:
        reader, writer = await connect()
        writer.write(before + b"GET / HTTP/1.1\r\nhost: x\r\n" + endless * (70_000 // len(endless)))
        answer = await reader.read()
        assert b"HTTP/1.1 431 " in answer
        assert await answered(await connect())


async def test_a_long_body_is_no_long_head() -> None:
    async with served() as connect:
        length = 4 * MAX_HEAD_BYTES
        head = b"POST /body HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % length
        opened = await connect()
        assert await answered(opened, head + bytes(length))
        assert await answered(opened, head + bytes(length))


@pytest.mark.parametrize("before", [b"", REQUEST])
@pytest.mark.parametrize("begun", [b"", b"GET / HTTP/1.1\r\nhost:"])
async def test_a_head_that_does_not_come_is_not_waited_for(
    before: bytes, begun: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("percall_broker.connection.HEAD_SECONDS", 0.05)
    async with served() as connect:
        opened = await connect()
        if before:
            assert await answered(opened, before)
        if before and not begun:  # between two requests it may wait
            await asyncio.sleep(0.1)
            assert await answered(opened)
            return
        opened[1].write(begun)
        with contextlib.suppress(ConnectionError):
            assert await opened[0].read() == b""


async def test_who_has_waited_the_longest_makes_room_and_never_whoever_is_answered() -> None:
    async with served(most=3) as connect:
        answering, waiting = await connect(), await connect()
        writer = answering[1]
        writer.write(b"POST /body HTTP/1.1\r\nhost: x\r\ncontent-length: 4\r\n\r\nab")
        again = await connect()
        assert await answered(again)
        assert await answered(await connect()), "the body has not come whole: that one waited the longest"
        assert not await answered(answering, b"cd")
        assert await answered(await connect())
        assert not await answered(waiting), "which never said anything"
        assert await answered(again)


async def test_many_requests_at_once_are_refused_before_they_pile_up() -> None:
    finish = asyncio.Event()
    async with served(finish=finish) as connect:
        reader, writer = await connect()
        writer.write(b"GET /slow HTTP/1.1\r\nhost: x\r\n\r\n" + REQUEST * MOST_PIPELINED)
        await reader.readuntil(b"\r\n\r\n")
        finish.set()
        for _ in range(MOST_PIPELINED):
            assert (await reader.readuntil(b"\r\n\r\n" + BODY)).endswith(BODY)
        writer.write(b"GET /slow HTTP/1.1\r\nhost: x\r\n\r\n" + REQUEST * 2 * MOST_PIPELINED)
        assert b"HTTP/1.1 400 " in await reader.read()


UNREAD = b"GET /much HTTP/1.1\r\nhost: x\r\n%b\r\n"
UNFINISHED = b"POST /body HTTP/1.1\r\nhost: x\r\ncontent-length: 4\r\n\r\nab"


@pytest.mark.parametrize(
    "asked",
    [REQUEST + UNFINISHED, UNREAD % b"", UNREAD % b"" * 2, UNREAD % b"connection: close\r\n"],
    ids=["its second request does not come whole", "reads no answer", "nor two", "nor its last one"],
)
async def test_who_keeps_an_answer_waiting_makes_room_too(asked: bytes) -> None:
    async with served(most=2) as connect:
        reader, writer = await connect()
        writer.write(asked)
        await reader.readuntil(b"\r\n\r\n")
        newer = await connect()
        assert await answered(newer)
        assert await answered(await connect())
        assert await answered(newer), "it had waited for less long"
        with contextlib.suppress(ConnectionError):
            assert len(await reader.read()) < MUCH


async def test_who_reads_its_answer_on_is_being_answered_again() -> None:
    finish = asyncio.Event()
    async with served(1, finish) as connect:
        reader, writer = await connect()
        writer.write(UNREAD % b"")
        await reader.readuntil(b"\r\n\r\n")
        await reader.readexactly(len(b"%x\r\n\r\n" % MUCH) + MUCH)
        assert not await answered(await connect())
        finish.set()
        assert await reader.readexactly(len(LAST)) == LAST


async def test_where_all_are_answered_nobody_else_comes_in() -> None:
    finish = asyncio.Event()
    async with served(1, finish) as connect:
        busy = await connect()
        busy[1].write(b"GET /slow HTTP/1.1\r\nhost: x\r\n\r\n")
        await busy[0].readuntil(b"\r\n\r\n")
        assert not await answered(await connect())
        finish.set()
        assert await busy[0].readexactly(len(BODY)) == BODY


async def test_who_never_begins_tls_makes_room_too(tls: Tls) -> None:
    async with served(most=3, tls=tls) as connect:
        silent = [await connect.connect() for _ in range(3)]
        inside = await connect()
        assert await answered(inside)
        assert await silent[0][0].read() == b""
        assert await answered(await connect())
        assert await answered(inside), "which has said something"


async def test_a_handshake_that_does_not_come_is_not_waited_for(tls: Tls, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("percall_broker.connection.HEAD_SECONDS", 0.05)
    async with served(tls=tls) as connect:
        assert await (await connect.connect())[0].read() == b""


async def test_what_is_no_handshake_ends_and_leaves_its_place(tls: Tls) -> None:
    async with served(most=1, tls=tls) as connect:
        for _ in range(3):
            reader, writer = await connect.connect()
            writer.write(REQUEST)
            with contextlib.suppress(ConnectionError):
                assert not (await reader.read()).startswith(b"HTTP/")
        assert await answered(await connect())


class TlsByHand:
    """A client's side of TLS that sends and reads what a test says, when it says so."""

    def __init__(self, tls: Tls, opened: Opened) -> None:
        self.reader, self.writer = opened
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._session = tls.client.wrap_bio(self._incoming, self._outgoing, server_hostname="127.0.0.1")

    async def ask_at_once(self, request: bytes) -> None:
        """Sends the request in one piece with the end of the handshake."""
        while True:
            try:
                self._session.do_handshake()
                break
            except ssl.SSLWantReadError:
                self.writer.write(self._outgoing.read())
                self._incoming.write(await self.reader.read(1 << 16))
        self._session.write(request)
        self.writer.write(self._outgoing.read())

    async def read_until(self, end: bytes) -> bytes:
        read = b""
        while not read.endswith(end):
            self._incoming.write(await self.reader.read(1 << 16))
            with contextlib.suppress(ssl.SSLWantReadError):
                while piece := self._session.read(1 << 16):
                    read += piece
        return read


async def test_a_request_that_comes_with_the_end_of_the_handshake_is_answered(tls: Tls) -> None:
    async with served(tls=tls) as connect:
        client = TlsByHand(tls, await connect.connect())
        await client.ask_at_once(REQUEST)
        assert (await client.read_until(BODY)).startswith(b"HTTP/1.1 200 ")


async def test_who_does_not_say_goodbye_is_not_waited_for(tls: Tls, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("percall_broker.connection.GOODBYE_SECONDS", 0.05)
    async with served(tls=tls) as connect, asyncio.timeout(5):
        client = TlsByHand(tls, await connect.connect())
        await client.ask_at_once(REQUEST.replace(b"host: x", b"host: x\r\nconnection: close"))
        await client.read_until(BODY)
        with contextlib.suppress(ConnectionError):
            await client.reader.read()  # until the server ends it, though nobody answers its own goodbye


def test_a_process_has_as_many_connections_as_its_descriptors_allow() -> None:
    script = (
        "import resource, percall_broker.connection as c\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (256, {}))\n"
        "print(c.most_connections(), resource.getrlimit(resource.RLIMIT_NOFILE)[0])"
    )
    for hard, most in ((256, "128 256"), (1024, "512 1024")):
        done = subprocess.run([sys.executable, "-c", script.format(hard)], capture_output=True, text=True, check=True)
        assert done.stdout.strip() == most
