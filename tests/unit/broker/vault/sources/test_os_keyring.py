"""The system's keyring as a source: a real Secret Service, asked in a helper process."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

WITH_KEYRING = Path(__file__).parents[4] / "with_keyring.sh"
SCRIPT = """
import asyncio, pathlib, sys
from percall_broker.vault.sources.os_keyring import KeyringKeys

async def main():
    first = KeyringKeys(pathlib.Path(sys.argv[1]))
    assert await first.rotate() == "keyring:kek-0001"
    old = await first.wrap(b"k" * 32, b"c")
    assert await first.rotate() == "keyring:kek-0002" == await first.newest()
    later = KeyringKeys(pathlib.Path(sys.argv[1]))
    new = await later.wrap(b"k" * 32, b"c")
    assert new.key == "keyring:kek-0002"
    assert [await later.unwrap(wrapped, b"c") for wrapped in (old, new)] == [b"k" * 32] * 2
    print("kept", await KeyringKeys(pathlib.Path("/another/broker"))._read("newest"))

asyncio.run(main())
"""


@pytest.mark.keyring
@pytest.mark.skipif(
    not shutil.which("gnome-keyring-daemon") or not shutil.which("dbus-run-session"), reason="no Secret Service here"
)
def test_keys_are_kept_in_a_real_secret_service_for_each_broker_apart(tmp_path: Path) -> None:
    done = subprocess.run(
        [str(WITH_KEYRING), sys.executable, "-c", SCRIPT, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
        env={"PATH": "/usr/bin:/bin", "HOME": str(tmp_path)},
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "kept None"


def test_a_machine_without_a_keyring_says_so(tmp_path: Path) -> None:
    script = """
import asyncio, pathlib
from percall_broker.vault import Sealed
from percall_broker.vault.sources.os_keyring import KeyringKeys
try:
    asyncio.run(KeyringKeys(pathlib.Path("/b")).newest())
except Sealed as error:
    print(error.code)
"""
    environment = {
        "HOME": str(tmp_path),
        "PATH": "/usr/bin:/bin",
        "PYTHON_KEYRING_BACKEND": "keyring.backends.null.Keyring",
    }
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False, env=environment
    )
    assert done.stdout.strip() == "keyring.refused", done.stderr
