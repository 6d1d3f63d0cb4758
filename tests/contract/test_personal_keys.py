"""What the store lets a request carry: whose key, from which device, to where; and after a removal, none."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from harness.statements import SEEDS, call, redemption, request, seeds, startup
from percall_broker.store import Statement, migrate, open_store

if TYPE_CHECKING:
    from percall_broker.store import Store

pytestmark = pytest.mark.anyio
OWN = {"secret_owner": "alice", "secret_version": 2, "binding": "here"}


async def give(store: Store) -> None:
    """Alice's own key for the server, in its second version, from her device key."""
    mine = {"server": "github", "person": "alice", "binding": "here"}
    assert await store.transact(
        Statement("add_personal_key", mine | {"version": 1, "now": 1}, required=True),
        Statement("rotate_personal_key", mine | {"version": 2}, required=True),
        Statement("vouch_device_key", {"thumbprint": "key", "person": "alice", "created_at": 1}),
    )


async def opened(store: Store, name: str) -> None:
    await store.append(call(name))
    assert await store.transact(redemption(name))


@pytest.mark.parametrize(
    ("carried", "recorded"),
    [
        ({}, True),
        ({"secret_version": 1}, True),  # decided on before the rotation
        ({"secret_version": 3}, False),
        ({"binding": "elsewhere"}, False),
        ({"binding": ""}, False),
        ({"secret_owner": "bob"}, False),
    ],
)
async def test_what_is_recorded_is_what_may_be_used(store: Store, carried: dict[str, object], recorded: bool) -> None:
    await give(store)
    await opened(store, "a")
    own = {**OWN, **carried}
    assert (await store.transact(request("r", "a", **own)) is not None) == recorded
    assert bool((await store.append(startup("s", **own)))[0]) == recorded
    assert bool((await store.append(call("c", **own)))[0]) == recorded, "a relayed call carries it itself"


async def test_nobody_elses_grant_and_no_other_device_key_carries_it(store: Store) -> None:
    await give(store)
    await store.transact(
        Statement("seed_person", {"name": "bob"}),
        Statement("seed_device", {"id": "d2", "person": "bob"}),
        Statement("seed_device_key", {"thumbprint": "bobs", "person": "bob", "device": "d2"}),
        Statement("seed_grant", {"id": "bobs", "person": "bob", "device": "bobs", "expires_at": 0}),
        Statement("vouch_device_key", {"thumbprint": "bobs", "person": "bob", "created_at": 1}),
        Statement("seed_device", {"id": "d3", "person": "alice"}),
        Statement("seed_device_key", {"thumbprint": "enrolled", "person": "alice", "device": "d3"}),
        Statement("seed_grant", {"id": "enrolled", "person": "alice", "device": "enrolled", "expires_at": 0}),
    )
    another = {"grant_id": "bobs", "person": "bob", "device": "bobs"}
    assert not (await store.append(startup("s1", **another, **OWN)))[0]
    assert (await store.append(startup("s2", **another)))[0], "but the shared key"
    unvouched = {"grant_id": "enrolled", "device": "enrolled"}
    assert not (await store.append(startup("s3", **unvouched, **OWN)))[0]
    assert (await store.append(startup("s4", **unvouched)))[0]


async def test_after_a_removal_has_returned_no_request_carries_the_key(location: str) -> None:
    """On PostgreSQL the requests and the removal are two replicas'; SQLite has one process."""
    await migrate(location)
    requests = await open_store(location, SEEDS)
    owner = await open_store(location, SEEDS) if location.startswith("postgresql") else requests
    await requests.transact(*seeds())
    await give(requests)
    removed, under_way = asyncio.Event(), asyncio.Event()
    late: list[str] = []

    async def work(worker: int) -> int:
        made = 0
        while True:
            begun_after, name = removed.is_set(), f"{worker}-{made}"
            (rows,) = await requests.append(startup(name, **OWN))
            if begun_after and rows:
                late.append(name)
            if not rows:
                return made
            under_way.set()
            made += 1

    workers = [asyncio.ensure_future(work(number)) for number in range(8)]
    await under_way.wait()
    mine = {"person": "alice", "server": "github"}
    assert await owner.transact(
        Statement("advance_epoch"),
        Statement("remove_personal_keys", mine, required=True),
        Statement("touch_grants", {"person": "alice", "device": ""}),
    )
    at_return = len(await owner.fetch("list_log", after=0, limit=10**6))
    removed.set()
    made = sum(await asyncio.gather(*workers))
    assert late == []
    assert at_return == made, "every request that carries it was there when the removal returned"
    await requests.close()
    if owner is not requests:
        await owner.close()


async def test_a_version_is_given_once(store: Store) -> None:
    await give(store)
    mine = {"server": "github", "person": "alice", "binding": "here"}
    add = Statement("add_personal_key", mine | {"version": 3, "now": 1}, required=True)
    assert await store.transact(add) is None, "she has one"
    assert await store.transact(Statement("rotate_personal_key", mine | {"version": 2}, required=True)) is None
    await store.transact(Statement("remove_personal_keys", {"person": "alice", "server": "github"}, required=True))
    old = Statement("add_personal_key", mine | {"version": 2, "now": 1}, required=True)
    assert await store.transact(old) is None
    together = await asyncio.gather(*(store.transact(add) for _ in range(20)))
    assert sum(done is not None for done in together) == 1
