"""A hundred streams of ten megabytes at once, direct and through the broker: its memory, and who waits for whom."""

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


def measure(broker: Broker, laptop: Callable[[str], SigningLaptop]) -> None:
    """Prints a line for each way. `laptop` signs, and has a grant for the server `streams`."""
    command = [sys.executable, str(HERE / "stream_http.py")]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        url = server.stdout.readline().strip()
        broker.add_server("streams", f'[server]\ntitle = "Streams"\ndelivery = "relay"\nurl = "{url}"\n', "")
        signing = laptop("streams")
        signing.send("GET", "/v1/session")  # for a nonce
        body = json.dumps(CALL).encode()
        columns = ("seconds", "MB/s", "last/first", "least %", "MB", "+MB")
        print(f"{f'{STREAMS} streams of 10 MB':>26}" + "".join(f"{column:>12}" for column in columns))
        for way, to, headers in (
            ("direct", url, dict[str, str]),
            ("broker", f"{broker.url}/mcp/streams", lambda: signing.headers("POST", "/mcp/streams", body)),
        ):
            with peak(broker.process.pid) as memory:
                streams = asyncio.run(_all(to, headers))
            total, last = sum(streams.read) / MEGABYTE, max(streams.done)
            least = 100 * streams.least / max(streams.read)
            row = (last, total / last, last / min(streams.done), least, memory[1], memory[1] - memory[0])
            print(f"{way:>26}" + "".join(f"{value:12.2f}" for value in row))
    finally:
        server.terminate()
        server.wait()
