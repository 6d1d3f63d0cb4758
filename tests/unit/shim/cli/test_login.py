"""What a login says: all that it accepts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from percall import home, wire
from percall.cli.login import tell_what_waited
from percall.home import Login
from percall.identity.enrolment import Enrolment

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

BROKER = "https://percall.example.com"


def test_an_entry_without_a_command_is_accepted_with_its_variables_in_sight(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`BASH_ENV` or `LD_PRELOAD` decide what runs, whoever names the command."""
    monkeypatch.setenv("PERCALL_HOME", str(tmp_path))
    bare = wire.ServerEntry("bare", 1, "none", "no key", environment={"BASH_ENV": "/tmp/any"})
    session = wire.Session(
        "g_1", "alice", "default", "laptop", "active", 0, administrator=False, version=1,
        servers=(wire.GrantedServer(bare),),
    )  # fmt: skip
    login = Login("g_1", BROKER, "default", "alice", "laptop", keyring="os", created_at=0, backend="a.Keyring")
    tell_what_waited([Enrolment(login, session, reused_key=False)])
    told = capsys.readouterr().out
    assert home.is_trusted(home.trust(BROKER, "bare"), bare)
    assert "accepted on first sight: (none: it stands in the client's config)" in told
    assert "environment  BASH_ENV=/tmp/any" in told
