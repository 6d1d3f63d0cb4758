"""What leaves a connection, and in how many pieces; and what a stranger can make it cost."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
import uvicorn

from percall_broker.connection import MAX_HEAD_BYTES, Connection, HeadWithBody, Room

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

pytestmark = pytest.mark.anyio
HEAD, BODY = b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\n", b"body"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


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
    """Answers whole, in two pieces, or once the request's body is there."""
    whole = scope["path"] != "/streamed"
    headers = [(b"content-length", b"4")] if whole else []
    if scope["path"] == "/body":
        while (await receive()).get("more_body"):
            pass
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    if scope["path"] == "/slow":
        await scope["state"]["finish"].wait()
    if not whole:
        await send({"type": "http.response.body", "body": b"first", "more_body": True})
        await asyncio.sleep(0)
    await send({"type": "http.response.body", "body": BODY})


Opened = tuple[asyncio.StreamReader, asyncio.StreamWriter]
REQUEST = b"GET /whole HTTP/1.1\r\nhost: x\r\n\r\n"


@asynccontextmanager
async def served(
    most: int = 100, finish: asyncio.Event | None = None
) -> AsyncIterator[Callable[[], Awaitable[Opened]]]:
    """A server whose connections are ours; what opens one to it."""

    class Ours(Connection):
        room = Room(most)

    config = uvicorn.Config(application, http=Ours, lifespan="off", log_config=None, log_level="error", port=0)
    config.load()
    state = uvicorn.Server(config).server_state
    server = await asyncio.get_running_loop().create_server(
        lambda: Ours(config=config, server_state=state, app_state={"finish": finish}), "127.0.0.1"
    )
    async with server, AsyncExitStack() as opened:

        async def connect() -> Opened:
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            opened.callback(writer.close)
            return reader, writer

        yield connect


async def answered(opened: Opened, request: bytes = REQUEST) -> bool:
    """Whether a request on it is answered; else the connection has ended."""
    reader, writer = opened
    try:
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        return head.startswith(b"HTTP/1.1 200 ") and await reader.readexactly(len(BODY)) == BODY
    except (ConnectionError, asyncio.IncompleteReadError):
        return False


async def test_a_real_connection_serves_whole_and_streamed_answers_one_after_another() -> None:
    async with served() as connect:
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


async def test_where_all_are_answered_nobody_else_comes_in() -> None:
    finish = asyncio.Event()
    async with served(1, finish) as connect:
        busy = await connect()
        busy[1].write(b"GET /slow HTTP/1.1\r\nhost: x\r\n\r\n")
        await busy[0].readuntil(b"\r\n\r\n")
        assert not await answered(await connect())
        finish.set()
        assert await busy[0].readexactly(len(BODY)) == BODY


def test_a_process_has_as_many_connections_as_its_descriptors_allow() -> None:
    script = (
        "import resource, percall_broker.connection as c\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (256, {}))\n"
        "print(c.most_connections(), resource.getrlimit(resource.RLIMIT_NOFILE)[0])"
    )
    for hard, most in ((256, "128 256"), (1024, "512 1024")):
        done = subprocess.run([sys.executable, "-c", script.format(hard)], capture_output=True, text=True, check=True)
        assert done.stdout.strip() == most
