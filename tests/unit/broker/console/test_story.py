"""A call's story and its arguments, as a page shows them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from percall_broker.console import story

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(JSON)
def test_arguments_with_line_breaks_are_the_same_arguments(value: Any) -> None:
    text = json.dumps(value)
    assert json.loads(story.arguments_of(text).pretty) == value
    assert story.arguments_of(text).text == text


@pytest.mark.parametrize("number", ["1e2", "1.00000000000000000001", "-0", "1E400", "123456789012345678901234567890"])
def test_numbers_are_shown_as_they_were_written(number: str) -> None:
    assert number in story.arguments_of(f'{{"amount":{number}}}').pretty


def test_an_escape_is_shown_as_what_it_stands_for() -> None:
    assert story.arguments_of('{"tool":"\\u0064elete"}').pretty == '{\n  "tool": "delete"\n}'


@pytest.mark.parametrize("text", ["", "{", "not json", "[" * 100_000])
def test_what_is_no_json_is_shown_as_it_is(text: str) -> None:
    assert story.arguments_of(text).pretty == text


def entry(kind: str, **members: Any) -> dict[str, Any]:
    who = {"grant_id": "g", "person": "alice", "agent": "a", "device": "d", "server": "s", "time_ms": 1000}
    return {"kind": kind, **who, **members}


def test_a_story_goes_from_the_decision_to_the_outcome() -> None:
    decided = entry("call", method="tools/call", tool="t", decision="permit", reason="grant.tool", policies=[])
    requested = entry(
        "request", method="GET", url="https://x/y", decision="forbid", reason="request.rule", time_ms=1007
    )
    ended = entry("outcome", outcome="failed", duration_ms=9, observed={}, time_ms=1010)
    told = story.of([decided, requested, ended])
    assert [step.title for step in told.steps] == ["Permitted", "API request refused", "Failed"]
    assert [step.after_ms for step in told.steps] == [0, 7, 10]
    assert (told.outcome, told.duration_ms) == ("failed", 9)


@pytest.mark.parametrize(
    ("members", "words"),
    [({}, "with the key."), ({"keyed": False}, "without the key: it stood in no slot of the entry.")],
)
def test_a_request_without_the_key_is_not_told_as_one_with_it(members: dict[str, Any], words: str) -> None:
    decided = entry("call", method="tools/call", tool="t", decision="permit", reason="grant.tool", policies=[])
    requested = entry("request", method="GET", url="https://x/y", decision="permit", reason="request.rule", **members)
    assert story.of([decided, requested]).steps[1].words == f"GET https://x/y went out {words}"


@pytest.mark.parametrize(("decision", "outcome"), [("forbid", "refused"), ("ask", "asked"), ("permit", "")])
def test_without_an_outcome_the_decision_says_how_it_stands(decision: str, outcome: str) -> None:
    decided = entry("call", method="tools/call", tool="t", decision=decision, reason="r", policies=[])
    assert story.of([decided]).outcome == outcome


def test_an_entry_of_a_kind_that_comes_later_is_shown_too() -> None:
    decided = entry("call", method="tools/call", tool="t", decision="permit", reason="r", policies=[])
    told = story.of([decided, entry("novelty", reason="something.new")])
    assert told.steps[1].words == "something.new"
