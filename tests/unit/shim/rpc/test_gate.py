"""Which requests are gated, and which entries of a list the grant shows."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from percall.rpc import gate


@dataclass(frozen=True)
class Granted:
    tools: tuple[str, ...] = ()
    prompts: tuple[str, ...] = ()
    resources: tuple[str, ...] = ()


@pytest.mark.parametrize(
    ("method", "gated"),
    [
        ("tools/call", True), ("resources/read", True), ("prompts/get", True), ("completion/complete", True),
        ("resources/subscribe", True), ("subscriptions/listen", True), ("tasks/get", True), ("tasks/list", True),
        ("tasks/of/a/later/revision", True), ("tools/list", False), ("initialize", False), ("ping", False),
        ("resources/unsubscribe", False), ("resources/templates/list", False), ("tasks", False),
    ],
)  # fmt: skip
def test_a_method_is_gated_where_it_uses_what_a_grant_names(method: str, gated: bool) -> None:
    assert gate.is_gated(method) == gated


def test_a_pattern_is_no_regular_expression() -> None:
    assert gate.matches("get_*", "get_item")
    assert gate.matches("*", "any\nthing")
    assert not gate.matches("get.item", "get_item")
    assert not gate.matches("get_*", "forget_item")


@given(st.text("ab*", max_size=9), st.text("ab", max_size=9))
def test_a_pattern_covers_what_a_shells_would(pattern: str, name: str) -> None:
    assert gate.matches(pattern, name) is fnmatchcase(name, pattern)


def test_a_name_that_nearly_fits_a_pattern_of_many_stars_is_refused_at_once() -> None:
    assert not gate.matches("/*" * 12 + "/b", "/" * 1000)
    assert not gate.matches("*a" * 20 + "b", "a" * 1000)


@pytest.mark.parametrize(("method", "member"), gate.LISTS.items())
def test_a_list_shows_what_the_grant_names_of_it_and_nothing_else(method: str, member: str) -> None:
    named = "uri" if member == "resources" else "name"
    other = "name" if named == "uri" else "uri"
    items: list[Any] = [{named: "get_a"}, {named: "put_a"}, {named: 1}, {other: "get_b"}, "get_c", None]
    answer = {member: items, "nextCursor": "n"}
    granted = Granted(**{member: ("get_*",)})
    assert gate.filter_list(method, answer, granted) == {member: items[:1], "nextCursor": "n"}
    assert answer[member] is items, "the answer is left as it came"
    assert gate.filter_list(method, {member: items[:1]}, granted) is None
    others = Granted(*(() if name == member else ("*",) for name in ("tools", "prompts", "resources")))
    for nothing in (others, None):
        assert gate.filter_list(method, answer, nothing) == {member: [], "nextCursor": "n"}


def test_templates_are_shown_to_who_may_read_any_resource() -> None:
    answer = {"resourceTemplates": [{"uriTemplate": "file:///{a}"}]}
    assert gate.filter_list("resources/templates/list", answer, Granted(resources=("file:///a",))) is None
    for nothing in (Granted(tools=("*",), prompts=("*",)), None):
        assert gate.filter_list("resources/templates/list", answer, nothing) == {"resourceTemplates": []}


@pytest.mark.parametrize(
    "result", [None, [], "tools", {"tools": {"name": "a"}}, {"other": 1}, {"resourceTemplates": 1}]
)
def test_what_is_no_list_is_left_as_it_is(result: Any) -> None:
    for method in gate.LIST_METHODS:
        assert gate.filter_list(method, result, None) is None


def test_a_list_made_for_one_grant_is_kept_for_no_other() -> None:
    shared = {"tools": [], "cacheScope": "shared"}
    assert gate.filter_list("tools/list", shared, None) == {"tools": [], "cacheScope": "private"}
    assert gate.filter_list("tools/list", {"tools": [], "cacheScope": "private"}, None) is None


@pytest.mark.parametrize(
    ("result", "methods"),
    [
        ({"inputRequests": {"a": {"method": "roots/list"}, "b": {"method": "elicitation/create"}}},
         ["roots/list", "elicitation/create"]),
        ({"inputRequests": [{"method": "sampling/createMessage"}, 1, None]}, ["sampling/createMessage"]),
        ({"inputRequests": [{}, {"method": ["roots/list"]}]}, ["None", "['roots/list']"]),
        ({"inputRequests": "roots/list"}, []), ({"inputRequests": None}, []), ({}, []), (None, []), ([], []),
    ],
)  # fmt: skip
def test_a_result_asks_the_client_for(result: Any, methods: list[str]) -> None:
    assert gate.requested_by_server(result) == methods
