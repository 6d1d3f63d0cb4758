"""Servers of ours on loopback: what they share, whatever they stand for."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from http.server import ThreadingHTTPServer
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from http.server import BaseHTTPRequestHandler
    from types import TracebackType


class RoomyServer(ThreadingHTTPServer):
    """With room for those who connect at once; the standard library's five are refused when a machine is busy."""

    request_queue_size = 256
    daemon_threads = True


class Quiet:
    """Answers at once, keeps its connections, and says nothing: who stands behind it remembers what was asked."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, *_: object) -> None:
        """Say nothing."""


class Listening(ABC):
    """Listens as long as the block lasts, with a thread for each connection."""

    @abstractmethod
    def _handler(self) -> type[BaseHTTPRequestHandler]:
        """The class that answers, bound to this one."""

    def _ending(self) -> None:  # noqa: B027 - most hold no requests back
        """Lets go of requests that wait."""

    def __enter__(self) -> Self:
        self._server = RoomyServer(("127.0.0.1", 0), self._handler())
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ending()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"
