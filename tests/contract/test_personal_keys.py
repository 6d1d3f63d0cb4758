"""What the store lets a request carry: whose key, from which device, to where; and after a removal, none."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from harness.statements import SEEDS, SHARED_KEY, call, redemption, request, seeds, startup
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


async def test_a_key_for_one_server_is_none_for_another_in_the_same_place(store: Store) -> None:
    await give(store)
    await store.transact(
        Statement("seed_server", {"name": "gitlab"}),
        Statement("set_secret_version", {"name": "gitlab", "secret_version": 0}, required=True),
    )
    other = {"server": "gitlab"}
    await store.append(call("a", **other))
    assert await store.transact(redemption("a", **other))
    for key in (OWN, SHARED_KEY):
        assert await store.transact(request("r", "a", **other, **key)) is None
        assert not (await store.append(startup("s", **other, **key)))[0]
        assert not (await store.append(call("c", **other, **key)))[0]


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
    vouched = {name: (await store.fetch("read_grant", id=name))[0]["vouched"] for name in ("g", "bobs", "enrolled")}
    assert vouched == {"g": 1, "bobs": 1, "enrolled": 0}
    another = {"grant_id": "bobs", "person": "bob", "device": "bobs"}
    assert not (await store.append(startup("s1", **another, **OWN)))[0]
    assert (await store.append(startup("s2", **another)))[0], "but the shared key"
    unvouched = {"grant_id": "enrolled", "device": "enrolled"}
    assert not (await store.append(startup("s3", **unvouched, **OWN)))[0]
    assert (await store.append(startup("s4", **unvouched)))[0]
    assert not (await store.append(call("c1", **unvouched, **OWN)))[0]
    assert (await store.append(call("c2", **unvouched)))[0]
    assert await store.transact(redemption("c2", **unvouched))
    assert await store.transact(request("r1", "c2", **unvouched, **OWN)) is None
    assert await store.transact(request("r2", "c2", **unvouched))


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


async def test_a_change_of_a_key_is_of_that_one(store: Store) -> None:
    await store.transact(Statement("seed_server", {"name": "gitlab"}), Statement("seed_person", {"name": "bob"}))
    every = [("github", "alice"), ("github", "bob"), ("gitlab", "alice"), ("gitlab", "bob")]
    sealed = {"sealed": b"s", "wrapped_key": b"w", "key_encryption_key": "k", "fingerprint": "f", "created_at": 1}
    for server, person in every:
        mine = {"server": server, "person": person, "binding": "here", "version": 1}
        named = {"name": f"personal/{person}/{server}"}
        await store.transact(
            Statement("add_personal_key", mine | {"now": 1}),
            *(Statement("add_secret", sealed | named | {"version": version}) for version in (1, 2)),
            Statement("offer_personal_key", mine | {"offered_at": 1}),
        )

    async def keys() -> dict[tuple[str, str], tuple[object, ...]]:
        rows = await store.fetch("list_personal_keys", person="", server="")
        return {(row["server"], row["person"]): (row["version"], row["binding"], row["offered_at"]) for row in rows}

    taken = {"server": "gitlab", "person": "bob", "version": 1}
    assert await store.transact(Statement("take_offered_key", taken, required=True))
    mine, expected = {"server": "github", "person": "alice"}, dict.fromkeys(every[:3], (1, "here", 1))
    assert await keys() == expected, "take_offered_key"
    for change, more, found in (
        ("offer_personal_key", {"offered_at": 2}, (1, "here", 2)),
        ("confirm_personal_key", {"binding": "there"}, (1, "there", 2)),
        ("rotate_personal_key", {"version": 2, "binding": "there"}, (2, "there", 0)),
    ):
        assert await store.transact(Statement(change, mine | more, required=True))
        assert await keys() == expected | {every[0]: found}, change
    assert [
        (await store.fetch("newest_personal_key_version", server=server, person=person))[0]["version"]
        for server, person in every
    ] == [2, 1, 1, 1]


async def test_a_key_that_was_removed_is_neither_rotated_nor_offered_nor_removed_again(store: Store) -> None:
    await give(store)
    mine = {"server": "github", "person": "alice"}
    remove = Statement("remove_personal_keys", mine, required=True)
    assert await store.transact(remove)
    for change in (
        Statement("rotate_personal_key", mine | {"version": 3, "binding": "here"}, required=True),
        Statement("confirm_personal_key", mine | {"binding": "here"}, required=True),
        Statement("offer_personal_key", mine | {"offered_at": 1}, required=True),
        Statement("take_offered_key", mine | {"version": 2}, required=True),
        remove,
    ):
        assert await store.transact(change) is None, change.name


async def test_a_key_is_taken_as_the_shared_one_only_in_the_version_that_its_owner_offers(store: Store) -> None:
    await give(store)
    mine = {"server": "github", "person": "alice"}

    async def is_taken(version: int) -> bool:
        return (
            await store.transact(Statement("take_offered_key", mine | {"version": version}, required=True)) is not None
        )

    def offer(at: int) -> Statement:
        return Statement("offer_personal_key", mine | {"offered_at": at}, required=True)

    assert not await is_taken(2), "she has not offered it"
    await store.transact(offer(1), offer(0))
    assert not await is_taken(2), "nor any more"
    await store.transact(offer(1), Statement("rotate_personal_key", mine | {"version": 3, "binding": "here"}))
    assert not await is_taken(3), "she offered another one"
    await store.transact(offer(1))
    assert not await is_taken(2)
    assert await is_taken(3)
    assert not await is_taken(3), "it is hers no more"


async def test_what_one_person_removes_of_one_server_is_that_and_its_every_version(store: Store) -> None:
    """Without a server, all of theirs; nobody else's."""
    await store.transact(Statement("seed_server", {"name": "gitlab"}), Statement("seed_person", {"name": "bob"}))
    every = [("github", "alice"), ("github", "bob"), ("gitlab", "alice")]
    sealed = {"sealed": b"s", "wrapped_key": b"w", "key_encryption_key": "k"}
    for name in ("github", *(f"personal/{person}/{server}" for server, person in every)):
        kept = {"name": name, "fingerprint": "f", **sealed}
        await store.transact(*(Statement("add_secret", {**kept, "version": v, "created_at": v}) for v in (1, 2)))
    for server, person in every:
        mine = {"server": server, "person": person, "binding": "here"}
        await store.transact(Statement("add_personal_key", mine | {"version": 1, "now": 1}))
    rotation = {"server": "gitlab", "person": "alice", "binding": "here", "version": 2}
    await store.transact(Statement("rotate_personal_key", rotation, required=True))
    versions = {("github", "alice"): 1, ("github", "bob"): 1, ("gitlab", "alice"): 2}

    async def listed(person: str = "", server: str = "") -> list[tuple[str, str]]:
        rows = await store.fetch("list_personal_keys", person=person, server=server)
        keys = [(row["server"], row["person"]) for row in rows]
        assert [row["created_at"] for row in rows] == [versions[key] for key in keys], "those of the versions in use"
        return keys

    async def in_use() -> list[tuple[str, str]]:
        held = await store.fetch("held_keys")
        assert [(row["server"], row["owner"]) for row in held if not row["owner"]] == [("github", "")], "with its key"
        keys = [(row["server"], row["owner"]) for row in held if row["owner"]]
        assert [row["version"] for row in held if row["owner"]] == [versions[key] for key in keys]
        return keys

    async def secrets() -> list[tuple[str, str]]:
        """Of whom, of what, any is left."""
        names = {(server, person): f"personal/{person}/{server}" for server, person in every}
        return [
            key for key, name in names.items() for v in (1, 2) if await store.fetch("read_secret", name=name, version=v)
        ]

    assert await listed() == await in_use() == every
    assert await listed(person="alice") == [every[0], every[2]]
    assert await listed(server="github") == every[:2]
    assert await listed("bob", "gitlab") == []
    assert {row["server"] for row in await store.fetch("held_by", persons='{"alice":null}')} == {"github", "gitlab"}
    left = every
    for server, gone in (("github", every[0]), ("", every[2])):
        of = {"person": "alice", "server": server}
        left = [key for key in left if key != gone]
        await store.transact(Statement("remove_personal_keys", of, required=True))
        assert await listed() == await in_use() == left
        await store.transact(Statement("forget_personal_secrets", of))
        assert await secrets() == [key for key in left for _ in (1, 2)]
    assert await store.fetch("held_by", persons='{"alice":null}') == []
    await store.transact(Statement("remove_server", {"name": "github"}))
    assert [row["owner"] for row in await store.fetch("held_keys") if not row["owner"]] == []


async def test_what_a_person_may_do_is_what_their_grants_allow_that_may_be_used(store: Store) -> None:
    await store.transact(
        Statement("seed_person", {"name": "bob"}),
        Statement("seed_grant", {"id": "brief", "person": "alice", "device": None, "expires_at": 100}),
        Statement("seed_grant", {"id": "suspended", "person": "alice", "device": None, "expires_at": 0}),
        Statement("set_grant_state", {"id": "suspended", "state": "suspended"}),
        Statement("seed_grant", {"id": "his", "person": "bob", "device": None, "expires_at": 0}),
        Statement("seed_administrator", {"id": "administers", "person": "alice", "device": "key"}),
    )
    assert len(await store.fetch("scopes_of", person="alice", now=99)) == 2
    assert len(await store.fetch("scopes_of", person="alice", now=100)) == 1
