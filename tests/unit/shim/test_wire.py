"""Strict JSON: what it costs to read is bounded before it is read."""

from __future__ import annotations

import dataclasses
import json

import pytest

from percall import wire
from percall.errors import WireError

MOST = wire.MAX_VALUES


@pytest.mark.parametrize(
    "item", [b"1", b"[]", b"{}", b"[[[[]]]]", b'""', b'{"a":0}', b'{"a":"\\""}', b'"\\\\"', b'"]"', b'" \\"] "']
)
def test_more_values_than_anybody_needs_are_refused_however_they_are_written(item: bytes) -> None:
    with pytest.raises(WireError) as refused:
        wire.strict_json(b"[" + b",".join([item] * (MOST + 1)) + b"]")
    assert refused.value.code == "json.values"


def test_as_many_as_are_allowed_are_read() -> None:
    assert wire.strict_json(b"[" + b",".join([b'"1"'] * MOST) + b"]") == ["1"] * MOST
    members = {str(number): "1" for number in range(MOST)}
    assert wire.strict_json(wire.dump(members)) == members


def test_of_one_server_there_is_one_entry() -> None:
    """What is shown, accepted and run is looked up by name."""
    entries = [
        wire.GrantedServer(wire.ServerEntry("github", 1, "none", "no key", command=(program,)))
        for program in ("npx", "sh")
    ]
    session = wire.Session("g_1", "alice", "default", "laptop", "active", 0, administrator=False, version=1)

    def read(*servers: wire.GrantedServer) -> wire.Session:
        sent = wire.dump(wire.encode(dataclasses.replace(session, servers=servers)))
        return wire.decode(wire.Session, wire.strict_json(sent))

    assert read(entries[0]).servers == (entries[0],)
    with pytest.raises(WireError, match="servers"):
        read(*entries)


def test_a_long_text_is_one_value_whatever_it_holds() -> None:
    text = '{"a": [1, 2]}, "\\"\n' * (wire.MAX_FRAME_BYTES // 24)
    assert wire.strict_json(json.dumps({"text": text}).encode()) == {"text": text}
