"""The least that a call can cost where a second process writes it down before it goes on: what two more processes and a
durable row cost on this machine. Nothing is parsed, signed, checked, decided or sealed.

    python tests/bench/bare.py broker FILE
    python tests/bench/bare.py shim PORT COMMAND…

The first prints its port, and writes each line that comes into a SQLite file before it answers. The second asks it for
each line, and only then hands the line to the command.
"""

from __future__ import annotations

import os
import select
import socket
import sqlite3
import subprocess
import sys

_READ_BYTES = 1 << 17


def broker(file: str) -> None:
    """One shim after another."""
    store = sqlite3.connect(file, isolation_level=None)
    store.execute("PRAGMA journal_mode = WAL")
    store.execute("PRAGMA synchronous = FULL")
    store.execute("CREATE TABLE calls (id INTEGER PRIMARY KEY, line BLOB)")
    with socket.create_server(("127.0.0.1", 0)) as listening:
        print(listening.getsockname()[1], flush=True)
        while True:
            shim, _ = listening.accept()
            shim.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with shim, shim.makefile("rb") as lines:
                for line in lines:
                    store.execute("INSERT INTO calls (line) VALUES (?)", (line,))
                    shim.sendall(b"+")


def shim(port: int, command: list[str]) -> None:
    """Until its input or the command ends."""
    with (
        socket.create_connection(("127.0.0.1", port)) as asked,
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0) as child,
    ):
        assert child.stdin is not None
        assert child.stdout is not None
        asked.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        poll = select.poll()
        for descriptor in (0, child.stdout.fileno()):
            poll.register(descriptor, select.POLLIN | select.POLLHUP)
        pending = b""
        while True:
            for descriptor, _ in poll.poll():
                data = os.read(descriptor, _READ_BYTES)
                if not data:
                    child.stdin.close()
                    return
                if descriptor != 0:
                    os.write(1, data)
                    continue
                *lines, pending = (pending + data).split(b"\n")
                for line in lines:
                    asked.sendall(line + b"\n")
                    asked.recv(1)
                    child.stdin.write(line + b"\n")


if __name__ == "__main__":
    if sys.argv[1] == "broker":
        broker(sys.argv[2])
    else:
        shim(int(sys.argv[2]), sys.argv[3:])
