"""What adopting would do, and what a person is told to do where it cannot."""

from __future__ import annotations

import json
import shlex
from typing import TYPE_CHECKING

from percall import home, wire
from percall.adoption.plan import Left, plan
from percall.clients.catalogue import client
from percall.clients.scan import CONFIG, Scan

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def test_a_name_that_a_broker_has_chosen_is_one_word_of_a_command_to_be_copied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PERCALL_HOME", str(tmp_path / "home"))
    home.save_login(home.Login("g1", "https://percall.example.com", "other; id", "alice; id", "laptop", "file", 1))
    granted = wire.GrantedServer(wire.ServerEntry("git hub; id", 1, "none", "no key"), tools=("get_*", "it's; id"))
    home.save_session(wire.Session("g1", "alice; id", "other; id", "laptop", "active", 0, False, 1, (granted,)))
    config = tmp_path / "mcp.json"
    entry = {"command": "npx", "args": ["x"], "env": {"GITHUB_TOKEN": "ghp_" + "a1B2" * 9}}
    config.write_text(json.dumps({"mcpServers": {"github": entry}}))
    scan, cursor = Scan(), client("cursor")
    assert cursor is not None
    scan.add_file(cursor, config, CONFIG)
    (left,) = plan(scan, clients=(), names=(), server="git hub; id")
    assert isinstance(left, Left)
    assert left.error.code == "adopt.grant"
    asked, _, other = left.error.next_step.partition("; or use the agent that has one: ")
    create = ["percall-broker", "grant", "create"]
    options = ["alice; id", "--server", "git hub; id", "--agent", "cursor", "--tools", "get_*,it's; id"]
    assert shlex.split(asked.partition(": ")[2]) == [*create, *options]
    assert shlex.split(other) == ["percall", "adopt", "…", "--agent", "other; id"]
