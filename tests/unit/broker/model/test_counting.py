"""Numbers as sentences have them."""

from __future__ import annotations

import pytest

from percall_broker.model.counting import counted, lasting


def test_one_is_singular_and_everything_else_is_not() -> None:
    assert [counted(number, "grant") for number in (0, 1, 2)] == ["0 grants", "1 grant", "2 grants"]
    assert counted(0, "person", "people") == "0 people"


@pytest.mark.parametrize(
    ("seconds", "told"),
    [(7200, "2 hours"), (3600, "1 hour"), (5400, "90 minutes"), (604_800, "7 days"), (61, "61 seconds")],
)
def test_a_span_is_told_whole(seconds: int, told: str) -> None:
    assert lasting(seconds) == told
