"""Both engines, real ones: a file in a temporary folder, and a PostgreSQL server of our own."""

from __future__ import annotations

import asyncio
import shutil
from typing import TYPE_CHECKING

import pytest

from harness import database
from harness.statements import SEEDS, seeds
from percall_broker.store import Statement, Store, migrate, open_store

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


@pytest.fixture(scope="session")
def made_of() -> dict[str, str]:
    """A store with its schema and nothing else, by its engine: made once, for its copies."""
    return {}


@pytest.fixture(params=["sqlite", "postgresql"])
def location(
    request: pytest.FixtureRequest, made_of: dict[str, str], tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> str:
    """Where a fresh, empty store may be made; for a test that wants `store`, where it is."""
    engine: str = request.param
    server: str = request.getfixturevalue("postgresql") if engine == "postgresql" else ""
    path = tmp_path / "store.db"
    if "store" not in request.fixturenames:
        return database.new(server) if server else str(path)
    if engine not in made_of:
        made_of[engine] = database.new(server) if server else str(tmp_path_factory.mktemp("made") / "store.db")
        asyncio.run(migrate(made_of[engine]))
    if server:
        return database.new(server, like=made_of[engine])
    shutil.copy(made_of[engine], path)
    return str(path)


@pytest.fixture
async def store(location: str) -> AsyncIterator[Store]:
    """A store with a person, a device, an active grant `g` and a server `github`."""
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
