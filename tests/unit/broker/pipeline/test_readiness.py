"""Readiness: each thing that does not hold is named by its code."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from functools import partial
from typing import TYPE_CHECKING

from percall_broker.model.errors import Unavailable
from percall_broker.pipeline.readiness import Readiness
from percall_broker.pipeline.replicas import Replicas
from percall_broker.store import check_schema, migrate, open_store
from percall_broker.vault import KeyFolder, Vault

if TYPE_CHECKING:
    from pathlib import Path


def test_keys_that_do_not_open_and_a_schema_of_another_version_are_named(tmp_path: Path) -> None:
    async def story() -> None:
        await migrate(tmp_path / "store")
        store = await open_store(tmp_path / "store")
        try:
            replicas = Replicas(store, "http://127.0.0.1")
            check = partial(check_schema, store)
            KeyFolder(tmp_path / "keys").add()
            assert await Readiness(replicas.beat, check, Vault(store, KeyFolder(tmp_path / "keys"))).problems() == {}
            assert [row["id"] for row in await replicas.alive()] == [replicas.own_id]

            with closing(sqlite3.connect(tmp_path / "store")) as other, other:
                other.execute("INSERT INTO migrations VALUES (9999, 'of a newer version')")
            empty = Vault(store, KeyFolder(tmp_path / "elsewhere"))
            found = await Readiness(replicas.beat, check, empty).problems()
            assert found == {"schema": "store.newer", "keys": "keys.missing"}
            await replicas.leave()
            assert await replicas.alive() == []
        finally:
            await store.close()

    asyncio.run(story())


def test_it_is_looked_at_once_however_many_ask(tmp_path: Path) -> None:
    looks = []

    async def beat() -> None:
        looks.append(1)
        raise Unavailable("store.full", "The disk is full.")

    async def fine() -> None:
        pass

    async def story() -> None:
        await migrate(tmp_path / "store")
        store = await open_store(tmp_path / "store")
        KeyFolder(tmp_path / "keys").add()
        readiness = Readiness(beat, fine, Vault(store, KeyFolder(tmp_path / "keys")))
        answers = await asyncio.gather(*(readiness.problems() for _ in range(50)))
        assert answers == [{"store": "store.full"}] * 50
        assert len(looks) == 1
        await store.close()

    asyncio.run(story())
