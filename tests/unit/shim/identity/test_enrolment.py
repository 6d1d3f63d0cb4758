"""What a broker answers is kept for what was asked, and touches no other broker's grants."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from percall import home, wire
from percall.errors import WireError
from percall.identity import Identity, keyrings
from percall.identity.enrolment import keep

if TYPE_CHECKING:
    from pathlib import Path


def test_a_grant_of_another_broker_s_is_not_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PERCALL_HOME", str(tmp_path / "percall"))
    first = home.Login("g_1", "https://first.example", "default", "alice", "laptop", "file", 1)
    home.save_login(first)
    second = home.Login("g_1", "https://second.example", "default", "mallory", "laptop", "file", 2)
    session = wire.Session("g_1", "mallory", "default", "laptop", "active", 0, False, 1, ())
    with pytest.raises(WireError) as caught:
        keep(
            second,
            wire.Enrolled("a.b.c", session),
            Identity(bytes(32), "a.b.c", ""),
            keyrings.keyring("file"),
            reused_key=False,
            accept=True,
        )
    assert caught.value.code == "broker.stranger"
    assert home.login("g_1") == first
    assert home.session("g_1") is None
