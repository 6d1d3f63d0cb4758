"""A secret in a store, on its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from percall_broker.store import Store
    from percall_broker.vault.vault import Vault


async def keep(store: Store, vault: Vault, name: str, version: int, secret: bytes) -> bool:
    """Whether it is kept now: a version that exists stands."""
    return await store.transact(await vault.sealing(name, version, secret)) is not None
