"""API requests of a child, small ones and 100 MB: direct, through two relays that do nothing, through egress."""

from __future__ import annotations

import subprocess
import sys
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

from candidates import HERE, PLAIN
from driver import Candidate, Session, median, percentile

if TYPE_CHECKING:
    from collections.abc import Mapping
    from contextlib import ExitStack

DOWNLOAD_BYTES = 100_000_000
RAW = "http.client"
READERS = {
    RAW: [sys.executable, str(HERE / "fetching.py")],
    "httpx": [sys.executable, str(HERE / "fetching.py"), "httpx"],
    "Node's fetch": ["node", str(HERE / "fetching.mjs")],
}
"""What a child reads with, and the command that does. Real servers use httpx, or fetch; the first is the quickest."""
_ROUNDS = 5
_SMALL_CALLS = 60


class Api(BaseHTTPRequestHandler):
    """A small answer on /small and 100 MB on /large."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    chunk = b"x" * 1_000_000

    def log_message(self, *_: object) -> None:
        """Nothing to say."""

    def do_GET(self) -> None:
        size = DOWNLOAD_BYTES if self.path == "/large" else 20
        self.send_response(200)
        self.send_header("Content-Length", str(size))
        self.end_headers()
        while size:
            self.wfile.write(self.chunk[:size])
            size -= min(size, len(self.chunk))


def serve(stack: ExitStack) -> int:
    """The API's port."""
    api = ThreadingHTTPServer(("127.0.0.1", 0), Api)
    threading.Thread(target=api.serve_forever, daemon=True).start()
    stack.callback(api.shutdown)
    return int(api.server_address[1])


@dataclass
class Downloaded:
    """Milliseconds of small requests and of downloads."""

    small: list[float] = field(default_factory=list)
    large: list[float] = field(default_factory=list)

    @property
    def rate(self) -> float:
        """Megabytes a second."""
        return DOWNLOAD_BYTES / 1e3 / median(self.large)


def _direct(name: str, command: list[str], port: int) -> Candidate:
    return Candidate(name, command, {**PLAIN, "API_URL": f"http://127.0.0.1:{port}", "API_KEY": "x"})


def _relay(port: int, stack: ExitStack) -> int:
    command = [sys.executable, str(HERE / "relay.py"), str(port)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    stack.callback(process.wait)
    stack.callback(process.terminate)
    assert process.stdout is not None
    return int(process.stdout.readline())


def measure(egress: Mapping[str, Candidate], port: int, stack: ExitStack) -> dict[str, Downloaded]:
    """One of each in turn. `egress` has each reader's way through Percall."""
    ways = []
    for reader, through in egress.items():
        ways.append(_direct(f"{reader}, direct", READERS[reader], port))
        if reader == RAW:
            relayed = _relay(_relay(port, stack), stack)
            ways.append(_direct(f"{reader}, two relays", READERS[reader], relayed))
        ways.append(Candidate(f"{reader}, egress", through.command, through.environment))
    sessions = {way.name: Session(way) for way in ways}
    found = {name: Downloaded() for name in sessions}
    for session in sessions.values():
        session.initialize()
        for path in ("/small", "/large"):
            session.call(path, "get_path")
    for _ in range(_ROUNDS):
        for name, session in sessions.items():
            found[name].small += [session.call("/small", "get_path") for _ in range(_SMALL_CALLS)]
            found[name].large.append(session.call("/large", "get_path"))
    for session in sessions.values():
        session.close()
    return found


def share(found: Mapping[str, Downloaded], name: str) -> float:
    """Of the rate that the same reader reaches by itself."""
    return found[name].rate / found[name.partition(",")[0] + ", direct"].rate


def print_table(found: Mapping[str, Downloaded]) -> None:
    """Small requests in milliseconds, downloads in megabytes a second and as a share of the direct rate."""
    print(f"{'API requests':>24}{'p50':>9}{'p99':>9}{'MB/s':>9}{'share':>9}")
    for name, m in found.items():
        row = (percentile(m.small, 0.5), percentile(m.small, 0.99), m.rate, share(found, name))
        print(f"{name:>24}" + "".join(f"{value:9.2f}" for value in row))
