"""What templates print: hidden characters of others' texts are named, and what is ours is as it is meant."""

from __future__ import annotations

import pytest

from percall_broker.console import rendering


def replayed(calls: int, changed: list[dict[str, object]]) -> str:
    return rendering.page("part_replayed.html", found={"changed": changed, "calls": calls, "complete": True}, most=100)


@pytest.mark.parametrize(
    ("count", "shown"), [(0, "0"), (999, "999"), (1019, "1\u2009019"), (12345678, "12\u2009345\u2009678")]
)
def test_thousands_stand_apart_and_nothing_in_a_count_is_named_as_hidden(count: int, shown: str) -> None:
    assert f"</strong> of {shown} calls" in replayed(count, [])


def test_a_space_that_is_not_seen_as_one_is_named_in_what_others_wrote() -> None:
    row = {"call": "c", "server": "s", "tool": "a\u2009b", "person": "p", "time": "2025-01-01T00:00:00.000Z"}
    page = replayed(1, [{**row, "was": "permit", "would_be": "forbid", "policies": []}])
    assert "a⟨U+2009⟩b" in page
