"""The certificates that children trust are tried for real: an authority, a leaf, a handshake."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from percall import home, wire
from percall.doctor import machine
from percall.home import Login

if TYPE_CHECKING:
    from pathlib import Path

    from percall.doctor.finding import Finding

ENTRY = wire.ServerEntry("github", 1, "egress", "", ways=("proxy",), hosts=("https://api.example.com",))
LOGIN = Login("g1", "https://b.example", "default", "alice", "laptop", "file", 1)


@pytest.fixture(autouse=True)
def login(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(home.VARIABLE, str(tmp_path))
    granted = (wire.GrantedServer(ENTRY),)
    home.save_session(wire.Session("g1", "alice", "default", "laptop", "active", 0, False, 1, granted))


def found(check: str) -> Finding:
    (one,) = [finding for finding in machine.findings([LOGIN]) if finding.check == check]
    return one


def test_an_authority_that_one_child_trusts_is_made_and_a_handshake_holds() -> None:
    assert found("certificates").state == "ok"


def test_roots_that_no_child_can_read_are_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    roots = tmp_path / "roots.pem"
    roots.write_text("-----BEGIN CERTIFICATE-----\nbroken\n-----END CERTIFICATE-----\n")
    monkeypatch.setenv("SSL_CERT_FILE", str(roots))
    assert found("certificates").code == "egress.certificates"


def test_a_command_that_is_not_on_the_path_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert found("command").code == "command.missing"
    other = tmp_path / "percall"
    other.write_text("#!/bin/sh\necho percall 0.0.1\n")
    other.chmod(0o755)
    assert found("command").code == "command.other"
