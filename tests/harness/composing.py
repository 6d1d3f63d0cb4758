"""A broker as every one is composed, on a store of its own, without a process around it."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from harness.statements import SEEDS
from percall_broker.compose import Broker, compose
from percall_broker.settings import Settings
from percall_broker.store import migrate, open_store
from percall_broker.vault import KeyFolder, Vault

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


@asynccontextmanager
async def composed(folder: Path, location: str = "") -> AsyncIterator[Broker]:
    """With keys, and where nothing else is said an embedded store, in this folder."""
    location = location or str(folder / "store")
    await migrate(location)
    store = await open_store(location, SEEDS)
    keys = KeyFolder(folder / "keys")
    keys.add()
    vault = Vault(store, keys)
    try:
        yield await compose(store, vault, Settings.model_construct(home=folder), "http://127.0.0.1:8765")
    finally:
        await vault.close()
        await store.close()
