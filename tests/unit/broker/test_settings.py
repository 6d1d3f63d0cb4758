"""The broker's settings: read whole or refused by name, and no value of them is ever shown."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from percall_broker import settings
from percall_broker.model.errors import BrokerError

if TYPE_CHECKING:
    from pathlib import Path

CANARY = "canary-secret-of-the-client"


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PERCALL_BROKER_HOME", str(tmp_path))
    return tmp_path / settings.FILE


def refused() -> BrokerError:
    with pytest.raises(BrokerError) as caught:
        settings.load()
    assert CANARY not in f"{caught.value.message}{caught.value.next_step}"
    return caught.value


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (b"oidc_groups = {", "is no TOML"),
        (b"oidc_groups = {\n", "line 1"),
        (b"\xff\xfe", "not UTF-8"),
        (b"nope = 1", "nope: there is no such setting."),
        (b"oidc_days = 0", "oidc_days: Input should be greater than or equal to 1."),
        (f'oidc_days = "{CANARY}"'.encode(), "oidc_days: Input should be a valid integer"),
        (b'public_url = "https://a.example/b"', "public_url: 'https://a.example/b' is not an origin: it has a path."),
        (b'trusted_proxies = "300.1.1.1"', "trusted_proxies: '300.1.1.1' is no address or network."),
        (f'database = "host=db password={CANARY}"'.encode(), "database: not a PostgreSQL URL, such as"),
        (f'database = "postgresql+psycopg://u:{CANARY}@db/percall"'.encode(), "database: not a PostgreSQL URL"),
        (b'oidc_issuer = "https://login.example"', "oidc_client_id and oidc_client_secret are needed."),
        (f'oidc_client_secret = ["{CANARY}"]'.encode(), "oidc_client_secret: Input should be a valid string."),
    ],
)
def test_a_mistake_in_the_file_is_named(file: Path, text: bytes, told: str) -> None:
    file.touch(0o600)
    file.write_bytes(text)
    error = refused()
    assert error.code == "settings.form"
    assert error.next_step
    assert told in error.message
    assert ".." not in error.message


def test_a_mistake_in_a_variable_is_named(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PERCALL_BROKER_OIDC_GROUPS", f"{{{CANARY}")
    assert not file.exists()
    error = refused()
    assert error.code == "settings.form"
    assert error.next_step
    assert "oidc_groups" in error.message


def test_what_cannot_be_read_is_told(file: Path) -> None:
    file.mkdir()
    assert refused().code == "settings.read"


@pytest.mark.parametrize("secret", [f'oidc_client_secret = "{CANARY}"', f'database = "postgresql://u:{CANARY}@h/d"'])
def test_a_secret_that_others_may_read_is_not_used(file: Path, secret: str) -> None:
    file.write_text(secret)
    file.chmod(0o640)
    error = refused()
    assert error.code == "settings.mode"
    assert "chmod 600" in error.next_step
    file.chmod(0o600)
    assert CANARY not in repr(settings.load())


def test_what_holds_no_secret_may_be_read_by_all(file: Path) -> None:
    file.write_text("oidc_days = 3")
    file.chmod(0o644)
    assert settings.load().oidc_days == 3


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make what another user cannot read")
def test_root_makes_nothing_in_another_users_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PERCALL_BROKER_HOME", str(tmp_path))
    settings.load()
    os.chown(tmp_path, 65534, -1)
    with pytest.raises(BrokerError) as caught:
        settings.load()
    assert caught.value.code == "settings.owner"
    assert "sudo -u nobody percall-broker" in caught.value.next_step
