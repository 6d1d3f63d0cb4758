"""The console's links, sessions and passkeys, and what its pages count: each condition of theirs, on both engines."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from harness.statements import call, changed, freeze, outcome
from percall_broker.store import Statement

if TYPE_CHECKING:
    from percall_broker.store import Store

pytestmark = pytest.mark.anyio

END = 100
"""When what ends in these tests does; seconds."""


def session(name: str, **changes: Any) -> Statement:
    row = {
        "token_hash": name, "grant_id": "g", "how": "link", "passkey": "", "may_enrol_until": 0, "now": 10,
        "expires_at": END,
    }  # fmt: skip
    return Statement("add_console_session", row | changes)


async def test_a_link_opens_once_and_in_time(store: Store) -> None:
    for code in ("a", "b"):
        await changed(store, "add_console_link", code_hash=code, grant_id="g", purpose="sign_in", expires_at=END)
    assert not await changed(store, "use_console_link", code_hash="a", now=END)
    assert not await changed(store, "use_console_link", code_hash="none", now=1)
    assert await changed(store, "use_console_link", code_hash="a", now=END - 1) == [
        {"grant_id": "g", "purpose": "sign_in"}
    ]
    assert not await changed(store, "use_console_link", code_hash="a", now=END - 1)
    await changed(store, "add_console_link", code_hash="c", grant_id="g", purpose="sign_in", expires_at=END + 1)
    await changed(store, "forget_console_links", now=END)
    assert not await changed(store, "use_console_link", code_hash="b", now=1)
    assert await changed(store, "use_console_link", code_hash="c", now=1)


async def test_a_session_is_one_until_its_end_and_while_it_is_used(store: Store) -> None:
    async def is_open(name: str, now: int = END - 1, seen_since: int = 9) -> bool:
        return bool(await store.fetch("read_console_session", token_hash=name, now=now, seen_since=seen_since))

    await store.transact(session("a"), session("b", expires_at=END + 1))
    assert await is_open("a")
    assert not await is_open("none")
    assert not await is_open("a", now=END)
    assert not await is_open("a", seen_since=10)
    await changed(store, "see_console_session", token_hash="a", now=9)
    assert await is_open("a"), "time does not run backwards"
    await changed(store, "see_console_session", token_hash="a", now=11)
    assert (await is_open("a", seen_since=10), await is_open("b", seen_since=10)) == (True, False)
    await changed(store, "forget_console", now=END, seen_since=9)
    assert (await is_open("a", now=1, seen_since=0), await is_open("b", now=1, seen_since=0)) == (False, True)
    await store.transact(
        session("a"), session("idle"), Statement("see_console_session", {"token_hash": "a", "now": 11})
    )
    await changed(store, "forget_console", now=1, seen_since=10)
    assert [await is_open(name, 1, 0) for name in ("a", "b", "idle")] == [True, False, False]
    await changed(store, "end_console_session", token_hash="none")
    assert await is_open("a", 1, 0)
    await changed(store, "end_console_session", token_hash="a")
    assert not await is_open("a", 1, 0)


async def test_a_session_enrols_one_passkey_in_time_and_while_its_grant_stands(store: Store) -> None:
    await store.transact(session("may", may_enrol_until=END), session("late", may_enrol_until=END), session("not"))
    assert not await changed(store, "close_enrolment", token_hash="not", now=1)
    assert not await changed(store, "close_enrolment", token_hash="may", now=END)
    assert await changed(store, "close_enrolment", token_hash="may", now=END - 1)
    assert not await changed(store, "close_enrolment", token_hash="may", now=END - 1)
    await changed(store, "seed_grant", id="another", person="alice", device="key", expires_at=0)
    await changed(store, "set_grant_state", id="g", state="suspended")
    assert not await changed(store, "close_enrolment", token_hash="late", now=END - 1)


async def test_a_passkey_is_one_persons_and_its_counter_rises(store: Store) -> None:
    await changed(store, "seed_person", name="bob")
    for name, person, added in (("a", "alice", True), ("a", "bob", False), ("b", "bob", True)):
        row = {"id": name, "person": person, "name": name, "public_key": "k", "now": 1}
        assert bool(await changed(store, "add_passkey", **row)) == added

    async def used(count: int, name: str = "a", person: str = "alice") -> bool:
        return bool(await changed(store, "use_passkey", id=name, person=person, sign_count=count, now=2))

    assert [await used(0), await used(0)] == [True, True], "an authenticator that counts nothing"
    assert not await used(1, person="bob")
    assert not await used(1, name="none")
    assert [await used(1), await used(1), await used(0), await used(2)] == [True, False, False, True]
    assert await store.fetch("read_passkey", id="b") == [
        {"id": "b", "person": "bob", "public_key": "k", "sign_count": 0}
    ]
    assert [row["id"] for row in await store.fetch("list_passkeys", person="")] == ["a", "b"]
    assert [row["id"] for row in await store.fetch("list_passkeys", person="bob")] == ["b"]
    assert await store.fetch("hold_passkey", id="a", person="alice")
    assert not await store.fetch("hold_passkey", id="a", person="bob")
    assert not await store.fetch("hold_passkey", id="none", person="alice")
    await store.transact(session("mine", passkey="a"), session("his", passkey="b"), session("linked"))
    await changed(store, "end_sessions_of_passkey", id="")
    await changed(store, "end_sessions_of_passkey", id="a")
    opened = [
        bool(await store.fetch("read_console_session", token_hash=name, now=1, seen_since=0))
        for name in ("mine", "his", "linked")
    ]
    assert opened == [False, True, True]
    await changed(store, "remove_former_passkeys", person="bob")
    assert await store.fetch("read_passkey", id="b"), "he is here"
    await changed(store, "remove_person", name="bob")
    await changed(store, "remove_former_passkeys", person="alice")
    assert await store.fetch("read_passkey", id="b")
    await changed(store, "remove_former_passkeys", person="bob")
    assert await store.fetch("read_passkey", id="b") == []
    assert await changed(store, "remove_passkey", id="a") == [{"person": "alice", "name": "a"}]


async def signing_in(store: Store, now: int = END) -> list[str]:
    return [row["id"] for row in await store.fetch("grant_to_sign_in", person="alice", now=now)]


async def test_a_person_signs_in_with_a_grant_of_theirs_that_stands(store: Store) -> None:
    await store.transact(
        Statement("seed_grant", {"id": "brief", "person": "alice", "device": "key", "expires_at": END}),
        Statement("seed_administrator", {"id": "robot", "person": "alice", "device": "key"}),
        Statement("seed_automation", {"id": "robot"}),
        Statement("seed_person", {"name": "bob"}),
        Statement("seed_administrator", {"id": "bobs", "person": "bob", "device": "key"}),
    )
    assert await signing_in(store, END - 1) == ["brief"], "as old, and first by its name"
    assert await signing_in(store) == ["g"]
    await changed(store, "seed_administrator", id="zadmin", person="alice", device="key")
    assert await signing_in(store) == ["zadmin"]
    await changed(store, "set_grant_state", id="zadmin", state="suspended")
    assert await signing_in(store) == ["g"]
    await changed(store, "set_grant_state", id="g", state="revoked")
    assert await signing_in(store) == []


@pytest.mark.parametrize(
    "stopped",
    [
        Statement("set_person_state", {"name": "alice", "state": "suspended", "from_state": "active"}),
        Statement("remove_device_key", {"thumbprint": "key"}),
        Statement("revoke_device", {"id": "d"}),
        freeze("device", "d"),
    ],
    ids=["a suspended person", "a removed key", "a revoked device", "a frozen device"],
)
async def test_nobody_signs_in_with(store: Store, stopped: Statement) -> None:
    await store.transact(
        freeze("device", "another"), freeze("server", "d"), Statement("seed_person", {"name": "bob"}),
        Statement("seed_device", {"id": "bobs", "person": "bob"}),
        Statement("seed_device_key", {"thumbprint": "bobs", "person": "bob", "device": "bobs"}),
    )  # fmt: skip
    assert await signing_in(store) == ["g"]
    await store.transact(stopped)
    assert await signing_in(store) == []


async def test_pages_count_calls_by_their_time_tool_and_grant(store: Store) -> None:
    await store.append(
        call("early", time_ms=999), call("a"), call("b", time_ms=1999), call("c", time_ms=2000, tool="push"),
        call("d", time_ms=2000, tool=""),
    )  # fmt: skip
    ended = {"early": "done", "a": "failed", "b": "done", "c": "unknown", "d": "cancelled"}
    await store.append(*(outcome(name, outcome=how, time_ms=9000) for name, how in ended.items()))
    since = {"since_ms": 1000}
    rows = await store.fetch("calls_by_bucket", **since, bucket_ms=1000)
    assert {(row["bucket"], row["decision"], row["calls"], row["failed"]) for row in rows} == {
        (1, "permit", 2, 1), (2, "permit", 2, 1),
    }  # fmt: skip
    rows = await store.fetch("durations_by_bucket", **since, bucket_ms=1000)
    assert [(row["bucket"], row["duration_ms"], row["calls"]) for row in rows] == [(1, 3, 2)]
    rows = await store.fetch("most_called_tools", **since, limit=9)
    assert [(row["tool"], row["calls"], row["refused"]) for row in rows] == [("get_me", 2, 0), ("push", 1, 0)]
    assert [row["tool"] for row in await store.fetch("most_called_tools", **since, limit=1)] == ["get_me"]
    rows = await store.fetch("last_uses", **since)
    assert [(row["grant_id"], row["last_ms"], row["calls"]) for row in rows] == [("g", 2000, 4)]
