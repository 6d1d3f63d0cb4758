"""Who may answer a question and take an answer back; what ends with what, and what stays; and who sees which."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from harness.statements import allowing, asking
from percall_broker.store import Statement

if TYPE_CHECKING:
    from percall_broker.store import Store

pytestmark = pytest.mark.anyio

END = 100
"""When what ends in these tests does; seconds."""
ANSWERED_AT = 20
"""When `allowing` answers; seconds."""


def administrator(name: str, device: str) -> tuple[Statement, ...]:
    return (
        Statement("seed_person", {"name": name}),
        Statement("seed_device", {"id": device, "person": name}),
        Statement("seed_device_key", {"thumbprint": device, "person": name, "device": device}),
        Statement("seed_administrator", {"id": name, "person": name, "device": device}),
    )


@pytest.fixture
async def staffed(leads: Store) -> Store:
    """The store with another group, `others`, that Otto is in, and an administrator, an expired one, an automation."""
    await leads.transact(
        Statement("seed_person", {"name": "otto"}),
        Statement("add_group", {"name": "others", "created_at": 1}),
        Statement("add_member", {"group_name": "others", "person": "otto", "id": "o", "created_at": 1}, required=True),
        *administrator("ada", "ada's"),
        Statement("seed_end", {"id": "ada", "expires_at": END + 1}),
        *administrator("eve", "eve's"),
        Statement("seed_end", {"id": "eve", "expires_at": ANSWERED_AT}),
        *administrator("robot", "robot's"),
        Statement("seed_automation", {"id": "robot"}),
    )
    return leads


def lasting(name: str, **changes: Any) -> Statement:
    given: dict[str, Any] = {
        "id": name, "effect": "allow", "grant_id": "g", "person": "alice", "server": "github", "tool": "merge",
        "rule": "r", "shape": "s", "varying": "[]", "session": "", "expires_at": END, "given_by": "lea", "given_ms": 1,
    }  # fmt: skip
    return Statement("add_lasting_answer", given | changes, required=True)


def denying(name: str) -> Statement:
    return Statement("deny_approval", {"id": name, "answer": "deny", "time_ms": 1}, required=True)


async def lasting_state(store: Store, name: str) -> str:
    return str((await store.fetch("read_approval", id=name, now=1))[0]["lasting"])


async def state(store: Store, name: str) -> str:
    return str((await store.fetch("read_approval", id=name, now=30))[0]["state"])


async def answers(store: Store, name: str) -> dict[str, str]:
    return {row["group_name"]: row["answered_by"] for row in await store.fetch("who_answered", approval=name)}


async def judges(store: Store, approval: str, now: int = ANSWERED_AT) -> set[str]:
    people = ("alice", "lea", "otto", "ada", "eve", "robot")
    return {person for person in people if await store.fetch("may_judge", approval=approval, person=person, now=now)}


# --- who may answer ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("group", "able"),
    [("leads", {"lea"}), ("", {"ada"})],
    ids=["members of the group", "administrators, where no group is named"],
)
async def test_a_question_is_answered_by(staffed: Store, group: str, able: set[str]) -> None:
    answered = set()
    for person in ("alice", "lea", "otto", "ada", "eve", "robot"):
        await staffed.transact(*asking(f"to {person}", group=group))
        if await staffed.transact(*allowing(f"to {person}", person)):
            answered.add(person)
            assert await answers(staffed, f"to {person}") == {group: person}
        else:
            assert await answers(staffed, f"to {person}") == {group: ""}
    assert answered == able


async def test_a_question_to_two_groups_is_allowed_once_both_have_answered(staffed: Store) -> None:
    await staffed.transact(*asking("ap"), Statement("add_approval_group", {"approval": "ap", "group_name": "others"}))
    answering = allowing("ap")[:2]
    assert await staffed.transact(*answering)
    assert await answers(staffed, "ap") == {"leads": "lea", "others": ""}
    assert await staffed.transact(allowing("ap")[2]) is None, "others have still to"
    assert await staffed.transact(*answering) is None, "she has answered"
    assert await staffed.transact(*allowing("ap", "otto"))
    assert await answers(staffed, "ap") == {"leads": "lea", "others": "otto"}


async def test_nothing_is_answered_twice(staffed: Store) -> None:
    await staffed.transact(*asking("denied"))
    assert await staffed.transact(denying("denied"))
    assert await staffed.transact(denying("denied")) is None
    assert await staffed.transact(allowing("denied")[0]) is None
    await staffed.transact(allowing("denied")[1])
    assert await staffed.transact(allowing("denied")[2]) is None, "nor where nobody has still to answer"
    await staffed.transact(*asking("over", expires_at=ANSWERED_AT))
    assert await staffed.transact(*allowing("over")) is None


async def test_an_answer_is_taken_back_by(staffed: Store) -> None:
    """Whoever could have given it, and administrators; not by whoever asked, where somebody else must answer."""
    await staffed.transact(*asking("ap"), *asking("another group's", group="others"))
    assert await judges(staffed, "ap") == {"lea", "ada"}
    assert await judges(staffed, "ap", now=ANSWERED_AT - 1) == {"lea", "ada", "eve"}
    await staffed.transact(*asking("own", person="lea"), *asking("separate", person="lea", separate=1))
    assert await judges(staffed, "own") == {"lea", "ada"}
    assert await judges(staffed, "separate") == {"ada"}


async def test_whoever_could_not_say_yes_any_more_is_asked_again_where_others_have_still_to(staffed: Store) -> None:
    for name in ("open", "beside", "both", "done"):
        await staffed.transact(
            *asking(name), Statement("add_approval_group", {"approval": name, "group_name": "others"})
        )
    answered = {"open": ["lea"], "beside": ["otto"], "both": ["lea", "otto"], "done": ["lea", "otto"]}
    for name, person in ((name, person) for name, people in answered.items() for person in people):
        await staffed.transact(*allowing(name, person)[:2])
    await staffed.transact(allowing("done")[2])
    await staffed.transact(
        Statement("add_member", {"group_name": "leads", "person": "ada", "id": "a", "created_at": 1}),
        *asking("hers"), *allowing("hers", "ada")[:2], Statement("ask_again"),
    )  # fmt: skip
    assert await answers(staffed, "open") == {"leads": "lea", "others": ""}, "while she can"
    await staffed.transact(Statement("remove_member", {"group_name": "leads", "person": "lea"}), Statement("ask_again"))
    assert await answers(staffed, "open") == {"leads": "", "others": ""}
    assert await answers(staffed, "beside") == {"leads": "", "others": "otto"}
    assert await answers(staffed, "both") == {"leads": "", "others": "otto"}
    assert await answers(staffed, "done") == {"leads": "lea", "others": "otto"}, "what is over is as it was"
    assert await answers(staffed, "hers") == {"leads": "ada"}


# --- what ends, and what stays ----------------------------------------------------------------------------------------


async def test_new_policies_end_what_calls_asked_under_earlier_ones(staffed: Store) -> None:
    await staffed.transact(
        *asking("waits"), *asking("allowed"), *allowing("allowed"), *asking("request", kind="grant"),
        *asking("denied"), denying("denied"),
        *asking("newer", policy_version=2),
    )  # fmt: skip
    await staffed.transact(Statement("end_approvals_of_policies", {"version": 2}))
    states = {name: await state(staffed, name) for name in ("waits", "allowed", "request", "denied", "newer")}
    assert states == {
        "waits": "ended", "allowed": "ended", "request": "pending", "denied": "denied", "newer": "pending",
    }  # fmt: skip


async def test_what_is_taken_back_ends_what_it_allowed_and_was_not_used(staffed: Store) -> None:
    await staffed.transact(*asking("waits"), *asking("allowed"), *allowing("allowed"))
    await staffed.transact(*asking("beside"), *allowing("beside"))
    await staffed.transact(*asking("used"), *allowing("used"))
    use = Statement("set_used_by", {"id": "used", "used_by": "a grant"}, required=True)
    assert await staffed.transact(use)
    assert await staffed.transact(use) is None
    assert await staffed.transact(Statement("set_used_by", {"id": "waits", "used_by": "g"}, required=True)) is None
    for name in ("waits", "allowed", "used"):
        await staffed.transact(Statement("end_approval", {"id": name}))
    states = [await state(staffed, name) for name in ("waits", "allowed", "used", "beside")]
    assert states == ["pending", "ended", "used", "allowed"]


async def test_a_call_that_is_asked_about_anew_leaves_what_was_used_as_it_was(staffed: Store) -> None:
    await staffed.transact(*asking("used", "one call"), *allowing("used"))
    await staffed.transact(Statement("set_used_by", {"id": "used", "used_by": "c"}))
    await staffed.transact(*asking("other call", expires_at=END))
    (over,) = [row["expires_at"] for row in await staffed.fetch("read_approval", id="used", now=1)]
    assert await staffed.transact(*asking("again", "one call", now=over, expires_at=over + 1))
    assert await state(staffed, "used") == "used"
    assert await state(staffed, "other call") == "pending"


async def test_a_call_finds_what_was_asked_about_it_while_that_is_open(staffed: Store) -> None:
    async def found(now: int = END - 1, grant: str = "g", subject: str = "one call") -> list[str]:
        return [row["id"] for row in await staffed.fetch("find_approval", grant_id=grant, subject=subject, now=now)]

    await staffed.transact(*asking("ap", "one call", expires_at=END), *asking("other", expires_at=END))
    assert await found() == ["ap"]
    assert await found(now=END) == await found(grant="g2") == await found(subject="none") == []
    await staffed.transact(denying("ap"))
    assert await found() == ["ap"], "the answer"
    await staffed.transact(*allowing("other"), Statement("set_used_by", {"id": "other", "used_by": "c"}))
    assert await found(subject="other") == []


async def test_what_a_grant_may_still_ask_is_by_its_own_open_questions(staffed: Store) -> None:
    await staffed.transact(Statement("seed_grant", {"id": "g2", "person": "alice", "device": "key", "expires_at": 0}))
    others = Statement("add_approval", asking("another's", grant_id="g2")[2].parameters)
    await staffed.transact(others, *asking("denied"), *asking("over", expires_at=END))
    await staffed.transact(denying("denied"))
    assert await staffed.transact(*asking("first", now=END - 1, most=1)) is None, "one is open"
    assert await staffed.transact(*asking("first", now=END, most=1)) is not None
    await staffed.transact(Statement("set_grant_state", {"id": "g", "state": "suspended"}))
    held = {"id": "g", "version": 2, "device": "key"}
    assert await staffed.transact(Statement("hold_grant", held, required=True)) is None
    await staffed.transact(Statement("set_grant_state", {"id": "g", "state": "active"}))
    held |= {"version": 3}
    assert await staffed.transact(Statement("hold_grant", held, required=True))
    for other in ({"version": 2}, {"device": "key2"}, {"id": "g2"}):
        assert await staffed.transact(Statement("hold_grant", held | other, required=True)) is None


async def test_lasting_answers_end_each_with_their_own_and_what_was_lifted_stays_so(staffed: Store) -> None:
    names = ("allowance", "never", "lifted", "other's")
    for name in names:
        await staffed.transact(*asking(name))
    await staffed.transact(
        lasting("allowance"), lasting("never", effect="never"), lasting("lifted"), lasting("other's", person="otto"),
        Statement("lift_answer", {"id": "lifted", "person": "lea"}, required=True),
    )  # fmt: skip
    assert await staffed.transact(Statement("lift_answer", {"id": "lifted", "person": "lea"}, required=True)) is None
    await staffed.transact(Statement("end_lasting_answers", {"person": "otto"}))
    states = [await lasting_state(staffed, name) for name in names]
    assert states == ["active", "active", "lifted", "ended"]
    await staffed.transact(Statement("end_allowances_of_policies"))
    states = [await lasting_state(staffed, name) for name in names]
    assert states == ["ended", "active", "lifted", "ended"]
    await staffed.transact(Statement("end_lasting_answers", {"person": "alice"}))
    states = [await lasting_state(staffed, name) for name in names]
    assert states == ["ended", "ended", "lifted", "ended"]


async def test_allowances_end_with_their_grant_and_with_whoever_gave_them(staffed: Store) -> None:
    names = ("revoked", "void", "never", "stands", "lifted", "doubted")
    await staffed.transact(
        Statement("seed_grant", {"id": "g2", "person": "alice", "device": "key", "expires_at": 0}),
        Statement("seed_revocation", {"id": "g2"}),
        *asking("revoked"), lasting("revoked", grant_id="g2"),
        *asking("void"), *allowing("void"), lasting("void"),
        *asking("never", group="others"), lasting("never", grant_id="g2", effect="never"),
        *asking("stands", group="others"), *allowing("stands", "otto"), lasting("stands"),
        *asking("lifted"), *allowing("lifted"), lasting("lifted"),
        Statement("lift_answer", {"id": "lifted", "person": "lea"}),
        *asking("doubted"), *allowing("doubted")[:2],
        Statement("remove_member", {"group_name": "leads", "person": "lea"}),
        Statement("end_allowances"), Statement("end_approvals"),
    )  # fmt: skip
    states = [await lasting_state(staffed, name) for name in names]
    assert states == ["ended", "ended", "active", "active", "lifted", ""]
    approvals = [await state(staffed, name) for name in names]
    assert approvals == ["pending", "ended", "pending", "allowed", "ended", "pending"]


async def test_an_allowance_is_found_for_what_it_was_given_for_and_nothing_else(staffed: Store) -> None:
    alike = {
        "until": {}, "session": {"session": "s1"}, "grant": {"grant_id": "g2"}, "server": {"server": "gitlab"},
        "tool": {"tool": "push"}, "rule": {"rule": "r2"}, "never": {"effect": "never"}, "lifted": {},
        "otto's": {"effect": "never", "person": "otto"},
    }  # fmt: skip
    await staffed.transact(*(lasting(name, **changes) for name, changes in alike.items()))
    await staffed.transact(Statement("lift_answer", {"id": "lifted", "person": "lea"}))
    asked = {"grant_id": "g", "server": "github", "tool": "merge", "rule": "r", "session": "s1"}

    async def found(**changes: Any) -> set[str]:
        return {row["id"] for row in await staffed.fetch("find_allowances", **asked | {"now": END - 1} | changes)}

    assert await found() == {"until", "session"}
    assert await found(session="s2") == {"until"}
    assert await found(now=END) == set()
    held = [
        await staffed.transact(Statement("hold_allowance", {"approval": name, "now": END - 1}, required=True))
        for name in ("until", "never", "lifted")
    ]
    assert [one is not None for one in held] == [True, False, False]
    assert [(row["what"], row["name"]) for row in await staffed.fetch("held_by", persons='{"alice":null}')] == [
        ("never", "never")
    ]
    await staffed.transact(Statement("lift_answer", {"id": "never", "person": "lea"}))
    assert await staffed.fetch("held_by", persons='{"alice":null}') == []


async def test_what_is_long_over_is_forgotten_but_for_what_still_holds(staffed: Store) -> None:
    """Questions are asked at ten seconds, and are open until END."""
    await staffed.transact(
        *asking("over", expires_at=END), *asking("open", expires_at=END + 1),
        *asking("late", expires_at=END, asked_ms=11_000), *asking("held", expires_at=END), lasting("held"),
        *asking("lifted", expires_at=END), lasting("lifted"),
        Statement("lift_answer", {"id": "lifted", "person": "lea"}),
    )  # fmt: skip
    over = {"before_ms": 11_000, "now": END + 1}
    await staffed.transact(Statement("forget_approvals", over), Statement("forget_approval_groups"))
    left = {name for name in ("over", "open", "late", "held", "lifted") if await answers(staffed, name)}
    assert left == {"open", "late", "held"}


async def test_an_allowance_that_is_over_holds_nothing_any_more(staffed: Store) -> None:
    given = (lasting("past"), lasting("lasts", expires_at=END + 1), lasting("never", effect="never"))
    await staffed.transact(*asking("past"), *asking("lasts"), *asking("never"), *given)
    await staffed.transact(Statement("end_past_allowances", {"now": END}))
    assert [await lasting_state(staffed, name) for name in ("past", "lasts", "never")] == ["ended", "active", "active"]


# --- who sees which ---------------------------------------------------------------------------------------------------


async def test_questions_are_listed_by_what_is_asked_for_and_by_who_may_see_them(staffed: Store) -> None:
    await staffed.transact(
        *asking("leads"), *asking("others", group="others", agent="ci", server="gitlab"),
        *asking("nobody's", group="", person="lea"), *asking("otto's", person="otto", kind="grant", separate=1),
        *asking("lea's", person="lea", separate=1), *asking("shared", person="lea"), *asking("half", person="lea"),
        Statement("add_approval_group", {"approval": "half", "group_name": "others"}), *allowing("half")[:2],
        *asking("over", expires_at=END), *asking("allowed", expires_at=END + 1), *allowing("allowed"),
        lasting("allowed", expires_at=END + 1),
        *asking("denied"), denying("denied"),
        *asking("no more", expires_at=END), denying("no more"),
    )  # fmt: skip
    filters = {"viewer": "ada", "sees_all": 1, "state": "", "kind": "", "person": "", "agent": "", "server": ""}

    async def listed(**changes: Any) -> list[str]:
        page = filters | {"mine": 0, "before": 0, "limit": 100, "now": END} | changes
        return [row["id"] for row in await staffed.fetch("list_approvals", **page)]

    pending = ["half", "shared", "lea's", "otto's", "nobody's", "others", "leads"]
    every = ["no more", "denied", "allowed", "over", *pending]
    assert await listed() == every
    assert await listed(kind="grant") == ["otto's"]
    assert await listed(person="lea") == ["half", "shared", "lea's", "nobody's"]
    assert await listed(agent="ci") == await listed(server="gitlab") == ["others"]
    assert await listed(state="pending") == pending
    assert await listed(state="expired") == ["over"]
    assert await listed(state="allowed") == ["allowed"], "its expiry is now the answer's"
    assert await listed(state="denied") == ["no more", "denied"]
    assert await listed(limit=2) == every[:2]
    rows = await staffed.fetch("list_approvals", **filters, mine=0, before=0, limit=100, now=END)
    assert {row["id"]: row["lasting"] for row in rows if row["lasting"]} == {"allowed": "active"}
    states = dict.fromkeys(pending, "pending") | dict.fromkeys(("no more", "denied"), "denied")
    states |= {"allowed": "allowed", "over": "expired"}
    assert {row["id"]: row["state"] for row in rows} == states
    read = {name: (await staffed.fetch("read_approval", id=name, now=END))[0]["state"] for name in states}
    assert read == states
    otto = {"viewer": "otto", "sees_all": 0}
    assert await listed(**otto) == ["half", "otto's", "others"], "his own, and his group's"
    assert await listed(**otto, mine=1) == ["half", "others"]
    lea = {"viewer": "lea", "sees_all": 0}
    assert await listed(**lea) == [name for name in every if name != "others"]
    assert await listed(**lea, mine=1) == ["shared", "otto's", "leads"], (
        "open, not answered by her, and not her own where somebody else must answer"
    )
    assert await listed(mine=1) == ["nobody's"]
    own = await staffed.fetch("own_approvals", grant_id="g", now=END, limit=4)
    assert [(row["id"], row["state"]) for row in own] == [
        ("no more", "denied"), ("denied", "denied"), ("allowed", "allowed"), ("over", "expired"),
    ]  # fmt: skip
    assert await staffed.fetch("own_approvals", grant_id="g2", now=END, limit=4) == []
    told = await staffed.fetch("answered_approvals", grant_id="g", since_ms=ANSWERED_AT * 1000 - 1)
    assert [row["id"] for row in told] == ["allowed"]
    assert await staffed.fetch("answered_approvals", grant_id="g", since_ms=ANSWERED_AT * 1000) == []
    assert await staffed.fetch("answered_approvals", grant_id="g2", since_ms=0) == []
    assert (await staffed.fetch("count_asked", grant_id="g", now=END))[0]["pending"] == 7
    assert (await staffed.fetch("count_asked", grant_id="g2", now=END))[0]["pending"] == 0
