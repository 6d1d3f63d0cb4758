"""The egress door in its application, served by a real uvicorn, in front of real upstreams on loopback."""

from __future__ import annotations

import asyncio
import base64
import http.client
import json
import socket
import threading
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from hashlib import sha256
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING, Any

import pytest
import uvicorn
import uvloop

from harness.loopback import RoomyServer
from harness.processes import wait_for
from harness.upstream import CANARY
from harness.upstream import Upstream as FakeApi
from percall import wire
from percall_broker.app import Application
from percall_broker.asgi import ErrorAnswers
from percall_broker.crypto.tokens import Nonces
from percall_broker.egress import door as egress_door
from percall_broker.egress.door import EgressDoor
from percall_broker.model.entry import Entry, Slot
from percall_broker.model.errors import BrokerError, Forbidden, NotFound
from percall_broker.model.records import Grant, Identity, Server
from percall_broker.outbound.streams import OpenStreams, Use
from percall_broker.outbound.upstream import Upstream
from percall_broker.pipeline.request import Permitted
from percall_broker.telemetry.metrics import Metrics
from percall_broker.telemetry.steps import NoTracing

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Iterator

    from percall_broker.asgi import Message, Receive, Send
    from percall_broker.outbound.network import Deadlines
    from percall_broker.stages.authenticate import SignedRequest
    from percall_broker.telemetry.steps import Steps

PLACEHOLDER = "test_PLACEHOLDER0123456789"
BEARER = (("Authorization", f"Bearer {PLACEHOLDER}"),)
GRANT = Grant("g1", "ada", "default", "thumb", "laptop", False, {}, "active", 1, 0, 0, "root")
USE = Use(GRANT.id, "s")


async def nothing_here(_scope: Message, _receive: Receive, _send: Send) -> None:
    raise NotFound("request.path", "There is nothing at this path.")


@dataclass
class Pipeline:
    """Permits what the test says, and remembers what it was asked."""

    entry: Entry
    refusal: BrokerError | None = None
    asked: list[tuple[SignedRequest, wire.EgressRequest]] = field(default_factory=list)
    asks: list[bool] = field(default_factory=list)
    """Of each request, whether it asks for the key."""

    def admit(self, request: SignedRequest) -> None:
        """Whoever asks."""

    async def __call__(
        self,
        request: SignedRequest,
        head: wire.EgressRequest,
        now: float,
        steps: Steps,
        objection: BrokerError | None,
        asks: Callable[[Entry], Awaitable[bool]],
    ) -> Permitted:
        steps.done("decide")
        if objection is not None:
            raise objection
        self.asks.append(await asks(self.entry))
        self.asked.append((request, head))
        if self.refusal is not None:
            raise self.refusal
        server = Server("s", 1, self.entry, "active", 1)
        return Permitted(Identity(GRANT, "jti"), server, ("c1",), now + self.entry.deadline_seconds, CANARY.encode())


@dataclass
class Door:
    port: int
    pipeline: Pipeline
    streams: OpenStreams
    loop: asyncio.AbstractEventLoop

    def cut(self) -> None:
        self.loop.call_soon_threadsafe(self.streams.cut, USE)

    @contextmanager
    def begin(
        self, url: str, method: str = "GET", headers: tuple[tuple[str, str], ...] = BEARER, body: bytes = b""
    ) -> Iterator[http.client.HTTPResponse]:
        head = wire.EgressRequest("s", method, url, headers, PLACEHOLDER)
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        message = wire.join(wire.encode(head), body)
        signed = {"Authorization": "DPoP token", "DPoP": "proof", "Percall-Wire": "1"}
        connection.request("POST", wire.PATH_EGRESS, message, signed)
        try:
            with connection.getresponse() as response:
                yield response
        finally:
            connection.close()

    def send(
        self, url: str, method: str = "GET", headers: tuple[tuple[str, str], ...] = BEARER, body: bytes = b""
    ) -> tuple[wire.EgressAnswer, bytes]:
        with self.begin(url, method, headers, body) as response:
            data = response.read()
            assert response.status == 200, data
        head, rest = wire.split(data)
        return wire.decode(wire.EgressAnswer, head), rest

    def refused(self, url: str, **more: Any) -> tuple[int, str]:
        with self.begin(url, **more) as response:
            return response.status, json.loads(response.read())["error"]["code"]


def _run(serving: Coroutine[Any, Any, None]) -> None:
    """On the event loop that the broker has."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serving)


@contextmanager
def served(entry: Entry, deadlines: Deadlines | None = None) -> Iterator[Door]:
    started: list[Door] = []
    ready = threading.Event()
    stop: list[Any] = []

    async def run() -> None:
        pipeline, streams = Pipeline(entry), OpenStreams()
        upstream = Upstream(deadlines=deadlines)
        door = EgressDoor(pipeline, upstream, streams, Metrics(), NoTracing())
        listening = socket.create_server(("127.0.0.1", 0))
        application = Application(
            {("POST", wire.PATH_EGRESS): door},
            nothing_here,
            nothing_here,
            {},
            nothing_here,
            ErrorAnswers(Nonces(bytes(32)), time.time),
            {b"broker", f"127.0.0.1:{listening.getsockname()[1]}".encode()},
        )
        server = uvicorn.Server(
            uvicorn.Config(application, host="127.0.0.1", port=0, http="httptools", log_level="error", lifespan="off")
        )
        stop.append(server)
        started.append(Door(listening.getsockname()[1], pipeline, streams, asyncio.get_running_loop()))
        ready.set()
        await server.serve(sockets=[listening])
        await upstream.close()

    thread = threading.Thread(target=lambda: _run(run()))
    thread.start()
    assert ready.wait(10)
    try:
        yield started[0]
    finally:
        stop[0].should_exit = True
        stop[0].force_exit = True
        thread.join(10)


def entry_for(*hosts: str, slots: tuple[Slot, ...] = (Slot("header", "Authorization", "Bearer {key}"),)) -> Entry:
    return Entry(title="t", delivery="egress", command=(), hosts=hosts, slots=slots)


@pytest.fixture(scope="module")
def api() -> Iterator[FakeApi]:
    with FakeApi(CANARY) as fake:
        yield fake


@pytest.fixture(scope="module")
def shared_door(api: FakeApi) -> Iterator[Door]:
    with served(entry_for(api.url)) as door:
        yield door


@pytest.fixture
def door(shared_door: Door, api: FakeApi) -> Door:
    pipeline = shared_door.pipeline
    pipeline.refusal = None
    pipeline.entry = entry_for(api.url)
    api.seen.clear()
    return shared_door


def test_the_upstream_gets_the_key_and_the_laptop_the_answer(door: Door, api: FakeApi) -> None:
    answer, body = door.send(f"{api.url}/items/41?a=b")
    assert answer.status == 200
    assert json.loads(body) == {"method": "GET", "path": "/items/41", "ok": True}
    assert api.with_real_key() == ["GET /items/41?a=b"]


def test_the_proof_covers_the_whole_message(door: Door, api: FakeApi) -> None:
    door.send(f"{api.url}/x", "POST", (*BEARER, ("Content-Type", "text/plain")), b"the body")
    signed, head = door.pipeline.asked[-1]
    message = wire.join(wire.encode(head), b"the body")
    assert signed.body_digest == base64.urlsafe_b64encode(sha256(message).digest()).rstrip(b"=").decode()
    assert (signed.authorization, signed.proof, signed.version) == ("DPoP token", "proof", "1")
    assert api.seen[-1].body == b"the body"


def test_without_the_placeholder_nothing_is_injected(door: Door, api: FakeApi) -> None:
    answer, _ = door.send(f"{api.url}/x", headers=(("Authorization", "Bearer of-someone-else"),))
    assert answer.status == 401
    assert "Authorization" not in api.seen[-1].headers


def test_what_belongs_to_the_caller_or_the_connection_does_not_travel(door: Door, api: FakeApi) -> None:
    mine = (
        ("Cookie", "session=1"), ("Proxy-Authorization", "Basic eDp5"), ("X-Forwarded-For", "10.0.0.9"),
        ("Connection", "keep-alive, X-Hop"), ("X-Hop", "1"), ("Te", "trailers"), ("Upgrade", "h2c"),
        ("Accept-Encoding", "gzip, br"), ("Host", "evil.example"), ("Expect", "100-continue"), ("Range", "bytes=0-5"),
        ("DPoP", "stolen"), ("X-Custom", "stays"), ("Transfer_Encoding", "chunked"),
        ("X_Forwarded_For", "10.0.0.9"),
    )  # fmt: skip
    door.send(f"{api.url}/x", headers=(*BEARER, *mine))
    names = {name.lower() for name in api.seen[-1].headers}
    assert names == {"host", "accept-encoding", "authorization", "x-custom"}
    assert api.seen[-1].headers["host"] == api.url.removeprefix("http://")
    assert api.seen[-1].headers["accept-encoding"] == "identity"


@pytest.mark.parametrize(
    "name",
    ["X-HTTP-Method-Override", "X_HTTP_Method_Override", "x-http_method-OVERRIDE", "X-Original-URL", "X-Rewrite-URL"],
)
def test_a_header_that_changes_the_method_is_refused(door: Door, api: FakeApi, name: str) -> None:
    hidden = (*BEARER, (name, "DELETE"))
    assert door.refused(f"{api.url}/x", headers=hidden) == (403, "request.override")
    assert not api.seen


@pytest.mark.parametrize(
    "headers",
    [
        (*BEARER, *BEARER),
        (*BEARER, ("X", "a\r\nEvil: 1")),
        (*BEARER, ("X Y", "1")),
        (("Content-Length", "1"), ("Transfer-Encoding", "chunked")),
        tuple((f"X-{at}", "") for at in range(200)),
    ],
)
def test_headers_that_could_be_read_differently_are_refused(
    door: Door, api: FakeApi, headers: tuple[tuple[str, str], ...]
) -> None:
    assert door.refused(f"{api.url}/x", headers=headers)[0] == 400
    assert not api.seen


def test_a_refusal_of_the_pipeline_is_answered_and_nothing_is_sent(door: Door, api: FakeApi) -> None:
    door.pipeline.refusal = Forbidden("request.rule", "No.", "Ask.")
    assert door.refused(f"{api.url}/x") == (403, "request.rule")
    assert not api.seen


def test_the_key_is_redacted_wherever_the_upstream_gives_it_back(door: Door, api: FakeApi) -> None:
    _, body = door.send(f"{api.url}/reflect")
    assert CANARY.encode() not in body
    assert f"Bearer {'*' * len(CANARY)}".encode() in body


@pytest.mark.parametrize("length", ["Content-Length: %d\r\n", ""], ids=["long", "of no known length"])
def test_so_it_is_in_an_answer_that_goes_out_as_it_comes(door: Door, length: str) -> None:
    key, body = CANARY.encode(), b"." * egress_door.SMALL_ANSWER_BYTES
    told = length % (len(body) + 2 * len(key)) if length else ""
    answer = f"HTTP/1.1 200 OK\r\n{told}Connection: close\r\n\r\n".encode() + body + key + b"+" + key[:-1]
    with RawUpstream(answer) as url:
        door.pipeline.entry = entry_for(url)
        _, came = door.send(f"{url}/x")
    assert came == body + b"*" * len(key) + b"+" + key[:-1], "what only begins like it is not it"


def test_a_query_slot_gets_the_key(door: Door, api: FakeApi) -> None:
    door.pipeline.entry = replace(door.pipeline.entry, slots=(Slot("query", "key"),))
    door.send(f"{api.url}/items/41?a=b&key={PLACEHOLDER}", headers=())
    assert api.with_real_key() == [f"GET /items/41?a=b&key={CANARY}"]


def test_an_escaped_slash_is_sent_on_where_the_entry_has_it_so(door: Door, api: FakeApi) -> None:
    door.pipeline.entry = replace(door.pipeline.entry, escaped_slashes=True)
    door.send(f"{api.url}/projects/group%2Fproject")
    assert api.with_real_key() == ["GET /projects/group%2Fproject"]


def test_a_body_slot_reframes_the_request(door: Door, api: FakeApi) -> None:
    door.pipeline.entry = replace(door.pipeline.entry, slots=(Slot("json", "/api_key"),))
    body = json.dumps({"api_key": PLACEHOLDER, "q": "x"}).encode()
    door.send(f"{api.url}/x", "POST", (("Content-Type", "application/json"), ("Content-Length", "1")), body)
    seen = api.seen[-1]
    assert json.loads(seen.body) == {"api_key": CANARY, "q": "x"}
    assert seen.headers["content-length"] == str(len(seen.body))


@pytest.mark.parametrize(
    ("method", "body", "length"),
    [("GET", b"", None), ("DELETE", b"", None), ("GET", b"q", "1"), ("POST", b"", "0"), ("POST", b"q", "1")],
)
def test_the_upstream_is_told_how_long_the_body_is(
    door: Door, api: FakeApi, method: str, body: bytes, length: str | None
) -> None:
    door.send(f"{api.url}/x", method, BEARER, body)
    assert api.seen[-1].headers.get("content-length") == length


def test_the_record_hears_whether_a_request_asks_for_the_key(door: Door, api: FakeApi) -> None:
    for headers in (BEARER, (("X-Token", PLACEHOLDER),), ()):
        door.send(f"{api.url}/x", headers=headers)
    door.pipeline.entry = replace(door.pipeline.entry, slots=(Slot("json", "/api_key"), Slot("query", "key")))
    json_headers = (("Content-Type", "application/json"),)
    for member, more in (("api_key", ""), ("token", ""), ("api_key", " " * 300_000)):
        door.send(f"{api.url}/x", "POST", json_headers, json.dumps({member: PLACEHOLDER, "more": more}).encode())
    door.send(f"{api.url}/x?key={PLACEHOLDER}")
    assert door.pipeline.asks[-7:] == [True, False, False, True, False, True, True]


def test_a_large_body_passes_through_the_spool_whole(door: Door, api: FakeApi) -> None:
    body = b"0123456789abcdef" * 300_000
    door.send(f"{api.url}/x", "PUT", BEARER, body)
    assert api.seen[-1].body == body


def test_a_body_over_the_bound_is_refused(door: Door, api: FakeApi) -> None:
    body = bytes(wire.MAX_EGRESS_BODY_BYTES + wire.MAX_HEAD_BYTES + 2)
    with suppress(ConnectionError):  # the door closes while the rest is still on its way
        assert door.refused(f"{api.url}/x", method="PUT", body=body) == (400, "request.size")
    assert not api.seen


def test_an_answer_to_head_has_headers_and_no_body(door: Door, api: FakeApi) -> None:
    raw = RawUpstream(b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\nX: y\r\n\r\n")
    with raw as url:
        door.pipeline.entry = entry_for(url)
        answer, body = door.send(f"{url}/x", "HEAD")
    assert (answer.headers, body) == ((("Content-Length", "500"), ("X", "y")), b"")
    assert not api.seen


@pytest.mark.parametrize("status", ["204 No Content", "304 Not Modified"])
def test_an_answer_that_has_no_body_has_none_whatever_length_it_tells(door: Door, status: str) -> None:
    with RawUpstream(f"HTTP/1.1 {status}\r\nETag: x\r\nContent-Length: 500\r\n\r\n".encode()) as url:
        door.pipeline.entry = entry_for(url)
        answer, body = door.send(f"{url}/x")
    assert (answer.status, body) == (int(status[:3]), b"")


class RawUpstream:
    """Answers every request with the same bytes, then closes."""

    def __init__(self, answer: bytes) -> None:
        handler = type("Handler", (_RawHandler,), {"answer": answer})
        self._server = RoomyServer(("127.0.0.1", 0), handler)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})

    def __enter__(self) -> str:
        self._thread.start()
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _RawHandler(BaseHTTPRequestHandler):
    answer = b""

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        self.wfile.write(self.answer)
        self.close_connection = True

    do_HEAD = do_GET  # noqa: N815 - http.server's name


def test_cookies_and_redirect_targets_keep_their_secrets(door: Door) -> None:
    encoded = base64.b64encode(CANARY.encode()).decode()
    answer = (
        f"HTTP/1.1 302 Found\r\nLocation: https://x.example/?token={CANARY}&b={encoded}\r\nSet-Cookie: s=1\r\n"
        f"Alt-Svc: h3\r\nConnection: close, X-Hop\r\nX-Hop: 1\r\nX-{CANARY}: 1\r\nContent-Length: 0\r\n\r\n"
    )
    with RawUpstream(answer.encode()) as url:
        door.pipeline.entry = entry_for(url)
        came, _ = door.send(f"{url}/x")
    headers = {name.lower(): value for name, value in came.headers}
    assert came.status == 302
    assert headers["location"].startswith(f"https://x.example/?token={'*' * len(CANARY)}&b=***")
    assert not {"set-cookie", "alt-svc", "connection", "x-hop"} & set(headers)
    assert CANARY not in json.dumps(came.headers)


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 2\r\n\r\nxx", "upstream.encoding"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nxx", "upstream.framing"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nshort", "upstream.protocol"),
    ],
)
def test_an_answer_that_we_refuse_is_a_502_without_any_of_it(door: Door, answer: bytes, code: str) -> None:
    with RawUpstream(answer) as url:
        door.pipeline.entry = entry_for(url)
        assert door.refused(f"{url}/x") == (502, code)


def test_one_grant_cannot_take_every_connection_there_is(
    door: Door, api: FakeApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(egress_door, "MAX_OPEN", 1)
    with door.begin(f"{api.url}/stream") as response:
        assert response.status == 200
        assert door.refused(f"{api.url}/x") == (429, "request.many")
    wait_for(lambda: not len(door.streams), "the end of the first one")
    assert door.send(f"{api.url}/x")[0].status == 200


def test_a_stream_arrives_as_it_comes(door: Door, api: FakeApi) -> None:
    with door.begin(f"{api.url}/stream") as response:
        assert response.read(1)  # the head's line is there before the stream's end
        data = b""
        while b"tick\ntick\n" not in data:
            data += response.read1()


def seconds_until_the_end(response: http.client.HTTPResponse) -> float:
    start = time.monotonic()
    with pytest.raises((http.client.IncompleteRead, ConnectionError)):
        response.read()
    return time.monotonic() - start


def test_a_revocation_cuts_an_open_stream_within_a_second_and_the_laptop_cannot_take_it_as_whole(
    door: Door, api: FakeApi
) -> None:
    with door.begin(f"{api.url}/stream") as response:
        assert response.read1()
        door.cut()
        assert seconds_until_the_end(response) < 1


def test_a_revocation_cuts_a_request_that_waits_for_its_answer(door: Door) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        door.pipeline.entry = entry_for(url)
        asked: list[tuple[int, str]] = []
        thread = threading.Thread(target=lambda: asked.append(door.refused(f"{url}/x")))
        thread.start()
        connection, _ = silent.accept()
        assert connection.recv(10)
        door.cut()
        thread.join(1)
        assert asked == [(403, "request.cut")]
        assert connection.recv(100_000)
        assert connection.recv(10) == b""  # nobody waits for the upstream any more
        connection.close()


def test_the_windows_end_cuts_the_stream(door: Door, api: FakeApi) -> None:
    door.pipeline.entry = replace(door.pipeline.entry, deadline_seconds=1)
    with door.begin(f"{api.url}/stream") as response:
        assert seconds_until_the_end(response) < 3


def test_a_laptop_that_goes_away_ends_the_upstreams_work(door: Door) -> None:
    with socket.create_server(("127.0.0.1", 0)) as slow:
        url = f"http://127.0.0.1:{slow.getsockname()[1]}"
        door.pipeline.entry = entry_for(url)
        thread = threading.Thread(target=lambda: connections.append(slow.accept()[0]))
        connections: list[socket.socket] = []
        thread.start()
        head = wire.EgressRequest("s", "GET", f"{url}/x", BEARER, PLACEHOLDER)
        message = wire.join(wire.encode(head))
        with socket.create_connection(("127.0.0.1", door.port)) as laptop:
            laptop.sendall(
                b"POST /v1/egress HTTP/1.1\r\nHost: broker\r\nContent-Length: %d\r\n\r\n" % len(message) + message
            )
            thread.join(5)
        upstream_side = connections[0]
        upstream_side.settimeout(2)
        while upstream_side.recv(65536):
            pass  # until the door lets go of it, or the time-out fails the test
        upstream_side.close()


@pytest.mark.parametrize("message", [b"", b"{}\n", b"not json\n", b'{"a":1,"a":2}\n', b"[]\n", b"no newline"])
def test_a_message_that_is_not_in_the_wires_form_is_refused(door: Door, message: bytes) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", door.port, timeout=10)
    before = len(door.pipeline.asked)
    connection.request("POST", wire.PATH_EGRESS, message)
    with connection.getresponse() as response:
        assert response.status == 400
        assert json.loads(response.read())["error"]["code"]
    connection.close()
    assert len(door.pipeline.asked) == before
