"""A hundred streams of ten megabytes at once, direct and through the broker: its memory, and who waits for whom.

`p50` and `p99` are the milliseconds of another person's calls at another server meanwhile.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import psutil
from driver import percentile

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from harness.processes import Broker
    from harness.signing import SigningLaptop

HERE = Path(__file__).resolve().parent
STREAMS = 100
MEGABYTE = 1024 * 1024
_READ_BYTES = 256 * 1024
CALL = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "stream", "arguments": {}}}


@dataclass
class Streams:
    """What came of them: bytes and seconds of each; `least` is the least that any had when the first was done."""

    read: list[int] = field(default_factory=list)
    done: list[float] = field(default_factory=list)
    least: int = 0

    async def one(self, url: str, headers: dict[str, str], begun: float) -> None:
        parts = urlsplit(url)
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
        body = json.dumps(CALL).encode()
        head = {"Host": parts.netloc, "Content-Type": "application/json", "Content-Length": len(body), **headers}
        head["Accept"] = "application/json, text/event-stream"
        lines = "".join(f"{name}: {value}\r\n" for name, value in head.items())
        writer.write(f"POST {parts.path} HTTP/1.1\r\nConnection: close\r\n{lines}\r\n".encode() + body)
        number = len(self.read)
        self.read.append(0)
        last = b""
        while piece := await reader.read(_READ_BYTES):
            self.read[number] += len(piece)
            last = (last + piece)[-1024:]
        assert b'"result"' in last, last
        if not self.done:
            self.least = min(self.read)
        self.done.append(time.perf_counter() - begun)
        writer.close()


async def _all(url: str, headers: Callable[[], dict[str, str]]) -> Streams:
    streams, begun = Streams(), time.perf_counter()
    await asyncio.gather(*(streams.one(url, headers(), begun) for _ in range(STREAMS)))
    return streams


@contextmanager
def peak(process: int) -> Iterator[list[float]]:
    """The resident megabytes of a process: before, and at most while the block runs."""
    watched, over = psutil.Process(process), threading.Event()
    found = [watched.memory_info().rss / MEGABYTE, 0.0]

    def look() -> None:
        while not over.wait(0.02):
            found[1] = max(found[1], watched.memory_info().rss / MEGABYTE)

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield found
    finally:
        over.set()
        thread.join()


@contextmanager
def calling(laptop: SigningLaptop) -> Iterator[list[float]]:
    """The milliseconds of each of a person's calls while the block runs."""
    over, took = threading.Event(), list[float]()

    def call() -> None:
        while not over.wait(0.02):
            began = time.perf_counter()
            laptop.call("plain", "tool")
            took.append(1000 * (time.perf_counter() - began))

    thread = threading.Thread(target=call)
    thread.start()
    try:
        yield took
    finally:
        over.set()
        thread.join()


def measure(broker: Broker, laptop: Callable[[str], SigningLaptop]) -> None:
    """Prints a line for each way. `laptop` signs, and has a grant for the server that it is asked for."""
    command = [sys.executable, str(HERE / "stream_http.py")]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        url = server.stdout.readline().strip()
        broker.add_server("streams", f'[server]\ntitle = "Streams"\ndelivery = "relay"\nurl = "{url}"\n', "")
        broker.add_server("plain", '[server]\ntitle = "Plain"\ndelivery = "none"\ncommand = ["true"]\n', "")
        signing, beside = laptop("streams"), laptop("plain")
        signing.send("GET", "/v1/session")  # for a nonce
        body = json.dumps(CALL).encode()
        columns = ("seconds", "MB/s", "last/first", "least %", "MB", "+MB", "p50", "p99")
        print(f"{f'{STREAMS} streams of 10 MB':>26}" + "".join(f"{column:>12}" for column in columns))
        for way, to, headers in (
            ("direct", url, dict[str, str]),
            ("broker", f"{broker.url}/mcp/streams", lambda: signing.headers("POST", "/mcp/streams", body)),
        ):
            with peak(broker.process.pid) as memory, calling(beside) as took:
                streams = asyncio.run(_all(to, headers))
            total, last = sum(streams.read) / MEGABYTE, max(streams.done)
            least = 100 * streams.least / max(streams.read)
            row = [last, total / last, last / min(streams.done), least, memory[1], memory[1] - memory[0]]
            row += [percentile(took, 0.5), percentile(took, 0.99)]
            print(f"{way:>26}" + "".join(f"{value:12.2f}" for value in row))
    finally:
        server.terminate()
        server.wait()
