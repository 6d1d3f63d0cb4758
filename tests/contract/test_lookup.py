"""What is remembered of a grant is of one version, also where the news of a change is still on its way.

And policies are read once.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from percall_broker import policy
from percall_broker.model.errors import Unavailable
from percall_broker.stages.lookup import Lookup
from percall_broker.store import Statement
from percall_broker.store.measured import MeasuredStore
from percall_broker.telemetry.metrics import Metrics

if TYPE_CHECKING:
    from percall_broker.policy import Policies
    from percall_broker.store import Store
    from percall_broker.store.protocol import Row

pytestmark = pytest.mark.anyio

TOUCH = Statement("touch_grants", {"person": "alice", "device": ""})
MEMBER = {"group_name": "devs", "person": "alice"}
NEVER = {
    "id": "never", "effect": "never", "grant_id": "g", "person": "alice", "server": "github", "tool": "get_me",
    "rule": "", "shape": "", "varying": "[]", "session": "", "expires_at": 0, "given_by": "lea", "given_ms": 1,
}  # fmt: skip


async def test_a_new_version_is_never_seen_with_the_groups_of_an_old_one(store: Store) -> None:
    joined = Statement("add_member", {**MEMBER, "id": "m", "created_at": 1})
    await store.transact(Statement("add_group", {"name": "devs", "created_at": 1}), joined)
    elsewhere = Lookup(store)
    before = await elsewhere.grant("g")
    assert before is not None
    assert before.groups == ("devs",)
    await store.transact(Statement("remove_member", MEMBER), TOUCH)
    after = await elsewhere.grant("g", fresh=True)
    assert after is not None
    assert (after.groups, after.version) == ((), before.version + 1)
    assert await elsewhere.grant("g") == after


async def test_nor_without_what_was_refused_for_good_since(store: Store) -> None:
    elsewhere = Lookup(store)
    before = await elsewhere.grant("g")
    assert before is not None
    assert before.nevers == {}
    await store.transact(Statement("add_lasting_answer", NEVER), TOUCH)
    after = await elsewhere.grant("g", fresh=True)
    assert after is not None
    assert (after.nevers, after.version) == ({("github", "get_me"): "never"}, before.version + 1)


async def test_grants_are_read_together_each_with_what_its_own_person_holds(store: Store) -> None:
    await store.transact(
        Statement("seed_person", {"name": "bob"}),
        Statement("seed_grant", {"id": "bob's", "person": "bob", "device": None, "expires_at": 0}),
        Statement("add_group", {"name": "devs", "created_at": 1}),
        Statement("add_member", {**MEMBER, "id": "m", "created_at": 1}),
    )
    lookup = Lookup(store)
    together = await lookup.grants({"g", "bob's", "nobody's"})
    held = {name: (grant.person, grant.groups) for name, grant in together.items()}
    assert held == {"g": ("alice", ("devs",)), "bob's": ("bob", ())}
    assert together == {name: await Lookup(store).grant(name) for name in held}
    await store.transact(Statement("set_grant_state", {"id": "bob's", "state": "suspended"}))
    assert await lookup.grants(set(held)) == together, "as they are remembered"
    lookup.forget()
    assert (await lookup.grants(set(held)))["bob's"].state == "suspended"


async def test_new_policies_are_parsed_once_however_many_calls_come_at_once(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    parsed: list[int] = []
    read = policy.read

    def counted(files: dict[str, str], version: int) -> Policies:
        parsed.append(version)
        return read(files, version)

    monkeypatch.setattr(policy, "read", counted)
    lookup = Lookup(store)
    first, *others = [asyncio.ensure_future(lookup.policies(0)) for _ in range(20)]
    await asyncio.sleep(0)
    first.cancel()  # the others wait still
    found = await asyncio.gather(*others)
    assert first.cancelled()
    assert all(one is found[0] for one in found)
    assert await lookup.policies(0) is found[0]
    assert parsed == [0]


async def test_policies_that_could_not_be_read_are_read_again(store: Store) -> None:
    class FailsOnce(MeasuredStore):
        has_failed = False

        async def fetch(self, name: str, /, **parameters: Any) -> list[Row]:
            if self.has_failed:
                return await super().fetch(name, **parameters)
            self.has_failed = True
            raise Unavailable("store.failed", "The store failed.")

    added = {"version": 1, "files": "{}", "message": "", "created_at": 1, "created_by": "admin"}
    await store.transact(Statement("add_policies", added))
    lookup = Lookup(FailsOnce(store, Metrics()))
    failed = await asyncio.gather(*(lookup.policies(1) for _ in range(3)), return_exceptions=True)
    assert [type(one) for one in failed] == [Unavailable] * 3
    assert (await lookup.policies(1)).version == 1
