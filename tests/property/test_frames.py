"""Whatever a client sends: what passes the strict pass has one meaning, and lines survive any cut."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from percall.errors import FrameError
from percall.rpc import frames

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)


@given(st.lists(st.binary(max_size=30).map(lambda b: b.replace(b"\n", b"")), max_size=8), st.integers(1, 9))
def test_lines_are_cut_the_same_however_they_arrive(lines: list[bytes], size: int) -> None:
    stream = b"".join(line + b"\n" for line in lines)
    reader = frames.LineReader(20)
    found = [line for at in range(0, len(stream), size) for line in reader.feed(stream[at : at + size])]
    assert found == [line if len(line) <= 20 else None for line in lines]


@given(json_values, st.booleans())
def test_a_frame_that_passes_reads_as_it_was_written(value: Any, escaped: bool) -> None:
    frame = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"arguments": value}}
    line = json.dumps(frame, ensure_ascii=escaped).encode()
    assert frames.client_frame(line) == frame
    assert frames.server_frame(line) == frame


@given(st.binary(max_size=200))
def test_bytes_are_a_frame_or_a_frame_error(line: bytes) -> None:
    with suppress(FrameError):
        assert frames.client_frame(line) == json.loads(line)


@given(st.text(max_size=20))
def test_members_that_fold_into_known_ones_are_refused(name: str) -> None:
    line = json.dumps({"jsonrpc": "2.0", name: 1}).encode()
    known = ("jsonrpc", "id", "method", "params", "result", "error")
    looks_alike = name.casefold() in known and name not in known
    if looks_alike or name == "method":
        with pytest.raises(FrameError):
            frames.client_frame(line)
    else:
        frames.client_frame(line)
