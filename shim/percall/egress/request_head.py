"""A strict look at a request's head before any parser sees it: what two parsers could read differently is refused.

h11 is lenient where the RFC lets it be; a listener that forwards must not be.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from percall.errors import WireError

MAX_HEAD_BYTES = 64 * 1024
END = b"\r\n\r\n"
# Neither takes a bare line feed, a carriage return or a zero byte, nor a header that is folded over two lines.
_REQUEST_LINE = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]{1,32}) ([\x21-\x7e]{1,16384}) HTTP/1\.([01])")
# No part of it can match what the next one could: a stranger's 64 KiB must not be tried in many ways.
_HEADER = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):([\t\x20-\x7e\x80-\xff]*)")
# Between two neighbours only (RFC 9110, 7.6.1); Host and Content-Length are made anew by whoever sends a message on.
BETWEEN_NEIGHBOURS = frozenset(
    {
        "connection", "keep-alive", "proxy-connection", "proxy-authorization", "proxy-authenticate", "te", "trailer",
        "transfer-encoding", "upgrade", "host", "content-length", "expect",
    }
)  # fmt: skip
_ONCE = frozenset(
    {"host", "content-length", "transfer-encoding", "te", "proxy-authorization", "authorization", "expect"}
)


@dataclass(frozen=True, slots=True)
class RequestHead:
    """A head that can be read in one way only. Names are in lower case; values as they came, decoded as Latin-1."""

    method: str
    target: str
    is_http_1_1: bool
    headers: tuple[tuple[str, str], ...]

    def header(self, name: str) -> str | None:
        """The value of a header that comes at most once."""
        return next((value for found, value in self.headers if found == name), None)

    def sent_on(self) -> tuple[tuple[str, str], ...]:
        """The headers that are meant for whoever is behind us."""
        left_out = BETWEEN_NEIGHBOURS | named_by_connection(self.headers)
        return tuple((name, value) for name, value in self.headers if name not in left_out)


def named_by_connection(headers: tuple[tuple[str, str], ...]) -> set[str]:
    """What a Connection header says is between two neighbours, too; names are in lower case."""
    return {token.strip().lower() for name, value in headers if name == "connection" for token in value.split(",")}


def _refused(reason: str) -> WireError:
    return WireError("http.ambiguous", f"The request is refused: {reason}.")


def read(head: bytes) -> RequestHead:
    """The head, from its first byte to the empty line. Raises WireError (`http.ambiguous`)."""
    if not head.endswith(END):
        raise _refused("its head has no end")
    lines = head[: -len(END)].split(b"\r\n")
    request_line = _REQUEST_LINE.fullmatch(lines[0])
    if request_line is None:
        raise _refused("its request line is malformed")
    method, target, minor = request_line.groups()
    if b"#" in target:
        raise _refused("its target holds a fragment")
    headers = []
    for line in lines[1:]:
        header = _HEADER.fullmatch(line)
        if header is None:
            raise _refused("a header is malformed")
        headers.append((header[1].decode("ascii").lower(), header[2].strip(b" \t").decode("latin-1")))
    result = RequestHead(method.decode("ascii"), target.decode("ascii"), minor == b"1", tuple(headers))
    _check_framing(result)
    return result


def _check_framing(head: RequestHead) -> None:
    seen: set[str] = set()
    for name, _ in head.headers:
        if name in _ONCE and name in seen:
            raise _refused(f"{name} stands in it twice")
        seen.add(name)
    length, encoding = head.header("content-length"), head.header("transfer-encoding")
    if length is not None and encoding is not None:
        raise _refused("it has both Content-Length and Transfer-Encoding")
    if length is not None and not (length.isascii() and length.isdigit() and len(length) <= 15):  # noqa: PLR2004
        raise _refused("its Content-Length is not a number")
    if encoding is not None and (encoding.lower() != "chunked" or not head.is_http_1_1):
        raise _refused("its Transfer-Encoding is not chunked")
    if head.is_http_1_1 and head.header("host") is None:
        raise _refused("it has no Host")
