"""Limits of policies, versions of them, and tasks: who counts what, and what is forgotten, on both engines."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from harness.composing import composed
from harness.statements import SEEDS, call, changed, seeds
from percall_broker.model.records import Identity
from percall_broker.pipeline.administration.grants import NewGrant
from percall_broker.store import Statement, open_store

if TYPE_CHECKING:
    from pathlib import Path

    from percall_broker.store import Store

pytestmark = pytest.mark.anyio

WINDOW = {"policy": "p", "person": "alice", "since_ms": 1000, "most": 2}
"""Two uses since then."""


async def uses(store: Store, call: str, time_ms: int, **of: object) -> bool:
    """Whether a call is counted."""
    counting = {**WINDOW, "call": call, "time_ms": time_ms, **of}
    return bool(await changed(store, "use_limit", **counting))


async def test_a_limit_counts_each_persons_own_uses_in_its_time(store: Store) -> None:
    await store.transact(Statement("seed_person", {"name": "bob"}))
    assert await uses(store, "old", 1000), "which is no more in its time"
    assert await uses(store, "other policy", 1001, policy="q")
    assert await uses(store, "other person", 1001, person="bob")
    assert await uses(store, "a", 1001)
    assert await uses(store, "b", 1002)
    assert not await uses(store, "c", 1003)
    read = {name: WINDOW[name] for name in ("policy", "person", "since_ms")}
    assert await store.fetch("read_limit", **read) == [{"uses": 2, "first_ms": 1001}]
    assert await store.fetch("read_limit", **read | {"policy": "none"}) == [{"uses": 0, "first_ms": 0}]
    await changed(store, "forget_limit_uses", before_ms=1002)
    assert await store.fetch("read_limit", **read | {"since_ms": 0}) == [{"uses": 1, "first_ms": 1002}]
    assert await uses(store, "c", 1003)
    for used in (1, 2):
        assert [row["used"] for row in await changed(store, "lock_limit", policy="p", person="alice")] == [used]
    assert [row["used"] for row in await changed(store, "lock_limit", policy="p", person="bob")] == [1]


async def test_a_version_of_the_policies_is_the_next_or_none(store: Store) -> None:
    async def added(version: int) -> bool:
        row = {"version": version, "files": str(version), "message": "", "created_at": 1, "created_by": "ada"}
        return bool(await changed(store, "add_policies", **row))

    assert await store.fetch("newest_policies") == [{"version": 0}]
    assert [await added(version) for version in (2, 1, 1, 2)] == [False, True, False, True]
    assert await store.fetch("newest_policies") == [{"version": 2}]
    assert [row["files"] for row in await store.fetch("read_policies", version=1)] == ["1"]
    assert [row["version"] for row in await store.fetch("list_policies")] == [2, 1]


async def test_after_policies_were_applied_no_intent_of_before_is_recorded(location: str, tmp_path: Path) -> None:
    """Whoever decides on them is another replica, which has not heard of it."""
    async with composed(tmp_path, location) as broker:
        ada = await broker.administration.grants.create(None, NewGrant("ada", {}, administrator=True))
        grant = await broker.lookup.grant(ada.grant)
        assert grant is not None
        callers = await open_store(location, SEEDS)
        await callers.transact(*seeds())
        under_way, applied = asyncio.Event(), asyncio.Event()

        async def late(worker: int) -> bool:
            """Whether an intent that begins when they have been applied is recorded."""
            made = 0
            while True:
                begins_after = applied.is_set()
                (rows,) = await callers.append(call(f"{worker}-{made}"))
                under_way.set()
                if begins_after or not rows:
                    return bool(rows)
                made += 1

        workers = [asyncio.ensure_future(late(number)) for number in range(8)]
        await under_way.wait()
        everything = {"a.cedar": "permit(principal, action, resource);"}
        await broker.administration.policies.apply(Identity(grant, "change"), everything, "", -1)
        applied.set()
        assert not any(await asyncio.gather(*workers))
        await callers.close()


async def test_a_task_is_the_grants_that_was_given_it_first(store: Store) -> None:
    async def remembered(server: str, task: str, grant: str, at: int) -> None:
        await store.transact(
            Statement("remember_task", {"server": server, "task": task, "grant_id": grant, "created_at": at})
        )

    async def is_task_of(server: str, task: str, grant: str) -> bool:
        return bool(await store.fetch("is_task_of", server=server, task=task, grant_id=grant))

    async def tasks(server: str, grant: str) -> list[str]:
        return [row["task"] for row in await store.fetch("tasks_of", server=server, grant_id=grant, limit=2)]

    given = ["one t g", "one t h", "two t h", "one u g", "one v g", "one w h"]
    for at, (server, task, grant) in enumerate(map(str.split, given)):
        await remembered(server, task, grant, at)
    assert await is_task_of("one", "t", "g")
    assert not await is_task_of("one", "t", "h"), "the first keeps it"
    assert not await is_task_of("one", "none", "g")
    assert not await is_task_of("two", "t", "g")
    assert await tasks("one", "g") == ["v", "u"]
    assert await tasks("two", "h") == ["t"]
    await changed(store, "forget_tasks", before=4)
    assert await tasks("one", "g") == ["v"]
    assert await tasks("one", "h") == ["w"]
