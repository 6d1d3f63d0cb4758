"""The door to remote MCP servers, over signed requests, in front of a server whose every byte is the test's own."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from harness.remote import SESSION, Exchange, Remote
from harness.upstream import CANARY
from integration.relaying import call, events_of, refusal_code, request, settled

if TYPE_CHECKING:
    from integration.conftest import Served


def test_a_permitted_call_goes_out_as_it_came_with_the_key_and_is_settled(relayed: Served, remote: Remote) -> None:
    laptop, _ = relayed.enrol("remote")
    body = b'{"method":"tools/call", "jsonrpc":"2.0",  "id":"a", "params":{"arguments":{"n":1.50},"name":"get_item"}}'
    answer = laptop.relay("remote", body)
    assert answer.status == 200, answer.body
    assert answer.json["result"]["content"][0]["text"] == "tools/call get_item"
    (seen,) = remote.seen
    assert seen.body == body
    assert seen.headers["authorization"] == f"Bearer {CANARY}"
    row = settled(laptop, "done")
    assert (row["call"], row["tool"], row["decision"]) == (answer.headers["percall-call"], "get_item", "permit")


def test_an_unnamed_tool_is_refused_in_words_and_never_leaves(relayed: Served, remote: Remote) -> None:
    laptop, _ = relayed.enrol("remote")
    answer = laptop.relay("remote", call("delete_item"))
    assert refusal_code(answer) == "grant.tool"
    assert not remote.seen
    assert settled(laptop, "refused")["decision"] == "forbid"


def test_another_gated_method_is_refused_with_an_error_outside_the_reserved_codes(
    relayed: Served, remote: Remote
) -> None:
    laptop, _ = relayed.enrol("remote")
    answer = laptop.relay("remote", request("resources/read", {"uri": "file:///x"}))
    assert answer.status == 200
    assert answer.json["error"]["code"] == -31000
    assert answer.json["error"]["data"]["code"] == "grant.resource"
    assert not remote.seen


def test_an_answer_as_events_is_streamed_and_settled(relayed: Served, remote: Remote) -> None:
    def progress(exchange: Exchange) -> None:
        note = {"jsonrpc": "2.0", "method": "notifications/progress", "params": {"progress": 1}}
        exchange.events(note, exchange.text("failed", is_error=True))

    remote.behaviours["get_events"] = progress
    laptop, _ = relayed.enrol("remote")
    answer = laptop.relay("remote", call("get_events"))
    first, second = events_of(answer)
    assert first["method"] == "notifications/progress"
    assert second["result"]["isError"] is True
    settled(laptop, "failed")


def test_the_callers_own_credentials_never_travel_and_the_upstreams_never_come_back(
    relayed: Served, remote: Remote
) -> None:
    def with_cookie(exchange: Exchange) -> None:
        exchange.json(exchange.text("ok"), Set_Cookie="session=1", WWW_Authenticate="Bearer x", Link="<x>")

    remote.behaviours["get_cookie"] = with_cookie
    laptop, _ = relayed.enrol("remote")
    more = {"Cookie": "a=b", "X-Api-Key": "mine", "Percall-Client": "test 1", "X-Forwarded-For": "10.0.0.1"}
    answer = laptop.relay("remote", call("get_cookie"), more)
    names = {name.lower() for name in remote.seen[0].headers}
    assert names == {
        "host",
        "accept",
        "accept-encoding",
        "user-agent",
        "authorization",
        "content-type",
        "content-length",
    }
    assert laptop.token not in json.dumps(remote.seen[0].headers)
    assert not {"set-cookie", "www-authenticate", "link"} & set(answer.headers)
    # Nobody between keeps the answer, nor holds it back until there is more of it.
    assert (answer.headers["cache-control"], answer.headers["x-accel-buffering"]) == ("no-store", "no")


def test_lists_show_what_the_grant_names_and_are_private(relayed: Served, remote: Remote) -> None:
    tools = [{"name": "get_item"}, {"name": "delete_item"}]

    def as_json(exchange: Exchange) -> None:
        exchange.json(exchange.result({"tools": tools, "ttlMs": 5, "cacheScope": "public"}))

    def as_events(exchange: Exchange) -> None:
        exchange.events(exchange.result({"tools": tools, "ttlMs": 5, "cacheScope": "public"}))

    laptop, _ = relayed.enrol("remote")
    for behaviour in (as_json, as_events):
        remote.behaviours["tools/list"] = behaviour
        answer = laptop.relay("remote", request("tools/list"))
        said = answer.json if behaviour is as_json else events_of(answer)[0]
        assert said["result"] == {"tools": [{"name": "get_item"}], "ttlMs": 5, "cacheScope": "private"}
    assert not laptop.log()


def test_an_answer_that_was_cut_in_an_emoji_passes_unchanged_and_hides_nothing(relayed: Served, remote: Remote) -> None:
    laptop, _ = relayed.enrol("remote")

    def answered(**more: Any) -> dict[str, Any]:
        remote.behaviours["get_item"] = lambda exchange: exchange.json(exchange.text("cut \ud83d") | more)
        return dict(laptop.relay("remote", call("get_item")).json)

    assert answered()["result"]["content"][0]["text"] == "cut \ud83d"
    settled(laptop, "done")
    assert "upstream.message" in answered(Method="sampling/createMessage")["result"]["content"][0]["text"]


@pytest.mark.parametrize(("method", "kind"), [("tools/list", "tools"), ("prompts/list", "prompts")])
def test_one_entry_of_a_list_with_half_an_emoji_leaves_the_others(
    relayed: Served, remote: Remote, method: str, kind: str
) -> None:
    listed = [{"name": "get_broken", "description": "\ud83d"}, {"name": "get_item"}]
    remote.behaviours[method] = lambda exchange: exchange.json(exchange.result({kind: listed, "x": 1}))
    laptop, _ = relayed.enrol("remote", tools=["get_*"], prompts=["*"])
    assert laptop.relay("remote", request(method)).json["result"] == {kind: listed[1:], "x": 1}


def test_a_session_is_bound_to_the_grant_that_opened_it(relayed: Served, remote: Remote) -> None:
    laptop, _ = relayed.enrol("remote")
    thief, _ = relayed.enrol("remote")
    opened = laptop.relay("remote", request("initialize", {"protocolVersion": "2025-06-18"}))
    session = opened.headers["mcp-session-id"]
    assert SESSION not in session
    assert laptop.relay("remote", call("get_item"), {"Mcp-Session-Id": session}).status == 200
    assert remote.seen[-1].headers["mcp-session-id"] == SESSION
    remote.seen.clear()
    stolen = thief.relay("remote", call("get_item"), {"Mcp-Session-Id": session})
    assert (stolen.status, stolen.code) == (404, "session.unknown")
    guessed = thief.relay("remote", request("tools/list"), {"Mcp-Session-Id": SESSION})
    assert (guessed.status, guessed.code) == (404, "session.unknown")
    assert not remote.seen


def test_a_key_that_the_server_echoes_is_struck_out(relayed: Served, remote: Remote) -> None:
    remote.behaviours["get_echo"] = lambda exchange: exchange.json(exchange.text(exchange.headers["authorization"]))
    laptop, _ = relayed.enrol("remote")
    answer = laptop.relay("remote", call("get_echo"))
    assert CANARY.encode() not in answer.body
    assert answer.json["result"]["content"][0]["text"] == "Bearer " + "*" * len(CANARY)
