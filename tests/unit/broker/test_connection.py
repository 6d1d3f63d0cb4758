"""What leaves a connection, and in how many pieces."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import uvicorn

from percall_broker.connection import Connection, HeadWithBody

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


async def test_a_real_connection_serves_whole_and_streamed_answers_one_after_another() -> None:

    async def application(scope: Any, _receive: Any, send: Any) -> None:
        whole = scope["path"] == "/whole"
        headers = [(b"content-length", b"4")] if whole else []
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        if not whole:
            await send({"type": "http.response.body", "body": b"first", "more_body": True})
            await asyncio.sleep(0)
        await send({"type": "http.response.body", "body": BODY})

    config = uvicorn.Config(application, http=Connection, lifespan="off", log_config=None, port=0)
    config.load()
    state = uvicorn.Server(config).server_state
    server = await asyncio.get_running_loop().create_server(
        lambda: Connection(config=config, server_state=state, app_state={}), "127.0.0.1"
    )
    async with server:
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        for path, end in (("/whole", BODY), ("/streamed", b"4\r\nbody\r\n0\r\n\r\n"), ("/whole", BODY)):
            writer.write(f"GET {path} HTTP/1.1\r\nhost: x\r\n\r\n".encode())
            answer = await reader.readuntil(b"\r\n\r\n")
            assert answer.startswith(b"HTTP/1.1 200 ")
            rest = await reader.readuntil(end)
            assert rest == end or rest == b"5\r\nfirst\r\n" + end
        writer.close()
        await writer.wait_closed()
