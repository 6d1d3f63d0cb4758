"""A relay that does nothing but pass bytes on. Two of them, as far from each other as shim and broker, are the floor
for a download: no HTTP, no search, one large buffer; what two more processes cost on this machine, whatever they do.

    python tests/bench/relay.py PORT

Prints the port that leads to PORT.
"""

from __future__ import annotations

import socket
import sys
import threading

_BUFFER_BYTES = 256 * 1024


def pass_on(source: socket.socket, to: socket.socket) -> None:
    """All that comes from one side to the other, until it ends."""
    buffer = memoryview(bytearray(_BUFFER_BYTES))
    while count := source.recv_into(buffer):
        to.sendall(buffer[:count])
    to.shutdown(socket.SHUT_WR)


def main() -> None:
    """One connection after another."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        print(listening.getsockname()[1], flush=True)
        while True:
            near, _ = listening.accept()
            with near, socket.create_connection(("127.0.0.1", int(sys.argv[1]))) as far:
                for side in (near, far):
                    side.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                asking = threading.Thread(target=pass_on, args=(near, far))
                asking.start()
                pass_on(far, near)
                asking.join()


if __name__ == "__main__":
    main()
