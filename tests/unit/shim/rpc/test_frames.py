"""Frames are cut and looked at; events are cut from their stream."""

from __future__ import annotations

import json
from typing import Any

import pytest

from percall import wire
from percall.errors import FrameError, WireError
from percall.rpc import frames, refusals
from percall.run import trace
from percall.run.sse import EventParser


def test_a_line_that_is_too_long_is_dropped_whole_and_the_next_one_is_not() -> None:
    reader = frames.LineReader(10)
    assert reader.feed(b"x" * 8) == []
    assert reader.feed(b"yyyy") == []
    assert reader.feed(b"zz\nnext\n") == [None, b"next"]
    assert reader.dropped_head == b"x" * 8 + b"yyyy"
    assert reader.dropped_tail == b"x" * 8 + b"yyyyzz"
    assert reader.feed_eof() == []


def test_the_last_line_needs_no_line_end() -> None:
    reader = frames.LineReader(10)
    assert reader.feed(b"a\nb") == [b"a"]
    assert reader.feed_eof() == [b"b"]


@pytest.mark.parametrize(
    "line",
    [
        b'{"\xc5\xbfearch":1,"METHOD":"x"}',
        b'{"jsonrpc":"2.0","method":"x","params":{"nam\\u0065":1,"NAME":2}}',
        b'{"method":"x","task\\u0049d":1,"params":{"TASKID":1}}',
        b'{"param\xc5\xbf":{}}',
        b'{"method":7}',
        b'{"method":\r"x"}',
        b"\xef\xbb\xbf{}",
        b'"text"',
    ],
)
def test_frames_that_servers_could_read_otherwise_are_refused(line: bytes) -> None:
    with pytest.raises(FrameError):
        frames.client_frame(line)


@pytest.mark.parametrize(
    ("line", "code", "number"),
    [
        (b"{", "frame.syntax", frames.PARSE_ERROR),
        (b'{"a":"\xff"}', "frame.utf8", frames.PARSE_ERROR),
        (b"[]", "frame.batch", frames.INVALID_REQUEST),
        (b'[{"method":"ping"}]', "frame.batch", frames.INVALID_REQUEST),
        (b'"text"', "frame.object", frames.INVALID_REQUEST),
        (b'{"method":7}', "frame.method", frames.INVALID_REQUEST),
        (b'{"method":"x"}\r', "frame.return", frames.INVALID_REQUEST),
    ],
)
def test_a_refused_frame_says_which_rule_it_breaks(line: bytes, code: str, number: int) -> None:
    with pytest.raises(FrameError) as refused:
        frames.client_frame(line)
    assert (refused.value.code, frames.error_code(refused.value)) == (code, number)


def test_an_answer_has_a_result_or_an_error() -> None:
    for answer in ({"id": 1, "result": {}}, {"id": 1, "error": {}}):
        assert frames.only_reading(answer) is answer
    others: list[Any] = [[], "result", {"id": 1, "result": {}, "error": {}}]
    for other in others:
        with pytest.raises(FrameError):
            frames.only_reading(other)


def test_a_client_says_who_it_is_in_either_era() -> None:
    info = {"name": "Cursor", "version": "1.0"}
    assert frames.client_info({"method": "initialize", "params": {"clientInfo": info}}) == "Cursor 1.0"
    modern = {"method": "tools/call", "params": {"_meta": {frames.CLIENT_INFO: info}}}
    assert frames.client_info(modern) == "Cursor 1.0"
    assert frames.client_info({"method": "initialize", "params": modern["params"]}) == "Cursor 1.0"
    assert frames.client_info({"method": "tools/call", "params": {"clientInfo": info}}) == ""
    odds: list[dict[str, Any]] = [{}, {"params": []}, {"method": "initialize", "params": {"clientInfo": "Cursor"}}]
    for odd in odds:
        assert frames.client_info(odd) == ""
    named = {"method": "initialize", "params": {"clientInfo": {"name": "x" * 300, "version": 1}}}
    assert frames.client_info(named) == "x" * 200


@pytest.mark.parametrize(
    "name",
    ["name", "arguments", "uri", "ref", "argument", "task", "taskId", "requestId", "_meta", "cursor"],
)
def test_a_parameter_that_a_server_could_take_for_one_that_is_decided_on_is_refused(name: str) -> None:
    frame = {"jsonrpc": "2.0", "id": 1, "method": "x", "params": {name: {}}}
    assert frames.client_frame(json.dumps(frame).encode()) == frame
    with pytest.raises(FrameError):
        frames.client_frame(json.dumps(frame | {"params": {name.upper(): {}}}).encode())


@pytest.mark.parametrize(
    "line",
    [
        b'{"id":1,"method":"sampling/createMessage","method":"ping"}',
        b'{"id":1,"method":"ping","METHOD":"sampling/createMessage"}',
        b'{"id":1,"method":"ping","result":{}}',
        b'{"id":1,"method":"ping","error":{}}',
        b'{"id":1,"method":7}',
        b'{"id":1,"ID":2,"result":{}}',
        b'{"id":1,"result":{},"Method":"sampling/createMessage"}',
        b"[]",
        b"{",
    ],
)
def test_what_a_server_says_in_two_ways_does_not_reach_the_client(line: bytes) -> None:
    assert frames.server_frame(line) is None


@pytest.mark.parametrize(
    ("line", "hides"),
    [
        (b'{"id":1,"result":{"inputRequests":{},"inputRequests":{}}}', True),
        (b'{"id":1,"result":{"input\\u0052equests":{},"input\\u0052equests":{}}}', True),
        (b'{"id":1,"result":{"inputRequests":{}},"RESULT":{}}', True),
        (b'{"id":1,"result":{"inputRequests":{}},"error":{}}', True),
        (b'{"id":1,"result":{"inputRequests":"\\ud800"},"error":{}}', True),
        (b'{"id":1,"result":{"inputRequests":"\\ud800"}}', False),
        (b'{"id":1,"result":{"inputRequests":{}}}', False),
        (b'{"id":1,"result":{"a":1,"a":2}}', False),
    ],
)
def test_an_answer_that_may_hide_what_it_asks_is_told_from_one_that_is_only_odd(line: bytes, *, hides: bool) -> None:
    assert frames.may_hide_a_request(line) is hides


@pytest.mark.parametrize(
    ("head", "tail", "key"),
    [
        (b'{"jsonrpc":"2.0","id":7,"result":{', b'"id":5}}', (7,)),
        (b'{ "id" : "x" , "result":{', b"}}", "x"),
        (b'{"result":{"content":[{"id":5,', b'"id":5}]},"jsonrpc":"2.0","id":7}\r', (7,)),
        (b'{"result":{"id":5,', b'}, "id": 7, "jsonrpc": "2.0" }', (7,)),
        (b'{"result":{"id":5,', b'"id":5}}', None),
        (b'{"jsonrpc":"2.0","id":7,"method":"roots/list","params":{', b"}}", None),
        (b'{"id":7,"result":{', b'},"id":8}', None),
        (b'{"id":007,"result":{', b"}}", None),
        (b'{"id":"a\\u0062","result":{', b"}}", None),
    ],
)
def test_whose_answer_was_dropped_is_told_by_its_ends(head: bytes, tail: bytes, key: object) -> None:
    assert frames.id_of_dropped(head, tail) == key


def test_one_is_one_id_however_it_is_written_and_true_is_none() -> None:
    assert frames.id_key(1) == frames.id_key(1.0) == frames.id_key("1")
    assert len({frames.id_key(text) for text in ("1", "01", "1.0", " 1", "+1", "\u0661", "1" * 16)}) == 7
    assert frames.id_key("1" * 15) == (int("1" * 15),)
    assert [frames.id_key(text) for text in ("1" * 16, "\u00b2", "")] == ["1" * 16, "\u00b2", ""]
    assert frames.id_key(True) is None
    assert frames.id_key(float("inf")) is None
    assert frames.id_key(float("nan")) is None
    assert frames.id_key(10**400) is None, "no float has it"
    assert frames.id_key(-(10**400)) is None
    assert frames.id_key(10**200) == (10**200,)
    assert frames.id_key(None) is None


def test_refusal_codes_are_outside_what_json_rpc_reserves() -> None:
    assert not -32768 <= refusals.REFUSED <= -32000


def test_a_refusal_answers_no_id_that_is_none_and_is_complete_where_results_say_so() -> None:
    refusal = wire.Refusal("frame.uri", "No.")
    assert json.loads(refusals.error_line(True, refusals.REFUSED, refusal))["id"] is None
    call: dict[str, object] = {"id": 1, "method": "tools/call", "params": {}}
    assert "resultType" not in json.loads(refusals.answer(call, refusal))["result"]
    modern = call | {"params": {"_meta": {frames.MODERN: "2026-07-28"}}}
    assert json.loads(refusals.answer(modern, refusal))["result"]["resultType"] == "complete"


def test_a_method_that_a_revision_has_removed_is_refused_in_its_words() -> None:
    frame = {"id": 1, "method": "resources/subscribe", "params": {"_meta": {frames.MODERN: "2026-07-28"}}}
    refusal = wire.Refusal("frame.uri", "No.")
    assert json.loads(refusals.answer(frame, refusal))["error"]["code"] == -32601
    assert json.loads(refusals.answer(frame | {"params": {}}, refusal))["error"]["code"] == refusals.REFUSED


def test_events_are_cut_across_any_borders() -> None:
    stream = b": hello\n\nevent: nonce\r\ndata: a\ndata: b\n\ndata:c\n\nevent: lost\n\n"
    for size in (1, 2, 7, len(stream)):
        parser = EventParser(100)
        events = [e for at in range(0, len(stream), size) for e in parser.feed(stream[at : at + size])]
        assert [(event.kind, event.data) for event in events] == [("nonce", b"a\nb"), ("message", b"c")]


def test_an_event_says_where_to_go_on_and_when() -> None:
    (primed, full) = EventParser(100).feed(b"id: 7\nretry: 1500\ndata:\n\nid: 8\ndata: x\n\n:\n\n")
    assert (primed.id, primed.retry, primed.data) == ("7", 1.5, b"")
    assert (full.id, full.retry, full.data) == ("8", None, b"x")


def test_an_endless_event_is_refused() -> None:
    for endless in (b"data: " + b"x" * 101, b"data: x\n" * 101):
        with pytest.raises(WireError):
            EventParser(100).feed(endless)


SPAN = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


@pytest.mark.parametrize(
    "value", ["", 7, None, [SPAN], SPAN[:-1], SPAN + "0", SPAN[:-2] + "\r\n", SPAN[:-1] + "\u0661"]
)
def test_what_is_no_traceparent_is_as_none(value: object) -> None:
    assert frames.traceparent({"params": {"_meta": {"traceparent": value}}}) is None


def test_a_request_s_own_traceparent_counts_before_the_environment_s(monkeypatch: pytest.MonkeyPatch) -> None:
    other = SPAN.replace("4bf9", "0000")
    frame = {"params": {"_meta": {"traceparent": SPAN}}}
    assert frames.traceparent(frame) == SPAN
    assert trace.parent({}) is None
    monkeypatch.setenv("TRACEPARENT", other)
    assert trace.parent(frame) == SPAN
    assert trace.parent({"params": []}) == other
    monkeypatch.setenv("TRACEPARENT", "x\r\nHost: evil")
    assert trace.parent({}) is None


@pytest.mark.parametrize(
    ("head", "tail", "frame_id"),
    [
        (b'{"jsonrpc":"2.0","id":"7","method":"tools/call","params":[[', b"]]}", "7"),
        (b'{"method":"tools/call","params":{"id":5,', b'"id":5},"jsonrpc":"2.0","id":7}\r', 7),
        (b'{ "jsonrpc" : "2.0" , "method":"tools/call", "id":-7, "params":{', b"}}", -7),
        (b'{"params":{"id":5,', b'}, "method":"x", "id":7 }', 7),
        (b'{"id":7,"method":"x","params":{', b'},"id":7}', 7),
        (b'{"id":7,"method":"x","params":{', b'},"id":8}', None),
        (b'{"id":7,"result":{"method":"x",', b"}}", None),
        (b'{"result":{', b'},"jsonrpc":"2.0","id":7}', None),
        (b'{"method":"x","params":{"id":5,', b'"id":5}}', None),
        (b'{"id":"a\\u0062","method":"x","params":{', b"}}", None),
        (b'{"x":[\r{"id":7,"method":"x","params":{', b"}}\r]}", None),
    ],
)
def test_a_refused_request_is_answered_under_the_id_that_stands_at_its_ends(
    head: bytes, tail: bytes, frame_id: object
) -> None:
    for code in ("frame.long", "frame.nesting", "frame.number", "frame.return", "frame.surrogate", "frame.values"):
        assert frames.id_of_refused(FrameError(code, ""), head, tail) == frame_id
    for code in ("frame.batch", "frame.case", "frame.duplicate", "frame.syntax", "frame.utf8"):
        assert frames.id_of_refused(FrameError(code, ""), head, tail) is None


def test_of_a_list_only_the_entries_with_half_a_character_are_left_out() -> None:
    line = b'{"id":1,"result":{"tools":[{"name":"a"},{"name":"b","x":["\\ud83d"]},{"\\ude00":1}],"nextCursor":"c"}}'
    read, written = frames.list_answer(line)
    assert read == json.loads(written) == {"id": 1, "result": {"tools": [{"name": "a"}], "nextCursor": "c"}}
    whole = b'{"id":1, "result":{"tools":[{"name":"\\ud83d\\ude00"}]}}'
    assert frames.list_answer(whole) == (json.loads(whole), whole)
    for other in (
        b'{"result":{"nextCursor":"\\ud83d"}}',
        b'{"result":"\\ud83d"}',
        b'["\\ud83d"]',
        b'{"result":{"tools":["\\ud83d"],"tools":[]}}',
    ):
        with pytest.raises(WireError):
            frames.list_answer(other)
