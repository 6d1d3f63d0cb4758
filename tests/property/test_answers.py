"""An upstream's answer is read as another strict reader of HTTP/1.1 reads it, or refused."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import h11
from hypothesis import given, settings
from hypothesis import strategies as st

from percall_broker.model.errors import UpstreamFailed
from percall_broker.outbound import http1
from percall_broker.outbound.network import Stream

if TYPE_CHECKING:
    from collections.abc import Sequence

Read = tuple[int, list[tuple[bytes, bytes]], bytes, bytes]
"""Status, headers, body, and what is left behind it."""


def cut(wire: bytes, cuts: Sequence[int]) -> list[bytes]:
    pieces = []
    for size in cuts:
        pieces.append(wire[:size])
        wire = wire[size:]
    return [piece for piece in [*pieces, wire] if piece]


def ours(method: str, pieces: Sequence[bytes]) -> Read | None:
    stream = Stream(1)
    for piece in pieces:
        stream.data_received(piece)
    stream.eof_received()

    async def read() -> Read:
        answer = await http1.receive(stream, method, None)
        body = b"".join([piece async for piece in answer])
        headers = [(name.lower(), value) for name, value in answer.head.headers]
        return answer.head.status, headers, body, b"".join(stream._pieces)

    try:
        read().send(None)  # all has come, so nothing is waited for
    except StopIteration as done:
        value: Read = done.value
        return value
    except UpstreamFailed:
        return None
    raise AssertionError


def by_h11(method: str, pieces: Sequence[bytes]) -> Read | None:
    client = h11.Connection(h11.CLIENT, max_incomplete_event_size=http1.MAX_HEAD_BYTES)
    client.send(h11.Request(method=method, target="/", headers=[("host", "x")]))
    client.send(h11.EndOfMessage())
    head, body = None, b""
    try:
        for at, piece in enumerate([*pieces, b""]):
            client.receive_data(piece)
            while (event := client.next_event()) is not h11.NEED_DATA:
                if isinstance(event, h11.Response):
                    head = event
                elif isinstance(event, h11.Data):
                    body += bytes(event.data)
                elif isinstance(event, h11.EndOfMessage):
                    assert head is not None
                    rest = client.trailing_data[0] + b"".join(pieces[at + 1 :])
                    return head.status_code, list(head.headers), body, rest
                elif not isinstance(event, h11.InformationalResponse):
                    return None
    except h11.RemoteProtocolError:
        return None
    return None


# --- What is well formed ----------------------------------------------------------------------------------------------


@dataclass
class Given:
    """An answer as it should be read, and as it goes over the wire."""

    method: str
    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes
    wire: bytes
    rest: bytes = b""


TOKEN = b"!#$%&'*+-.^_`|~09AZaz"
names = st.lists(st.sampled_from([TOKEN[at : at + 1] for at in range(len(TOKEN))]), min_size=1, max_size=8).map(
    lambda letters: b"x-" + b"".join(letters)
)
visible = st.sampled_from([bytes([letter]) for letter in (*range(0x21, 0x7F), *range(0x80, 0x100))])
values = st.lists(visible | st.sampled_from([b" ", b"\t", b","]), max_size=12).map(
    lambda some: b"".join(some).strip(b" \t")
)
blank = st.sampled_from([b"", b" ", b"\t", b"  \t"])
extensions = st.sampled_from([b"", b";a", b"; name=value", b';q="\xe9"', b" "])
cuttings = st.lists(st.integers(min_value=1, max_value=40), max_size=30)


@st.composite
def well_formed(draw: st.DrawFn) -> Given:
    method = draw(st.sampled_from(["GET", "POST", "HEAD"]))
    status = draw(st.sampled_from([200, 201, 204, 205, 206, 299, 302, 304, 400, 404, 500, 599, 999]))
    headers = draw(st.lists(st.tuples(names, values), max_size=5))
    body = draw(st.binary(max_size=60))
    framing = draw(st.sampled_from(["length", "chunks", "end"]))
    version = draw(st.sampled_from([b"1", b"1", b"0"])) if framing != "chunks" else b"1"
    bodyless = method == "HEAD" or status in {204, 304}
    rest = draw(st.binary(max_size=30))
    if framing == "length":
        headers = [*headers, (b"Content-Length", b"%d" % len(body))]
        sent = body
    elif framing == "chunks":
        headers = [(b"Transfer-Encoding", draw(st.sampled_from([b"chunked", b"Chunked"]))), *headers]
        sent = draw(_chunked(body))
    else:
        sent, rest = body, rest if bodyless else b""
    if bodyless:
        body, sent = b"", b""
    informational = draw(st.sampled_from([b"", b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 103 \r\nLink: x\r\n\r\n"]))
    reason = draw(st.sampled_from([b"", b" ", b" OK", b" Not \xe9\tsaid"]))
    lines = b"".join(name + b":" + draw(blank) + value + draw(blank) + b"\r\n" for name, value in headers)
    head = b"HTTP/1.%b %d%b\r\n" % (version, status, reason) + lines + b"\r\n"
    read = [(name.lower(), value.lower() if name == b"Transfer-Encoding" else value) for name, value in headers]
    return Given(method, status, read, body, informational + head + sent + rest, rest)


@st.composite
def _chunked(draw: st.DrawFn, body: bytes) -> bytes:
    sent = b""
    while body:
        size = draw(st.integers(min_value=1, max_value=len(body)))
        written = draw(st.sampled_from([b"%x", b"%X", b"%04x"])) % size
        sent += written + draw(extensions) + b"\r\n" + body[:size] + b"\r\n"
        body = body[size:]
    trailers = draw(st.sampled_from([b"", b"Digest: x\r\n", b"A: 1\r\nb:\t2 \r\n"]))
    return sent + draw(st.sampled_from([b"0", b"000"])) + draw(extensions) + b"\r\n" + trailers + b"\r\n"


@given(said=well_formed(), cuts=cuttings)
@settings(max_examples=300)
def test_a_well_formed_answer_is_read_as_h11_reads_it_however_it_arrives(said: Given, cuts: list[int]) -> None:
    pieces = cut(said.wire, cuts)
    read = ours(said.method, pieces)
    assert read is not None
    status, headers, body, rest = read
    lower = [(name, value.lower() if name == b"transfer-encoding" else value) for name, value in headers]
    assert (status, lower, body, rest) == (said.status, said.headers, said.body, said.rest)
    assert by_h11(said.method, pieces) == (status, lower, body, rest)


# --- What is not ------------------------------------------------------------------------------------------------------

LINES = [
    b"Content-Length: 2", b"Content-Length: 02", b"content-length: 2,2", b"Content-Length: +2", b"Content-Length: 2 ",
    b"Content-Length : 2", b"Content-Length: -1", b"Content-Length: 1_0", b"Content-Length:", b"Content-Length: 0x1",
    b"Content-Length: \xb2", b"Transfer-Encoding: chunked", b"Transfer-Encoding: identity", b"Transfer-Encoding: gzip",
    b"Transfer-Encoding: chunked, identity", b"Transfer-Encoding: chunked,chunked", b"Transfer-Encoding: \x0bchunked",
    b"Transfer-Encoding : chunked", b"Transfer-Encoding: chunked\r\n folded", b"Transfer-Encoding:", b" folded: x",
    b"X: a\nContent-Length: 1", b"X: a\rContent-Length: 1", b"X: a\0b", b"X", b": x", b"X\t: x", b"X\xe9: x", b"\x0b",
    b"HTTP/1.1 200 OK", b"HTTP/1.1 100 Continue", b"HTTP/1.1 101 Switching", b"HTTP/1.1 000 None", b"HTTP/2 200",
]  # fmt: skip
BYTES = [bytes([byte]) for byte in b"\r\n\0 \t:;,-+_x0129aF\x0b\x0c\x7f\x85\xa0\xff"] + [
    b"\r\n",
    b"0\r\n\r\n",
    b"\r\n\r\n",
]
changes = st.one_of(
    st.tuples(st.just("line"), st.integers(min_value=0, max_value=12), st.sampled_from(LINES)),
    st.tuples(st.sampled_from(["insert", "put"]), st.integers(min_value=0, max_value=160), st.sampled_from(BYTES)),
    st.tuples(st.just("drop"), st.integers(min_value=0, max_value=160), st.just(b"")),
    st.tuples(st.just("end"), st.integers(min_value=0, max_value=160), st.just(b"")),
)


def changed(wire: bytes, change: tuple[str, int, bytes]) -> bytes:
    how, at, what = change
    if how == "line":
        lines = wire.split(b"\r\n")
        at = min(at, len(lines) - 1)
        return b"\r\n".join([*lines[:at], what, *lines[at:]])
    if how == "end":
        return wire[:at]
    return wire[:at] + what + wire[at + (how != "insert") :]


@given(said=well_formed(), altered=st.lists(changes, min_size=1, max_size=3), cuts=cuttings)
@settings(max_examples=500)
def test_what_h11_refuses_is_refused_and_what_both_accept_says_the_same(
    said: Given, altered: list[tuple[str, int, bytes]], cuts: list[int]
) -> None:
    wire = said.wire
    for change in altered:
        wire = changed(wire, change)
    read = ours(said.method, cut(wire, cuts))
    assert read == ours(said.method, [wire] if wire else []), "it matters how it arrives"
    if read is not None:
        status, headers, body, rest = read
        lower = [(name, value.lower() if name == b"transfer-encoding" else value) for name, value in headers]
        assert by_h11(said.method, [wire]) == (status, lower, body, rest)
