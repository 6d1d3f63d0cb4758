"""What a broker answers is kept for what was asked, and touches no other broker's grants."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from percall import home, wire
from percall.errors import WireError
from percall.identity import Identity, keyrings
from percall.identity.enrolment import accepted, keep

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
        )
    assert caught.value.code == "broker.stranger"
    assert home.login("g_1") == first
    assert home.session("g_1") is None


def test_a_launch_is_accepted_by_who_shows_it_and_not_by_keeping_its_grant(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A broker that answers with a good grant and then with nonsense would have it accepted, and nobody told."""
    monkeypatch.setenv("PERCALL_HOME", str(tmp_path / "percall"))
    (tmp_path / "passphrase").write_text("a passphrase for the tests\n")
    (tmp_path / "passphrase").chmod(0o600)
    monkeypatch.setenv("PERCALL_PASSPHRASE_FILE", str(tmp_path / "passphrase"))
    keyring = keyrings.keyring("file")
    keyring.prepare()
    login = home.Login("g_1", "https://broker.example", "default", "alice", "laptop", "file", 1)
    entry = wire.ServerEntry("keyed", 1, "none", "A server", ("run-me",))
    servers = (wire.GrantedServer(entry, ("*",)),)
    session = wire.Session("g_1", "alice", "default", "laptop", "active", 0, False, 1, servers)
    done = keep(login, wire.Enrolled("a.b.c", session), Identity(bytes(32), "a.b.c", ""), keyring, reused_key=False)
    assert home.trust(login.broker, "keyed") is None
    assert accepted(done).trusted == ("keyed",)
    home.require_trust(login.broker, entry)
