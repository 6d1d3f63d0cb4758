"""A source that comes and goes: what is kept works on, what is not is refused, and nothing asks in vain."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from harness.keeping import keep
from percall_broker.model.errors import Unavailable
from percall_broker.store import Store, open_store
from percall_broker.vault import KeyFolder, Sealed, Vault

if TYPE_CHECKING:
    from pathlib import Path

    from percall_broker.vault.sources import Wrapped

pytestmark = pytest.mark.anyio
SECRET = b"a key of an upstream"
MANY = 10_000


class Far(KeyFolder):
    """Keys that are asked for across a network: it may be down, and it counts what it is asked."""

    is_down = False
    asked = 0

    async def unwrap(self, wrapped: Wrapped, context: bytes) -> bytes:
        self.asked += 1
        await asyncio.sleep(0)
        if self.is_down:
            raise Sealed("keys.source_down", "The key source at https://vault.internal does not answer.", "Unseal it.")
        return await super().unwrap(wrapped, context)


class Clock:
    """The monotonic clock that the vault sees."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def source(tmp_path: Path) -> Far:
    far = Far(tmp_path / "keys")
    far.add()
    return far


@pytest.fixture
def clock() -> Clock:
    return Clock()


async def settle() -> None:
    """Lets what nobody waits for come to its end."""
    for _ in range(10):
        await asyncio.sleep(0)


@pytest.mark.parametrize("kept_seconds", [0, 0.05])
async def test_a_data_key_that_nobody_asks_for_any_more_is_let_go_of_in_time(
    store: Store, source: Far, kept_seconds: float
) -> None:
    vault = Vault(store, source, kept_seconds=kept_seconds)
    await keep(store, vault, "github", 1, SECRET)
    await vault.unseal("github", 1)
    async with asyncio.timeout(5):
        while vault._unwrapped:  # noqa: ASYNC110 - until its time is over
            await asyncio.sleep(0)


async def test_a_running_broker_goes_on_for_as_long_as_it_may_keep_data_keys(
    store: Store, source: Far, clock: Clock
) -> None:
    vault = Vault(store, source, kept_seconds=100, clock=clock)
    await keep(store, vault, "github", 1, SECRET)
    await keep(store, vault, "other", 1, SECRET)
    assert await vault.unseal("github", 1) == SECRET
    source.is_down = True
    clock.now += 60  # past half: it asks anew, in vain, and does not wait for it
    assert await vault.unseal("github", 1) == SECRET
    await settle()
    assert vault.source_failure is not None
    asked = source.asked
    assert await vault.unseal("github", 1) == SECRET
    await settle()
    assert source.asked == asked, "not at every call"
    with pytest.raises(Sealed):
        await vault.unseal("other", 1)
    clock.now += 41
    with pytest.raises(Sealed):
        await vault.unseal("github", 1)
    source.is_down = False
    assert await vault.unseal("github", 1) == SECRET
    assert vault.source_failure is None
    await vault.close()


async def test_who_calls_is_not_told_where_the_source_is_and_who_operates_is(store: Store, source: Far) -> None:
    vault = Vault(store, source)
    await keep(store, vault, "github", 1, SECRET)
    source.is_down = True
    with pytest.raises(Unavailable) as told:
        await vault.unseal_for_call("github", 1)
    assert told.value.code == "keys.source_down"
    assert "internal" not in told.value.message + told.value.next_step
    assert vault.source_failure is not None
    assert "vault.internal" in vault.source_failure.message
    source.is_down = False
    assert await vault.unseal_for_call("github", 1) == SECRET
    await vault.close()


async def test_a_secret_in_use_is_renewed_before_its_data_key_ends(store: Store, source: Far, clock: Clock) -> None:
    vault = Vault(store, source, kept_seconds=100, clock=clock)
    await keep(store, vault, "github", 1, SECRET)
    for _ in range(5):
        assert await vault.unseal("github", 1) == SECRET
        await settle()
        clock.now += 60
    source.is_down = True
    clock.now -= 20  # 40 s after the last renewal
    assert await vault.unseal("github", 1) == SECRET
    await vault.close()


async def test_many_who_wait_for_one_secret_ask_once(store: Store, source: Far) -> None:
    vault = Vault(store, source)
    await keep(store, vault, "github", 1, SECRET)
    assert set(await asyncio.gather(*(vault.unseal("github", 1) for _ in range(50)))) == {SECRET}
    assert source.asked == 1
    await vault.close()


async def test_nothing_is_kept_where_nothing_may_be(store: Store, source: Far) -> None:
    vault = Vault(store, source, kept_seconds=0)
    await keep(store, vault, "github", 1, SECRET)
    assert await vault.unseal("github", 1) == await vault.unseal("github", 1) == SECRET
    assert source.asked == 2
    source.is_down = True
    with pytest.raises(Sealed):
        await vault.unseal("github", 1)
    await vault.close()


async def test_ten_thousand_secrets_are_wrapped_anew_while_they_are_used_and_none_fails(
    store: Store, source: Far, tmp_path: Path
) -> None:
    serving = Vault(store, source, kept_seconds=0)  # each use asks for its key
    for first in range(0, MANY, 500):
        sealed = [await serving.sealing(f"s{number}", 1, SECRET) for number in range(first, first + 500)]
        assert await store.transact(*sealed) is not None
    elsewhere = await open_store(tmp_path / "store.db")
    rotating = Vault(elsewhere, KeyFolder(tmp_path / "keys"))
    done = asyncio.ensure_future(rotating.rotate())
    used = 0
    while not done.done():
        assert await serving.unseal(f"s{(used * 7919) % MANY}", 1) == SECRET
        used += 1
    assert await done == ("kek-0002", MANY, ["kek-0001"])
    assert used > 100
    (tmp_path / "keys" / "kek-0001.key").unlink()
    fresh = Vault(store, KeyFolder(tmp_path / "keys"))
    for number in (0, 1, MANY // 2, MANY - 1):
        assert await fresh.unseal(f"s{number}", 1) == SECRET
    await elsewhere.close()
