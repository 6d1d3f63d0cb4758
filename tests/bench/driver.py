"""Drives one MCP server over stdio with as little of its own time as possible, and measures it."""

from __future__ import annotations

import http.client
import json
import math
import os
import select
import statistics
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

SMALL = "hello from the bench, a small payload"
BIG = "B" * 100_000
STRUCTURED = [{"id": number, "tags": ["a", "b"], "note": None} for number in range(2000)]
BLOCK = 20
"""Calls of one candidate before it is the next one's turn."""


@dataclass
class Candidate:
    """One way to reach the echo server: its name, command and environment."""

    name: str
    command: list[str]
    environment: Mapping[str, str] = field(default_factory=dict)
    base: str = "no wrapper"
    """The candidate that says what this one adds."""
    url: str = ""
    """Where a client speaks HTTP by itself; no command then."""


class Session:
    """One started candidate: blocking writes, polled reads, raw frames."""

    def __init__(self, candidate: Candidate) -> None:
        self.started = time.perf_counter()
        self.process = subprocess.Popen(
            candidate.command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=dict(candidate.environment),
            bufsize=0,
        )
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.write_to, self.read_from = self.process.stdin.fileno(), self.process.stdout.fileno()
        self.poll = select.poll()
        self.poll.register(self.read_from, select.POLLIN | select.POLLHUP)
        self.buffer = b""
        self.identifier = 0

    def frame(self, method: str, params: Any) -> tuple[int, bytes]:
        self.identifier += 1
        message = {"jsonrpc": "2.0", "id": self.identifier, "method": method, "params": params}
        return self.identifier, json.dumps(message, separators=(",", ":")).encode() + b"\n"

    def write(self, data: bytes) -> None:
        while data:
            data = data[os.write(self.write_to, data) :]

    def read(self) -> tuple[float, dict[str, Any]]:
        """The next response and when it came."""
        while True:
            line, newline, rest = self.buffer.partition(b"\n")
            if newline:
                self.buffer = rest
                message = json.loads(line)
                if "method" not in message:
                    return time.perf_counter(), message
                continue
            if not self.poll.poll(60_000):
                raise SystemExit("the candidate does not answer")
            chunk = os.read(self.read_from, 1 << 20)
            if not chunk:
                raise SystemExit("the candidate ended")
            self.buffer += chunk

    def initialize(self) -> float:
        """Milliseconds from the process's start to the answer."""
        client = {"name": "bench", "version": "1"}
        _, data = self.frame("initialize", {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": client})
        self.write(data)
        came, answer = self.read()
        assert "result" in answer, answer
        self.write(b'{"jsonrpc":"2.0","method":"notifications/initialized"}\n')
        return (came - self.started) * 1000

    def call(self, argument: Any, tool: str = "echo") -> float:
        """Milliseconds of one tools/call, whose answer must be right."""
        _, data = self.frame("tools/call", {"name": tool, "arguments": {"message": argument}})
        begun = time.perf_counter()
        self.write(data)
        came, answer = self.read()
        assert not answer.get("error"), answer
        assert not answer["result"].get("isError"), answer
        return (came - begun) * 1000

    def many(self, calls: int, width: int) -> float:
        """Calls per second with `width` in flight."""
        begun = time.perf_counter()
        sent = 0
        for answered in range(calls):
            while sent < calls and sent - answered < width:
                self.write(self.frame("tools/call", {"name": "echo", "arguments": {"message": SMALL}})[1])
                sent += 1
            _, answer = self.read()
            assert not answer["result"].get("isError"), answer
        return calls / (time.perf_counter() - begun)

    def private_megabytes(self) -> float:
        """Private memory of the wrapper process itself; not a number where nobody may look."""
        try:
            rollup = Path(f"/proc/{self.process.pid}/smaps_rollup").read_text()
        except OSError:  # no Linux; or not root, and a process that closes its memory
            return float("nan")
        return sum(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Private_")) / 1024

    def close(self) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()


class Direct:
    """A client that speaks HTTP itself, on one connection."""

    def __init__(self, url: str) -> None:
        self.started = time.perf_counter()
        parts = urlsplit(url)
        self._path = parts.path
        self._connection = http.client.HTTPConnection(str(parts.hostname), parts.port)
        self._connection.connect()
        self._identifier = 0

    def _ask(self, method: str, params: Any) -> dict[str, Any]:
        self._identifier += 1
        message = {"jsonrpc": "2.0", "id": self._identifier, "method": method, "params": params}
        headers = {"Content-Type": "application/json", "Accept": "application/json, text/event-stream"}
        self._connection.request("POST", self._path, json.dumps(message, separators=(",", ":")), headers)
        return dict(json.loads(self._connection.getresponse().read()))

    def initialize(self) -> float:
        client = {"name": "bench", "version": "1"}
        self._ask("initialize", {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": client})
        return (time.perf_counter() - self.started) * 1000

    def call(self, argument: Any) -> float:
        begun = time.perf_counter()
        answer = self._ask("tools/call", {"name": "echo", "arguments": {"message": argument}})
        assert "result" in answer, answer
        return (time.perf_counter() - begun) * 1000

    def close(self) -> None:
        self._connection.close()


@dataclass
class Measured:
    """What one candidate took, over all rounds; milliseconds, calls a second, megabytes."""

    base: str = "no wrapper"
    initialize: list[float] = field(default_factory=list)
    small: list[float] = field(default_factory=list)
    big: list[float] = field(default_factory=list)
    structured: list[float] = field(default_factory=list)
    in_flight: list[float] = field(default_factory=list)
    memory: list[float] = field(default_factory=list)


def measure(candidates: Sequence[Candidate], into: Mapping[str, Measured], *, calls: int, starts: int) -> None:
    """One round: all of them open at once, a few calls of each in turn, so that what disturbs one disturbs all."""
    sessions = {candidate.name: _started(candidate, into[candidate.name], starts) for candidate in candidates}
    for _ in range(calls // BLOCK):
        for name, session in sessions.items():
            into[name].small += [session.call(SMALL) for _ in range(BLOCK)]
    for _ in range(calls // (5 * BLOCK)):
        for name, session in sessions.items():
            into[name].big += [session.call(BIG) for _ in range(BLOCK)]
            into[name].structured += [session.call(STRUCTURED) for _ in range(BLOCK // 2)]
    for name, session in sessions.items():
        if isinstance(session, Session):
            into[name].in_flight.append(session.many(calls * 2, 16))
            into[name].memory.append(session.private_megabytes())
        session.close()


def _started(candidate: Candidate, into: Measured, starts: int) -> Session | Direct:
    """The last of several starts, warm."""
    for left in reversed(range(starts)):
        session = Direct(candidate.url) if candidate.url else Session(candidate)
        into.initialize.append(session.initialize())
        if left:
            session.close()
    for _ in range(30):
        session.call(SMALL)
    return session


def percentile(values: list[float], share: float) -> float:
    if not values:
        return math.nan
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def median(values: list[float]) -> float:
    return statistics.median(values) if values else math.nan
