"""What is remembered of a grant is of one version, also where the news of a change is still on its way."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from percall_broker.stages.lookup import Lookup
from percall_broker.store import Statement

if TYPE_CHECKING:
    from percall_broker.store import Store

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
