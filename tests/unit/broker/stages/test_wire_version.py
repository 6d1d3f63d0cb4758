"""Versions of the wire: what is served, and what either side is told to update."""

from __future__ import annotations

import pytest

from percall import wire
from percall_broker.model.errors import InvalidInput
from percall_broker.stages.authenticate import check_version


def test_our_own_version_and_the_previous_one_are_served() -> None:
    assert wire.VERSION in wire.SERVED
    for version in wire.SERVED:
        check_version(str(version))


@pytest.mark.parametrize(
    ("version", "advice"),
    [
        (str(wire.VERSION + 1), "Update the broker."),
        ("99999999", "Update the broker."),
        ("0", "Update percall on this machine."),
        ("", "Is it percall that asks?"),
        ("one", "Is it percall that asks?"),
        ("-1", "Is it percall that asks?"),
        ("9" * 5000, "Is it percall that asks?"),
        ("\N{ARABIC-INDIC DIGIT ONE}", "Is it percall that asks?"),
    ],
)
def test_a_version_that_is_not_served_says_which_side_to_update(version: str, advice: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        check_version(version)
    assert (caught.value.code, caught.value.next_step) == ("wire.version", advice)
    assert len(caught.value.message) < 200
