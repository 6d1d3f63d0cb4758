from __future__ import annotations

import pytest

from percall.egress import request_head
from percall.errors import WireError


def test_a_plain_head_is_read_as_it_came() -> None:
    head = request_head.read(b"GET /a?b=c HTTP/1.1\r\nHost: x:1\r\nAccept:  a, b \r\nEmpty:\r\n\r\n")
    assert (head.method, head.target, head.is_http_1_1) == ("GET", "/a?b=c", True)
    assert head.headers == (("host", "x:1"), ("accept", "a, b"), ("empty", ""))


@pytest.mark.parametrize(
    "lines",
    [
        pytest.param(b"Host: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked", id="both lengths"),
        pytest.param(b"Host: x\r\nContent-Length: 1\r\nContent-Length: 1", id="length twice"),
        pytest.param(b"Host: x\r\nContent-Length: 5, 5", id="length list"),
        pytest.param(b"Host: x\r\nContent-Length: +5", id="signed length"),
        pytest.param(b"Host: x\r\nContent-Length: " + b"1" * 16, id="length beyond all measure"),
        pytest.param(b"Host: x\r\nHost: x", id="host twice"),
        pytest.param(b"Host: x\r\nAuthorization: a\r\nAuthorization: b", id="authorization twice"),
        pytest.param(b"Accept: x", id="no host"),
        pytest.param(b"Host: x\r\nTE: trailers\r\nTE: trailers", id="TE twice"),
        pytest.param(b"Host: x\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked", id="encoding twice"),
        pytest.param(b"Host: x\r\nTransfer-Encoding: gzip, chunked", id="other encoding"),
        pytest.param(b"Host: x\nAccept: y", id="bare line feed"),
        pytest.param(b"Host: x\r\nx:" + b" " * 60_000 + b"\x01", id="much to try before it is malformed"),
        pytest.param(b"Host: x\rAccept: y", id="bare carriage return"),
        pytest.param(b"Host: x\r\nAccept: y\r\n z", id="folded header"),
        pytest.param(b"Host : x", id="space before the colon"),
        pytest.param(b"Host: x\r\nAccept: a\0b", id="zero byte"),
        pytest.param(b"Host: x\r\n: nameless", id="no name"),
    ],
)
def test_what_two_parsers_could_read_differently_is_refused(lines: bytes) -> None:
    with pytest.raises(WireError) as caught:
        request_head.read(b"POST / HTTP/1.1\r\n" + lines + b"\r\n\r\n")
    assert caught.value.code == "http.ambiguous"


def test_chunks_are_of_http_1_1_alone() -> None:
    with pytest.raises(WireError):
        request_head.read(b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n")


@pytest.mark.parametrize("name", ["TE", "Trailer", "Proxy-Authorization", "Upgrade", "Keep-Alive", "X-Hop"])
def test_what_is_between_neighbours_is_not_sent_on(name: str) -> None:
    head = request_head.read(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: x-hop\r\nA: b\r\n%b: c\r\n\r\n" % name.encode())
    assert head.sent_on() == (("a", "b"),)


@pytest.mark.parametrize(
    "line",
    [b"GET  / HTTP/1.1", b"GET / HTTP/1.1 ", b"GET / HTTP/2.0", b"GET /a#b HTTP/1.1", b"GET /\xe9 HTTP/1.1", b"GET /"],
)
def test_a_malformed_request_line_is_refused(line: bytes) -> None:
    with pytest.raises(WireError):
        request_head.read(line + b"\r\nHost: x\r\n\r\n")
