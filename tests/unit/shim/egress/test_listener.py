from __future__ import annotations

import contextlib
import http.client
import json
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from harness.limits import full_disk, no_descriptor
from percall import wire
from percall.egress.listener import MAX_CONNECTIONS
from percall.egress.request_head import MAX_HEAD_BYTES
from percall.egress.spool import MEMORY_BYTES
from percall.errors import LaunchError
from percall.wire import Window

from .conftest import LISTED, Script, ask, raw, run_python

if TYPE_CHECKING:
    from collections.abc import Iterator

    from percall.egress.listener import Listener

    from .conftest import Stage, StandIn

BROKEN_OFF = (http.client.IncompleteRead, ConnectionError)
"""As a client is told of it; not a time-out, after which it would have waited for the rest."""


def test_a_request_in_a_window_reaches_the_broker_as_the_child_meant_it(opened: Stage) -> None:
    listener = opened.listen()
    key = {"Authorization": f"Bearer {listener.placeholder}", "Connection": "X-Hop", "X-Hop": "1"}
    status, _, body = ask(listener, "POST", "/v1/items?page=2", b"a body", **key)
    assert status == 200
    request, sent = opened.stand_in.requests[0]
    assert (request.server, request.method, request.url, sent) == (
        "example",
        "POST",
        f"{LISTED}/v1/items?page=2",
        b"a body",
    )
    assert request.placeholder == listener.placeholder
    assert request.windows == (Window("call-1", "credential-1"),)
    headers = dict(request.headers)
    assert headers["authorization"] == f"Bearer {listener.placeholder}"
    assert not headers.keys() & {"host", "connection", "x-hop", "content-length"}
    assert json.loads(body)["length"] == 6
    assert opened.stand_in.digests == [True]


def test_where_no_socket_is_left_the_start_says_so(stage: Stage) -> None:
    with pytest.raises(LaunchError) as caught, no_descriptor():
        stage.listen()
    assert (caught.value.code, "Too many open files" in caught.value.message) == ("egress.port", True)


def test_a_process_that_has_run_out_of_descriptors_takes_connections_again_once_it_has_some(
    opened: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    listener = opened.listen()
    assert ask(listener)[0] == 200
    failed = threading.Event()

    def pause(_seconds: float) -> None:
        failed.set()

    monkeypatch.setattr("percall.egress.listener.sleep", pause)
    with socket.socket() as waiting, no_descriptor():
        waiting.connect(("127.0.0.1", listener.port))
        assert failed.wait(20), "it cannot be accepted"
    assert ask(listener)[0] == 200


def test_a_credential_is_shown_once(opened: Stage) -> None:
    listener = opened.listen()
    ask(listener)
    ask(listener)
    shown = [request.windows for request, _ in opened.stand_in.requests]
    assert shown == [(Window("call-1", "credential-1"),), (Window("call-1"),)]
    assert opened.redeemed == ["call-1"]


def test_of_parallel_requests_one_redeems_and_none_fails(opened: Stage) -> None:
    listener = opened.listen()
    with ThreadPoolExecutor(20) as pool:
        statuses = list(pool.map(lambda _: ask(listener)[0], range(60)))
    assert set(statuses) == {200}
    assert sum(1 for request, _ in opened.stand_in.requests if request.windows[0].credential) == 1
    assert opened.stand_in.refused == []


def test_a_credential_that_was_used_while_its_answer_was_lost_does_not_fail_the_next_request(opened: Stage) -> None:
    opened.stand_in.used.add("credential-1")
    assert ask(opened.listen())[0] == 200
    assert opened.stand_in.refused == ["credential.used"]
    assert opened.redeemed == ["call-1"]


def test_a_credential_that_is_used_whatever_is_shown_is_refused_after_a_second_attempt(opened: Stage) -> None:
    opened.stand_in.answer = lambda *_: Script(refusal=(403, "credential.used"))
    status, _, body = ask(opened.listen())
    assert (status, json.loads(body)["error"]["code"]) == (403, "credential.used")
    assert len(opened.stand_in.requests) == 2


def test_outside_any_window_a_request_is_refused_with_a_reason_and_never_leaves(stage: Stage) -> None:
    status, headers, body = ask(stage.listen(), "POST", body=b"x")
    assert (status, headers["content-type"]) == (403, "application/json")
    answer = json.loads(body)
    assert answer["error"]["code"] == "egress.no_window"
    assert answer["error"]["next_step"]
    assert "no permitted tool call was open" in answer["message"]
    assert stage.stand_in.requests == []


def test_a_refused_head_request_gets_its_refusal_without_a_body(stage: Stage) -> None:
    status, headers, body = ask(stage.listen(), "HEAD")
    assert (status, headers["content-type"], body) == (403, "application/json", b"")


def test_at_start_up_a_request_goes_to_the_broker_without_a_window(stage: Stage) -> None:
    assert ask(stage.listen(startup=True))[0] == 200
    assert stage.stand_in.requests[0][0].windows == ()


def test_a_request_that_shows_nothing_is_refused(opened: Stage) -> None:
    listener = opened.listen()
    for path in (b"/", b"/api.example.com/v1", b"/" + b"0" * 48 + b"/api.example.com/v1"):
        answer = raw(listener, b"GET " + path + b" HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 403 "), path
        assert b"egress.secret" in answer
    assert opened.stand_in.requests == []


def test_the_placeholder_stands_for_the_path_secret_where_the_server_dropped_it(opened: Stage) -> None:
    listener = opened.listen()
    head = f"GET /v1/x HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Key: {listener.placeholder}\r\n\r\n"
    assert raw(listener, head.encode()).startswith(b"HTTP/1.1 200 ")
    assert opened.stand_in.requests[0][0].url == f"{LISTED}/v1/x"


def test_a_host_that_is_not_listed_is_refused(opened: Stage) -> None:
    listener = opened.listen()
    path = f"/{listener.base_url_secret}/evil.example.net/v1"
    answer = raw(listener, f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
    assert answer.startswith(b"HTTP/1.1 403 ")
    assert b"egress.host" in answer


def test_a_listed_loopback_origin_has_a_form_of_its_own(opened: Stage) -> None:
    listener = opened.listen(
        hosts=("http://127.0.0.1:9999",), environment={"API_URL": "{listener:http://127.0.0.1:9999}/base"}
    )
    assert ask(listener, path="/v1")[0] == 200
    assert opened.stand_in.requests[0][0].url == "http://127.0.0.1:9999/base/v1"


def test_ambiguous_http_is_refused_and_the_connection_closed(opened: Stage) -> None:
    listener = opened.listen()
    path = f"/{listener.base_url_secret}/api.example.com/v1".encode()
    answer = raw(
        listener,
        b"POST "
        + path
        + b" HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET / ",
    )
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"http.ambiguous" in answer
    assert answer.count(b"HTTP/1.1") == 1
    assert opened.stand_in.requests == []


def test_a_head_without_end_is_refused(opened: Stage) -> None:
    answer = raw(opened.listen(), b"GET / HTTP/1.1\r\nX: " + b"x" * (MAX_HEAD_BYTES + 65536))
    assert answer.startswith(b"HTTP/1.1 431 ")


@pytest.mark.parametrize("target", ["ftp://api.example.com/v1", "*", "api.example.com"])
def test_a_target_that_is_neither_a_path_nor_a_url_is_refused(opened: Stage, target: str) -> None:
    listener = opened.listen()
    head = f"GET {target} HTTP/1.1\r\nHost: api.example.com\r\nX-Key: {listener.placeholder}\r\n\r\n"
    assert raw(listener, head.encode()).startswith(b"HTTP/1.1 400 ")
    assert opened.stand_in.requests == []


def test_the_listeners_own_url_in_full_is_the_base_url_and_needs_its_secret(opened: Stage) -> None:
    listener = opened.listen()
    host = f"127.0.0.1:{listener.port}"
    for secret, status in ((listener.base_url_secret, 200), ("0" * 48, 403)):
        head = f"GET http://{host}/{secret}/api.example.com/v1/x HTTP/1.1\r\nHost: {host}\r\n\r\n"
        assert raw(listener, head.encode()).startswith(b"HTTP/1.1 %d " % status)
    assert [request.url for request, _ in opened.stand_in.requests] == [f"{LISTED}/v1/x"]


def test_a_second_request_on_a_connection_gets_the_same_strict_look(opened: Stage) -> None:
    listener = opened.listen()
    path = f"/{listener.base_url_secret}/api.example.com/v1".encode()
    good = b"GET " + path + b" HTTP/1.1\r\nHost: a\r\n\r\n"
    answer = raw(listener, good + good + b"GET " + path + b" HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n")
    assert answer.count(b"HTTP/1.1 200 ") == 2
    assert answer.count(b"HTTP/1.1 400 ") == 1
    assert len(opened.stand_in.requests) == 2


def test_a_chunked_body_arrives_whole(opened: Stage) -> None:
    def pieces() -> Iterator[bytes]:
        yield b"one,"
        yield b"two"

    assert ask(opened.listen(), "POST", body=pieces())[0] == 200
    assert opened.stand_in.requests[0][1] == b"one,two"


def test_a_body_beyond_memory_is_spooled_and_its_digest_holds(opened: Stage) -> None:
    body = bytes(range(256)) * 20_000
    assert ask(opened.listen(), "PUT", body=body)[0] == 200
    assert opened.stand_in.requests[0][1] == body
    assert opened.stand_in.digests == [True]


def test_a_body_beyond_the_limit_is_refused(opened: Stage) -> None:
    listener = opened.listen()

    def pieces() -> Iterator[bytes]:
        for _ in range(wire.MAX_EGRESS_BODY_BYTES // 1048576 + 1):
            yield b"x" * 1048576

    status, _, body = ask(listener, "POST", body=pieces())
    assert (status, json.loads(body)["error"]["code"]) == (413, "egress.too_large")
    assert opened.stand_in.requests == []


def test_a_refusal_of_half_a_request_ends_the_connection_and_arrives_whole(opened: Stage) -> None:
    """What the child still sends is read: else the system would take the refusal back from it."""
    path = f"/{opened.listen().base_url_secret}/other.example.com/v1"
    with socket.create_connection(("127.0.0.1", opened.listeners[0].port), 20) as connection:
        connection.sendall(f"POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: 1000001\r\n\r\n".encode())
        answer = http.client.HTTPResponse(connection)
        answer.begin()
        connection.sendall(bytes(1_000_000))
        assert (answer.status, answer.headers["connection"]) == (403, "close")
        assert json.loads(answer.read())["error"]["code"] == "egress.host"


def test_a_body_that_the_disk_does_not_take_is_refused_and_the_next_request_passes(opened: Stage) -> None:
    listener = opened.listen()
    with full_disk():
        status, _, body = ask(listener, "POST", body=bytes(MEMORY_BYTES + 1))
    assert (status, json.loads(body)["error"]["code"]) == (507, "egress.spool")
    assert opened.stand_in.requests == []
    assert ask(listener, "POST", body=bytes(MEMORY_BYTES + 1))[0] == 200


def test_expect_continue_is_answered(opened: Stage) -> None:
    listener = opened.listen()
    path = f"/{listener.base_url_secret}/api.example.com/v1"
    with socket.create_connection(("127.0.0.1", listener.port), 20) as connection:
        connection.sendall(
            f"POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n".encode()
        )
        assert connection.recv(4096).startswith(b"HTTP/1.1 100 ")
        connection.sendall(b"ok")
        assert connection.recv(4096).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize(("method", "status"), [("HEAD", 200), ("GET", 204), ("GET", 304), ("DELETE", 204)])
def test_answers_without_a_body_leave_the_connection_usable(opened: Stage, method: str, status: int) -> None:
    headers = (("etag", '"1"'),) if status == 304 else (("content-length", "10"),) if method == "HEAD" else ()
    opened.stand_in.answer = lambda request, _: Script(
        status if request.url.endswith("/first") else 200, headers, (b"x" * 10,) if method == "HEAD" else ()
    )
    listener = opened.listen()
    base = f"/{listener.base_url_secret}/api.example.com"
    connection = http.client.HTTPConnection("127.0.0.1", listener.port, timeout=20)
    connection.request(method, f"{base}/first")
    answer = connection.getresponse()
    assert (answer.status, answer.read()) == (status, b"")
    opened.stand_in.answer = lambda *_: Script(200, (), (b"next",))
    connection.request("GET", f"{base}/second")
    assert connection.getresponse().read() == b"next"
    connection.close()


@contextlib.contextmanager
def half_answered(listener: Listener, stand_in: StandIn) -> Iterator[tuple[http.client.HTTPResponse, threading.Event]]:
    """An answer of which the first half has been read; the second one is sent when the event is set."""
    released = threading.Event()
    stand_in.answer = lambda *_: Script(200, (), (b"first", b"second"), released=released)
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", listener.port, timeout=20)) as connection:
        connection.request("GET", f"/{listener.base_url_secret}/api.example.com/stream")
        answer = connection.getresponse()
        assert answer.read(5) == b"first"
        yield answer, released
        released.set()


def test_an_answer_streams_while_the_upstream_still_sends(opened: Stage) -> None:
    with half_answered(opened.listen(), opened.stand_in) as (answer, released):
        released.set()
        assert answer.read() == b"second"


def test_cutting_ends_an_open_stream_at_once(opened: Stage) -> None:
    listener = opened.listen()
    with half_answered(listener, opened.stand_in) as (answer, _):
        listener.cut()
        with pytest.raises(BROKEN_OFF):
            answer.read()


def test_an_answer_that_breaks_off_is_never_passed_on_as_complete(opened: Stage) -> None:
    opened.stand_in.answer = lambda *_: Script(200, (), (b"first", b"second"), is_cut_short=True)
    with pytest.raises(BROKEN_OFF):
        ask(opened.listen())


@pytest.mark.parametrize(
    "script", [Script(cut_at=9), Script(cut_at=0), Script(refusal=(502, "upstream.broken"), cut_at=9)]
)
def test_an_answer_that_breaks_off_in_its_head_is_told_as_lost(opened: Stage, script: Script) -> None:
    opened.stand_in.answer = lambda *_: script
    status, headers, body = ask(opened.listen(), "POST")
    error = json.loads(body)["error"]
    assert status == 502, "a 503 says that nothing was done: many clients make the request again"
    assert headers["x-should-retry"] == "false"
    assert error["code"] == "egress.unknown"
    assert "unknown" in error["message"]


def test_the_brokers_refusal_reaches_the_child_in_its_words(opened: Stage) -> None:
    opened.stand_in.answer = lambda *_: Script(refusal=(403, "request.rule"))
    status, _, body = ask(opened.listen())
    assert (status, json.loads(body)["error"]["code"]) == (403, "request.rule")
    assert json.loads(body)["message"] == "Percall: It was refused. Ask an administrator."


def test_a_broker_that_is_away_is_said_to_be_away(opened: Stage) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        opened.stand_in.port = unused.getsockname()[1]
        status, _, body = ask(opened.listen())
    assert (status, json.loads(body)["error"]["code"]) == (503, "broker.unreachable")


@pytest.mark.parametrize("status", [401, 407])
def test_a_refusal_between_shim_and_broker_makes_no_child_doubt_its_key_or_its_proxy(
    opened: Stage, status: int
) -> None:
    opened.stand_in.answer = lambda _request, _body: Script(refusal=(status, "proof.nonce"))
    came, headers, body = ask(opened.listen())
    assert (came, json.loads(body)["error"]["code"]) == (403, "proof.nonce")
    assert not headers.keys() & {"www-authenticate", "proxy-authenticate"}


@pytest.mark.parametrize(
    ("script", "code"),
    [
        (Script(status=199), "wire.status"),
        (Script(status=600), "wire.status"),
        (Script(headers=(("x-name", "\u20ac"),)), "wire.headers"),
    ],
)
def test_an_answer_that_no_child_could_read_is_told_as_that(opened: Stage, script: Script, code: str) -> None:
    opened.stand_in.answer = lambda _request, _body: script
    status, _, body = ask(opened.listen())
    assert (status, json.loads(body)["error"]["code"]) == (502, code)


def test_what_an_upstream_says_for_its_own_connection_stays_there(opened: Stage) -> None:
    said = (("Connection", "x-hop, close"), ("X-Hop", "1"), ("Transfer-Encoding", "gzip"), ("X-Kept", "yes"))
    opened.stand_in.answer = lambda _request, _body: Script(headers=said, pieces=(b"whole",))
    _, headers, body = ask(opened.listen())
    assert (headers["x-kept"], headers["transfer-encoding"], body) == ("yes", "chunked", b"whole")
    assert not headers.keys() & {"connection", "x-hop"}


def test_an_answer_whose_headers_would_split_it_is_not_passed_on(opened: Stage) -> None:
    opened.stand_in.answer = lambda *_: Script(200, (("x", "a\r\nset-cookie: b"),), ())
    assert ask(opened.listen())[0] == 502


@pytest.mark.parametrize(
    ("location", "expected"),
    [
        ("/next?x=1", "{base}/next?x=1"),
        ("https://api.example.com/next", "{base}/next"),
        ("https://other.example.net/next", "https://other.example.net/next"),
        ("//api.example.com/next", "//api.example.com/next"),
        ("https://api.example.com:port/next", "https://api.example.com:port/next"),
    ],
)
def test_a_redirect_stays_in_the_base_urls_form(opened: Stage, location: str, expected: str) -> None:
    opened.stand_in.answer = lambda *_: Script(302, (("location", location),), ())
    listener = opened.listen()
    _, headers, _ = ask(listener)
    assert headers["location"] == expected.format(base=listener.environment({})["API_URL"])


def test_connections_are_bounded(opened: Stage) -> None:
    listener = opened.listen()
    path = f"/{listener.base_url_secret}/api.example.com/v1"
    held = [http.client.HTTPConnection("127.0.0.1", listener.port, timeout=20) for _ in range(MAX_CONNECTIONS)]
    for connection in held:
        connection.request("GET", path)
        connection.getresponse().read()
    with socket.create_connection(("127.0.0.1", listener.port), 20) as surplus:
        assert surplus.recv(4096).startswith(b"HTTP/1.1 503 ")
    for connection in held:
        connection.close()


def test_strangers_who_say_nothing_keep_no_child_out(opened: Stage) -> None:
    listener = opened.listen()
    path = f"/{listener.base_url_secret}/api.example.com/v1"
    with contextlib.ExitStack() as stack:
        strangers = [
            stack.enter_context(socket.create_connection(("127.0.0.1", listener.port), 20))
            for _ in range(MAX_CONNECTIONS)
        ]
        for _ in range(3):
            child = stack.enter_context(contextlib.closing(http.client.HTTPConnection("127.0.0.1", listener.port)))
            child.request("GET", path)
            assert child.getresponse().status != 503
        assert [stranger.recv(1) for stranger in strangers[:3]] == [b"", b"", b""]


def test_a_python_child_uses_its_base_url_and_its_placeholder(opened: Stage) -> None:
    listener = opened.listen()
    code = """
import os, urllib.request
request = urllib.request.Request(os.environ["API_URL"] + "/v1", headers={"X-Key": os.environ["API_KEY"]})
print(urllib.request.urlopen(request).read().decode())
"""
    seen: dict[str, Any] = json.loads(run_python(listener, code))
    assert seen["url"] == f"{LISTED}/v1"
    assert seen["headers"]["x-key"] == listener.placeholder


def test_secrets_stand_in_no_repr(opened: Stage) -> None:
    listener = opened.listen()
    for secret in (listener.base_url_secret, listener.preload_secret, listener.proxy_secret, listener.placeholder):
        assert secret not in repr(listener)
