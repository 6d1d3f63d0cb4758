"""HTTP/1.1 towards an upstream (RFC 9112): one request, and its answer, which can be read in one way only.

Whatever is ambiguous is refused: bare line feeds, folded lines, repeated lengths, a length beside chunks. What stands
behind an answer is left on the connection, where it shows.
"""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Self

from percall_broker.model.errors import UpstreamFailed

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, Iterable

    from percall_broker.outbound.network import Deadlines, Stream

MAX_HEAD_BYTES = 64 * 1024
MAX_FIELDS = 256
MAX_INFORMATIONAL = 8
MAX_LENGTH_DIGITS = 18
MAX_ANSWER_BYTES = 4 * 1024 * 1024 * 1024

_METHOD = re.compile(r"[A-Z]{1,32}")
_TARGET = re.compile(r"[\x21-\x7e]+")
_STATUS_LINE = re.compile(rb"HTTP/1\.([01]) ([0-9]{3})(?: [\t\x20-\x7e\x80-\xff]*)?")
_NAME = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_VALUE = re.compile(rb"[\t\x20-\x7e\x80-\xff]*")
_FIELD = re.compile(rb"(" + _NAME + rb"):([\t\x20-\x7e\x80-\xff]*)")
# No two neighbours here match the same byte: what an upstream sends is read in time linear in its length.
_CHUNK = re.compile(rb"([0-9A-Fa-f]{1,15})(?:;[\t\x20-\x7e\x80-\xff]*|[\t ]*)")
_TOKEN = re.compile(_NAME)
BODYLESS = frozenset({204, 304})
"""Answers that never have a body, whatever their head says."""
WITH_CONTENT = frozenset({"POST", "PUT", "PATCH"})
"""Methods of which every server reads the content, also where there is none."""
_INFORMATIONAL, _SWITCHING, _FINAL = 100, 101, 200
_ONCE = (b"host", b"content-length")
_FRAMING = (b"content-length", b"transfer-encoding")


# --- The request ------------------------------------------------------------------------------------------------------


async def send(
    stream: Stream, method: str, target: str, headers: Iterable[tuple[bytes, bytes]], body: AsyncIterable[bytes]
) -> bool:
    """Writes a request: its head goes with the body's first bytes. The body is as long as `content-length` says.

    Whether another may follow it: an upstream to which a GET has no content would read this content as the next
    request (RFC 9110, 9.3.1). Raises UpstreamFailed, before anything was sent where the request cannot be put into
    HTTP/1.1.
    """
    pending, left = _request_head(method, target, headers)
    may_be_followed = not left or method in WITH_CONTENT
    if not stream.is_quiet:
        raise UpstreamFailed("upstream.framing", "The upstream answered before it was asked.")
    async for piece in body:
        left -= len(piece)
        if left < 0:
            raise _no_request()
        if not await stream.write(pending + piece if pending else piece):
            return False  # its answer may say why it takes no more
        pending = b""
    if left:
        raise _no_request()
    if pending:
        await stream.write(pending)
    return may_be_followed


def _request_head(method: str, target: str, headers: Iterable[tuple[bytes, bytes]]) -> tuple[bytes, int]:
    """The head, and how long the body is to be."""
    if not _METHOD.fullmatch(method) or not _TARGET.fullmatch(target):
        raise _no_request()
    once = dict.fromkeys(_ONCE, b"")
    lines = [f"{method} {target} HTTP/1.1".encode("ascii")]
    for name, value in headers:
        lower = name.lower()
        if not _TOKEN.fullmatch(name) or not _VALUE.fullmatch(value) or lower == b"transfer-encoding":
            raise _no_request()
        if lower in _ONCE:
            if once[lower] or not value:
                raise _no_request()
            once[lower] = value
        lines.append(name + b": " + value)
    length = once[b"content-length"] or b"0"
    if not once[b"host"] or not length.isdigit():
        raise _no_request()
    return b"\r\n".join(lines) + b"\r\n\r\n", int(length)


def _no_request() -> UpstreamFailed:
    return UpstreamFailed("upstream.request", "The request cannot be put into HTTP/1.1.")


# --- The answer's head ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Head:
    """An answer's head. `length` is None where only the body itself says how long it is.

    `is_chunked`: it says so by chunks; `keeps`: the connection may carry another request after it.
    """

    status: int
    headers: tuple[tuple[bytes, bytes], ...]
    length: int | None
    is_chunked: bool
    keeps: bool


async def receive(stream: Stream, method: str, deadlines: Deadlines | None) -> Answer:
    """The final answer's head, with its body to come; informational ones (RFC 9110, 15.2) are passed over.

    Without deadlines the caller bounds the time, or nobody does. Raises UpstreamFailed.
    """
    if deadlines is None:
        head = await _read_head(stream)
    else:
        try:
            async with asyncio.timeout(deadlines.first_byte):
                head = await _read_head(stream)
        except TimeoutError:
            raise UpstreamFailed("upstream.timeout", "The upstream did not answer in time.") from None
    bodyless = method == "HEAD" or head.status in BODYLESS
    if bodyless and (head.is_chunked or head.length):
        head = replace(head, keeps=False)  # the body that it speaks of may come all the same
    return Answer(stream, head, None if deadlines is None else deadlines.idle, bodyless=bodyless)


async def _read_head(stream: Stream) -> Head:
    data = b""
    for _ in range(MAX_INFORMATIONAL):
        while (end := data.find(b"\r\n\r\n")) < 0:
            if len(data) > MAX_HEAD_BYTES:
                raise UpstreamFailed("upstream.head", "The upstream's answer has too long a head.")
            piece = await stream.read(None)
            if not piece:
                raise _ended_early()
            data += piece
        head = check_head(data[:end])
        data = data[end + 4 :]
        if head.status >= _FINAL:
            stream.unread(data)
            return head
    raise UpstreamFailed("upstream.head", "The upstream does not come to an answer.")


def check_head(head: bytes) -> Head:
    """An answer's head that can be read in one way only. Raises UpstreamFailed."""
    if len(head) > MAX_HEAD_BYTES:
        raise UpstreamFailed("upstream.head", "The upstream's answer has too long a head.")
    status_line, *lines = head.split(b"\r\n")
    first = _STATUS_LINE.fullmatch(status_line)
    if first is None or len(lines) > MAX_FIELDS:
        raise UpstreamFailed("upstream.head", "The upstream's answer is not HTTP/1.1, or has too many headers.")
    headers = tuple(map(_field, lines))
    lower = [(name.lower(), value) for name, value in headers]
    lengths = [value for name, value in lower if name == b"content-length"]
    encodings = [value.lower() for name, value in lower if name == b"transfer-encoding"]
    if len(lengths) + len(encodings) > 1:
        raise UpstreamFailed("upstream.framing", "The length of the upstream's answer is ambiguous.")
    if lengths and (not lengths[0].isdigit() or len(lengths[0]) > MAX_LENGTH_DIGITS):
        raise UpstreamFailed("upstream.framing", "The upstream's answer has a malformed length.")
    if encodings and encodings != [b"chunked"]:
        raise UpstreamFailed("upstream.framing", "The upstream's answer has an unknown transfer encoding.")
    status = int(first[2])
    if status < _INFORMATIONAL or status == _SWITCHING:  # for which we never ask
        raise UpstreamFailed("upstream.head", "The upstream's answer has no status, or changes the protocol unasked.")
    if (status < _FINAL and (lengths or encodings)) or (encodings and first[1] == b"0"):
        raise UpstreamFailed("upstream.framing", "The upstream's answer is framed as no answer of its kind is.")
    closes = any(
        name == b"connection" and b"close" in (option.strip(b" \t") for option in value.lower().split(b","))
        for name, value in lower
    )
    length = int(lengths[0]) if lengths else None
    return Head(status, headers, length, is_chunked=bool(encodings), keeps=first[1] == b"1" and not closes)


def _field(line: bytes) -> tuple[bytes, bytes]:
    field = _FIELD.fullmatch(line)
    if field is None:
        raise UpstreamFailed("upstream.head", "A header of the upstream's answer is malformed.")
    return field[1], field[2].strip(b" \t")


# --- Its body ---------------------------------------------------------------------------------------------------------


class Answer:
    """An answer: its `head`, and by iteration its body as it comes. Raises UpstreamFailed.

    `is_whole`: all of it has been read, and nothing else.
    """

    def __init__(self, stream: Stream, head: Head, patience: float | None, *, bodyless: bool) -> None:
        self.head = head
        self._stream = stream
        self._patience = patience
        self._chunks = Chunks() if head.is_chunked and not bodyless else None
        self._left = 0 if bodyless else head.length
        self._total = 0
        self.is_whole = self._left == 0 and self._chunks is None

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        while not self.is_whole:
            piece = await self._stream.read(self._patience)
            if not piece:
                if self._left is not None or self._chunks is not None:
                    raise _ended_early()
                self.is_whole = True  # a body that ends with its connection
            elif decoded := self._decoded(piece):
                self._total += len(decoded)
                if self._total > MAX_ANSWER_BYTES:
                    raise UpstreamFailed("upstream.size", f"The answer is longer than {MAX_ANSWER_BYTES} bytes.")
                return decoded
        raise StopAsyncIteration

    def _decoded(self, piece: bytes) -> bytes:
        if self._chunks is not None:
            decoded = self._chunks.feed(piece)
            if self._chunks.is_over:
                self.is_whole = True
                self._stream.unread(self._chunks.rest)
            return decoded
        if self._left is not None:
            if len(piece) > self._left:
                self._stream.unread(piece[self._left :])
                piece = piece[: self._left]
            self._left -= len(piece)
            self.is_whole = self._left == 0
        return piece


class Chunks:
    """The chunked transfer coding (RFC 9112, 7.1). Raises UpstreamFailed.

    `is_over` after the last chunk and its trailers, which are dropped; `rest` is then what came behind them.
    """

    def __init__(self) -> None:
        self.is_over = False
        self.rest = b""
        self._kept = b""
        self._left = 0
        self._trailers = 0
        self._reads = self._size

    def feed(self, data: bytes) -> bytes:
        """The body's bytes in these."""
        data, self._kept = self._kept + data, b""
        at, parts = 0, []
        while not self.is_over:
            if self._left:
                part = data[at : at + self._left]
                parts.append(part)
                at += len(part)
                self._left -= len(part)
                if self._left:
                    break
                self._reads = self._end
            end = data.find(b"\r\n", at)
            if end < 0 or end - at > MAX_HEAD_BYTES:
                self._kept = data[at:]
                if len(self._kept) > MAX_HEAD_BYTES:
                    raise _malformed()
                break
            self._reads(data[at:end])
            at = end + 2
        if self.is_over:
            self.rest = data[at:]
        return b"".join(parts)

    def _size(self, line: bytes) -> None:
        size = _CHUNK.fullmatch(line)
        if size is None:
            raise _malformed()
        self._left = int(size[1], 16)
        if not self._left:
            self._reads = self._trailer

    def _end(self, line: bytes) -> None:
        if line:
            raise _malformed()
        self._reads = self._size

    def _trailer(self, line: bytes) -> None:
        self._trailers += len(line)
        field = _FIELD.fullmatch(line)
        if line and (field is None or field[1].lower() in _FRAMING or self._trailers > MAX_HEAD_BYTES):
            raise _malformed()
        self.is_over = not line


def _malformed() -> UpstreamFailed:
    return UpstreamFailed("upstream.protocol", "The upstream's answer has a malformed chunk.")


def _ended_early() -> UpstreamFailed:
    return UpstreamFailed("upstream.protocol", "The upstream's answer is not HTTP/1.1, or ended early.")
