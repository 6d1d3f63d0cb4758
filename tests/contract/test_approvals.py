"""What both engines promise of approvals: asked once, so many at a time, used once, and gone with their grant."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from harness.statements import allowing, asking, call, using
from percall_broker.store import Statement

if TYPE_CHECKING:
    from percall_broker.store import Store

pytestmark = pytest.mark.anyio

LISTING: dict[str, Any] = {
    "viewer": "lea", "sees_all": 0, "state": "pending", "kind": "", "person": "", "agent": "", "server": "", "mine": 1,
    "before": 0, "limit": 100, "now": 10,
}  # fmt: skip


async def state(store: Store, name: str, now: int = 30) -> str:
    return str((await store.fetch("read_approval", id=name, now=now))[0]["state"])


async def test_the_same_call_is_asked_about_once_however_many_ask_at_once(leads: Store) -> None:
    came = await asyncio.gather(*(leads.transact(*asking(f"ap{n}", "one call")) for n in range(50)))
    assert sum(one is not None for one in came) == 1
    assert len(await leads.fetch("list_approvals", **LISTING)) == 1


async def test_what_has_expired_is_asked_about_again(leads: Store) -> None:
    assert await leads.transact(*asking("first", "one call"))
    assert await leads.transact(*asking("early", "one call", now=3599)) is None
    assert await leads.transact(*asking("again", "one call", now=3600))
    assert await leads.transact(*allowing("first")) is None


async def test_a_grant_has_no_more_questions_open_than_it_may_however_many_ask_at_once(leads: Store) -> None:
    came = await asyncio.gather(*(leads.transact(*asking(f"ap{n}")) for n in range(60)))
    assert sum(one is not None for one in came) == 20


async def test_of_two_hundred_calls_on_one_approval_one_is_recorded(leads: Store) -> None:
    await leads.transact(*asking("ap"))
    assert await leads.transact(*using("ap", "too early")) is None
    assert await leads.transact(*allowing("ap"))
    came = await asyncio.gather(*(leads.transact(*using("ap", f"call{n}")) for n in range(200)))
    assert sum(one is not None for one in came) == 1
    assert await state(leads, "ap") == "used"
    filters = {"person": "", "agent": "", "server": "", "tool": "", "since_ms": 0, "until_ms": 0, "limit": 1000}
    filters |= {"device": "", "before": 0, "of_key": 0, "secret_owner": "", "secret_version": 0, "now": 900}
    rows = await leads.fetch("list_calls", grant_id="g", decision="permit", **filters)
    assert [(row["approval"], row["approver"]) for row in rows] == [("ap", "lea")]


@pytest.mark.parametrize("change", [{"grant_id": "other"}, {"subject": "another call"}, {"now": 900}])
async def test_an_approval_lets_nothing_else_pass(leads: Store, change: dict[str, Any]) -> None:
    await leads.transact(*asking("ap"))
    await leads.transact(*allowing("ap"))
    assert await leads.transact(*using("ap", "c", **change)) is None
    assert await leads.transact(*using("ap", "c")) is not None


async def test_only_the_group_answers_and_only_what_was_seen(leads: Store) -> None:
    await leads.transact(*asking("ap"))
    assert await leads.transact(*allowing("ap", person="alice")) is None
    assert await leads.transact(*allowing("ap", digest="something else")) is None
    assert await state(leads, "ap") == "pending"
    came = await asyncio.gather(*(leads.transact(*allowing("ap")) for _ in range(10)))
    assert sum(one is not None for one in came) == 1


async def test_whoever_asks_does_not_answer_where_somebody_else_must(leads: Store) -> None:
    await leads.transact(*asking("own", person="lea", separate=1))
    assert await leads.transact(*allowing("own")) is None
    await leads.transact(*asking("shared", person="lea"))
    assert await leads.transact(*allowing("shared")) is not None


async def test_nothing_passes_and_nothing_is_answered_once_the_grant_is_revoked(leads: Store) -> None:
    await leads.transact(*asking("waits"))
    await leads.transact(*asking("allowed"))
    await leads.transact(*allowing("allowed"))
    revoking = (
        Statement("set_grant_state", {"id": "g", "state": "revoked"}, required=True),
        Statement("end_approvals"),
    )
    used, _ = await asyncio.gather(leads.transact(*using("allowed", "c")), leads.transact(*revoking))
    assert await state(leads, "allowed") == ("ended" if used is None else "used")
    assert await state(leads, "waits") == "ended"
    assert await leads.transact(*allowing("waits")) is None
    assert await leads.transact(*using("allowed", "d")) is None
    assert await leads.transact(*asking("more")) is None


async def test_an_allowance_that_is_taken_back_lets_nothing_pass_once_that_has_returned(leads: Store) -> None:
    given = {
        "id": "ap", "effect": "allow", "grant_id": "g", "person": "alice", "server": "github", "tool": "merge",
        "rule": "r", "shape": "s", "varying": "[]", "session": "", "expires_at": 900, "given_by": "lea", "given_ms": 1,
    }  # fmt: skip
    await leads.transact(*asking("ap"), Statement("add_lasting_answer", given))
    held = Statement("hold_allowance", {"approval": "ap", "now": 30}, required=True)
    assert await leads.transact(call("a"), held) is not None
    assert (
        await leads.transact(call("b"), Statement("hold_allowance", {"approval": "ap", "now": 900}, required=True))
        is None
    )
    lifting = leads.transact(Statement("lift_answer", {"id": "ap", "person": "lea"}, required=True))
    await asyncio.gather(lifting, *(leads.transact(call(f"c{n}"), held) for n in range(20)))
    assert await leads.transact(call("late"), held) is None


async def test_what_lets_calls_pass_still_is_allowed_however_often_it_was_used(leads: Store) -> None:
    given = {
        "effect": "allow", "grant_id": "g", "person": "alice", "server": "github", "tool": "merge", "rule": "r",
        "shape": "s", "varying": "[]", "session": "", "expires_at": 2000, "given_by": "lea", "given_ms": 1,
    }  # fmt: skip
    for name in ("used", "waiting", "lifted"):
        await leads.transact(
            *asking(name), *allowing(name), Statement("add_lasting_answer", {**given, "id": name}, required=True)
        )
    assert await leads.transact(*using("used", "c"))
    assert await leads.transact(*using("lifted", "d"))
    await leads.transact(Statement("lift_answer", {"id": "lifted", "person": "lea"}, required=True))

    async def states(now: int) -> dict[str, str]:
        return {name: await state(leads, name, now) for name in ("used", "waiting", "lifted")}

    async def listed(wanted: str, now: int) -> set[str]:
        page = LISTING | {"mine": 0, "state": wanted, "now": now}
        return {row["id"] for row in await leads.fetch("list_approvals", **page)}

    assert await states(1999) == {"used": "allowed", "waiting": "allowed", "lifted": "used"}
    assert (await listed("allowed", 1999), await listed("used", 1999)) == ({"used", "waiting"}, {"lifted"})
    assert await states(2000) == {"used": "used", "waiting": "expired", "lifted": "used"}
    assert (await listed("allowed", 2000), await listed("expired", 2000)) == (set(), {"waiting"})
    lasting = {row["id"]: row["lasting"] for row in await leads.fetch("list_approvals", **LISTING | {
        "mine": 0, "state": "", "now": 2000,
    })}  # fmt: skip
    assert lasting == {"used": "ended", "waiting": "ended", "lifted": "lifted"}
    own = await leads.fetch("own_approvals", grant_id="g", now=1999, limit=10)
    assert {(row["id"], row["state"], row["expires_at"]) for row in own} == {
        ("used", "allowed", 2000), ("waiting", "allowed", 2000), ("lifted", "used", 900),
    }  # fmt: skip


async def test_ten_thousand_questions_are_listed_by_the_page(leads: Store) -> None:
    seeded = (Statement("seed_approvals", {"most": 10_000}), Statement("seed_approval_groups", {"group_name": "leads"}))
    await leads.transact(*seeded)
    assert (await leads.fetch("count_pending_approvals", now=10))[0]["pending"] == 10_000
    seen: list[str] = []
    before = 0
    for _ in range(3):
        page = await leads.fetch("list_approvals", **LISTING | {"before": before})
        seen += [row["id"] for row in page]
        before = page[-1]["seq"]
    assert len(set(seen)) == 300
    assert await leads.fetch("list_approvals", **LISTING | {"viewer": "alice"}) == []
