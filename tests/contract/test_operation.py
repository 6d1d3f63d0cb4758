"""What operates the broker: replicas, endpoints and what waits for them, and the counts of what stands."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from harness.statements import administration, call, changed, outcome, redemption
from percall_broker.store import Statement

if TYPE_CHECKING:
    from percall_broker.store import Store

pytestmark = pytest.mark.anyio

NOW = 100


def endpoint(name: str) -> Statement:
    row = {"id": name, "origin": "https://here", "format": "json", "created_at": 1, "created_by": "ada"}
    return Statement("add_webhook", row)


def event(name: str, by: str = "one replica", time_ms: int = 1) -> tuple[Statement, ...]:
    recorded = {"id": name, "type": "call", "time_ms": time_ms, "token": by, "body": name}
    return (Statement("record_event", recorded), Statement("queue_event", {"id": name, "token": by}))


async def waiting(store: Store) -> dict[str, int]:
    """How much waits for each endpoint."""
    return {row["id"]: row["waiting"] for row in await store.fetch("list_webhooks")}


async def next_for(store: Store, webhook: str) -> list[str]:
    return [row["id"] for row in await store.fetch("next_deliveries", webhook=webhook)]


async def due(store: Store, sender: str, now_ms: int = NOW) -> list[str]:
    return [row["id"] for row in await store.fetch("due_webhooks", sender=sender, now_ms=now_ms)]


async def claimed(store: Store, webhook: str, sender: str, now_ms: int = NOW) -> bool:
    claim = {"id": webhook, "sender": sender, "now_ms": now_ms, "until_ms": now_ms + 50}
    return bool(await changed(store, "claim_webhook", **claim))


async def test_an_event_waits_once_for_each_endpoint_that_there_is(store: Store) -> None:
    await store.transact(endpoint("a"), endpoint("b"), endpoint("gone"))
    assert await changed(store, "remove_webhook", id="gone")
    assert not await changed(store, "remove_webhook", id="gone")
    await store.transact(*event("e1"))
    await store.transact(*event("e1", by="another"))
    await store.transact(*event("e2"))
    assert await waiting(store) == {"a": 2, "b": 2}
    assert await store.fetch("count_deliveries") == [{"waiting": 4}]
    assert await next_for(store, "a") == ["e1", "e2"]
    assert await next_for(store, "gone") == []
    first = (await store.fetch("next_deliveries", webhook="a"))[0]
    await changed(store, "delivered", seq=first["seq"])
    assert (await next_for(store, "a"), await next_for(store, "b")) == (["e2"], ["e1", "e2"])
    await changed(store, "forget_deliveries", webhook="b")
    assert await waiting(store) == {"a": 1, "b": 0}
    await store.transact(endpoint("late"))
    await store.transact(*event("e2", by="another"))
    assert await waiting(store) == {"a": 1, "b": 0, "late": 0}, "to whoever was there when it happened"


async def test_one_replica_sends_to_an_endpoint_until_its_claim_has_run_out(store: Store) -> None:
    await store.transact(endpoint("a"), endpoint("gone"))
    await store.transact(*event("e"), endpoint("empty"))
    await changed(store, "remove_webhook", id="gone")
    assert await due(store, "one") == ["a"], "something waits, and it is there"
    assert not await claimed(store, "gone", "one")
    assert await claimed(store, "a", "one")
    assert await claimed(store, "a", "one"), "it is its own"
    assert not await claimed(store, "a", "two", NOW + 49)
    assert (await due(store, "two", NOW + 49), await due(store, "one", NOW)) == ([], ["a"])
    assert await due(store, "two", NOW + 50) == ["a"]
    assert await claimed(store, "a", "two", NOW + 50)
    tried = {"id": "a", "attempts": 3, "retry_at": NOW + 100, "problem": "refused"}
    await changed(store, "settle_webhook", **tried, sender="one")
    assert (await store.fetch("list_webhooks"))[0]["problem"] == "", "it is not that one's any more"
    await changed(store, "settle_webhook", **tried, sender="two")
    rows = {row["id"]: (row["attempts"], row["problem"]) for row in await store.fetch("list_webhooks")}
    assert rows == {"a": (3, "refused"), "empty": (0, "")}
    assert await due(store, "one", NOW + 99) == []
    assert not await claimed(store, "a", "one", NOW + 99)
    assert await due(store, "one", NOW + 100) == ["a"]
    assert await claimed(store, "a", "one", NOW + 100)
    await changed(store, "release_webhooks", sender="two")
    assert not await claimed(store, "a", "two", NOW + 100)
    await changed(store, "release_webhooks", sender="one")
    assert await claimed(store, "a", "two", NOW + 100)


async def test_a_pause_or_a_claim_of_a_clock_that_has_been_put_right_since_holds_up_nothing(store: Store) -> None:
    await store.transact(endpoint("paused"), endpoint("taken"))
    await store.transact(*event("e"))
    day = 24 * 3600 * 1000
    assert await claimed(store, "paused", "one")
    tried = {"id": "paused", "attempts": 3, "retry_at": NOW + day, "problem": "refused"}
    assert await claimed(store, "taken", "one", NOW + day)
    await changed(store, "settle_webhook", **tried, sender="one")
    assert {row["id"]: row["problem"] for row in await store.fetch("list_webhooks")} == {
        "paused": "refused",
        "taken": "",
    }
    assert await due(store, "two") == ["paused", "taken"]
    assert await claimed(store, "paused", "two")
    assert await claimed(store, "taken", "two")


async def test_what_could_long_not_be_delivered_is_forgotten(store: Store) -> None:
    await store.transact(endpoint("a"), *event("old", time_ms=9), *event("new", time_ms=10))
    assert len(await changed(store, "purge_deliveries", before_ms=10)) == 1
    await changed(store, "purge_events", before_ms=10)
    assert await next_for(store, "a") == ["new"]
    await store.transact(*event("old"))
    assert await next_for(store, "a") == ["new", "old"], "which is a new one by now"


async def test_replicas_are_listed_while_they_show_that_they_live(store: Store) -> None:
    alive = {"url": "", "version": "1", "started_at": 1}
    for name, seen_at in (("long ago", 1), ("just so", 2), ("late", NOW - 1), ("one", NOW), ("two", NOW)):
        await changed(store, "beat", id=name, seen_at=seen_at, **alive)
    assert [row["id"] for row in await store.fetch("list_replicas", seen_since=NOW)] == ["one", "two"]
    await changed(store, "beat", id="late", seen_at=NOW, **alive)
    await changed(store, "leave", id="one", seen_before=2)
    assert [row["id"] for row in await store.fetch("list_replicas", seen_since=0)] == ["just so", "late", "two"]


async def test_open_are_the_calls_without_an_outcome_before_their_deadline(store: Store) -> None:
    await store.append(
        call("open"), call("window"), redemption("window"), call("done"), redemption("done"), outcome("done"),
        call("over", deadline_ms=NOW - 1), call("last", deadline_ms=NOW),
    )  # fmt: skip
    assert await store.fetch("count_open", now_ms=NOW) == [{"calls": 3, "windows": 1}]


async def test_unknown_outcomes_and_backups_are_found_in_the_log(store: Store) -> None:
    await store.append(call("a"), call("b"), call("c"))
    await store.append(
        outcome("a", outcome="unknown", time_ms=NOW - 1), outcome("b", outcome="unknown", time_ms=NOW),
        outcome("c", time_ms=NOW),
    )  # fmt: skip
    assert await store.fetch("count_unknown", since_ms=NOW) == [{"calls": 1}]
    await store.append(administration(1, reason="grant.created"), administration(2, "reading", "backup.made"))
    assert await store.fetch("last_backup") == []
    await store.append(administration(3, reason="backup.made"), administration(4, reason="backup.made"))
    await store.append(administration(5, reason="grant.created"))
    assert await store.fetch("last_backup") == [{"time_ms": 4}]


async def test_what_stands_is_counted_until_it_ends(store: Store) -> None:
    async def counted(now: int = NOW) -> tuple[int, ...]:
        (row,) = await store.fetch("count_standing", now=now)
        return tuple(row[name] for name in ("people", "devices", "grants", "servers"))

    assert await counted() == (1, 1, 1, 1)
    await store.transact(
        Statement("seed_person", {"name": "bob"}),
        Statement("seed_device", {"id": "d2", "person": "bob"}),
        Statement("seed_grant", {"id": "brief", "person": "bob", "device": None, "expires_at": NOW}),
        Statement("seed_grant", {"id": "revoked", "person": "bob", "device": None, "expires_at": 0}),
        Statement("seed_revocation", {"id": "revoked"}),
        Statement("seed_server", {"name": "gitlab"}),
    )
    assert await counted(NOW - 1) == (2, 2, 2, 2)
    assert await counted() == (2, 2, 1, 2)
    await store.transact(
        Statement("remove_person", {"name": "bob"}), Statement("revoke_device", {"id": "d2"}),
        Statement("remove_server", {"name": "gitlab"}),
    )  # fmt: skip
    assert await counted() == (1, 1, 1, 1)


async def test_grants_that_expire_soon_and_automations_are_listed_while_they_may_be_used(store: Store) -> None:
    ends = {"over": NOW, "soon": NOW + 1, "last": NOW + 10, "later": NOW + 11, "suspended": NOW + 1}
    for name, end in ends.items():
        await changed(store, "seed_grant", id=name, person="alice", device="key", expires_at=end)
    await changed(store, "seed_grant", id="unbound", person="alice", device=None, expires_at=NOW + 1)
    await changed(store, "set_grant_state", id="suspended", state="suspended")
    rows = await store.fetch("expiring_grants", now=NOW, until=NOW + 10)
    assert [row["id"] for row in rows] == ["soon", "last"]
    for name in ("over", "soon", "g", "suspended"):
        await changed(store, "seed_automation", id=name)
    assert {row["id"] for row in await store.fetch("automations", now=NOW)} == {"soon", "g"}


@pytest.mark.parametrize(
    ("bound", "told", "end"), [(0, 0, 0), (10, 0, 11), (0, 50, 50), (10, 50, 50)],
    ids=["for good", "by its age", "as was told", "as was told, whatever its age"],
)  # fmt: skip
async def test_keys_are_listed_with_when_they_end(store: Store, bound: int, told: int, end: int) -> None:
    sealed: dict[str, Any] = {"sealed": b"s", "wrapped_key": b"w", "key_encryption_key": "k", "fingerprint": "f"}
    await store.transact(
        Statement("seed_server", {"name": "removed"}),
        *(
            Statement("add_secret", {"name": name, "version": version, "created_at": version, **sealed})
            for name in ("github", "removed", "personal/alice/github", "personal/alice/removed")
            for version in (1, 2)
        ),
        *(
            Statement("set_secret_end", {"name": name, "version": 1, "expires_at": told})
            for name in ("github", "personal/alice/github")
        ),
        *(
            Statement("add_personal_key", {"server": server, "person": "alice", "version": 1, "binding": "b", "now": 1})
            for server in ("github", "removed")
        ),
        Statement("remove_server", {"name": "removed"}),
    )
    rows = await store.fetch("keys_in_use", most_seconds=bound)
    assert [(row["server"], row["person"], row["version"], row["expires_at"]) for row in rows] == [
        ("github", "", 1, end), ("github", "alice", 1, end),
    ]  # fmt: skip
