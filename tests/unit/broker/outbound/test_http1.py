"""Requests that cannot be read in two ways, and answers that are not."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from typing import TYPE_CHECKING

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from percall_broker.model.errors import UpstreamFailed
from percall_broker.model.rules import parse_url
from percall_broker.outbound.http1 import Chunks, check_head
from percall_broker.outbound.network import Deadlines
from percall_broker.outbound.upstream import Upstream
from unit.broker.outbound.test_upstream import HOST, OK, QUICK, USE, Scripted, answered, fetch, listening

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


def by_h11(wire: bytes) -> bytes:
    """What another reader of HTTP/1.1 takes the body for."""
    client = h11.Connection(h11.CLIENT)
    client.send(h11.Request(method="GET", target="/", headers=[("host", "x")]))
    client.send(h11.EndOfMessage())
    client.receive_data(HEAD + wire)
    body = b""
    while not isinstance(event := client.next_event(), h11.EndOfMessage):
        if isinstance(event, h11.Data):
            body += bytes(event.data)
    return body


def chunked(parts: Sequence[bytes], extension: bytes = b"", trailers: bytes = b"") -> bytes:
    chunks = b"".join(b"%X%b\r\n%b\r\n" % (len(part), extension, part) for part in parts)
    return chunks + b"0\r\n" + trailers + b"\r\n"


@given(
    parts=st.lists(st.binary(min_size=1, max_size=40), max_size=6),
    extension=st.sampled_from([b"", b";a", b"; name=value", b" ", b";\xe9 "]),
    trailers=st.sampled_from([b"", b"Digest: x\r\n", b"A: 1\r\nB: 2\r\n"]),
    surplus=st.binary(max_size=30),
    cuts=st.lists(st.integers(min_value=1, max_value=50), max_size=12),
)
def test_a_chunked_body_is_the_same_however_it_arrives(
    parts: list[bytes], extension: bytes, trailers: bytes, surplus: bytes, cuts: list[int]
) -> None:
    wire = chunked(parts, extension, trailers)
    reader, body, at = Chunks(), b"", 0
    for size in [*cuts, len(wire) + len(surplus)]:
        if not reader.is_over:
            body += reader.feed((wire + surplus)[at : at + size])
            at += size
    assert reader.is_over
    assert body == b"".join(parts) == by_h11(wire)
    assert reader.rest + (wire + surplus)[at:] == surplus, "what comes behind it belongs to nobody"


@pytest.mark.parametrize(
    "wire",
    [
        b"\r\n",
        b"g\r\n",
        b"-1\r\n",
        b"0x2\r\nok\r\n",
        b"+2\r\nok\r\n",
        b"1_0\r\n",
        b" 2\r\nok\r\n",
        b"2\nok\n0\n\n\r\n",
        b"2\r\nokay\r\n",
        b"2\r\nok\n0\r\n\r\n",
        b"2;a\nb\r\nok\r\n",
        b"1000000000000000\r\n",
        b"0\r\n folded: x\r\n\r\n",
        b"0\r\nno field\r\n\r\n",
        b"0\r\nBare\nfeed: x\r\n\r\n",
        b"0\r\nContent-Length: 2\r\n\r\n",
        b"0\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"1" * 70_000,
        b"1;" + b"x" * 70_000,
        b"0\r\n" + b"x-trailer: and so on\r\n" * 4_000,
    ],
)
def test_chunks_that_could_be_read_in_two_ways_are_refused(wire: bytes) -> None:
    for step in (1, len(wire)):
        with pytest.raises(UpstreamFailed):
            read_by(step, wire)


def read_by(step: int, wire: bytes) -> None:
    reader = Chunks()
    for at in range(0, len(wire), step):
        reader.feed(wire[at : at + step])


@pytest.mark.parametrize(
    "wire",
    [
        HEAD + b"1;" + b" " * 60_000 + b"\0\r\n",
        HEAD + b"1" + b" " * 60_000 + b"\0\r\n",
        b"HTTP/1.1 200" + b" " * 60_000 + b"\0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nConnection: x" + b" " * 60_000 + b"y\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nConnection: " + b"," * 60_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b" " * 60_000 + b"\0\r\n\r\n",
    ],
)
def test_no_answer_keeps_the_broker_busy_for_longer_than_its_length_warrants(wire: bytes) -> None:
    began = time.thread_time()
    with suppress(UpstreamFailed):
        answered(wire, end=True)
    assert time.thread_time() - began < 1, "one answer held up everybody's calls"


@pytest.mark.parametrize("encoding", [b"gzip", b"gzip, chunked", b"chunked, chunked", b"identity", b"xchunked", b""])
def test_an_encoding_that_is_not_chunks_alone_is_refused(encoding: bytes) -> None:
    with pytest.raises(UpstreamFailed) as failed:
        check_head(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: " + encoding)
    assert failed.value.code == "upstream.framing"


@pytest.mark.parametrize(
    ("head", "code"),
    [
        (b"HTTP/1.1 000 None", "upstream.head"),
        (b"HTTP/1.1 099 None", "upstream.head"),
        (b"HTTP/1.1 101 Switching Protocols", "upstream.head"),
        (b"HTTP/1.1 2000 OK", "upstream.head"),
        (b"HTTP/1.1 20 OK", "upstream.head"),
        (b"HTTP/1.1 +20 OK", "upstream.head"),
        ("HTTP/1.1 ٢٠٠ OK".encode(), "upstream.head"),
        (b"HTTP/1.1  200 OK", "upstream.head"),
        (b"HTTP/1.1\t200 OK", "upstream.head"),
        (b"http/1.1 200 OK", "upstream.head"),
        (b"HTTP/1.2 200 OK", "upstream.head"),
        (b"HTTP/1.1 200 OK\0", "upstream.head"),
        (b"\r\nHTTP/1.1 200 OK", "upstream.head"),
        (b"HTTP/1.1 200 OK\r\n: x", "upstream.head"),
        (b"HTTP/1.1 200 OK\r\nX\xa0: x", "upstream.head"),
        (b"HTTP/1.1 200 OK\r\nX: a\rContent-Length: 2", "upstream.head"),
        (b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 300 + b"X: y", "upstream.head"),
        (b"HTTP/1.1 100 Continue\r\nContent-Length: 2", "upstream.framing"),
        (b"HTTP/1.1 103 Early Hints\r\nTransfer-Encoding: chunked", "upstream.framing"),
        (b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked", "upstream.framing"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked", "upstream.framing"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2_0", "upstream.framing"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: -2", "upstream.framing"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0x2", "upstream.framing"),
        ("HTTP/1.1 200 OK\r\nContent-Length: ٢".encode(), "upstream.framing"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: ", "upstream.framing"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2 2", "upstream.framing"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: " + b"9" * 5000, "upstream.framing"),
    ],
)
def test_a_head_that_could_be_read_differently_says_which_part_of_it(head: bytes, code: str) -> None:
    with pytest.raises(UpstreamFailed) as failed:
        check_head(head)
    assert failed.value.code == code


@pytest.mark.parametrize(
    ("method", "head"),
    [
        ("HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n"),
        ("HEAD", HEAD),
        ("GET", b"HTTP/1.1 204 No Content\r\nContent-Length: 2\r\n\r\n"),
        ("GET", b"HTTP/1.1 304 Not Modified\r\nTransfer-Encoding: chunked\r\n\r\n"),
    ],
)
def test_an_answer_that_speaks_of_a_body_it_does_not_have_takes_its_connection_with_it(
    method: str, head: bytes
) -> None:
    scripted, answers = answered(head, OK, times=2, method=method)
    assert answers[0][1] == b""
    assert scripted.connections == 2


@pytest.mark.parametrize("method", ["GET", "HEAD", "DELETE", "OPTIONS"])
def test_content_that_an_upstream_may_take_for_the_next_request_is_the_last_on_its_connection(method: str) -> None:
    smuggled = b"GET /others HTTP/1.1\r\nX: "
    scripted = Scripted(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", OK)

    async def run() -> None:
        async with listening(scripted) as port:
            upstream = Upstream(deadlines=QUICK)
            url = parse_url(f"http://127.0.0.1:{port}/")
            headers = [*HOST, (b"content-length", b"%d" % len(smuggled))]
            async with upstream.send(method, url, headers, given_body(smuggled), {}, use=USE) as came:
                assert [piece async for piece in came.body] == []
            await fetch(upstream, port)
            await upstream.close()

    asyncio.run(run())
    assert scripted.connections == 2
    assert scripted.heads[1].startswith(b"GET /x ")


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.0 200 OK\r\n",
        b"HTTP/1.1 200 OK\r\nConnection: close\r\n",
        b"HTTP/1.1 200 OK\r\nConnection: x , Close\r\n",
    ],
)
def test_a_connection_that_the_upstream_closes_carries_no_other_request(head: bytes) -> None:
    scripted, answers = answered(head + b"Content-Length: 2\r\n\r\nok", OK, times=2)
    assert answers == [(200, b"ok"), (200, b"ok")]
    assert scripted.connections == 2


@pytest.mark.parametrize("answer", [b"HTTP/1.1 204 No Content\r\n\r\n", b"HTTP/1.1 304 Not Modified\r\n\r\n"])
def test_an_answer_that_has_no_body_by_its_status_is_whole_at_once(answer: bytes) -> None:
    scripted, answers = answered(answer, OK, times=2)
    assert [body for _, body in answers] == [b"", b"ok"]
    assert scripted.connections == 1


def test_an_answer_that_was_not_read_to_its_end_takes_its_connection_with_it() -> None:
    scripted = Scripted(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nok", OK)

    async def run() -> tuple[int, bytes]:
        async with listening(scripted) as port:
            upstream = Upstream(deadlines=QUICK)
            url = parse_url(f"http://127.0.0.1:{port}/")
            async with upstream.send("GET", url, HOST, given_body(), {}, use=USE) as came:
                assert await anext(came.body) == b"ok"
            try:
                return await fetch(upstream, port)
            finally:
                await upstream.close()

    assert asyncio.run(run()) == (200, b"ok")
    assert scripted.connections == 2


async def given_body(*pieces: bytes) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece


@pytest.mark.parametrize(
    ("method", "headers", "body"),
    [
        ("GET", [*HOST, (b"x-key", b"a\r\nx-other: b")], ()),
        ("GET", [*HOST, (b"x-key", b"a\0b")], ()),
        ("GET", [*HOST, (b"x key", b"a")], ()),
        ("GET", [*HOST, (b"", b"a")], ()),
        ("GET /x HTTP/1.1\r\n", HOST, ()),
        ("GET", [], ()),
        ("GET", [*HOST, *HOST], ()),
        ("POST", [*HOST, (b"transfer-encoding", b"chunked")], (b"0\r\n\r\n",)),
        ("POST", [*HOST, (b"transfer-encoding", b"chunked"), (b"content-length", b"5")], (b"0\r\n\r\n",)),
        ("POST", [*HOST, (b"content-length", b"1_0")], (b"0123456789",)),
        ("POST", [*HOST, (b"content-length", b"2")], (b"long",)),
        ("POST", [*HOST, (b"content-length", b"4"), (b"Content-Length", b"2")], (b"long",)),
        ("POST", [*HOST, (b"content-length", b"")], ()),
        ("GET", HOST, (b"a body without a length",)),
    ],
)
def test_a_request_that_could_be_read_in_two_ways_is_not_sent(
    method: str, headers: list[tuple[bytes, bytes]], body: tuple[bytes, ...]
) -> None:
    scripted = Scripted(OK)

    async def run() -> None:
        async with listening(scripted) as port:
            upstream = Upstream(deadlines=QUICK)
            url = parse_url(f"http://127.0.0.1:{port}/")
            async with upstream.send(method, url, headers, given_body(*body), {}, use=USE):
                pass

    with pytest.raises(UpstreamFailed) as failed:
        asyncio.run(run())
    assert failed.value.code == "upstream.request"
    assert not scripted.heads


def test_a_body_shorter_than_it_says_ends_the_connection_and_nothing_is_answered() -> None:
    scripted = Scripted(None)

    async def run() -> None:
        async with listening(scripted) as port:
            upstream = Upstream(deadlines=QUICK)
            url = parse_url(f"http://127.0.0.1:{port}/")
            headers = [*HOST, (b"content-length", b"9")]
            async with upstream.send("POST", url, headers, given_body(b"short"), {}, use=USE):
                pass

    with pytest.raises(UpstreamFailed) as failed:
        asyncio.run(run())
    assert failed.value.code == "upstream.request"


def test_who_finds_every_connection_in_use_is_refused_after_a_time() -> None:
    scripted = Scripted(OK)

    async def run() -> None:
        async with listening(scripted) as port:
            upstream = Upstream(deadlines=Deadlines(connect=0.05, first_byte=5), max_connections=1)
            url = parse_url(f"http://127.0.0.1:{port}/")
            async with upstream.send("GET", url, HOST, given_body(), {}, use=USE):
                await fetch(upstream, port)

    with pytest.raises(UpstreamFailed) as failed:
        asyncio.run(run())
    assert failed.value.code == "upstream.busy"
