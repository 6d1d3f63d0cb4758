"""Entries are canonical, and arguments open only where they belong."""

from __future__ import annotations

import json
from typing import Any

import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from percall_broker.log import changes
from percall_broker.log.arguments import SealedArguments
from percall_broker.log.canonical import canonical
from percall_broker.model.errors import InvalidInput, Unavailable

values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(st.dictionaries(st.text(), values, max_size=6))
def test_an_entry_is_canonical_json(entry: dict[str, Any]) -> None:
    assert canonical(entry).encode() == rfc8785.dumps(entry)


def test_an_entry_with_half_a_character_is_refused() -> None:
    with pytest.raises(InvalidInput):
        canonical({"tool": "\ud800"})


def test_arguments_open_with_their_call_and_no_other() -> None:
    arguments = SealedArguments(bytes(32))
    sealed = arguments.seal("a", b'{"x": 1}')
    assert b'{"x": 1}' not in sealed
    assert arguments.open("a", sealed) == b'{"x": 1}'
    for other, call, bytes_ in (
        (arguments, "b", sealed),
        (SealedArguments(b"k" * 32), "a", sealed),
        (arguments, "a", sealed[:-1]),
        (arguments, "a", b""),
    ):
        with pytest.raises(Unavailable):
            other.open(call, bytes_)


def test_a_change_made_on_the_brokers_machine_names_no_person() -> None:
    statement = changes.change(None, "keys.rotate", key="kek-0002")
    entry = json.loads(statement.parameters["entry"])
    assert (entry["action"], entry["person"], entry["details"]) == ("keys.rotate", "", {"key": "kek-0002"})
    assert statement.required
