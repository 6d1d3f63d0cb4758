"""What a frame asks for, and the exact bytes of its arguments."""

from __future__ import annotations

import contextlib
import json

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from percall import wire
from percall_broker.crypto.proofs import digest
from percall_broker.model.errors import InvalidInput
from percall_broker.stages import frame


def test_the_arguments_are_the_very_bytes_that_came() -> None:
    exact = b'{ "b":1.0,\t"a" : "\\u00e9" }'
    read = frame.parse(
        b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"get_a","arguments":' + exact + b"}}"
    )
    assert (read.kind, read.subjects, read.label) == ("tool", ("get_a",), "get_a")
    assert read.arguments == exact
    assert read.digest == digest(exact)


def test_a_call_without_arguments_has_none() -> None:
    read = frame.parse(b'{"method":"tools/call","params":{"name":"get_a"}}')
    assert read.arguments == b""


@pytest.mark.parametrize("arguments", ["[1]", '"text"', "5", "true"])
def test_arguments_that_are_no_object_are_refused(arguments: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        frame.parse(f'{{"method":"tools/call","params":{{"name":"get_a","arguments":{arguments}}}}}'.encode())
    assert refused.value.code == "frame.arguments"


def test_arguments_of_null_are_none() -> None:
    read = frame.parse(b'{"method":"tools/call","params":{"name":"get_a","arguments":null}}')
    assert read.arguments == b"null"


def test_other_requests_are_labelled_by_method_and_subject() -> None:
    read = frame.parse(b'{"method":"resources/read","params":{"uri":"file:///a"}}\n')
    assert read.label == "resources/read file:///a"
    assert read.arguments == b'{"uri":"file:///a"}'


@pytest.mark.parametrize(
    ("method", "params"),
    [
        ("tools/call", '{"name":"get a"}'),
        ("prompts/get", '{"name":"write to me"}'),
        ("completion/complete", '{"ref":{"type":"ref/prompt","name":"write to me"}}'),
        ("completion/complete", '{"ref":{"type":"ref/resource","uri":"file:///a"}}'),
        ("resources/read", '{"uri":"file:///a"}'),
        ("subscriptions/listen", '{"notifications":{"resourceSubscriptions":["file:///a","file:///b"]}}'),
        ("tasks/get", '{"taskId":"t"}'),
        ("tasks/list", "{}"),
    ],
)
def test_what_a_request_was_about_is_read_off_its_label(method: str, params: str) -> None:
    read = frame.parse(f'{{"method":"{method}","params":{params}}}'.encode())
    assert frame.of_label(read.method, read.label) == (read.kind, read.subjects)


@pytest.mark.parametrize(
    "params",
    [
        '{"name":"get_a","Name":"x"}',
        '{"name":"get_a","NAME":"x"}',
        '{"name":"get_a","argument\u017f":{}}',
        '{"name":"get_a","ARGUMENTS":{}}',
        '{"name":"get_a","tasKId":1}',
    ],
)
def test_members_that_a_reader_without_case_would_take_for_others_are_refused(params: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        frame.parse(f'{{"method":"tools/call","params":{params}}}'.encode())
    assert refused.value.code == "frame.case"


LISTENED = "resourceSubscriptions"
LONGEST = "a" * frame.MAX_SUBJECT_CHARACTERS


@pytest.mark.parametrize(
    ("method", "params", "kind", "subjects"),
    [
        pytest.param("tools/call", {"name": LONGEST}, "tool", [LONGEST], id="the longest name"),
        ("prompts/get", {"name": "a"}, "prompt", ["a"]),
        ("resources/read", {"uri": "file:///a"}, "resource", ["file:///a"]),
        ("resources/subscribe", {"uri": "file:///a"}, "resource", ["file:///a"]),
        ("resources/unsubscribe", {"uri": "file:///a"}, "resource", ["file:///a"]),
        ("completion/complete", {"ref": {"type": "ref/prompt", "name": "a"}}, "prompt", ["a"]),
        ("completion/complete", {"ref": {"type": "ref/resource", "uri": "file:///{a}"}}, "resource", ["file:///{a}"]),
        ("subscriptions/listen", {}, "resource", []),
        ("subscriptions/listen", {"notifications": {LISTENED: None}}, "resource", []),
        ("subscriptions/listen", {"notifications": {LISTENED: ["file:///a", "b:c"]}}, "resource", ["file:///a", "b:c"]),
        ("tasks/list", {}, "task", []),
        ("tasks/get", {"taskId": "t"}, "task", ["t"]),
        ("tasks/of/a/later/revision", {"taskId": "t"}, "task", ["t"]),
        ("logging/setLevel", {"name": "a"}, "", []),
    ],
)
def test_each_method_is_about_what_its_parameters_name(
    method: str, params: dict[str, object], kind: str, subjects: list[str]
) -> None:
    read = frame.parse(json.dumps({"method": method, "params": params}).encode())
    assert (read.method, read.kind, read.subjects) == (method, kind, tuple(subjects))


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ('{"method":"tools/call"', "frame.syntax"),
        ("[]", "frame.type"),
        ('[{"method":"tools/list"}]', "frame.type"),
        ("{}", "frame.method"),
        ('{"method":""}', "frame.method"),
        ('{"method":["tools/call"]}', "frame.method"),
        ('{"method":"tools/list","params":null}', "frame.params"),
        ('{"method":"tools/call","params":["get_a"]}', "frame.params"),
        ('{"method":"tools/call"}', "frame.name"),
        ('{"method":"tools/call","params":{"name":1}}', "frame.name"),
        ('{"method":"prompts/get","params":{}}', "frame.name"),
        ('{"method":"resources/subscribe","params":{}}', "frame.uri"),
        ('{"method":"tasks/cancel","params":{}}', "frame.taskId"),
        ('{"method":"completion/complete","params":{}}', "frame.ref"),
        ('{"method":"completion/complete","params":{"ref":["ref/prompt"]}}', "frame.ref"),
        ('{"method":"completion/complete","params":{"ref":{"type":"ref/tool","name":"a"}}}', "frame.ref"),
        ('{"method":"completion/complete","params":{"ref":{"type":"ref/prompt","uri":"a"}}}', "frame.name"),
        ('{"method":"completion/complete","params":{"ref":{"type":"ref/resource","name":"a"}}}', "frame.uri"),
        ('{"method":"subscriptions/listen","params":{"notifications":[]}}', "frame.notifications"),
        ('{"method":"subscriptions/listen","params":{"notifications":null}}', "frame.notifications"),
        *(
            (f'{{"method":"subscriptions/listen","params":{{"notifications":{{"{LISTENED}":{resources}}}}}}}', code)
            for resources, code in (
                ('"file:///a"', "frame.notifications"), ('""', "frame.notifications"), ("{}", "frame.notifications"),
                ("0", "frame.notifications"), ("[1]", "frame.uri"), ('["file:///a","x/../y"]', "frame.uri"),
            )
        ),
        pytest.param(f'{{"method":"{"m" * (frame.MAX_SUBJECT_CHARACTERS + 1)}"}}', "frame.method", id="a long name"),
        pytest.param(" " * wire.MAX_FRAME_BYTES + "{}", "frame.long", id="a long frame"),
    ],
)  # fmt: skip
def test_a_frame_of_another_form_is_refused(text: str, code: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        frame.parse(text.encode())
    assert refused.value.code == code


def test_a_frame_as_long_as_may_be_passes() -> None:
    text = b'{"method":"tools/list"}'
    assert frame.parse(text + b" " * (wire.MAX_FRAME_BYTES - len(text))).kind == ""


@pytest.mark.parametrize("uri", ["file:///a/../b", "file:///a/%2e%2e/b", "file:///a/%252E./b", "file:///a\\..\\b", ""])
def test_a_uri_that_may_lead_elsewhere_is_refused(uri: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        frame.parse(json.dumps({"method": "resources/read", "params": {"uri": uri}}).encode())
    assert refused.value.code == "frame.uri"


@pytest.mark.parametrize(
    ("method", "params", "code"),
    [
        ("tools/call", {"name": "get_a\0"}, "frame.name"),
        ("prompts/get", {"name": "\0"}, "frame.name"),
        ("resources/read", {"uri": "file:///a\0.txt"}, "frame.uri"),
        ("subscriptions/listen", {"notifications": {"resourceSubscriptions": ["file:///a\0"]}}, "frame.uri"),
        ("tasks/get", {"taskId": "1\0"}, "frame.taskId"),
        ("tools/call\0", {"name": "get_a"}, "frame.method"),
    ],
)
def test_a_name_that_ends_sooner_for_some_readers_is_refused(method: str, params: dict[str, object], code: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        frame.parse(json.dumps({"method": method, "params": params}).encode())
    assert refused.value.code == code


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(arguments=st.dictionaries(st.text(), json_values, max_size=4), indent=st.sampled_from([None, 1]))
def test_whatever_the_arguments_their_bytes_are_cut_out_whole(arguments: dict[str, object], indent: int | None) -> None:
    exact = json.dumps(arguments, indent=indent, ensure_ascii=False).encode("utf-8", "surrogatepass")
    message = b'{"method":"tools/call","id":null,"params":{"arguments":' + exact + b',"name":"get_a"}}'
    try:
        read = frame.parse(message)
    except InvalidInput:
        assume(False)  # half of a surrogate pair is no text
    else:
        assert read.arguments == exact


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused_and_nothing_else(data: bytes) -> None:
    with contextlib.suppress(InvalidInput):
        frame.parse(data)
