"""Who a person is: their account at the provider, and how they show that they are there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from percall_broker.store import Statement

if TYPE_CHECKING:
    from percall_broker.store import Store

pytestmark = pytest.mark.anyio

UNTIL = 100
"""Until when an account is expected, or a sign-in holds; seconds."""


def link(person: str, subject: str, at: int = 1) -> Statement:
    return Statement(
        "link_account", {"issuer": "https://idp", "subject": subject, "person": person, "linked_at": at}, required=True
    )


def expect(person: str) -> Statement:
    return Statement("expect_account", {"person": person, "until": UNTIL}, required=True)


@pytest.fixture
async def people(store: Store) -> Store:
    """The store with Ada, who administers and has no device; Eve, who did; Sue, who is suspended; Nora, who is new."""
    await store.transact(
        *(Statement("seed_person", {"name": name}) for name in ("ada", "eve", "sue", "nora")),
        Statement("seed_administrator", {"id": "ada", "person": "ada", "device": "key"}),
        Statement("seed_administrator", {"id": "eve", "person": "eve", "device": "key"}),
        Statement("seed_revocation", {"id": "eve"}),
        Statement("seed_grant", {"id": "nora", "person": "nora", "device": None, "expires_at": 0}),
        Statement("set_person_state", {"name": "sue", "state": "suspended", "from_state": "active"}),
    )
    return store


async def test_an_account_is_linked_to_whoever_has_not_been_here_or_is_expected(people: Store) -> None:
    linked = {
        name for name in ("alice", "ada", "eve", "sue", "nora", "nobody") if await people.transact(link(name, name))
    }
    assert linked == {"nora", "eve"}, "not who has a device, administers, is suspended, or is not there"
    assert await people.transact(expect("alice"))
    assert await people.transact(link("alice", "alice", at=UNTIL)) is None, "not any more"
    assert await people.transact(link("alice", "alice", at=UNTIL - 1))


async def test_an_account_is_one_persons_and_a_person_has_one(people: Store) -> None:
    assert await people.transact(expect("alice"))
    assert await people.transact(link("nora", "one"))
    assert await people.transact(link("alice", "one")) is None
    assert await people.transact(link("alice", "two"))
    assert await people.transact(link("alice", "three")) is None
    rows = await people.fetch("read_account", issuer="https://idp", subject="two")
    assert [row["person"] for row in rows] == ["alice"]
    assert await people.fetch("read_account", issuer="https://other", subject="two") == []


async def test_an_account_is_expected_of_who_is_active_alone(people: Store) -> None:
    assert await people.transact(expect("sue")) is None
    assert await people.transact(expect("nobody")) is None
    assert await people.transact(link("ada", "ada")) is None, "nothing was changed for others"


async def test_a_sign_in_is_made_longer_and_never_shorter_and_not_for_who_is_suspended(people: Store) -> None:
    async def signed_in(person: str, until: int) -> bool:
        statement = Statement("signed_in", {"person": person, "until": until}, required=True)
        return await people.transact(statement) is not None

    assert await signed_in("alice", UNTIL)
    assert not await signed_in("alice", UNTIL)
    assert not await signed_in("alice", UNTIL - 1)
    assert await signed_in("alice", UNTIL + 1)
    assert not await signed_in("sue", UNTIL)
    untils = {row["name"]: row["sign_in_until"] for row in await people.fetch("list_persons", now=1)}
    assert untils == {"alice": UNTIL + 1, "ada": 0, "eve": 0, "sue": 0, "nora": 0}


async def test_who_administers_is_a_person_whose_grant_may_still_be_used(people: Store) -> None:
    await people.transact(
        Statement("seed_administrator", {"id": "robot", "person": "nora", "device": "key"}),
        Statement("seed_automation", {"id": "robot"}),
        Statement("seed_administrator", {"id": "stopped", "person": "sue", "device": "key"}),
        Statement("set_grant_state", {"id": "stopped", "state": "suspended"}),
    )
    names = ("alice", "ada", "eve", "sue", "nora")
    administrating = {name for name in names if await people.fetch("administrates", person=name)}
    assert administrating == {"ada", "sue"}, "a suspended grant may be resumed"


async def test_a_presence_key_is_added_once_and_changed_only_from_the_one_it_is(people: Store) -> None:
    key: dict[str, Any] = {
        "person": "alice", "kind": "passphrase", "salt": b"s", "passes": 3, "memory_bytes": 1, "public_key": "first",
        "created_at": 1,
    }  # fmt: skip

    async def done(name: str, **parameters: Any) -> bool:
        return await people.transact(Statement(name, parameters, required=True)) is not None

    assert not await done("change_presence_key", **key, old_public_key="first")
    assert await done("add_presence_key", **key)
    assert not await done("add_presence_key", **key | {"public_key": "second"})
    changed = key | {"public_key": "second"}
    assert not await done("change_presence_key", **changed, old_public_key="second")
    assert not await done("change_presence_key", **changed | {"kind": "other"}, old_public_key="first")
    assert not await done("change_presence_key", **changed | {"person": "ada"}, old_public_key="first")
    assert await done("change_presence_key", **changed, old_public_key="first")
    assert not await people.fetch("is_presence_key", person="alice", public_key="first")
    assert not await people.fetch("is_presence_key", person="ada", public_key="second")
    assert await people.fetch("is_presence_key", person="alice", public_key="second")
    assert not await done("remove_presence_key", person="ada")
    assert await done("remove_presence_key", person="alice")
