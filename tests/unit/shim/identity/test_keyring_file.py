"""The keyring file under a passphrase."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from harness.limits import full_disk
from harness.sealing import sealed
from percall.errors import IdentityError, UsageError
from percall.identity import keyring_file, passphrase

if TYPE_CHECKING:
    from pathlib import Path

PASSPHRASE = b"correct horse battery"
ITEM = '{"seed":"c2VjcmV0","token":"a.b.c"}'


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PERCALL_HOME", str(tmp_path / "percall"))
    return tmp_path / "percall"


def code_of(grant: str, passphrase_given: bytes) -> str:
    with pytest.raises(IdentityError) as caught:
        keyring_file.unseal(grant, keyring_file.lock_of(grant).key(passphrase_given))
    return caught.value.code


def test_what_was_sealed_opens_with_the_passphrase_and_lies_encrypted_on_the_disk(place: Path) -> None:
    sealed("g1", ITEM, PASSPHRASE)
    assert keyring_file.unseal("g1", keyring_file.lock_of("g1").key(PASSPHRASE)) == ITEM
    on_disk = (place / "keyring" / "g1.sealed").read_bytes()
    assert b"c2VjcmV0" not in on_disk
    assert b"a.b.c" not in on_disk


def test_sealing_twice_gives_different_bytes(place: Path) -> None:
    sealed("g1", ITEM, PASSPHRASE)
    first = (place / "keyring" / "g1.sealed").read_bytes()
    sealed("g1", ITEM, PASSPHRASE)
    assert (place / "keyring" / "g1.sealed").read_bytes() != first


def test_another_passphrase_does_not_open_it() -> None:
    sealed("g1", ITEM, PASSPHRASE)
    assert code_of("g1", b"another passphrase") == "keyring.passphrase"


def test_a_missing_item_is_named() -> None:
    assert code_of("g1", PASSPHRASE) == "keyring.item_missing"


def test_one_grants_item_does_not_open_in_anothers_place(place: Path) -> None:
    sealed("g1", ITEM, PASSPHRASE)
    (place / "keyring" / "g1.sealed").rename(place / "keyring" / "g2.sealed")
    assert code_of("g2", PASSPHRASE) == "keyring.passphrase"


@pytest.mark.parametrize(
    "change",
    [{"version": 2}, {"passes": 10_000}, {"memory_bytes": 2**40}, {"memory_bytes": 1}, {"salt": "!"}, {"box": "AA=="}],
)
def test_a_changed_file_is_refused_without_burning_time_or_memory(place: Path, change: dict[str, object]) -> None:
    sealed("g1", ITEM, PASSPHRASE)
    path = place / "keyring" / "g1.sealed"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    assert code_of("g1", PASSPHRASE) in {"keyring.damaged", "keyring.passphrase"}


def test_a_passphrase_file_of_ones_own_is_read_without_its_newline(tmp_path: Path) -> None:
    path = tmp_path / "passphrase"
    path.touch(0o600)
    path.write_text("correct horse battery\n")
    assert passphrase.from_file(str(path)) == PASSPHRASE


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644])
def test_a_passphrase_file_that_others_can_read_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "passphrase"
    path.write_text("correct horse battery\n")
    path.chmod(mode)
    with pytest.raises(IdentityError, match="chmod 600") as caught:
        passphrase.from_file(str(path))
    assert caught.value.code == "passphrase.exposed"


def test_a_missing_or_short_passphrase_is_named(tmp_path: Path) -> None:
    with pytest.raises(IdentityError) as caught:
        passphrase.from_file(str(tmp_path / "none"))
    assert caught.value.code == "passphrase.file"
    short = tmp_path / "short"
    short.touch(0o600)
    short.write_text("1234567\n")
    with pytest.raises(IdentityError) as caught:
        passphrase.from_file(str(short))
    assert caught.value.code == "passphrase.short"


def test_a_full_disk_is_named_and_leaves_what_was_there(place: Path) -> None:
    sealed("g1", ITEM, PASSPHRASE)
    with pytest.raises(UsageError) as caught, full_disk():
        sealed("g1", "another", PASSPHRASE)
    assert caught.value.code == "home.write"
    assert keyring_file.unseal("g1", keyring_file.lock_of("g1").key(PASSPHRASE)) == ITEM
    assert [path.name for path in (place / "keyring").iterdir()] == ["g1.sealed"]
