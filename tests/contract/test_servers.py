"""Servers and their keys, and what of them, of calls and of changes is listed, on both engines."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from harness.statements import administration, call, changed, freeze, outcome
from percall_broker.pipeline.administration.ledger import Ledger
from percall_broker.pipeline.administration.record import Record
from percall_broker.store import Statement

if TYPE_CHECKING:
    from percall_broker.store import Store
    from percall_broker.store.protocol import Row

pytestmark = pytest.mark.anyio


async def servers(store: Store) -> dict[str, Row]:
    return {row["name"]: row for row in await store.fetch("list_servers")}


def secret(name: str, version: int, key: str = "kek-1") -> Statement:
    sealed = {
        "sealed": b"s",
        "wrapped_key": b"w",
        "key_encryption_key": key,
        "fingerprint": name,
        "created_at": version,
    }
    return Statement("add_secret", {"name": name, "version": version, **sealed}, required=True)


async def test_a_name_is_one_servers_until_it_is_removed_and_its_version_goes_on(store: Store) -> None:
    await changed(store, "seed_server", name="gitlab")
    add = {"entry": "{2}", "secret_version": 2, "created_at": 2}
    assert not await changed(store, "add_server", name="github", **add)
    assert [row["version"] for row in await changed(store, "update_server", name="github", entry="{1}")] == [2]
    suspend = {"name": "github", "state": "suspended"}
    assert [row["version"] for row in await changed(store, "set_server_state", **suspend)] == [3]
    assert not await changed(store, "set_server_state", **suspend), "it is suspended already"
    assert await changed(store, "set_secret_version", name="github", secret_version=7)
    row = (await servers(store))["github"]
    assert (row["version"], row["entry"], row["secret_version"]) == (3, "{1}", 7), "a new key changes no decision"
    assert [row["version"] for row in await changed(store, "remove_server", name="github")] == [4]
    for name, parameters in (
        ("remove_server", {}), ("update_server", {"entry": "{}"}), ("set_server_state", {"state": "active"}),
        ("set_secret_version", {"secret_version": 8}),
    ):  # fmt: skip
        assert not await changed(store, name, name="github", **parameters), "it is removed"
    assert await store.fetch("known_server", name="github") == []
    assert len(await store.fetch("known_server", name="gitlab")) == 1
    assert set(await servers(store)) == {"gitlab"}
    assert [row["version"] for row in await changed(store, "add_server", name="github", **add)] == [5]
    rows = {name: (row["version"], row["entry"], row["state"]) for name, row in (await servers(store)).items()}
    assert rows == {"github": (5, "{2}", "active"), "gitlab": (1, "{}", "active")}


async def test_servers_are_listed_with_the_key_in_use_and_what_freezes_them(store: Store) -> None:
    await changed(store, "seed_server", name="gitlab")
    await store.transact(
        secret("github", 1), secret("github", 2),
        Statement("set_secret_end", {"name": "github", "version": 1, "expires_at": 9}),
        freeze("server", "gitlab"), freeze("person", "github"),
    )  # fmt: skip

    async def listed() -> dict[str, tuple[Any, ...]]:
        names = ("secret_created_at", "secret_expires_at", "frozen_kind")
        return {name: tuple(row[name] for name in names) for name, row in (await servers(store)).items()}

    assert await listed() == {"github": (1, 9, None), "gitlab": (0, 0, "server")}
    await changed(store, "set_secret_version", name="github", secret_version=2)
    assert (await listed())["github"] == (2, 0, None)


async def test_a_version_of_a_secret_stands_and_is_wrapped_anew_only_from_what_wraps_it(store: Store) -> None:
    await store.transact(secret("a", 1), secret("a", 2, "kek-2"), secret("b", 1))
    assert await store.transact(secret("a", 2)) is None
    assert [row["version"] for row in await store.fetch("newest_secret_version", name="a")] == [2]
    assert [row["version"] for row in await store.fetch("newest_secret_version", name="none")] == [0]
    assert [row["key_encryption_key"] for row in await store.fetch("key_encryption_keys_in_use")] == ["kek-1", "kek-2"]
    assert [row["name"] for row in await store.fetch("a_secret_wrapped_by", key_encryption_key="kek-2")] == ["a"]
    left = await store.fetch("secrets_wrapped_by_others", key_encryption_key="kek-2", limit=10)
    assert [(row["name"], row["version"]) for row in left] == [("a", 1), ("b", 1)]
    anew = {"name": "a", "version": 1, "wrapped_key": b"n", "key_encryption_key": "kek-2"}
    assert not await changed(store, "rewrap_secret", **anew, old_key_encryption_key="kek-2")
    assert not await changed(store, "rewrap_secret", **anew | {"version": 3}, old_key_encryption_key="kek-1")
    assert await changed(store, "rewrap_secret", **anew, old_key_encryption_key="kek-1")
    rows = [(await store.fetch("read_secret", name=n, version=v))[0] for n, v in (("a", 1), ("a", 2), ("b", 1))]
    assert [(row["wrapped_key"], row["key_encryption_key"]) for row in rows] == [
        (b"n", "kek-2"), (b"w", "kek-2"), (b"w", "kek-1"),
    ]  # fmt: skip
    assert not await changed(store, "set_secret_end", name="a", version=3, expires_at=1)
    assert len(await changed(store, "set_secret_end", name="a", version=1, expires_at=1)) == 1
    await store.transact(secret("c", 1, "kek-3"))
    assert [row["name"] for row in await store.fetch("a_secret_wrapped_by", key_encryption_key="kek-3")] == ["c"]


@pytest.fixture
async def another(store: Store) -> None:
    """Another device and its key, which no call here is from."""
    await store.transact(
        Statement("seed_device", {"id": "d2", "person": "alice"}),
        Statement("seed_device_key", {"thumbprint": "key2", "person": "alice", "device": "d2"}),
    )


@pytest.mark.usefixtures("another")
async def test_a_call_is_listed_in_its_order_with_its_outcome_alone(store: Store) -> None:
    await store.append(call("a"), call("b", server="github", tool="push"), outcome("a", outcome="failed"))
    await store.append(call("c"), outcome("c"))
    first = await store.fetch("calls_after", seq=0, limit=2)
    assert [(row["call"], row["outcome"], row["device_name"]) for row in first] == [
        ("a", "failed", "laptop"), ("b", "", "laptop"),
    ]  # fmt: skip
    rest = await store.fetch("calls_after", seq=first[-1]["seq"], limit=2)
    assert [(row["call"], row["outcome"]) for row in rest] == [("c", "done")]


async def test_who_follows_the_calls_looks_again_at_those_before_which_another_may_yet_be_committed(
    store: Store,
) -> None:
    await store.append(call("old", time_ms=1000), call("new", time_ms=60_000))
    arguments: Any = None  # none are opened
    record = Record(Ledger(store, lambda: None), arguments)
    after, rows = await record.calls_after(0, now=61)
    assert [row["call"] for row in rows] == ["old", "new"]
    assert after == rows[0]["seq"]
    again, rows = await record.calls_after(after, now=62.001)
    assert [row["call"] for row in rows] == ["new"]
    assert again == rows[0]["seq"]
    assert await record.calls_after(again, now=70) == (again, [])


@pytest.mark.usefixtures("another")
async def test_calls_are_replayed_from_then_on_with_what_was_sealed_of_each(store: Store) -> None:
    kept = Statement("store_arguments", {"call": "a", "entry": '{"call":"a"}', "sealed": b"sealed"})
    await store.append(call("early", time_ms=999), call("a"), kept, outcome("a"), call("b"))
    page = {"since_ms": 1000, "after": 0, "limit": 1}
    first = await store.fetch("calls_to_replay", **page)
    assert [(row["call"], row["device_name"], row["sealed"]) for row in first] == [("a", "laptop", b"sealed")]
    rest = await store.fetch("calls_to_replay", **page | {"after": first[0]["seq"], "limit": 9})
    assert [(row["call"], row["sealed"]) for row in rest] == [("b", None)]


async def test_what_administrators_changed_and_read_is_listed_by_its_time(store: Store) -> None:
    await store.append(call("a"))
    await store.append(
        *(administration(time_ms) for time_ms in (1000, 2000, 3000)), administration(2500, kind="reading")
    )

    async def listed(since_ms: int, until_ms: int = 0, limit: int = 9) -> list[str]:
        rows = await store.fetch("list_changes", since_ms=since_ms, until_ms=until_ms, limit=limit)
        return [row["entry"] for row in rows]

    assert await listed(0) == ["2500", "3000", "2000", "1000"], "as they were recorded, newest first"
    assert await listed(2000) == ["2500", "3000", "2000"]
    assert await listed(2000, 3000) == ["2500", "2000"]
    assert await listed(0, limit=1) == ["2500"]
