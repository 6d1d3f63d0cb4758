"""Where a key goes, as its owner is told before they give it."""

from __future__ import annotations

import pytest

from percall_broker.model import entry_file
from percall_broker.model.keys import places

SLOT = '[[key.slot]]\nheader = "Authorization"\nformat = "Bearer {key}"\n'
EGRESS = """
[server]
title = "Tracker"
delivery = "egress"
command = ["tracker"]
[key]
placeholder = "trk_{random:24}"
[egress]
ways = ["proxy"]
hosts = ["*.tracker.example"]
[[tool]]
match = ["*"]
requests = ["GET *.tracker.example/**"]
"""
RELAY = """
[server]
title = "Remote"
delivery = "relay"
url = "https://mcp.tracker.example/mcp"
"""


@pytest.mark.parametrize(
    ("text", "origin"), [(EGRESS, "https://api.tracker.example"), (RELAY, "https://mcp.tracker.example")]
)
def test_whatever_stands_in_for_a_host_is_told(text: str, origin: str) -> None:
    plain = places(entry_file.read(text + SLOT))
    assert plain.endswith("(header Authorization)")
    told = places(entry_file.read(text + SLOT, connect={origin: "http://127.0.0.1:9999"}))
    assert told == f"{plain}; http://127.0.0.1:9999 in the place of {origin}"
