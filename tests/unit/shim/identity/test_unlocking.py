"""The keyring file's key in the kernel's keyring: who finds it, and for how long."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from harness.processes import wait_for
from harness.sealing import sealed
from percall import home
from percall.errors import IdentityError
from percall.identity import kernel_keyring, keyring_file, unlocking

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PASSPHRASE = b"correct horse battery"
ITEM = '{"seed":"c2VjcmV0","token":"a.b.c"}'

pytestmark = pytest.mark.skipif(not kernel_keyring.is_there(), reason="no kernel keyring here")


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("PERCALL_HOME", str(tmp_path / "percall"))
    for number, grant in enumerate(("g1", "g2")):
        sealed(grant, ITEM, PASSPHRASE)
        home.save_login(home.Login(grant, "https://b", "default", "alice", "laptop", "file", number))
    yield
    unlocking.lock()


def nobody() -> bytes:
    raise AssertionError("nobody is asked")


def test_what_is_unlocked_opens_without_a_passphrase_until_it_is_locked() -> None:
    until = unlocking.unlock(PASSPHRASE, 60)
    for grant in ("g1", "g2"):
        assert unlocking.unlocked_until(grant) == until
        key = unlocking.opened(keyring_file.lock_of(grant), "", nobody)
        assert keyring_file.unseal(grant, key) == ITEM
    assert unlocking.lock() == 2
    assert unlocking.unlocked_until("g1") == 0
    assert unlocking.lock() == 0


def test_the_kernel_ends_it_by_itself() -> None:
    unlocking.unlock(PASSPHRASE, 1)
    wait_for(lambda: unlocking.unlocked_until("g1") == 0, "the kernel's time-out")


def test_what_is_past_its_time_opens_nothing_though_the_kernel_still_has_it() -> None:
    """As where its keeper was killed before it had told the kernel how long."""
    kernel_keyring.keep("late", b"k" * 32, 3600)
    payload = b"k" * 32 + (1000).to_bytes(8, "big")
    place = (kernel_keyring._TYPE, b"late", payload, ctypes.c_size_t(len(payload)), kernel_keyring._USER_KEYRING)
    kernel_keyring._add_key(*place)
    assert kernel_keyring._found("late"), "the kernel has it"
    assert kernel_keyring.find("late") is None
    assert not kernel_keyring.forget("late"), "it is gone"


def test_a_wrong_passphrase_unlocks_nothing() -> None:
    with pytest.raises(IdentityError) as caught:
        unlocking.unlock(b"another passphrase", 60)
    assert caught.value.code == "keyring.passphrase"
    assert unlocking.unlocked_until("g1") == 0


def test_a_process_of_another_session_finds_it() -> None:
    """As one of cron, or of a desktop: in a session keyring of its own that is not linked to the user's."""
    unlocking.unlock(PASSPHRASE, 60)
    program = """
import ctypes, sys
from percall.identity import kernel_keyring, keyring_file
number = kernel_keyring._SYSTEM_CALLS[__import__("platform").machine()][1]
assert ctypes.CDLL(None).syscall(number, 1, None) > 0  # KEYCTL_JOIN_SESSION_KEYRING
print(kernel_keyring.find(keyring_file.lock_of("g1").name) is not None)
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        start_new_session=True,
        capture_output=True,
        text=True,
        check=True,
        env=os.environ,
    )
    assert done.stdout.strip() == "True"


def test_the_kernel_is_given_a_key_and_never_the_passphrase() -> None:
    unlocking.unlock(PASSPHRASE, 60)
    lock = keyring_file.lock_of("g1")
    kept = kernel_keyring.find(lock.name)
    assert kept is not None
    assert kept.key == lock.key(PASSPHRASE)
    assert PASSPHRASE not in kept.key
    assert "key" not in repr(kept).replace("Kept", "")
