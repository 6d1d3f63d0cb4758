"""The HTTP/1.1 reader: any borders, no second reading; addresses; the blocking connection."""

from __future__ import annotations

import contextlib
import socket
import threading

import pytest

from percall.errors import BrokerUnreachable, UsageError, WireError
from percall.http1 import MAX_HEAD_BYTES, Address, Connection, ResponseReader, connect, not_a_brokers, request_head
from percall.identity import enrolment

CHUNKED = (
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nX: y\r\n\r\n5;a=b\r\nhello\r\n6\r\n world\r\n0\r\nT: t\r\n\r\n"
)
COUNTED = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 201 Created\r\ncontent-length: 5\r\n\r\nhello"


@pytest.mark.parametrize(("answer", "status", "body"), [(CHUNKED, 200, b"hello world"), (COUNTED, 201, b"hello")])
@pytest.mark.parametrize("size", [1, 3, 1000])
def test_answers_are_read_across_any_borders(answer: bytes, status: int, body: bytes, size: int) -> None:
    reader = ResponseReader()
    for at in range(0, len(answer), size):
        assert not reader.complete
        reader.feed(answer[at : at + size])
    assert (reader.status, reader.take(), reader.complete, reader.reusable) == (status, body, True, True)
    assert reader.leftover == b""


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 5\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: " + b"9" * 19 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: " + b"9" * 5000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: +5\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: \xb2\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 5, 5\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length : 5\r\n\r\n",
        b"HTTP/1.1 200 OK\r\na: b\n c: d\r\n\r\n",
        b"HTTP/1.1 200 OK\r\na: b\r c: d\r\n\r\n",
        b"HTTP/1.1 200 OK\r\na\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n: a\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n a: b\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0x5\r\nhello\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhelloXX0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n;a=b\r\nhello\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5;" + b"x" * 70_000,
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\nt: " + b"x" * 70_000,
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n" + b"t: x\r\n" * 20_000,
        b"SSH-2.0-OpenSSH\r\n\r\n",
        b"SSH-2.0 200 OK\r\n\r\n",
        b"HTTP/1.1 OK\r\n\r\n",
        b"HTTP/1.1 20\r\n\r\n",
        b"HTTP/1.1 2000 OK\r\n\r\n",
        b"HTTP/1.1 000 OK\r\n\r\n",
        b"HTTP/1.1 099 OK\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nupgrade: h2c\r\n\r\n",
        b"HTTP/1.1 103 Early Hints\r\n\r\n" * 9,
        "HTTP/1.1 20² OK\r\n\r\n".encode("latin-1"),
        b"HTTP/1.1 200 OK\r\nx: " + b"y" * 70_000,
    ],
)
def test_an_answer_that_could_be_read_in_two_ways_is_refused(answer: bytes) -> None:
    with pytest.raises(WireError):
        ResponseReader().feed(answer)


@pytest.mark.parametrize("code", ["200", "200 ", "200 OK", "200 All is well"])
def test_a_status_needs_no_reason(code: str) -> None:
    reader = ResponseReader()
    reader.feed(f"HTTP/1.1 {code}\r\ncontent-length: 0\r\n\r\n".encode())
    assert (reader.status, reader.complete, reader.reusable) == (200, True, True)


def test_a_header_that_comes_twice_is_read_as_its_last_line() -> None:
    reader = ResponseReader()
    reader.feed(b"HTTP/1.1 204 No Content\r\nX: a\r\nx: b\r\n\r\n")
    assert reader.headers == {"x": "b"}


def test_a_head_of_just_the_longest_size_is_read() -> None:
    start = b"HTTP/1.1 204 No Content\r\nx: "
    for more, taken in ((0, True), (1, False)):
        with contextlib.nullcontext() if taken else pytest.raises(WireError):
            ResponseReader().feed(start + b"y" * (MAX_HEAD_BYTES - len(start) + more) + b"\r\n\r\n")


@pytest.mark.parametrize(
    "answer", [b"", b"HTTP/1.1 20", b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhel", CHUNKED[:-2], CHUNKED[:-9]]
)
def test_an_answer_that_is_cut_short_is_no_answer(answer: bytes) -> None:
    reader = ResponseReader()
    reader.feed(answer)
    assert reader.untouched is (answer == b"")
    with pytest.raises(BrokerUnreachable):
        reader.feed_eof()


def test_an_informational_answer_says_that_the_request_has_arrived() -> None:
    reader = ResponseReader()
    reader.feed(b"HTTP/1.1 103 Early Hints\r\n\r\n" * 8)
    assert not reader.status
    assert not reader.untouched, "it would be sent again where the connection ends now"


def test_an_answer_that_came_whole_is_touched_although_nothing_is_buffered() -> None:
    reader = ResponseReader()
    reader.feed(b"HTTP/1.1 204 No Content\r\n\r\n")
    assert not reader.untouched
    reader.feed_eof()  # a connection may end after it


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nConnection: Close\r\ncontent-length: 2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nConnection: x-hop, close\r\ncontent-length: 2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\n\r\nok",
    ],
)
def test_after_an_answer_that_ends_its_connection_nothing_else_is_sent_on_it(answer: bytes) -> None:
    reader = ResponseReader()
    reader.feed(answer)
    if not reader.complete:
        reader.feed_eof()
    assert (reader.take(), reader.complete, reader.reusable) == (b"ok", True, False)


def test_bytes_after_the_answer_are_left_over() -> None:
    reader = ResponseReader()
    reader.feed(b"HTTP/1.1 204 No Content\r\n\r\nHTTP/1.1 200 OK\r\n")
    assert reader.complete
    assert reader.leftover == b"HTTP/1.1 200 OK\r\n"


def test_an_address_says_what_the_proof_is_bound_to() -> None:
    assert Address.parse("https://b.example/p/").url("/v1/calls") == "https://b.example/p/v1/calls"
    assert Address.parse("https://b.example:8443").authority == "b.example:8443"
    assert Address.parse("http://[::1]:80").authority == "[::1]"
    assert Address.parse("https://b.example:65535").port == 65535


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.0.0.2", "127.255.255.254", "[::1]"])
def test_plain_http_goes_to_each_address_of_this_machine_and_login_agrees(host: str) -> None:
    url = f"http://{host}:8765"
    assert Address.parse(url).url("") == enrolment.broker_url(url) == url


@pytest.mark.parametrize(
    "host", ["127.0.0.1.example.com", "127.0.1", "128.0.0.1", "127.0.0.256", "127.0.0.1e", "[::2]"]
)
def test_plain_http_goes_to_no_other_machine_and_login_agrees(host: str) -> None:
    for take in (Address.parse, enrolment.broker_url):
        with pytest.raises(UsageError):
            take(f"http://{host}:8765")


@pytest.mark.parametrize(("url", "has_proxy"), [("https://b.example", True), ("http://127.0.0.1", False)])
def test_a_proxy_is_on_the_way_to_a_broker_over_tls_alone(url: str, has_proxy: bool) -> None:
    assert (Address.parse(url, "http://proxy.example:3128").proxy is not None) is has_proxy


@pytest.mark.parametrize(
    "url",
    [
        "b.example",
        "https",
        "ftp://b",
        "ftp://127.0.0.1",
        "http://b.example",
        "https://u@b",
        "https://b:x",
        "https://b/?q",
        "https://b/#f",
        "https://b:²",
        f"https://b:{'9' * 5000}",
        "https://",
        "https://b:70000",
    ],
)
def test_an_address_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(UsageError):
        Address.parse(url)


@pytest.mark.parametrize("value", ["a\r\nb: c", "a\rb", "a\nb"])
def test_a_line_break_never_gets_into_a_request(value: str) -> None:
    with pytest.raises(WireError):
        request_head(Address.parse("https://b"), "GET", "/", [("x", value)], 0)


@pytest.mark.parametrize(("method", "length", "said"), [("GET", 0, False), ("GET", 1, True), ("POST", 0, True)])
def test_a_request_says_its_length_where_it_has_or_may_have_a_body(method: str, length: int, said: bool) -> None:
    head = request_head(Address.parse("https://b"), method, "/", [], length)
    assert (f"content-length: {length}".encode() in head) is said


def test_a_blocking_connection_carries_one_request_after_another() -> None:
    listening = socket.create_server(("127.0.0.1", 0))
    seen: list[bytes] = []

    def serve() -> None:
        connection, _ = listening.accept()
        with connection:
            for answer in (CHUNKED, COUNTED):
                data = b""
                while not data.endswith(b"body!"):
                    data += connection.recv(4096)
                seen.append(data)
                connection.sendall(answer)

    thread = threading.Thread(target=serve)
    thread.start()
    port = listening.getsockname()[1]
    connection = Connection(Address.parse(f"http://127.0.0.1:{port}"), None, 5)
    first = connection.request("POST", "/a", [("x", "y")], [b"bo", b"dy!"], 5)
    assert first.read(100) == b"hello world"
    assert first.reusable
    second = connection.request("POST", "/b", [], iter([b"body!"]), 5)
    assert second.read(100) == b"hello"
    thread.join()
    assert connection.is_stale()
    connection.close()
    listening.close()
    assert seen[0] == b"POST /a HTTP/1.1\r\nhost: 127.0.0.1:%d\r\nx: y\r\ncontent-length: 5\r\n\r\nbody!" % port


@pytest.mark.parametrize(
    ("answer", "again"),
    [
        (b"HTTP/1.1 204 No Content\r\n\r\n", True),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhel", False),
        (b"HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n", False),
        (b"HTTP/1.1 204 No Content\r\n\r\nHTTP/1.1 200 OK\r\n", False),
    ],
)
def test_a_connection_carries_another_request_only_after_a_whole_answer_that_left_it_open(
    answer: bytes, again: bool
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        connection = Connection(Address.parse(f"http://127.0.0.1:{listening.getsockname()[1]}"), None, 5)
        accepted, _ = listening.accept()
        with accepted:
            accepted.sendall(answer)  # nothing is read before the request is sent
            assert connection.request("GET", "/", [], [], 0).reusable is again
        connection.close()


def test_an_answer_that_is_longer_than_it_may_be_is_given_up() -> None:
    for limit, body in ((5, b"hello"), (4, None)):
        with socket.create_server(("127.0.0.1", 0)) as listening:
            connection = Connection(Address.parse(f"http://127.0.0.1:{listening.getsockname()[1]}"), None, 5)
            accepted, _ = listening.accept()
            with accepted:
                accepted.sendall(COUNTED)
                response = connection.request("GET", "/", [], [], 0)
                if body is None:
                    with pytest.raises(WireError):
                        response.read(limit)
                else:
                    assert response.read(limit) == body
                    connection.close()
            assert connection.is_stale()


def test_a_broker_that_is_not_there_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(BrokerUnreachable, match=rf"http://127\.0\.0\.1:{port} cannot be reached"):
        Connection(Address.parse(f"http://127.0.0.1:{port}"), None, 1)


def test_a_path_that_is_lost_is_noticed_also_by_who_only_waits() -> None:
    """No machine of the tests can lose packets: what is asked of the system is looked at."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        address = Address.parse(f"http://127.0.0.1:{listening.getsockname()[1]}")
        with connect(address, None, 5) as connected:
            assert connected.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
            idle = getattr(socket, "TCP_KEEPIDLE", getattr(socket, "TCP_KEEPALIVE", 0))
            options = (idle, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT)
            asked = [connected.getsockopt(socket.IPPROTO_TCP, option) for option in options]
    assert asked == [15, 5, 3], "half a minute in all"


@pytest.mark.parametrize(
    ("status", "code"), [(502, "broker.gateway"), (504, "broker.gateway"), (404, "broker.strange")]
)
def test_a_proxy_in_front_of_a_broker_that_is_away_is_told_from_what_is_no_broker(status: int, code: str) -> None:
    error = not_a_brokers(status, "https://percall.example.com")
    assert (error.code, str(status) in error.message) == (code, True)
