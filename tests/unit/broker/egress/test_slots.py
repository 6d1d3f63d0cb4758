"""The key goes into the declared slot, where exactly the placeholder stands, and nowhere else."""

from __future__ import annotations

import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from percall_broker.egress.slots import Outgoing, inject, needs_body
from percall_broker.model.entry import Slot

PLACEHOLDER = "test_PLACEHOLDER0123456789"
KEY = "test_REALkey/with+odd&\"chars='%"
BEARER = Slot("header", "Authorization", "Bearer {key}")
JSON = (("Content-Type", "application/json; charset=utf-8"),)
FORM = (("content-type", "application/x-www-form-urlencoded"),)


def everything(request: Outgoing) -> str:
    return f"{request.headers} {request.query} {request.body!r}"


def basic(username: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{username}:{password}".encode()).decode()


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
def test_a_bearer_slot_takes_its_scheme_in_any_case_of_letters(scheme: str) -> None:
    request = Outgoing((("authorization", f"{scheme} {PLACEHOLDER}"),), None)
    changed, used = inject([BEARER], PLACEHOLDER, KEY, request)
    assert used
    assert changed.headers == (("authorization", f"Bearer {KEY}"),)


def test_the_other_headers_stay_as_they_are_and_where_they_are() -> None:
    around = [("Accept", "a"), ("X-Api-Key", PLACEHOLDER), ("Accept", "b"), ("User-Agent", "c")]
    changed, _ = inject([Slot("header", "x-api-key")], PLACEHOLDER, KEY, Outgoing(tuple(around), None))
    assert changed.headers == (around[0], ("X-Api-Key", KEY), *around[2:])


def test_only_the_schemes_of_authorization_are_taken_in_any_case_of_letters() -> None:
    request = Outgoing((("X-Api-Key", f"token {PLACEHOLDER}"),), None)
    assert not inject([Slot("header", "X-Api-Key", "Token {key}")], PLACEHOLDER, KEY, request)[1]


@pytest.mark.parametrize(
    "value",
    [f"Bearer x{PLACEHOLDER}", f"Bearer {PLACEHOLDER}x", PLACEHOLDER, f"Token {PLACEHOLDER}", "Bearer another", ""],
)
def test_a_header_that_is_not_exactly_the_format_gets_nothing_and_is_not_sent_on(value: str) -> None:
    changed, used = inject([BEARER], PLACEHOLDER, KEY, Outgoing((("Authorization", value), ("Accept", "*/*")), None))
    assert not used
    assert changed.headers == (("Accept", "*/*"),)


def test_a_placeholder_in_another_header_the_query_or_the_body_is_left_as_it_is() -> None:
    request = Outgoing(
        (("X-Trace", PLACEHOLDER), ("User-Agent", PLACEHOLDER)), f"q={PLACEHOLDER}", PLACEHOLDER.encode()
    )
    changed, used = inject([BEARER], PLACEHOLDER, KEY, request)
    assert not used
    assert changed == request


def test_a_slot_header_that_occurs_twice_gets_nothing() -> None:
    header = ("X-Api-Key", PLACEHOLDER)
    changed, used = inject([Slot("header", "X-Api-Key")], PLACEHOLDER, KEY, Outgoing((header, header), None))
    assert (changed.headers, used) == ((), False)


def test_the_callers_own_authorization_does_not_travel_beside_another_slot() -> None:
    headers = (("Authorization", "Bearer somebody-elses"), ("x-api-key", PLACEHOLDER))
    changed, used = inject([Slot("header", "X-Api-Key")], PLACEHOLDER, KEY, Outgoing(headers, None))
    assert used
    assert changed.headers == (("x-api-key", KEY),)


@pytest.mark.parametrize("value", [f"x{PLACEHOLDER}", f"{PLACEHOLDER}x", f"Bearer {PLACEHOLDER}"])
def test_a_header_that_holds_the_placeholder_and_more_gets_nothing(value: str) -> None:
    request = Outgoing((("X-Api-Key", value),), None)
    assert inject([Slot("header", "X-Api-Key")], PLACEHOLDER, KEY, request) == (Outgoing((), None), False)


def test_basic_replaces_the_part_that_it_names_and_only_that() -> None:
    request = Outgoing((("Authorization", basic("ada", PLACEHOLDER)),), None)
    assert inject([Slot("basic", "password")], PLACEHOLDER, KEY, request)[0].headers[0][1] == basic("ada", KEY)
    assert inject([Slot("basic", "username")], PLACEHOLDER, KEY, request) == (Outgoing((), None), False)
    named = Outgoing((("Authorization", basic(PLACEHOLDER, "x")),), None)
    assert inject([Slot("basic", "username")], PLACEHOLDER, KEY, named)[0].headers[0][1] == basic(KEY, "x")
    assert inject([Slot("basic", "password")], PLACEHOLDER, KEY, named) == (Outgoing((), None), False)


@pytest.mark.parametrize(
    "value",
    ["Basic !!!", "Basic " + base64.b64encode(b"nocolon").decode(), "Basic", basic("ada", PLACEHOLDER) + "!"],
)
def test_broken_basic_credentials_get_nothing(value: str) -> None:
    assert not inject([Slot("basic", "password")], PLACEHOLDER, KEY, Outgoing((("Authorization", value),), None))[1]


def test_a_query_parameter_is_replaced_and_its_neighbours_keep_their_bytes() -> None:
    request = Outgoing((), f"a=%41+b&key={PLACEHOLDER}&z={PLACEHOLDER}")
    changed, used = inject([Slot("query", "key")], PLACEHOLDER, "a b&c", request)
    assert used
    assert changed.query == f"a=%41+b&key=a%20b%26c&z={PLACEHOLDER}"


@pytest.mark.parametrize(
    "query", [f"key={PLACEHOLDER}&key=1", f"key=x{PLACEHOLDER}", f"key={PLACEHOLDER}%26", f"KEY={PLACEHOLDER}"]
)
def test_a_query_parameter_that_occurs_twice_or_is_not_the_placeholder_alone_gets_nothing(query: str) -> None:
    assert not inject([Slot("query", "key")], PLACEHOLDER, KEY, Outgoing((), query))[1]


def test_a_json_field_is_replaced_byte_by_byte() -> None:
    body = b'{ "n": 1.0e2, "text": "%s", "auth": {"api_key":"%s"} }'
    body = body.replace(b"%s", PLACEHOLDER.encode())
    changed, used = inject([Slot("json", "/auth/api_key")], PLACEHOLDER, KEY, Outgoing(JSON, None, body))
    assert used
    assert changed.body is not None
    assert json.loads(changed.body)["auth"]["api_key"] == KEY
    assert changed.body.startswith(b'{ "n": 1.0e2, "text": "' + PLACEHOLDER.encode() + b'", ')
    assert changed.body.count(json.dumps(KEY).encode()) == 1


@pytest.mark.parametrize(
    ("pointer", "body", "media"),
    [
        ("/k", '{"k":"PH"}', "application/vnd.api+json"),
        ("/keys/1", '{"keys":["PH","PH"]}', "application/json"),
        ("/k", '{"text":[' + '"PH",' * 15 + '0],"k":"PH"}', "application/json"),
        ("/a~1b/~0", '{"a/b":{"~":"PH"}}', "application/json"),
        ("", '"PH"', "application/json"),
    ],
)
def test_a_json_field_is_found_by_its_pointer(pointer: str, body: str, media: str) -> None:
    request = Outgoing((("content-type", media),), None, body.replace("PH", PLACEHOLDER).encode())
    changed, used = inject([Slot("json", pointer)], PLACEHOLDER, KEY, request)
    assert used
    assert changed.body is not None
    assert changed.body.count(json.dumps(KEY).encode()) == 1


@pytest.mark.parametrize(
    ("pointer", "body"),
    [
        ("/keys/2", '{"keys":["PH","PH"]}'),
        ("/keys/-1", '{"keys":["PH","PH"]}'),
        ("/keys/\u00b2", '{"keys":["0","1","PH"]}'),
        ("/keys/PH", '{"keys":["PH"]}'),
        ("/keys/k", '{"keys":"k","a":"PH"}'),
        ("/keys/0", '{"keys":"PH"}'),
        ("/keys/0", '{"keys":7,"a":"PH"}'),
    ],
)
def test_a_pointer_to_nothing_gets_nothing(pointer: str, body: str) -> None:
    pointer, body = (text.replace("PH", PLACEHOLDER) for text in (pointer, body))
    request = Outgoing(JSON, None, body.encode())
    assert inject([Slot("json", pointer)], PLACEHOLDER, KEY, request) == (request, False)


@pytest.mark.parametrize(("kind", "headers"), [("json", JSON), ("form", FORM)])
def test_a_slot_in_a_body_that_is_not_there_gets_nothing(kind: str, headers: tuple[tuple[str, str], ...]) -> None:
    request = Outgoing(headers, None)
    assert inject([Slot(kind, "/k")], PLACEHOLDER, KEY, request) == (request, False)


def test_the_body_is_needed_where_a_slot_is_in_it() -> None:
    kinds = ("header", "basic", "query", "json", "form")
    assert [kind for kind in kinds if needs_body([BEARER, Slot(kind, "k")])] == ["json", "form"]


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        (JSON, '{"api_key":"x","api_key":"PH"}'),
        (JSON, '{"API_KEY":"PH"}'),
        (JSON, '{"api_key":["PH"]}'),
        (JSON, '{"api_key":"PH "}'),
        (JSON, '{"PH":1}'),
        (JSON, '{"PH":1,"PH":2,"api_key":"PH"}'),
        (JSON, '{"api_key":"PH.1","text":"PH"}'),
        (JSON, '{"text":[' + '"PH",' * 16 + '0],"api_key":"PH"}'),
        (JSON, '{"api_key":"PH"'),
        (FORM, '{"api_key":"PH"}'),
        ((*JSON, ("Content-Encoding", "gzip")), '{"api_key":"PH"}'),
    ],
)
def test_json_that_is_ambiguous_or_holds_the_placeholder_elsewhere_gets_nothing(
    headers: tuple[tuple[str, str], ...], body: str
) -> None:
    request = Outgoing(headers, None, body.replace("PH", PLACEHOLDER).encode())
    assert inject([Slot("json", "/api_key")], PLACEHOLDER, KEY, request) == (request, False)


def test_a_form_field_is_replaced() -> None:
    request = Outgoing(FORM, None, f"token={PLACEHOLDER}&text={PLACEHOLDER}+b".encode())
    changed, used = inject([Slot("form", "token")], PLACEHOLDER, "a b&c", request)
    assert used
    assert changed.body == f"token=a+b%26c&text={PLACEHOLDER}+b".encode()


@pytest.mark.parametrize(
    "headers", [(), JSON, (("content-type", "text/plain"),), (*FORM, ("content-encoding", "gzip"))]
)
def test_a_body_that_is_no_plain_form_gets_nothing(headers: tuple[tuple[str, str], ...]) -> None:
    request = Outgoing(headers, None, f"token={PLACEHOLDER}".encode())
    assert inject([Slot("form", "token")], PLACEHOLDER, KEY, request) == (request, False)


def test_several_slots_are_each_filled() -> None:
    request = Outgoing((*JSON, ("Authorization", f"Bearer {PLACEHOLDER}")), None, f'{{"k":"{PLACEHOLDER}"}}'.encode())
    changed, used = inject([BEARER, Slot("json", "/k")], PLACEHOLDER, KEY, request)
    assert used
    assert everything(changed).count(PLACEHOLDER) == 0


def test_an_empty_placeholder_opens_no_slot() -> None:
    assert not inject([BEARER], "", KEY, Outgoing((("Authorization", "Bearer "),), "key="))[1]


@given(data=st.data())
def test_the_key_stands_only_where_a_slot_was(data: st.DataObject) -> None:
    text = st.sampled_from([PLACEHOLDER, f"Bearer {PLACEHOLDER}", "x", basic(PLACEHOLDER, "p"), f'"{PLACEHOLDER}"'])
    names = st.sampled_from(["Authorization", "X-Api-Key", "Accept", "Content-Type"])
    headers = tuple(data.draw(st.lists(st.tuples(names, text), max_size=4)))
    query = "&".join(f"{name}={value}" for name, value in data.draw(st.lists(st.tuples(names, text), max_size=3)))
    body = data.draw(text).encode()
    changed, used = inject([BEARER], PLACEHOLDER, "REALKEY", Outgoing(headers, query, body))
    assert (changed.query, changed.body) == (query, body)
    places = [name for name, value in changed.headers if "REALKEY" in value]
    assert places == (["Authorization"] if used else [])
