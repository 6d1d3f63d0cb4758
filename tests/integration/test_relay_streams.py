"""Streams of remote servers: at the client's pace, each to its own request, resumed, and settled."""

from __future__ import annotations

import contextlib
import json
import queue
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from harness.remote import entry
from harness.upstream import CANARY
from integration.relaying import begun, call, events_of, first_id, opened, refusal_code, request, settled
from percall import wire

if TYPE_CHECKING:
    from harness.remote import Exchange, Remote
    from integration.conftest import Served


def test_a_client_that_does_not_read_holds_the_server_back(relayed: Served, remote: Remote) -> None:
    """Through the broker: what it keeps for such a client is little, and the server is not read any further."""
    taken: queue.Queue[int] = queue.Queue()
    remote.behaviours["get_flood"] = lambda exchange: taken.put(exchange.flood())
    laptop, _ = relayed.enrol("remote")
    process = psutil.Process(relayed.process.pid)
    before = process.memory_info().rss
    with begun(laptop, "POST", call("get_flood")):
        assert taken.get(timeout=30) < 64
        assert process.memory_info().rss - before < 64 * 1024 * 1024
    settled(laptop, "unknown")


def test_an_answer_to_another_request_does_not_pass(relayed: Served, remote: Remote) -> None:
    """Else a list of tools could come unfiltered on the stream of a call, or on the session's own."""
    list_of_tools = {"jsonrpc": "2.0", "id": 77, "result": {"tools": [{"name": "drop_everything"}]}}
    remote.behaviours["get_item"] = lambda exchange: exchange.events(list_of_tools, exchange.text("mine"))
    remote.behaviours["GET"] = lambda exchange: exchange.events(list_of_tools)
    remote.behaviours["notifications/initialized"] = lambda exchange: exchange.events(list_of_tools)
    laptop, _ = relayed.enrol("remote")
    assert [said["id"] for said in events_of(laptop.relay("remote", call("get_item")))] == [1]
    assert events_of(laptop.send("GET", "/mcp/remote")) == []
    assert events_of(laptop.relay("remote", {"jsonrpc": "2.0", "method": "notifications/initialized"})) == []


@pytest.mark.parametrize(
    "more",
    [
        {"error": {"code": 1, "message": "x"}},
        {"Result": {"tools": [{"name": "drop_everything"}]}},
    ],
)
def test_an_answer_that_two_could_read_differently_does_not_pass(
    relayed: Served, remote: Remote, more: dict[str, object]
) -> None:
    remote.behaviours["tools/list"] = lambda exchange: exchange.json({**exchange.result({"tools": []}), **more})
    laptop, _ = relayed.enrol("remote")
    answer = laptop.relay("remote", request("tools/list"))
    assert answer.json["error"]["data"]["code"] == "upstream.message"


def test_a_list_that_two_could_read_differently_is_not_shown(relayed: Served, remote: Remote) -> None:
    answer = b'{"jsonrpc":"2.0","id":1,"result":{"tools":[{"name":"get_item","name":"drop_everything"}]}}'
    remote.behaviours["tools/list"] = lambda exchange: exchange.json(answer)
    laptop, _ = relayed.enrol("remote")
    assert laptop.relay("remote", request("tools/list")).json["error"]["data"]["code"] == "upstream.message"


@pytest.mark.parametrize("resumed", [False, True], ids=["at once", "resumed"])
def test_an_answer_that_asks_for_the_clients_model_is_refused_unless_the_entry_allows_it(
    relayed: Served, remote: Remote, resumed: bool
) -> None:
    asked = {"a": {"method": "sampling/createMessage"}, "b": {"method": "roots/list"}}
    said = {"jsonrpc": "2.0", "id": 1, "result": {"resultType": "input_required", "inputRequests": asked}}
    remote.behaviours["get_item"] = lambda exchange: exchange.events(said)
    if resumed:
        remote.behaviours["get_item"] = lambda exchange: exchange.events("", ids=True)
        remote.behaviours["GET"] = lambda exchange: exchange.events(said)
    relayed.add_server(f"sampling{resumed}", entry(remote.url, more="sampling = true"), CANARY)

    def answered(server: str) -> tuple[dict[str, Any], str]:
        """What the client is told, and the grant's only call."""
        laptop, _ = relayed.enrol(server)
        session = opened(laptop, server)
        answer = laptop.relay(server, call("get_item"), session)
        if resumed:
            place = {"Last-Event-ID": first_id(answer)}
            answer = laptop.send("GET", wire.PATH_RELAY + server, more={**session, **place})
        row = settled(laptop, "done" if server != "remote" else "refused")
        return events_of(answer)[-1], str(row["call"])

    assert answered(f"sampling{resumed}")[0] == said
    refused, refused_call = answered("remote")
    assert refused["result"]["content"][0]["text"].endswith("[server.sampling]")
    story = relayed.administrator.administer("GET", f"/v1/admin/calls/{refused_call}")["entries"]
    assert story[-1]["observed"] == {"sampling/createMessage": 1, "roots/list": 1}


def test_a_subscription_is_settled_when_it_begins(relayed: Served, remote: Remote) -> None:
    """It lasts as long as the client likes, so no deadline may call its outcome unknown."""

    def listening(exchange: Exchange) -> None:
        exchange.head(200, "text/event-stream", {})
        exchange.until_the_client_leaves()

    remote.behaviours["subscriptions/listen"] = listening
    laptop, _ = relayed.enrol("remote", tools=["*"], resources=["*"])
    listen = request("subscriptions/listen", {"notifications": {"resourceSubscriptions": ["file:///a"]}})
    with begun(laptop, "POST", listen) as stream:
        assert stream.readline() == b": still here\n"
        settled(laptop, "done")
    assert remote.gone.wait(20)
    assert laptop.log()[0]["outcome"] == "done"


def test_the_rest_of_a_calls_answer_has_the_calls_own_deadline(relayed: Served, remote: Remote) -> None:
    def broken_off(exchange: Exchange) -> None:
        exchange.head(200, "text/event-stream", {})
        exchange.write(b"id: event-1\ndata:\n\n")

    def hanging(exchange: Exchange) -> None:
        exchange.remote.released.wait(20)

    remote.behaviours |= {"get_item": broken_off, "GET": hanging}
    laptop, _ = relayed.enrol("hasty")
    session = opened(laptop, "hasty")
    place = {"Last-Event-ID": first_id(laptop.relay("hasty", call("get_item"), session))}
    answer = laptop.send("GET", "/mcp/hasty", more={**place, **session})
    assert (answer.status, answer.code) == (403, "call.deadline")
    settled(laptop, "unknown")
    remote.released.set()


def test_a_message_longer_than_any_is_refused_before_it_is_looked_at(relayed: Served, remote: Remote) -> None:
    laptop, _ = relayed.enrol("remote")
    body = json.dumps(call("get_item", {"text": "x" * wire.MAX_FRAME_BYTES})).encode()
    assert laptop.relay("remote", body).code == "request.size"
    assert not remote.seen


def test_a_key_for_the_query_goes_there_and_nowhere_else(relayed: Served, remote: Remote) -> None:
    key = "a key/with&what=a#query+needs%20escaped"
    slot = '[[key.slot]]\nquery = "api_key"'
    text = f'[server]\ntitle = "x"\ndelivery = "relay"\nurl = "{remote.url}/mcp?v=1"\n{slot}'
    relayed.add_server("queried", text, key)
    laptop, _ = relayed.enrol("queried")

    def echoing(exchange: Exchange) -> None:
        exchange.json(exchange.text(f"{exchange.path} {exchange.query['api_key']}"))

    remote.behaviours["get_item"] = echoing
    remote.anyone = True
    answer = laptop.relay("queried", call("get_item"))
    (seen,) = remote.seen
    assert seen.path == "/mcp?v=1&api_key=a%20key%2Fwith%26what%3Da%23query%2Bneeds%2520escaped"
    assert "authorization" not in {name.lower() for name in seen.headers}
    said = answer.json["result"]["content"][0]["text"]
    assert said.startswith("/mcp?v=1&api_key=***")
    assert key not in said
    assert refusal_code(laptop.relay("queried", call("delete_item"))) == "grant.tool"


def test_a_slot_that_the_url_fills_already_is_no_entry(relayed: Served) -> None:
    text = '[server]\ntitle = "x"\ndelivery = "relay"\nurl = "https://mcp.example/?api_key=1"\n'
    text += '[[key.slot]]\nquery = "api_key"\n'
    answer = relayed.administrator.send(
        "POST", "/v1/admin/servers", json.dumps({"name": "twice", "entry": text, "secret": "long enough"}).encode()
    )
    assert (answer.status, answer.code) == (400, "entry.invalid")


def test_one_grant_has_so_much_under_way_at_a_server_and_others_have_theirs(relayed: Served, remote: Remote) -> None:
    def open_end(exchange: Exchange) -> None:
        exchange.head(200, "text/event-stream", {})
        exchange.write(b": here\n\n")
        remote.released.wait(30)

    remote.behaviours["GET"] = open_end
    laptop, _ = relayed.enrol("remote")
    other, _ = relayed.enrol("remote")
    with contextlib.ExitStack() as stack:
        for _ in range(256):
            stack.enter_context(begun(laptop, "GET"))
        assert refusal_code(laptop.relay("remote", call("get_item"))) == "relay.many"
        assert other.relay("remote", call("get_item")).json["result"]["isError"] is False
        remote.released.set()
    settled(laptop, "failed")
