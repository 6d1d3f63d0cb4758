"""What clients and servers may do wrong at the door to remote servers: refused clearly, and every call settled."""

from __future__ import annotations

import json
import socket
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from harness.processes import wait_for
from harness.remote import SESSION, Exchange, Remote, entry
from harness.signing import SigningLaptop
from harness.upstream import CANARY
from integration.relaying import begun, call, events_of, first_id, opened, refusal_code, request, settled
from percall import wire
from percall.proof import digest
from percall.rpc.refusals import UNKNOWN

if TYPE_CHECKING:
    from collections.abc import Callable

    from integration.conftest import Served

MODERN = {"MCP-Protocol-Version": "2026-07-28", "Mcp-Method": "tools/call", "Mcp-Name": "get_item"}
ENVELOPE = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientCapabilities": {},
}


# --- Clients ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "frame.syntax"),
        (b"[]", "frame.batch"),
        (b'[{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"get_item"}}]', "frame.batch"),
        (b'{"id":1,"method":"tools/list","method":"tools/call","params":{"name":"delete_item"}}', "frame.duplicate"),
        (b'{"id":1,"method":"tools/call","params":{"name":"get_item","name":"delete_item"}}', "frame.duplicate"),
        (b'{"id":1,"Method":"tools/call","params":{"name":"delete_item"},"method":"ping"}', "frame.case"),
        (b'{"id":1,"method":"tools/call","params":{"name":"get_item","Name":"delete_item"}}', "frame.case"),
        (b'{"id":1,"method":"tools/call","Params":{"name":"delete_item"}}', "frame.case"),
        (b'{"id":null,"method":"tools/call","params":{"name":"get_item"}}', "frame.id"),
        (b'{"method":"tools/call","params":{"name":"get_item"}}', "frame.id"),
        (b'{"id":true,"method":"tools/call","params":{"name":"get_item"}}', "frame.id"),
        (b'{"id":1,"method":"tools/list","result":{}}', "frame.method"),
        (b'{"jsonrpc":"2.0"}', "frame.method"),
        (b'{"id":1,"method":"ping","params":{"x":NaN}}', "frame.number"),
        (b'{"id":1,"method":"ping","params":{"x":"\xff"}}', "frame.utf8"),
        (b'{"id":1,"method":"ping","params":{"a":[' + b"[]," * wire.MAX_VALUES + b"0]}}", "frame.values"),
        (b'{"id":1,"method":"ping","params":' + b'{"a":' * 80 + b"1" + b"}" * 81, "frame.nesting"),
        (b'{"id":1,"method":"resources/read","params":{"uri":"file:///work/../etc/passwd"}}', "frame.uri"),
    ],
)  # fmt: skip
def test_a_message_that_two_could_read_differently_goes_nowhere(
    relayed: Served, remote: Remote, body: bytes, code: str
) -> None:
    laptop, _ = relayed.enrol("remote", tools=["*"], resources=["file:///work/*"])
    answer = laptop.relay("remote", body)
    assert (answer.status, answer.code) == (400, code)
    assert not remote.seen
    assert not laptop.log()


@pytest.mark.parametrize(
    "headers",
    [
        {**MODERN, "MCP-Protocol-Version": "2025-11-25"},
        {**MODERN, "Mcp-Method": "tools/list"},
        {**MODERN, "Mcp-Name": "delete_item"},
        {name: value for name, value in MODERN.items() if name != "Mcp-Name"},
        {name: value for name, value in MODERN.items() if name != "Mcp-Method"},
        {name: value for name, value in MODERN.items() if name != "MCP-Protocol-Version"},
        {**MODERN, "Mcp-Name": "=?base64?ZGVsZXRlX2l0ZW0=?="},
        {**MODERN, "Mcp-Name": "=?base64?%%%?="},
        {**MODERN, "Mcp-Param-Region": "elsewhere"},
    ],
)
def test_headers_that_contradict_the_body_are_refused_in_the_specifications_words(
    relayed: Served, remote: Remote, headers: dict[str, str]
) -> None:
    laptop, _ = relayed.enrol("remote")
    message = request("tools/call", {"name": "get_item", "arguments": {"region": "here"}, "_meta": ENVELOPE})
    answer = laptop.relay("remote", message, headers)
    assert answer.status == 400
    assert answer.json["error"]["code"] == -32020
    assert not remote.seen


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"Mcp-Name": "=?base64?Z2V0X2l0ZW0=?="},
        {"Mcp-Param-Region": "here"},
        {"Mcp-Param-Count": "42.0", "Mcp-Param-Dry": "true", "Mcp-Param-Label": "new"},
    ],
)
def test_headers_that_agree_with_the_body_travel(relayed: Served, remote: Remote, more: dict[str, str]) -> None:
    laptop, _ = relayed.enrol("remote")
    arguments = {"region": "here", "count": 42, "options": {"dry": True, "labels": ["new"]}}
    message = request("tools/call", {"name": "get_item", "arguments": arguments, "_meta": ENVELOPE})
    assert laptop.relay("remote", message, {**MODERN, **more}).status == 200
    sent = {name.lower(): value for name, value in remote.seen[0].headers.items()}
    assert {name.lower(): value for name, value in {**MODERN, **more}.items()}.items() <= sent.items()


def test_what_the_stateless_era_no_longer_has_goes_nowhere(relayed: Served, remote: Remote) -> None:
    laptop, _ = relayed.enrol("remote", resources=["*"])
    message = request("resources/subscribe", {"uri": "file:///a", "_meta": ENVELOPE})
    answer = laptop.relay("remote", message, {**MODERN, "Mcp-Method": "resources/subscribe"})
    assert (answer.status, answer.json["error"]["code"]) == (404, -32601)
    assert not remote.seen


@pytest.mark.parametrize(
    "more",
    [
        {"Mcp-Name": "get\xe9item"},
        {"Mcp-Param-Region": "x" * 8193},
        {f"Mcp-Param-{number}": "x" for number in range(128)},
    ],
    ids=["not ASCII", "long", "many"],
)
def test_headers_that_are_too_much_go_nowhere(relayed: Served, remote: Remote, more: dict[str, str]) -> None:
    laptop, _ = relayed.enrol("remote")
    assert laptop.relay("remote", call("get_item"), more).code == "request.header"
    assert not remote.seen


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/mcp/%72emote", 404),
        ("/mcp/remote?x=1", 400),
        ("/mcp//remote", 200),
        ("/mcp/./remote", 200),
        ("/mcp/keyed", 200),
        ("/mcp/nothing", 200),
    ],
)
def test_only_the_servers_exact_path_is_the_server(relayed: Served, remote: Remote, path: str, status: int) -> None:
    laptop, _ = relayed.enrol("remote")
    answer = laptop.send("POST", path, json.dumps(call("get_item")).encode())
    assert answer.status == status
    assert not remote.seen
    if status == 200:
        assert refusal_code(answer) == "grant.server"


def raw(laptop: SigningLaptop, body: bytes, head: str) -> bytes:
    """A request whose head is the test's own; `{signed}` stands for the signature's headers."""
    laptop.send("GET", wire.PATH_SESSION)
    signed = "".join(f"{name}: {value}\r\n" for name, value in laptop.headers("POST", "/mcp/remote", body).items())
    host = laptop.url.removeprefix("http://")
    name, port = host.rsplit(":", 1)
    with socket.create_connection((name, int(port)), timeout=10) as connection:
        text = head.format(host=host, signed=signed, length=len(body))
        connection.sendall(text.replace("\n", "\r\n").replace("\r\r", "\r").encode() + body)
        return connection.recv(65536)


@pytest.mark.parametrize(
    ("hosts", "more", "status"),
    [
        ("Host: evil.example\n", "", b"400"),
        ("Host: {host}\nHost: evil.example\n", "", b"400"),
        ("", "", b"400"),
        ("Host: {host}\n", "Origin: https://evil.example\n", b"403"),
        ("Host: {host}\n", "Origin: null\n", b"403"),
        ("Host: {host}\n", "Mcp-Session-Id: a\nMcp-Session-Id: b\n", b"400"),
        ("Host: {host}\n", "Content-Encoding: gzip\n", b"400"),
    ],
)
def test_a_head_that_misleads_is_refused(relayed: Served, remote: Remote, hosts: str, more: str, status: bytes) -> None:
    laptop, _ = relayed.enrol("remote")
    head = f"POST /mcp/remote HTTP/1.1\n{hosts}{more}{{signed}}Content-Length: {{length}}\n\n"
    assert raw(laptop, json.dumps(call("get_item")).encode(), head).split(b" ")[1] == status
    assert not remote.seen


def test_a_captured_request_is_not_made_twice(relayed: Served, remote: Remote) -> None:
    laptop, _ = relayed.enrol("remote")
    laptop.send("GET", wire.PATH_SESSION)
    for message in (call("get_item"), request("tools/list")):
        body = json.dumps(message).encode()
        headers = laptop.headers("POST", "/mcp/remote", body)
        assert laptop.exchange("POST", "/mcp/remote", body, headers).status == 200
        again = laptop.exchange("POST", "/mcp/remote", body, headers)
        assert (again.status, again.code) == (401, "proof.replayed")
        other = json.dumps(call("get_other")).encode()
        assert laptop.exchange("POST", "/mcp/remote", other, headers).status == 401
        elsewhere = laptop.exchange("POST", "/mcp/hasty", body, headers)
        assert elsewhere.status == 401
    assert len(remote.seen) == 2


def test_what_its_device_sends_again_is_taken_once_and_what_a_thief_does_is_told(
    relayed: Served, remote: Remote
) -> None:
    laptop, grant = relayed.enrol("remote")
    laptop.send("GET", wire.PATH_SESSION)  # for a nonce
    for message in (call("get_item"), call("drop_everything"), request("tools/list")):
        body = json.dumps(message).encode()
        lost, headers = laptop.signed("POST", "/mcp/remote", body)
        again = (laptop.url + "/mcp/remote", laptop.token, laptop.nonce, digest(body), lost)
        repeated = {**headers, "DPoP": laptop.key.proof("POST", *again)[1]}
        assert laptop.exchange("POST", "/mcp/remote", body, repeated).status == 200, "the first one has not arrived"
        later = laptop.exchange("POST", "/mcp/remote", body, repeated)
        assert (later.status, later.code) == (401, "request.repeated")
        stolen = laptop.exchange("POST", "/mcp/remote", body, headers)
        assert (stolen.status, stolen.code) == (401, "proof.replayed")
    assert len(remote.seen) == 2

    def told() -> list[str]:
        return [json.loads(line)["reason"] for line in relayed.stderr.text if grant.encode() in line]

    wait_for(lambda: len(told()) >= 3, "all three thefts are told")
    assert told() == ["proof.replayed"] * 3


def test_a_stranger_reaches_no_server(relayed: Served, remote: Remote) -> None:
    stranger = SigningLaptop(relayed.url)
    answer = stranger.exchange("POST", "/mcp/remote", b"{}", {"Percall-Wire": "1"})
    assert (answer.status, answer.code) == (401, "grant.missing")
    assert not remote.seen


@pytest.mark.parametrize("message", [call("get_item"), request("tools/list"), request("initialize")])
def test_a_revoked_grant_is_refused_at_the_very_next_request(
    relayed: Served, remote: Remote, message: dict[str, Any]
) -> None:
    laptop, grant = relayed.enrol("remote")
    assert laptop.relay("remote", call("get_item")).status == 200
    relayed.change(grant, "revoke")
    remote.seen.clear()
    answer = laptop.relay("remote", message)
    assert answer.status == 200
    assert "revoked" in answer.body.decode()
    assert laptop.send("GET", "/mcp/remote").code == "grant.revoked"
    assert not remote.seen


def test_the_other_doors_do_not_serve_remote_servers(relayed: Served, remote: Remote) -> None:
    laptop, _ = relayed.enrol("remote")
    refused = laptop.ask("remote", "tools/call", {"name": "get_item"}).json
    assert refused["refusal"]["code"] == "server.delivery"
    assert laptop.request("remote", f"{remote.url}/mcp").status == 403
    local, _ = relayed.enrol("keyed")
    assert refusal_code(local.relay("keyed", call("get_item"))) == "server.delivery"
    assert not remote.seen


# --- Sessions and streams ---------------------------------------------------------------------------------------------


def test_a_stream_is_resumed_in_its_own_session_alone(relayed: Served, remote: Remote) -> None:
    def broken_off(exchange: Exchange) -> None:
        exchange.head(200, "text/event-stream", {})
        exchange.write(b"id: event-1\ndata:\n\n")

    def resumed(exchange: Exchange) -> None:
        assert exchange.headers["last-event-id"] == "event-1"
        exchange.events({"jsonrpc": "2.0", "id": 1, "result": {"tools": [{"name": "get_item"}, {"name": "drop"}]}})

    remote.behaviours.update({"get_item": broken_off, "tools/list": broken_off, "GET": resumed})
    laptop, _ = relayed.enrol("remote")
    thief, _ = relayed.enrol("remote")
    session, other = opened(laptop), opened(thief)
    remote.seen.clear()
    place = {"Last-Event-ID": first_id(laptop.relay("remote", request("tools/list"), session))}
    assert laptop.send("GET", "/mcp/remote", more={"Last-Event-ID": "event-1", **session}).code == "session.event"
    assert thief.send("GET", "/mcp/remote", more={**place, **other}).code == "session.event"
    assert thief.send("GET", "/mcp/remote", more={**place, **session}).code == "session.unknown"
    assert len(remote.seen) == 1
    rest = laptop.send("GET", "/mcp/remote", more={**place, **session})
    assert events_of(rest)[0]["result"]["tools"] == [{"name": "get_item"}]

    laptop.relay("remote", call("get_item"), session)
    assert laptop.log()[0]["outcome"] == ""
    place = {"Last-Event-ID": first_id(laptop.relay("remote", call("get_item"), session))}
    laptop.send("GET", "/mcp/remote", more={**place, **session})
    settled(laptop, "done")


def test_a_call_whose_stream_cannot_be_resumed_has_not_failed(served: Served) -> None:
    def broken_off(exchange: Exchange) -> None:
        exchange.head(200, "text/event-stream", {})
        exchange.write(b"id: event-1\ndata:\n\n")

    with Remote() as leaving:
        served.add_server("leaving", entry(leaving.url), CANARY)
        leaving.behaviours["get_item"] = broken_off
        laptop, _ = served.enrol("leaving")
        session = opened(laptop, "leaving")
        place = {"Last-Event-ID": first_id(laptop.relay("leaving", call("get_item"), session))}
    assert laptop.send("GET", "/mcp/leaving", more={**place, **session}).code == "upstream.connect"
    laptop.relay("leaving", call("get_item"), session)
    settled(laptop, "failed")
    assert [row["outcome"] for row in laptop.log()] == ["failed", ""]


def test_a_place_in_a_stream_makes_no_answer_pass_for_the_rest_of_another(relayed: Served, remote: Remote) -> None:
    remote.behaviours["tools/list"] = lambda asked: asked.json(asked.result({"tools": [{"name": "drop"}]}))
    remote.behaviours["ping"] = lambda asked: asked.events(asked.result({}), ids=True)
    laptop, _ = relayed.enrol("remote")
    session = opened(laptop)
    place = {"Last-Event-ID": first_id(laptop.relay("remote", request("ping"), session))}
    recorded = len(laptop.log())
    remote.seen.clear()
    for message in (request("tools/list"), call("get_item")):
        assert laptop.relay("remote", message, {**session, **place}).code == "request.header"
    assert laptop.send("DELETE", "/mcp/remote", more={**session, **place}).code == "request.header"
    assert remote.seen == []
    assert len(laptop.log()) == recorded


def test_a_session_ends_with_delete_for_its_own_grant_alone(relayed: Served, remote: Remote) -> None:
    laptop, _ = relayed.enrol("remote")
    thief, _ = relayed.enrol("remote")
    session = opened(laptop)
    assert thief.send("DELETE", "/mcp/remote", more=session).status == 404
    assert [seen.method for seen in remote.seen] == ["POST"]
    assert laptop.send("DELETE", "/mcp/remote", more=session).status == 202
    assert (remote.seen[-1].method, remote.seen[-1].headers["mcp-session-id"]) == ("DELETE", SESSION)


@pytest.mark.parametrize(
    ("error", "passes"),
    [({"code": -32601, "message": "no"}, True), ({"code": -32600, "message": "no"}, False), ("no", False)],
)
def test_a_server_that_knows_no_method_still_knows_the_session(
    relayed: Served, remote: Remote, error: Any, passes: bool
) -> None:
    said = {"jsonrpc": "2.0", "id": 1, "error": error}
    remote.behaviours["tools/list"] = lambda exchange: exchange.json(said, 404)
    laptop, _ = relayed.enrol("remote")
    answer = laptop.relay("remote", request("tools/list"), opened(laptop))
    assert answer.status == 404
    assert (answer.json == said) if passes else (answer.code == "session.ended")


def beating(exchange: Exchange) -> None:
    exchange.head(200, "text/event-stream", {})
    exchange.until_the_client_leaves()


@pytest.mark.parametrize("method", ["POST", "GET"])
def test_closing_the_stream_reaches_the_server(relayed: Served, remote: Remote, method: str) -> None:
    remote.behaviours.update({"get_beats": beating, "GET": beating})
    laptop, _ = relayed.enrol("remote")
    with begun(laptop, method, call("get_beats") if method == "POST" else None) as stream:
        assert stream.readline() == b": still here\n"
    assert remote.gone.wait(20)
    if method == "POST":
        settled(laptop, "unknown")


@pytest.mark.parametrize("method", ["POST", "GET"])
def test_a_revocation_cuts_an_open_stream(relayed: Served, remote: Remote, method: str) -> None:
    remote.behaviours.update({"get_beats": beating, "GET": beating})
    laptop, grant = relayed.enrol("remote")
    with begun(laptop, method, call("get_beats") if method == "POST" else None) as stream:
        assert stream.readline() == b": still here\n"
        relayed.change(grant, "revoke")
        rest = stream.read()
    assert remote.gone.wait(20)
    assert (b"[grant.revoked]" in rest) == (method == "POST")
    assert (UNKNOWN.encode() in rest) == (method == "POST")


def test_a_call_whose_client_leaves_its_stream_is_settled_when_it_comes_back_for_the_rest(
    relayed: Served, remote: Remote
) -> None:
    def beginning(exchange: Exchange) -> None:
        exchange.head(200, "text/event-stream", {})
        exchange.write(b"id: event-1\ndata:\n\n")
        exchange.until_the_client_leaves()

    remote.behaviours["get_item"] = beginning
    remote.behaviours["GET"] = lambda exchange: exchange.events(
        {"jsonrpc": "2.0", "id": 1, "result": {"content": [], "isError": True}}
    )
    laptop, _ = relayed.enrol("remote")
    session = opened(laptop)
    with begun(laptop, "POST", call("get_item"), more=session) as stream:
        place = {"Last-Event-ID": stream.readline().decode().strip().removeprefix("id: ")}
    assert remote.gone.wait(20)
    assert len(events_of(laptop.send("GET", "/mcp/remote", more={**place, **session}))) == 1
    settled(laptop, "failed")


def test_a_subscription_has_no_deadline(relayed: Served, remote: Remote) -> None:
    def listening(exchange: Exchange) -> None:
        exchange.head(200, "text/event-stream", {})
        remote.released.wait(20)
        exchange.event({"jsonrpc": "2.0", "method": "notifications/resources/updated"})

    def hanging(_exchange: Exchange) -> None:
        remote.gone.wait(20)

    remote.behaviours.update({"subscriptions/listen": listening, "get_hang": hanging})
    laptop, _ = relayed.enrol("hasty", tools=["*"], resources=["*"])
    listen = request("subscriptions/listen", {"notifications": {"resourceSubscriptions": ["file:///a"]}})
    with begun(laptop, "POST", listen, server="hasty") as stream:
        # A call that began later has met the same deadline meanwhile.
        assert refusal_code(laptop.relay("hasty", call("get_hang"))) == "call.deadline"
        remote.released.set()
        assert b"resources/updated" in stream.read()
    remote.gone.set()


def test_what_a_server_asks_outside_any_call_passes_and_is_recorded(relayed: Served, remote: Remote) -> None:
    def asking(exchange: Exchange) -> None:
        asked = {"jsonrpc": "2.0", "id": 9, "method": "roots/list"}
        exchange.events(asked, {**asked, "id": 10}, {**asked, "id": 11, "method": "sampling/createMessage"})

    remote.behaviours["GET"] = asking
    laptop, grant = relayed.enrol("remote")
    assert [said["id"] for said in events_of(laptop.send("GET", "/mcp/remote"))] == [9, 10]
    refused = json.loads(remote.bodies()[-1])
    assert (refused["id"], refused["error"]["code"]) == (11, -31000)
    observed = map(json.loads, relayed.recorded("SELECT entry FROM log WHERE kind = 'observed'"))
    assert [entry["method"] for entry in observed if entry["grant_id"] == grant] == ["roots/list"]


# --- Servers ----------------------------------------------------------------------------------------------------------


def hanging(exchange: Exchange) -> None:
    exchange.remote.released.wait(20)


def dripping(exchange: Exchange) -> None:
    exchange.head(200, "application/json", {})
    exchange.until_the_client_leaves(b" ")


def dripping_events(exchange: Exchange) -> None:
    exchange.head(200, "text/event-stream", {})
    exchange.until_the_client_leaves(b"d")


def a_gigabyte(exchange: Exchange) -> None:
    exchange.head(200, "application/json", {}, 1024**3)
    exchange.write(b'{"jsonrpc":"2.0","id":1,"result":"')
    endlessly(exchange)


def failing_without_end(exchange: Exchange) -> None:
    exchange.head(500, "application/json", {}, 1024**3)
    endlessly(exchange)


def a_gigabyte_of_events(exchange: Exchange) -> None:
    exchange.head(200, "text/event-stream", {})
    exchange.write(b"data: ")
    endlessly(exchange)


def endlessly(exchange: Exchange) -> None:
    piece = b"x" * 1024 * 1024
    try:
        for _ in range(1024):
            exchange.write(piece)
    except OSError:
        exchange.remote.gone.set()


def broken_events(exchange: Exchange) -> None:
    exchange.head(200, "text/event-stream", {})
    exchange.write(
        b'data: {"jsonrpc":"2.0","id":1,\n\n: \xff\xfe\n\nnonsense\ndata: [1,2]\n\ndata: {"id":1}\n\ndata: {"id"'
    )


def redirecting(exchange: Exchange) -> None:
    exchange.head(307, "", {"Location": "http://127.0.0.1:1/mcp"}, 0)


def closing(exchange: Exchange) -> None:
    exchange.head(200, "text/event-stream", {})
    exchange.event({"jsonrpc": "2.0", "method": "notifications/progress", "params": {}})


def half(exchange: Exchange) -> None:
    exchange.head(200, "application/json", {}, 100)
    exchange.write(b'{"jsonrpc"')
    exchange._handler.close_connection = True


def hidden_request(exchange: Exchange) -> None:
    exchange.head(200, "text/event-stream", {})
    exchange.write(b'data: {"jsonrpc":"2.0","id":5,"method":"ping","method":"sampling/createMessage"}\n\n')


def hiding_what_it_asks(exchange: Exchange) -> None:
    """Where one reader finds a request for sampling, and another one nothing."""
    asked = {"a": {"method": "sampling/createMessage"}}
    text = json.dumps(exchange.result({"resultType": "input_required", "inputRequests": asked, "last": 1}))
    exchange.json(text.replace('"last": 1', '"inputRequests": {}').encode())


def answer_with_a_method(exchange: Exchange) -> None:
    exchange.json({**exchange.result({"content": []}), "method": None})


def failing_with_a_result(exchange: Exchange) -> None:
    exchange.json({"jsonrpc": "2.0", "id": 1, "error": {"code": 1, "message": "m"}, "Result": {"content": []}})


def asking_in_a_strange_form(exchange: Exchange) -> None:
    asked = {"a": {"method": "sampling/createMessage"}}
    exchange.json(exchange.result({"resultType": "input_required", "task": 5, "inputRequests": asked}))


SERVERS: dict[str, tuple[Callable[[Exchange], None], str, str]] = {
    "hangs": (hanging, "call.deadline", "unknown"),
    "drips": (dripping, "call.deadline", "unknown"),
    "drips events": (dripping_events, "call.deadline", "unknown"),
    "sends a gigabyte": (a_gigabyte, "upstream.size", "unknown"),
    "sends a gigabyte as one event": (a_gigabyte_of_events, "upstream.size", "unknown"),
    "sends broken events": (broken_events, "upstream.closed", "unknown"),
    "hides a request": (hidden_request, "upstream.closed", "unknown"),
    "answers with a method": (answer_with_a_method, "upstream.message", "unknown"),
    "fails with a result": (failing_with_a_result, "upstream.message", "unknown"),
    "hides what it asks": (hiding_what_it_asks, "upstream.message", "unknown"),
    "asks in a strange form": (asking_in_a_strange_form, "upstream.message", "unknown"),
    "redirects": (redirecting, "upstream.redirect", "unknown"),
    "closes mid-stream": (closing, "upstream.closed", "unknown"),
    "ends half-way": (half, "upstream.protocol", "unknown"),
    "says nothing": (lambda exchange: exchange.json(b"", 202), "upstream.message", "unknown"),
    "answers another request": (
        lambda exchange: exchange.json({"id": 77, "result": {}}),
        "upstream.message",
        "unknown",
    ),
    "answers with a notification": (
        lambda exchange: exchange.json({"jsonrpc": "2.0", "method": "notifications/message", "params": {}}),
        "upstream.message",
        "unknown",
    ),
    "answers no JSON": (lambda exchange: exchange.json(b"{oops"), "upstream.message", "unknown"),
    "answers a web page": (lambda exchange: exchange.head(200, "text/html", {}, 0), "upstream.type", "unknown"),
    "compresses": (lambda exchange: exchange.json({}, Content_Encoding="gzip"), "upstream.encoding", "unknown"),
    "refuses the key": (lambda exchange: exchange.json({}, 401), "upstream.key", "failed"),
    "names a type that is no text": (
        lambda exchange: exchange.head(200, "application/j\xe9son", {}, 0),
        "upstream.type",
        "unknown",
    ),
    "gives a status that there is not": (
        lambda exchange: exchange.json({"id": exchange.message["id"], "error": {"code": 1, "message": "no"}}, 999),
        "upstream.status",
        "failed",
    ),
    "names its session strangely": (
        lambda exchange: exchange.json(exchange.text("x"), Mcp_Session_Id="\xe9"),
        "upstream.session",
        "unknown",
    ),
    "fails without end": (failing_without_end, "upstream.status", "unknown"),
    "fails": (lambda exchange: exchange.json({}, 500), "upstream.status", "unknown"),
    "forbids it without a message": (lambda exchange: exchange.json({}, 403), "upstream.status", "failed"),
}


@pytest.mark.parametrize("what", SERVERS)
def test_a_server_that_misbehaves_is_named_and_the_call_settled(relayed: Served, remote: Remote, what: str) -> None:
    behaviour, code, outcome = SERVERS[what]
    remote.behaviours["get_item"] = behaviour
    laptop, _ = relayed.enrol("hasty" if code == "call.deadline" else "remote")
    process = psutil.Process(relayed.process.pid)
    before = process.memory_info().rss
    answer = laptop.relay("hasty" if code == "call.deadline" else "remote", call("get_item"))
    assert answer.status == 200
    said = events_of(answer)[-1] if "event-stream" in answer.headers["content-type"] else answer.json
    assert said["result"]["isError"] is True
    text = said["result"]["content"][0]["text"]
    assert text.endswith(f"[{code}]")
    assert (UNKNOWN in text) == (outcome == "unknown")
    settled(laptop, outcome)
    remote.released.set()
    assert process.memory_info().rss - before < 96 * 1024 * 1024


@pytest.mark.parametrize("ids", [False, True])
def test_a_key_that_is_echoed_across_pieces_is_struck_out(relayed: Served, remote: Remote, ids: bool) -> None:
    def in_pieces(exchange: Exchange) -> None:
        exchange.head(200, "text/event-stream", {})
        data = json.dumps(exchange.text(f"it is {CANARY}!")).encode()
        event = (b"id: 1\n" if ids else b"") + b"data: " + data + b"\n\n"
        at = event.index(CANARY.encode())
        for piece in (event[: at + 7], event[at + 7 : at + 20], event[at + 20 :]):
            exchange.write(piece)

    remote.behaviours["get_item"] = in_pieces
    laptop, _ = relayed.enrol("remote")
    answer = laptop.relay("remote", call("get_item"))
    assert CANARY.encode() not in answer.body
    assert events_of(answer)[0]["result"]["content"][0]["text"] == f"it is {'*' * len(CANARY)}!"


@pytest.mark.parametrize("status", [200, 400, 404, 500])
def test_a_key_that_is_echoed_in_one_message_or_in_an_error_is_struck_out(
    relayed: Served, remote: Remote, status: int
) -> None:
    told = {"code": -32000, "message": f"{CANARY} is not welcome"}
    remote.behaviours["get_item"] = lambda exchange: exchange.json(
        {"id": exchange.message["id"], "error": told}, status
    )
    laptop, _ = relayed.enrol("remote")
    answer = laptop.relay("remote", call("get_item"))
    assert CANARY.encode() not in answer.body
    assert answer.json["error"]["message"] == f"{'*' * len(CANARY)} is not welcome"


def test_a_list_that_changes_shows_and_opens_nothing_new(relayed: Served, remote: Remote) -> None:
    names = ["get_item"]
    remote.behaviours["tools/list"] = lambda exchange: exchange.json(
        exchange.result({"tools": [{"name": name} for name in names]})
    )
    laptop, _ = relayed.enrol("remote")
    before = laptop.relay("remote", request("tools/list")).json["result"]
    names += ["drop_everything", "Get_item", "get_more"]
    after = laptop.relay("remote", request("tools/list")).json["result"]
    assert [tool["name"] for tool in before["tools"]] == ["get_item"]
    assert [tool["name"] for tool in after["tools"]] == ["get_item", "get_more"]
    assert refusal_code(laptop.relay("remote", call("drop_everything"))) == "grant.tool"


def test_a_long_answer_passes_whole_and_costs_little_memory(relayed: Served, remote: Remote) -> None:
    text = "ä" * 2 * 1024 * 1024
    remote.behaviours["get_json"] = lambda exchange: exchange.json(exchange.text(text))
    remote.behaviours["get_event"] = lambda exchange: exchange.events(exchange.text(text), ids=True)
    laptop, _ = relayed.enrol("remote")
    assert laptop.relay("remote", call("get_json")).json["result"]["content"][0]["text"] == text
    assert events_of(laptop.relay("remote", call("get_event")))[0]["result"]["content"][0]["text"] == text
    wait_for(lambda: [row["outcome"] for row in laptop.log()] == ["done", "done"], "both outcomes")


def test_no_server_where_there_is_none(relayed: Served) -> None:
    with Remote() as short:
        url = short.url
    relayed.add_server("away", f'[server]\ntitle = "x"\ndelivery = "relay"\nurl = "{url}/mcp"\n')
    laptop, _ = relayed.enrol("away")
    assert refusal_code(laptop.relay("away", call("get_item"))) == "upstream.connect"
    settled(laptop, "failed")
