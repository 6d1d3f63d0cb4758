"""Key-encryption keys in files: the newest is a whole key, whatever stopped the making of another."""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from harness.limits import full_disk
from percall_broker.crypto import sodium
from percall_broker.model.errors import Conflict, Unavailable
from percall_broker.vault.sources import KeyFolder

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.anyio


async def test_a_full_disk_leaves_the_key_that_was_the_newest(tmp_path: Path) -> None:
    keys = KeyFolder(tmp_path / "keys")
    keys.add()
    with pytest.raises(Unavailable) as caught, full_disk():
        await keys.rotate()
    assert caught.value.code == "keys.write"
    assert os.listdir(tmp_path / "keys") == ["kek-0001.key"]  # noqa: PTH208 - hidden ones too
    assert await keys.newest() == "kek-0001"
    assert await keys.rotate() == "kek-0002"
    wrapped = await keys.wrap(b"k" * sodium.KEY_BYTES, b"row 1")
    assert (wrapped.key, (tmp_path / "keys" / "kek-0002.key").stat().st_mode & 0o777) == ("kek-0002", 0o600)


def test_a_key_takes_no_other_ones_place_however_many_are_made_at_once(tmp_path: Path) -> None:
    refused = 0
    with ThreadPoolExecutor(8) as pool:
        while not refused:
            barrier = threading.Barrier(8)

            def make(barrier: threading.Barrier = barrier) -> str:
                barrier.wait()
                try:
                    return KeyFolder(tmp_path / "keys").add()
                except Conflict as error:
                    return error.code

            before = {path: path.read_bytes() for path in (tmp_path / "keys").glob("*")}
            made = list(pool.map(lambda make: make(), [make] * 8))
            refused = made.count("keys.rotating")
            names = [name for name in made if name != "keys.rotating"]
            assert len(set(names)) == len(names) > 0
            after = {path: path.read_bytes() for path in (tmp_path / "keys").glob("*")}
            assert before.items() <= after.items()
            assert len(after) == len(before) + len(names)
            assert len(set(after.values())) == len(after)
