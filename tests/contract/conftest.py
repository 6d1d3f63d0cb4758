"""Both engines, real ones: a file in a temporary folder, and a PostgreSQL server of our own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from harness import database
from harness.statements import SEEDS, seeds
from percall_broker.store import Statement, Store, migrate, open_store

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def postgresql() -> Iterator[str]:
    """The URL of a server that lives as long as the tests."""
    with database.postgresql() as location:
        yield location


@pytest.fixture(params=["sqlite", "postgresql"])
def location(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where a fresh, empty store may be made."""
    if request.param == "sqlite":
        return str(tmp_path / "store.db")
    url: str = request.getfixturevalue("postgresql")
    return database.new(url)


@pytest.fixture
async def store(location: str) -> AsyncIterator[Store]:
    """A store with a person, a device, an active grant `g` and a server `github`."""
    await migrate(location)
    store = await open_store(location, SEEDS)
    await store.transact(*seeds())
    yield store
    await store.close()


@pytest.fixture
async def leads(store: Store) -> Store:
    """The store with a group `leads`, which Lea is in."""
    await store.transact(
        Statement("add_person", {"name": "lea", "created_at": 1}),
        Statement("add_group", {"name": "leads", "created_at": 1}),
        Statement("add_member", {"group_name": "leads", "person": "lea", "id": "m", "created_at": 1}, required=True),
    )
    return store
