"""An embedded store for secrets."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from percall_broker.store import Store, migrate, open_store

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    await migrate(tmp_path / "store.db")
    store = await open_store(tmp_path / "store.db")
    yield store
    await store.close()
