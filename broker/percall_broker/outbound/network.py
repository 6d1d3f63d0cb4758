"""httpcore's way onto the network: our own, so that each connection goes to an address that was checked.

It also reads each answer's head before httpcore's parser does, which is lenient: bare line feeds, folded lines,
repeated lengths and a length beside a transfer encoding are refused here.
"""

from __future__ import annotations

import asyncio
import math
import re
import ssl
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import httpcore

from percall_broker.model.errors import UpstreamFailed

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence

READ_BYTES = 256 * 1024
"""What is held of an answer before the upstream is made to wait."""
MAX_HEAD_BYTES = 64 * 1024
MAX_INFORMATIONAL = 8
MAX_LENGTH_DIGITS = 18

_STATUS_LINE = re.compile(rb"HTTP/1\.[01] ([0-9]{3})(?: [\t\x20-\x7e\x80-\xff]*)?")
_FIELD = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):([\t\x20-\x7e\x80-\xff]*)")
_LAST_CHUNK = b"0\r\n\r\n"
_MINIMUM_ATTEMPT_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Deadlines:
    """How long an upstream may take: for a connection, for the answer's head, between two pieces, to accept one."""

    connect: float = 10.0
    first_byte: float = 120.0
    idle: float = 300.0
    write: float = 60.0


class Backend(httpcore.AsyncNetworkBackend):
    """Connects to the addresses that `addresses` finds and has checked. Raises UpstreamFailed."""

    def __init__(self, addresses: Callable[[str, int], Awaitable[Sequence[str]]], deadlines: Deadlines) -> None:
        self._addresses = addresses
        self._deadlines = deadlines

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 - httpcore's signature; the deadlines are ours
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """A connection to the first checked address that answers."""
        del timeout, local_address, socket_options
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
                    _, stream = await loop.create_connection(lambda: CheckedStream(self._deadlines), address, port)
                    return stream
        raise UpstreamFailed("upstream.connect", f"No connection to {host} on port {port}.")

    async def connect_unix_socket(
        self,
        path: str,
        timeout: float | None = None,  # noqa: ASYNC109 - httpcore's signature
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Never: an upstream is reached over the network."""
        del timeout, socket_options
        raise UpstreamFailed("upstream.connect", f"{path} is not a network address.")

    async def sleep(self, seconds: float) -> None:
        """For httpcore's retries, of which we ask none."""
        await asyncio.sleep(seconds)


class CheckedStream(asyncio.Protocol, httpcore.AsyncNetworkStream):
    """One connection: bytes in with back-pressure, and a strict look at each answer's head.

    `head_pending`: a request went out, and no head was read since. An answer that is there nevertheless is not its own.
    """

    def __init__(self, deadlines: Deadlines) -> None:
        self._deadlines = deadlines
        self._transport: asyncio.Transport | None = None
        self._pieces: deque[bytes] = deque()
        self._size = 0
        self._paused = False
        self._ended = False
        self._error: Exception | None = None
        self._readable: asyncio.Future[None] | None = None
        self._writable: asyncio.Future[None] | None = None
        self._asked = b""
        self._left: int | None = 0  # what is missing of a body of known length; None where its length is not known
        self._tail = b""
        self._unsent = b""
        self.head_pending = False

    # --- What asyncio tells us ----------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The connection stands."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is one by its shape alone

    def data_received(self, data: bytes) -> None:
        """Bytes came: keep them, and let the upstream wait when they are many."""
        self._pieces.append(bytes(data))
        self._size += len(data)
        if self._size > READ_BYTES and not self._paused and self._transport is not None:
            self._paused = True
            self._transport.pause_reading()
        _wake(self._readable)

    def eof_received(self) -> bool:
        """No more will come."""
        self._ended = True
        _wake(self._readable)
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone, in order or not."""
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

    # --- What httpcore asks -------------------------------------------------------------------------------------------

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ASYNC109 - httpcore's
        """The next bytes, b"" at the end; an answer's head is given only whole, and checked.

        An infinite `timeout` means that the caller bounds the time, or nobody does.
        """
        del max_bytes  # pieces are at most as long as the transport reads at once
        if self._unsent and self._transport is not None and not self._ended:
            self._transport.write(self._unsent)
        self._unsent = b""
        patient = timeout == math.inf
        if not self.head_pending:
            piece = await self._next(None if patient else self._deadlines.idle)
            self._account(piece)
            return piece
        patience = None if patient else self._deadlines.first_byte
        try:
            async with asyncio.timeout(patience):
                head = await self._read_head(patience)
        except TimeoutError:
            raise UpstreamFailed("upstream.timeout", "The upstream did not answer in time.") from None
        self.head_pending = False
        return head

    @property
    def left(self) -> int:
        """What is missing of a body of known length; 0 where its length is not known."""
        return self._left or 0

    async def rest(self, timeout: float | None = None) -> AsyncIterator[bytes]:  # noqa: ASYNC109 - as `read` has it
        """The rest of a body of known length, past httpcore, which keeps each byte three times before it is given.

        Begin when all that httpcore has read was taken. What comes behind the body is dropped; httpcore knows nothing
        of the body's end, so the connection is of no use afterwards. Raises UpstreamFailed.
        """
        while (left := self.left) > 0:
            piece = await self.read(READ_BYTES, timeout)
            if not piece:
                raise UpstreamFailed("upstream.protocol", "The upstream's answer ended early.")
            yield piece[:left]

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ASYNC109 - httpcore's
        """Hands bytes over, waiting while the upstream accepts none."""
        del timeout
        if not buffer:
            return
        if self._ended or self._transport is None:
            raise httpcore.WriteError
        if not self.head_pending:
            self.head_pending = True
            self._asked = buffer[:5]
            self._unsent = buffer  # it goes with the body's first bytes, which are here already, or when we read
            return
        if self._unsent:
            buffer, self._unsent = self._unsent + buffer, b""
        self._transport.write(buffer)
        if self._writable is not None:
            try:
                async with asyncio.timeout(self._deadlines.write):
                    await self._writable
            except TimeoutError:
                raise UpstreamFailed("upstream.timeout", "The upstream accepted no more of the request.") from None

    async def aclose(self) -> None:
        """At once: what is unsent or unread is of no use any more."""
        if self._transport is not None:
            self._transport.abort()

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ASYNC109 - httpcore's
    ) -> httpcore.AsyncNetworkStream:
        """The same connection, verified and encrypted."""
        del timeout
        transport = self._transport
        if transport is None:
            raise httpcore.ConnectError
        try:
            async with asyncio.timeout(self._deadlines.connect):
                secured = await asyncio.get_running_loop().start_tls(
                    transport, self, ssl_context, server_hostname=server_hostname
                )
        except TimeoutError:
            transport.abort()
            raise UpstreamFailed("upstream.timeout", "The upstream did not finish its TLS handshake.") from None
        except (OSError, ssl.SSLError) as error:
            transport.abort()
            reason = error.verify_message if isinstance(error, ssl.SSLCertVerificationError) else "handshake failed"
            raise UpstreamFailed("upstream.tls", f"TLS with {server_hostname}: {reason}.") from None
        if secured is None:  # closed before it was done
            raise UpstreamFailed("upstream.tls", f"TLS with {server_hostname}: the upstream hung up.")
        self._transport = secured
        return self

    def get_extra_info(self, info: str) -> Any:
        """`is_readable` of an idle connection means that it is of no use: closed, or bytes that nobody asked for."""
        if info == "is_readable":
            surplus = self._size > 0 or not self._ended_exactly()
            return surplus or self._ended or self._transport is None or self._transport.is_closing()
        if info == "ssl_object" and self._transport is not None:
            return self._transport.get_extra_info("ssl_object")
        return None

    # --- Reading ------------------------------------------------------------------------------------------------------

    async def _next(self, patience: float | None) -> bytes:
        if not self._pieces:
            if self._error is not None:
                raise UpstreamFailed("upstream.cut", "The upstream broke the connection off.")
            if self._ended:
                return b""
            self._readable = asyncio.get_running_loop().create_future()
            try:
                async with asyncio.timeout(patience):
                    await self._readable
            except TimeoutError:
                raise UpstreamFailed("upstream.timeout", "The upstream stopped sending.") from None
            finally:
                self._readable = None
            return await self._next(patience)
        piece = self._pieces.popleft()
        self._size -= len(piece)
        if self._paused and self._size == 0 and self._transport is not None:
            self._paused = False
            self._transport.resume_reading()
        return piece

    def _account(self, piece: bytes) -> None:
        if self._left is None:
            self._tail = (self._tail + piece[-len(_LAST_CHUNK) :])[-len(_LAST_CHUNK) :]
        else:
            self._left -= len(piece)

    def _ended_exactly(self) -> bool:
        """Whether the last answer was the last that came: bytes behind it would be read as the next request's answer.

        Surplus behind a last chunk either changes these last bytes, or holds a whole head, which `head_pending` shows.
        """
        return not self.head_pending and (self._tail == _LAST_CHUNK if self._left is None else self._left == 0)

    async def _read_head(self, patience: float | None) -> bytes:
        """The head of the final answer and what came with it; informational ones (RFC 9110, 15.2) are passed over."""
        data = b""
        for _ in range(MAX_INFORMATIONAL):
            while (end := data.find(b"\r\n\r\n")) < 0:
                if len(data) > MAX_HEAD_BYTES:
                    raise UpstreamFailed("upstream.head", "The upstream's answer has too long a head.")
                piece = await self._next(patience)
                if not piece:
                    return data  # httpcore says what an end means here
                data += piece
            head = check_head(data[:end])
            if head.status >= 200:  # noqa: PLR2004 - informational below
                bodyless = self._asked == b"HEAD " or head.status in {204, 304}
                self._left = 0 if bodyless else head.length
                self._tail = b""
                self._account(data[end + 4 :])
                return data
            data = data[end + 4 :]
        raise UpstreamFailed("upstream.head", "The upstream does not come to an answer.")


@dataclass(frozen=True, slots=True)
class Head:
    """What matters of an answer's head here. `length` is None where only the body itself says how long it is."""

    status: int
    length: int | None


def check_head(head: bytes) -> Head:
    """An answer's head that can be read in one way only. Raises UpstreamFailed."""
    if len(head) > MAX_HEAD_BYTES:
        raise UpstreamFailed("upstream.head", "The upstream's answer has too long a head.")
    status_line, *lines = head.split(b"\r\n")
    first = _STATUS_LINE.fullmatch(status_line)
    if first is None:
        raise UpstreamFailed("upstream.head", "The upstream's answer is not HTTP/1.1.")
    lengths = encodings = 0
    length = None
    for line in lines:
        field = _FIELD.fullmatch(line)
        if field is None:
            raise UpstreamFailed("upstream.head", "A header of the upstream's answer is malformed.")
        name = field[1].lower()
        if name == b"content-length":
            lengths += 1
            digits = field[2].strip(b" \t")
            if not digits.isdigit() or len(digits) > MAX_LENGTH_DIGITS:
                raise UpstreamFailed("upstream.framing", "The upstream's answer has a malformed length.")
            length = int(digits)
        encodings += name == b"transfer-encoding"
    if lengths > 1 or encodings > 1 or (lengths and encodings):
        raise UpstreamFailed("upstream.framing", "The length of the upstream's answer is ambiguous.")
    status = int(first[1])
    if status == 101:  # noqa: PLR2004 - Switching Protocols, for which we never ask
        raise UpstreamFailed("upstream.head", "The upstream changed the protocol unasked.")
    return Head(status, length)


def _wake(waiter: asyncio.Future[None] | None) -> None:
    if waiter is not None and not waiter.done():
        waiter.set_result(None)
