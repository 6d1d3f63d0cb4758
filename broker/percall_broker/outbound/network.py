"""Connections to upstreams: to an address that was checked and no other, with deadlines and back-pressure.

What is asked and answered on them is `http1`'s; which of them is used again is `pool`'s.
"""

from __future__ import annotations

import asyncio
import select
import ssl
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from percall_broker.model.errors import UpstreamFailed

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

READ_BYTES = 256 * 1024
"""What is held of an answer before the upstream is made to wait."""
_MINIMUM_ATTEMPT_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Deadlines:
    """How long an upstream may take: for a connection, for the answer's head, between two pieces, to accept one."""

    connect: float = 10.0
    first_byte: float = 120.0
    idle: float = 300.0
    write: float = 60.0


class Network:
    """Connects to the addresses that `addresses` finds and has checked; with TLS where `trust` is given."""

    def __init__(
        self,
        addresses: Callable[[str, int], Awaitable[Sequence[str]]],
        deadlines: Deadlines,
        trust: ssl.SSLContext | None = None,
    ) -> None:
        self._addresses = addresses
        self._deadlines = deadlines
        self._trust = trust

    async def connect(self, host: str, port: int) -> Stream:
        """A connection to the first checked address that answers, verified to be `host`'s. Raises UpstreamFailed."""
        loop = asyncio.get_running_loop()
        end = loop.time() + self._deadlines.connect
        try:
            async with asyncio.timeout_at(end):
                addresses = await self._addresses(host, port)
        except TimeoutError:
            raise UpstreamFailed("upstream.name", f"The name {host} did not resolve in time.") from None
        for at, address in enumerate(addresses):
            share = max(_MINIMUM_ATTEMPT_SECONDS, (end - loop.time()) / (len(addresses) - at))
            with suppress(OSError):  # TimeoutError is one
                async with asyncio.timeout_at(min(end, loop.time() + share)):
                    _, stream = await loop.create_connection(lambda: Stream(self._deadlines.write), address, port)
                break
        else:
            raise UpstreamFailed("upstream.connect", f"No connection to {host} on port {port}.")
        if self._trust is not None:
            await self._secure(stream, self._trust, host)
        return stream

    async def _secure(self, stream: Stream, trust: ssl.SSLContext, host: str) -> None:
        """Raises UpstreamFailed."""
        secured = False
        try:
            async with asyncio.timeout(self._deadlines.connect):
                secured = await stream.start_tls(trust, host)
        except TimeoutError:
            raise UpstreamFailed("upstream.timeout", "The upstream did not finish its TLS handshake.") from None
        except (OSError, ssl.SSLError) as error:
            reason = error.verify_message if isinstance(error, ssl.SSLCertVerificationError) else "handshake failed"
            raise UpstreamFailed("upstream.tls", f"TLS with {host}: {reason}.") from None
        finally:
            if not secured:  # also when nobody waits for it any more
                stream.close()
        if not secured:
            raise UpstreamFailed("upstream.tls", f"TLS with {host}: the upstream hung up.")


class Stream(asyncio.Protocol):
    """One connection: bytes out, and bytes in at the reader's pace. `patience` is in seconds, None for no end."""

    def __init__(self, write_seconds: float) -> None:
        self._write_seconds = write_seconds
        self._transport: asyncio.Transport | None = None
        self._pieces: deque[bytes] = deque()
        self._size = 0
        self._paused = False
        self._heard = True
        self._ended = False
        self._error: Exception | None = None
        self._readable: asyncio.Future[None] | None = None
        self._writable: asyncio.Future[None] | None = None

    # --- What asyncio tells us ----------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The connection stands."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is one by its shape alone

    def data_received(self, data: bytes) -> None:
        """Bytes came: keep them, and let the upstream wait when they are many."""
        self._pieces.append(bytes(data))
        self._size += len(data)
        self._heard = True
        if self._size > READ_BYTES and not self._paused and self._transport is not None:
            self._paused, self._heard = True, False
            self._transport.pause_reading()
        _wake(self._readable)

    def eof_received(self) -> bool:
        """No more will come."""
        self._ended = True
        _wake(self._readable)
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone, in order or not."""
        if exc is None and not self._ended:  # with TLS: no closing alert, so anybody on the way may have cut it
            exc = ConnectionAbortedError()
        self._ended = True
        self._error = exc
        _wake(self._readable)
        _wake(self._writable)

    def pause_writing(self) -> None:
        """The upstream does not keep up."""
        self._writable = asyncio.get_running_loop().create_future()

    def resume_writing(self) -> None:
        """It does again."""
        _wake(self._writable)
        self._writable = None

    # --- What its user asks -------------------------------------------------------------------------------------------

    @property
    def is_quiet(self) -> bool:
        """Whether it is open, and nothing has come that nobody has asked for.

        Not where the upstream was made to wait and has not been heard since: more may be on this side already.
        """
        if self._pieces or self._ended or not self._heard or self._transport is None:
            return False
        return not self._transport.is_closing()

    @property
    def is_silent(self) -> bool:
        """Whether it is quiet, and neither bytes nor an end wait in the kernel, which the event loop has yet to read.

        For a connection that was used before: on a new one with TLS, session tickets may be waiting.
        """
        if not self.is_quiet or self._transport is None:
            return False
        waiting = select.poll()
        waiting.register(self._transport.get_extra_info("socket").fileno(), select.POLLIN)
        return not waiting.poll(0)

    async def read(self, patience: float | None) -> bytes:
        """The next bytes; b"" at the end. Raises UpstreamFailed."""
        while not self._pieces:
            if self._error is not None:
                raise UpstreamFailed("upstream.cut", "The upstream broke the connection off.")
            if self._ended:
                return b""
            self._readable = asyncio.get_running_loop().create_future()
            try:
                if patience is None:
                    await self._readable
                else:
                    async with asyncio.timeout(patience):
                        await self._readable
            except TimeoutError:
                raise UpstreamFailed("upstream.timeout", "The upstream stopped sending.") from None
            finally:
                self._readable = None
        piece = self._pieces.popleft()
        self._size -= len(piece)
        if self._paused and self._size == 0 and self._transport is not None:
            self._paused = False
            self._transport.resume_reading()
        return piece

    def unread(self, data: bytes) -> None:
        """Put bytes back, to be read next."""
        if data:
            self._pieces.appendleft(data)
            self._size += len(data)

    async def write(self, data: bytes) -> bool:
        """Hand bytes over, waiting while the upstream accepts none. Whether anybody takes them still.

        Raises UpstreamFailed.
        """
        # One that breaks off is closed some turns of the loop before we are told, and to write to it would raise.
        if self._ended or self._transport is None or self._transport.is_closing():
            return False
        self._transport.write(data)
        if self._writable is not None:
            try:
                async with asyncio.timeout(self._write_seconds):
                    await self._writable
            except TimeoutError:
                raise UpstreamFailed("upstream.timeout", "The upstream accepted no more of the request.") from None
        return True

    async def start_tls(self, context: ssl.SSLContext, host: str) -> bool:
        """Verify and encrypt it; False when it was closed before that was done. Raises OSError, ssl.SSLError."""
        if self._transport is None:
            return False
        secured = await asyncio.get_running_loop().start_tls(self._transport, self, context, server_hostname=host)
        if secured is None:
            return False
        self._transport = secured
        return True

    def close(self) -> None:
        """At once: what is unsent or unread is of no use any more."""
        if self._transport is not None:
            self._transport.abort()


def _wake(waiter: asyncio.Future[None] | None) -> None:
    if waiter is not None and not waiter.done():
        waiter.set_result(None)
