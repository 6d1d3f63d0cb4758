"""A message that is held: the same bytes from memory and from a file, and a full disk is told where it is met."""

from __future__ import annotations

import resource

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.limits import limited
from percall_broker.held import Held
from percall_broker.model.errors import Unavailable

sizes = st.lists(st.integers(0, 300), max_size=6)


@given(sizes, st.integers(0, 400), st.integers(1, 100))
def test_what_was_added_comes_back_whole_and_in_pieces_wherever_it_is_kept(
    added: list[int], start: int, size: int
) -> None:
    pieces = [bytes([number]) * length for number, length in enumerate(added)]
    said = b"".join(pieces)
    with Held("a test", memory_bytes=200) as held:
        for piece in pieces:
            held.add(piece)
        assert (held.size, held.is_long) == (len(said), len(said) > 200)
        assert held.whole() == said
        assert held.whole(start) == said[start:]
        assert held.beginning(size) == said[:size]
        found = list(held.pieces(start, size))
        assert b"".join(found) == said[start:]
        assert all(len(piece) == size for piece in found[:-1])
        held.replace(b"else")
        assert (held.size, held.whole()) == (4, b"else")


@pytest.mark.parametrize("room", [0, 150, 250])
def test_a_full_disk_is_told_while_bytes_are_added_and_never_later(room: int) -> None:
    with limited(resource.RLIMIT_FSIZE, room), Held("the test's message", memory_bytes=100) as held:
        held.add(b"x" * 100)
        with pytest.raises(Unavailable, match="no room for the test's message") as caught:
            held.add(b"x" * 300)
        assert caught.value.code == "broker.disk"
