"""How many calls a second and core one broker decides: a real process, real proofs, each intent durable.

    python tests/bench/authorise.py [--calls 6000] [--connections 16] [--postgresql]

The requests are signed beforehand, so that signing takes nothing from the core that is measured; `per core` divides by
the CPU time that the broker's process used. Prints one JSON object.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import selectors
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

import psutil

sys.path.insert(0, str(Path(__file__).parent.parent))

from harness.database import postgresql
from harness.processes import COMMANDS, Line, automation_invite, command
from harness.signing import SigningLaptop, call_message
from percall import wire

ENTRY = """
[server]
title = "A server without a key"
delivery = "none"
command = ["true"]
"""


def prepare(laptop: SigningLaptop, count: int) -> list[bytes]:
    """Signed requests, as they go over the wire."""
    laptop.call("plain", "get_item")
    host = urlsplit(laptop.url).netloc
    prepared = []
    for number in range(count):
        body = call_message("plain", "tools/call", {"name": "get_item", "arguments": {"id": number, "text": "x" * 200}})
        headers = "".join(f"{n}: {v}\r\n" for n, v in laptop.headers("POST", wire.PATH_CALLS, body).items())
        head = f"POST {wire.PATH_CALLS} HTTP/1.1\r\nHost: {host}\r\n{headers}Content-Length: {len(body)}\r\n\r\n"
        prepared.append(head.encode() + body)
    return prepared


def send(url: str, requests: list[bytes], connections: int) -> list[float]:
    """Seconds until each was answered. Plain sockets: the less this takes, the more of the machine the broker has."""
    parts = urlsplit(url)
    waiting = iter(requests)
    seconds: list[float] = []
    started: dict[socket.socket, float] = {}
    with selectors.DefaultSelector() as selector:

        def ask_next(connection: socket.socket) -> None:
            request = next(waiting, None)
            if request is None:
                selector.unregister(connection)
                connection.close()
            else:
                started[connection] = time.perf_counter()
                connection.sendall(request)

        for _ in range(connections):
            connection = socket.create_connection((parts.hostname, parts.port))
            selector.register(connection, selectors.EVENT_READ)
            ask_next(connection)
        while selector.get_map():
            for key, _ in selector.select():
                connection = cast("socket.socket", key.fileobj)
                answer = connection.recv(65536)
                while not answer.endswith(b"}"):
                    answer += connection.recv(65536)
                assert b'"permit"' in answer, answer
                seconds.append(time.perf_counter() - started[connection])
                ask_next(connection)
    return seconds


def measure(folder: Path, calls: int, connections: int, database: str) -> dict[str, Any]:
    environment = {"PATH": os.environ["PATH"], "PERCALL_BROKER_HOME": str(folder / "broker")}
    more = ("--database", database) if database else ()
    command("percall-broker", "init", *more, environment=environment)
    arguments = [str(COMMANDS / "percall-broker"), "serve", "--listen", "127.0.0.1:0"]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, env=environment) as process:
        try:
            url = Line(process.stdout).until(b"listening on ").decode().split("listening on ", 1)[1].strip()
            administrator = SigningLaptop.enrolled(url, automation_invite(environment))
            administrator.administer("POST", "/v1/admin/servers", {"name": "plain", "entry": ENTRY})
            form = {"person": "bench", "servers": {"plain": {"tools": ["get_*"]}}}
            grant = administrator.administer("POST", "/v1/admin/grants", form)
            laptop = SigningLaptop.enrolled(url, grant["invite"])
            send(url, prepare(laptop, 500), connections)
            requests = prepare(laptop, calls)
            broker = psutil.Process(process.pid)
            before, start = broker.cpu_times(), time.perf_counter()
            seconds = sorted(send(url, requests, connections))
            elapsed, after = time.perf_counter() - start, broker.cpu_times()
            cpu = after.user + after.system - before.user - before.system
        finally:
            process.terminate()
    return {
        "calls": calls,
        "connections": connections,
        "store": "postgresql" if database else "sqlite",
        "per_second": round(calls / elapsed),
        "per_second_and_core": round(calls / cpu),
        "cpu_us_per_call": round(cpu / calls * 1e6),
        "p50_ms": round(seconds[len(seconds) // 2] * 1000, 2),
        "p99_ms": round(seconds[len(seconds) * 99 // 100] * 1000, 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--calls", type=int, default=6000)
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--postgresql", action="store_true", help="on a PostgreSQL server of its own")
    told = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        database = stack.enter_context(postgresql()) if told.postgresql else ""
        print(json.dumps(measure(Path(folder), told.calls, told.connections, database)))


if __name__ == "__main__":
    main()
