"""Whatever upstreams answer, early, late, too much or broken off: no byte of one exchange appears in another."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import uvloop
from hypothesis import given, settings
from hypothesis import strategies as st

from percall_broker.model.errors import UpstreamFailed
from percall_broker.model.rules import parse_url
from percall_broker.outbound.network import Deadlines
from percall_broker.outbound.upstream import Upstream

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from percall_broker.outbound.streams import Use

USES = [("ada", "server"), ("bob", "server"), ("ada", "other")]
QUICK = Deadlines(connect=2, first_byte=0.05, idle=0.05, write=2)
MARK = 0xC0
"""Each exchange's own byte, which occurs in no head, is this and its number."""

LONG = b"long"
ANSWERS = [
    b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n????",
    b"HTTP/1.1 200 OK\r\nx: ?\r\nContent-Length: 4\r\nConnection: close\r\n\r\n????",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\n????\r\n0\r\n\r\n",
    b"HTTP/1.1 103 x\r\nx: ?\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 204 x\r\n\r\n",
    b"HTTP/1.1 304 x\r\nContent-Length: 4\r\n\r\n",
    b"HTTP/1.1 200 OK\r\n\r\n????",
    b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n????",
    b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nContent-Length: 0\r\n\r\n????",
    LONG,
    b"",
]
SURPLUS = [
    b"",
    b"",
    b"????",
    b"HTTP/1.1 200 OK\r\nx: ?\r\nContent-Length: 4\r\n\r\n????",
    b"HTTP/1.1 200 OK\r\nx: ?\r\nx: ",
    b"HTTP/1.1 200 OK\r\n\r\n????",
    b"HTTP/1.1 103 x\r\nx: ?\r\n\r\n",
    b"\r\n0\r\n\r\n????",
]
AT_ONCE, BEFORE_THE_NEXT, DURING_THE_NEXT = range(3)


@dataclass(frozen=True)
class Step:
    """One exchange: who asks, how, and how much of the answer is read; what is answered, and what comes behind it."""

    use: Use
    method: str
    reads: str
    answer: bytes
    surplus: bytes
    when: int
    ends: bool
    turns: int


steps = st.builds(
    Step,
    use=st.sampled_from(USES),
    method=st.sampled_from(["GET", "GET", "HEAD", "POST"]),
    reads=st.sampled_from([*["all"] * 6, "some", "head", "cancelled"]),
    answer=st.sampled_from([*ANSWERS[:1] * 8, *ANSWERS]),
    surplus=st.sampled_from(SURPLUS),
    when=st.sampled_from([AT_ONCE, BEFORE_THE_NEXT, DURING_THE_NEXT]),
    ends=st.sampled_from([False, False, False, True]),
    turns=st.integers(min_value=0, max_value=30),
)


@dataclass
class Hostile:
    """Answers the exchange whose number is in the path as its step says."""

    steps: list[Step]
    late: list[tuple[int, int, asyncio.StreamWriter]] = field(default_factory=list)
    connections: dict[int, set[Use]] = field(default_factory=dict)
    tasks: set[asyncio.Task[None]] = field(default_factory=set)

    def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.tasks.add(asyncio.create_task(self.serve(reader, writer, len(self.tasks))))

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, connection: int) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                at = int(head.split(b" ")[1][1:])
                self.connections.setdefault(connection, set()).add(self.steps[at].use)
                self.write(DURING_THE_NEXT)
                step = self.steps[at]
                answer = marked(step.answer, at)
                if step.method == "HEAD":
                    answer = answer.partition(b"\r\n\r\n")[0] + b"\r\n\r\n"
                put(writer, answer)
                self.late.append((step.when, at, writer))
                self.write(AT_ONCE)
                if step.ends:
                    break
        writer.close()

    def write(self, when: int) -> None:
        """What comes behind earlier answers, and is due."""
        for entry in [entry for entry in self.late if entry[0] == when]:
            self.late.remove(entry)
            _, at, writer = entry
            put(writer, marked(self.steps[at].surplus, at))


def put(writer: asyncio.StreamWriter, data: bytes) -> None:
    if not writer.is_closing():
        writer.write(data)


def marked(wire: bytes, at: int) -> bytes:
    if wire == LONG:
        wire = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % 300_000 + b"?" * 300_000
    return wire.replace(b"?", bytes([MARK + at]))


async def content(method: str) -> AsyncIterator[bytes]:
    if method == "POST":
        yield b"body"


async def exchange(upstream: Upstream, port: int, at: int, step: Step, got: bytearray) -> None:
    headers = [(b"host", b"x")] + [(b"content-length", b"4")] * (step.method == "POST")
    url = parse_url(f"http://127.0.0.1:{port}/{at}")
    async with upstream.send(step.method, url, headers, content(step.method), {}, use=step.use) as came:
        got += b"".join(value for name, value in came.headers if name == b"x")
        if step.reads == "head":
            return
        async for piece in came.body:
            got += piece
            if step.reads == "some":
                return


async def ask(upstream: Upstream, port: int, at: int, step: Step) -> bytes:
    got = bytearray()
    with contextlib.suppress(UpstreamFailed, asyncio.CancelledError):
        if step.reads != "cancelled":
            await exchange(upstream, port, at, step, got)  # at once: the loop does not see first what has come since
        else:
            asking = asyncio.create_task(exchange(upstream, port, at, step, got))
            for _ in range(step.turns):
                await asyncio.sleep(0)
            asking.cancel()
            await asking
    return bytes(got)


async def story(plan: list[Step]) -> None:
    hostile = Hostile(plan)
    upstream = Upstream(deadlines=QUICK)
    async with await asyncio.start_server(hostile.accept, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        for at, step in enumerate(plan):
            hostile.write(BEFORE_THE_NEXT)
            got = await ask(upstream, port, at, step)
            strange = {byte - MARK for byte in got if byte >= MARK} - {at}
            assert all(plan[other].use == step.use for other in strange), "another grant's, or another server's"
            # What arrives while the next request is on its way cannot be told from its answer; a long one delays it.
            assert all(plan[other].when == DURING_THE_NEXT or plan[other].answer == LONG for other in strange)
        await upstream.close()
        await asyncio.gather(*hostile.tasks)
    assert upstream._loopback.in_use == 0
    assert all(len(uses) == 1 for uses in hostile.connections.values())


@given(plan=st.lists(steps, min_size=2, max_size=8))
@settings(max_examples=100, deadline=None)
def test_no_byte_of_one_exchange_appears_in_another(plan: list[Step]) -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(story(plan))
