"""Sealed secrets: each bound to its row, none readable without its key, all wrapped anew by a rotation."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from harness.keeping import keep
from percall_broker.model.errors import Conflict, NotFound, Unavailable
from percall_broker.vault import KeyFolder, Vault

if TYPE_CHECKING:
    from pathlib import Path

    from percall_broker.store import Store

pytestmark = pytest.mark.anyio
CANARY = b"canary-secret-of-the-upstream"


@pytest.fixture
def keys(tmp_path: Path) -> KeyFolder:
    folder = KeyFolder(tmp_path / "keys")
    folder.add()
    return folder


async def test_a_secret_comes_back_and_is_nowhere_on_the_disk(store: Store, keys: KeyFolder, tmp_path: Path) -> None:
    vault = Vault(store, keys)
    await keep(store, vault, "github", 1, CANARY)
    assert await vault.unseal("github", 1) == CANARY
    assert await Vault(store, KeyFolder(tmp_path / "keys")).unseal("github", 1) == CANARY
    for path in tmp_path.rglob("*"):
        assert path.is_dir() or CANARY not in path.read_bytes()
    assert "canary" not in repr(await vault.sealing("x", 1, CANARY))
    assert "canary" not in repr(vault._unwrapped)


async def test_versions_stand_beside_one_another_and_none_is_overwritten(store: Store, keys: KeyFolder) -> None:
    vault = Vault(store, keys)
    await keep(store, vault, "github", 1, b"old")
    await keep(store, vault, "github", 2, b"new")
    assert not await keep(store, vault, "github", 1, b"other")
    assert [await vault.unseal("github", 1), await vault.unseal("github", 2)] == [b"old", b"new"]
    with pytest.raises(NotFound):
        await vault.unseal("github", 3)


async def test_sealed_bytes_moved_to_another_row_do_not_open(store: Store, keys: KeyFolder, tmp_path: Path) -> None:
    vault = Vault(store, keys)
    await keep(store, vault, "github", 1, CANARY)
    await keep(store, vault, "other", 1, b"mine")
    with closing(sqlite3.connect(tmp_path / "store.db")) as thief, thief:
        thief.execute(
            "UPDATE secrets SET (sealed, wrapped_key) ="
            " (SELECT sealed, wrapped_key FROM secrets WHERE name = 'github') WHERE name = 'other'"
        )
    with pytest.raises(Unavailable) as caught:
        await vault.unseal("other", 1)
    assert caught.value.code == "secret.seal"


async def test_a_rotation_wraps_everything_anew_while_secrets_are_used(
    store: Store, keys: KeyFolder, tmp_path: Path
) -> None:
    serving = Vault(store, keys)
    for number in range(20):
        await keep(store, serving, f"s{number}", 1, CANARY + str(number).encode())
    elsewhere = Vault(store, KeyFolder(tmp_path / "keys"))
    sealing = asyncio.gather(*(keep(store, serving, f"late{number}", 1, CANARY) for number in range(5)))
    name, wrapped, former = await elsewhere.rotate()
    await sealing
    assert (name, former) == ("kek-0002", ["kek-0001"])
    assert wrapped >= 20
    (tmp_path / "keys" / "kek-0001.key").unlink()  # which backups made until now need, and nothing else
    fresh = Vault(store, KeyFolder(tmp_path / "keys"))
    for vault in (serving, fresh):
        assert [await vault.unseal(f"s{n}", 1) for n in range(20)] == [CANARY + str(n).encode() for n in range(20)]
        assert await vault.unseal("late4", 1) == CANARY


async def test_a_rotation_that_has_other_keys_than_the_store_makes_and_deletes_nothing(
    store: Store, keys: KeyFolder, tmp_path: Path
) -> None:
    """As where the settings name another source than the broker's: its keys may bear the same names."""
    await keep(store, Vault(store, keys), "github", 1, CANARY)
    others = KeyFolder(tmp_path / "others")
    for made in (0, 1, 3):  # none, one of the same name, older and newer ones
        while len(others.names() if (tmp_path / "others").exists() else []) < made:
            others.add()
        with pytest.raises(Unavailable) as caught:
            await Vault(store, KeyFolder(tmp_path / "others")).rotate()
        assert caught.value.code == ("secret.seal" if made else "keys.missing")
        assert len(others.names() if (tmp_path / "others").exists() else []) == made
    assert await Vault(store, KeyFolder(tmp_path / "keys")).unseal("github", 1) == CANARY


async def test_a_rotation_to_keys_that_somebody_else_makes_says_where_there_is_no_new_one(
    store: Store, keys: KeyFolder, tmp_path: Path
) -> None:
    given = KeyFolder(tmp_path / "keys", is_given=True)
    await keep(store, Vault(store, given), "github", 1, CANARY)
    with pytest.raises(Conflict) as caught:
        await Vault(store, given).rotate()
    assert caught.value.code == "keys.same"
    keys.add()
    assert await Vault(store, KeyFolder(tmp_path / "keys", is_given=True)).rotate() == ("kek-0002", 1, ["kek-0001"])


async def test_the_brokers_own_keys_are_made_once(store: Store, keys: KeyFolder) -> None:
    replicas = [Vault(store, keys) for _ in range(5)]
    made = await asyncio.gather(*(vault.own_key("signing") for vault in replicas))
    assert len(set(made)) == 1
    assert len(made[0]) == 32
    assert await replicas[0].own_key("nonce") != made[0]


async def test_a_key_that_others_may_read_is_refused(store: Store, keys: KeyFolder, tmp_path: Path) -> None:
    path = tmp_path / "keys" / "kek-0001.key"
    assert path.stat().st_mode & 0o777 == 0o600
    path.chmod(0o640)
    with pytest.raises(Unavailable) as caught:
        await keep(store, Vault(store, keys), "github", 1, CANARY)
    assert caught.value.code == "keys.mode"


async def test_missing_and_damaged_keys_say_so(store: Store, keys: KeyFolder, tmp_path: Path) -> None:
    await keep(store, Vault(store, keys), "github", 1, CANARY)
    path = tmp_path / "keys" / "kek-0001.key"
    path.write_text("short")
    with pytest.raises(Unavailable) as damaged:
        await Vault(store, KeyFolder(tmp_path / "keys")).unseal("github", 1)
    path.unlink()
    with pytest.raises(Unavailable) as missing:
        await Vault(store, KeyFolder(tmp_path / "keys")).unseal("github", 1)
    with pytest.raises(Unavailable) as nothing:
        await KeyFolder(tmp_path / "nowhere").newest()
    assert missing.value.message == f"There is no key kek-0001 in {tmp_path / 'keys'}."
    assert [c.value.code for c in (damaged, missing, nothing)] == ["keys.damaged", "keys.missing", "keys.missing"]
