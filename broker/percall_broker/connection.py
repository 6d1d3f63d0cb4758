"""uvicorn's HTTP/1.1 connection, with two differences.

What a stranger may cost is bounded before anybody knows who it is: a TLS handshake and a request's head have a time,
the head has a size, few requests wait on one connection, and whoever has waited the longest, for a request or to have
its answer taken, makes room for whoever comes. And an answer's head goes out with the beginning of its body: two
packets would wake the laptop twice for one small answer, and cost a second system call here.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any, ClassVar

import structlog
from httptools import HttpParserError
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

try:
    from uvloop.loop import SSLProtocol  # type: ignore[attr-defined]  # its stubs leave it out
except ImportError:  # not on every system
    from asyncio.sslproto import SSLProtocol
if TYPE_CHECKING:
    import ssl

    from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

MAX_HEAD_BYTES = 64 * 1024
HEAD_SECONDS = 10.0
"""Until a request's head is here: from its first byte on, and for the first one from the connection on. As long may the
handshake take that comes before it.
"""
GOODBYE_SECONDS = 3.0
"""How long a connection that is closed may take to send the rest, and to end TLS: less than a broker has to end."""
MOST_PIPELINED = 16
"""Requests that may wait on a connection for the answer to an earlier one. No laptop sends any ahead."""
MOST_CONNECTIONS = 16_384
_DESCRIPTORS_EACH = 2
"""One for itself, and one for what it has done: an upstream's connection, the store's, a body on disk."""
_TOO_LONG = b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
_TOLD_SECONDS = 60.0

log = structlog.get_logger()


class Room:
    """So many connections may be open; beyond that, the one that has waited the longest for its other side ends."""

    def __init__(self, most: int = MOST_CONNECTIONS) -> None:
        self._most = most
        self._open: set[Connection | Handshake] = set()
        self._waiting: dict[Connection | Handshake, None] = {}
        self._told_at = -_TOLD_SECONDS

    def enter(self, connection: Connection | Handshake) -> None:
        """A connection is there. Where there is no room, another one ends; this one, if all others are answered."""
        self._open.add(connection)
        self.waits(connection)
        if len(self._open) > self._most:
            oldest = next(iter(self._waiting))
            self.leave(oldest)
            oldest.transport.abort()
            self._tell()

    def leave(self, connection: Connection | Handshake) -> None:
        """It has ended."""
        self._open.discard(connection)
        self._waiting.pop(connection, None)

    def answers(self, connection: Connection | Handshake) -> None:
        """A whole request has come; it stays until that is answered, as long as its other side takes the answer."""
        self._waiting.pop(connection, None)

    def waits(self, connection: Connection | Handshake) -> None:
        """Its other side is to send a request, or to take an answer."""
        if connection in self._open:
            self._waiting[connection] = None

    def _tell(self) -> None:
        if (now := time.monotonic()) - self._told_at >= _TOLD_SECONDS:
            self._told_at = now
            log.warning("as many connections as there may be", most=self._most)


def most_connections() -> int:
    """How many this process can have open; its limit of descriptors is raised for that, as far as it may be."""
    try:
        import resource  # noqa: PLC0415 - POSIX alone has it
    except ImportError:
        return MOST_CONNECTIONS
    limit, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST_CONNECTIONS * _DESCRIPTORS_EACH
    if limit != resource.RLIM_INFINITY and limit < wanted:
        limit = wanted if most == resource.RLIM_INFINITY else min(most, wanted)
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, most))
        return limit // _DESCRIPTORS_EACH
    return MOST_CONNECTIONS


class Connection(HttpToolsProtocol):
    """One connection of a laptop. A subclass names the room that it shares with its server's others."""

    room: ClassVar[Room]
    handshake: Handshake | None = None
    """What has its place in the room until it is made."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        """A laptop has connected."""
        super().connection_made(transport)
        self.transport = HeadWithBody(transport)
        self._is_in_head = True
        self._head_bytes = 0
        self._head_timer: asyncio.TimerHandle | None = self.loop.call_later(HEAD_SECONDS, transport.abort)
        if self.handshake is not None:
            self.room.leave(self.handshake)
        self.room.enter(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """It has ended."""
        self._has_head()
        self.room.leave(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Some bytes have come."""
        super().data_received(data)
        if self._is_in_head and not self.transport.is_closing():
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD_BYTES:
                self.transport.write(_TOO_LONG)
                self.transport.close()
            elif self._head_timer is None:
                self._head_timer = self.loop.call_later(HEAD_SECONDS, self.transport.abort)

    def on_message_begin(self) -> None:
        """A request begins. Raises HttpParserError, which ends the connection, where too many wait already."""
        if len(self.pipeline) >= MOST_PIPELINED:
            raise HttpParserError
        self._is_in_head = True
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Its head is whole."""
        self._has_head()
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """A request is whole."""
        super().on_message_complete()
        self._tell_room()

    def on_response_complete(self) -> None:
        """An answer is whole: the next thing written is a head again."""
        if isinstance(self.transport, HeadWithBody):
            self.transport.answered()
        super().on_response_complete()
        self._tell_room()

    def pause_writing(self) -> None:
        """What was written is not taken."""
        super().pause_writing()
        self._tell_room()

    def resume_writing(self) -> None:
        """It is taken again."""
        super().resume_writing()
        self._tell_room()

    def _tell_room(self) -> None:
        # Of those in the pipeline, the last alone may not be whole yet; `cycle` is the last of all.
        last: RequestResponseCycle | None = self.cycle
        owes = bool(self.pipeline) or (last is not None and not last.more_body and not last.response_complete)
        if owes and not self.flow.write_paused and not self.transport.is_closing():
            self.room.answers(self)
        else:
            self.room.waits(self)

    def _has_head(self) -> None:
        self._is_in_head, self._head_bytes = False, 0
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None


class Handshake(SSLProtocol):  # type: ignore[misc]  # as uvloop's stubs have it
    """TLS around a connection: what the event loop makes of `ssl=`, with a place in the room from the beginning. A
    server hears of a connection only once it has shaken hands, and never of one that does not.
    """

    def __init__(self, connection: Connection, context: ssl.SSLContext) -> None:
        loop = asyncio.get_running_loop()
        patience = {"ssl_handshake_timeout": HEAD_SECONDS, "ssl_shutdown_timeout": GOODBYE_SECONDS}
        super().__init__(loop, connection, context, None, server_side=True, **patience)
        self._room = connection.room
        connection.handshake = self

    def connection_made(self, transport: asyncio.Transport) -> None:
        """Somebody has connected."""
        super().connection_made(transport)
        self.transport = transport
        self._room.enter(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """It has ended, with the connection in it or without."""
        self._room.leave(self)
        super().connection_lost(exc)


class HeadWithBody(asyncio.Transport):
    """A transport that keeps the first writing of each answer for the second, until the loop's next turn at most."""

    def __init__(self, transport: asyncio.Transport) -> None:
        super().__init__()
        self._transport = transport
        self._head = b""
        self._awaits_head = True

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Now, with the head that waits; or, as the head, in a moment."""
        if self._awaits_head:
            self._awaits_head = False
            self._head = bytes(data)
            asyncio.get_running_loop().call_soon(self._flush)
        elif self._head:
            head, self._head = self._head, b""
            self._transport.write(b"".join((head, data)))  # `writelines` would send them one by one
        else:
            self._transport.write(data)

    def answered(self) -> None:
        """The answer is complete."""
        self._flush()
        self._awaits_head = True

    def _flush(self) -> None:
        head, self._head = self._head, b""
        if head:
            self._transport.write(head)

    def close(self) -> None:
        """After what was written."""
        self._flush()
        self._transport.close()

    def abort(self) -> None:
        """At once."""
        self._transport.abort()

    def is_closing(self) -> bool:
        """As the transport says."""
        return self._transport.is_closing()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """As the transport says."""
        return self._transport.get_extra_info(name, default)
