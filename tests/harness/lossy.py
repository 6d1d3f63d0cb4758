"""A path to a broker that may lose an answer: the request arrives, and the connection breaks before it is told."""

from __future__ import annotations

import contextlib
import select
import socket
import struct
import threading
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from types import TracebackType

_BYTES = 65536
_ABORTING = struct.pack("ii", 1, 0)


class LossyPath:
    """Listens on loopback in front of a port. `lose` names the request whose answer is lost next, by its first bytes;
    `by_reset`: its connection is aborted, else it ends.
    """

    def __init__(self, port: int) -> None:
        self.port = port
        self._losing = b""
        self.by_reset = False
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._open: set[socket.socket] = set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._listening.getsockname()[1]}"

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._accept)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listening.close()

    def lose(self, request: bytes) -> None:
        self._losing = request

    @property
    def has_lost(self) -> bool:
        return not self._losing

    def _accept(self) -> None:
        passing = []
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listening.accept()
                passing.append(threading.Thread(target=self._pass, args=(client,)))
                passing[-1].start()
        for one in tuple(self._open):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        for thread in passing:
            thread.join()

    def _pass(self, client: socket.socket) -> None:
        is_losing = False
        with client, contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port)) as broker:
            self._open |= {client, broker}
            while True:
                for ready in select.select([client, broker], [], [])[0]:
                    data = ready.recv(_BYTES)
                    if is_losing and ready is broker:
                        if self.by_reset:
                            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _ABORTING)
                        return
                    if not data:
                        return
                    if ready is client and self._losing and data.startswith(self._losing):
                        is_losing, self._losing = True, b""
                    (broker if ready is client else client).sendall(data)
