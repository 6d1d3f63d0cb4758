"""Pins, on both engines: one first sight of a tool wins, and an administrator's word counts before any."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from percall_broker.stages.pins import pins_of_rows
from percall_broker.store import Statement

if TYPE_CHECKING:
    from percall_broker.stages.pins import Pins
    from percall_broker.store import Store

pytestmark = pytest.mark.anyio


def first_sight(
    digest: str, holder: str = "", tool: str = "get_me", most: int = 10, server: str = "github"
) -> list[Statement]:
    at = {"server": server, "tool": tool, "digest": digest}
    return [
        Statement("advance_epoch"),
        Statement("define_tool", {**at, "definition": "{}", "annotations": '{"readOnly":true}', "created_at": 1}),
        Statement("may_pin_more", {"server": server, "holder": holder, "more": 1, "most": most}, required=True),
        Statement("pin_first_sight", {**at, "holder": holder, "pinned_at": 1}, required=True),
        Statement("see_tool", {**at, "holder": holder, "differs": "", "seen_at": 1}),
    ]


def seen(
    digest: str, holder: str = "", differs: str = "description", tool: str = "get_me", server: str = "github"
) -> list[Statement]:
    at = {"server": server, "tool": tool, "digest": digest}
    return [
        Statement("define_tool", {**at, "definition": "{}", "annotations": "{}", "created_at": 2}),
        Statement("see_tool", {**at, "holder": holder, "differs": differs, "seen_at": 2}),
        Statement("forget_definitions", {"server": server}),
    ]


def pin(digest: str, server: str = "github") -> Statement:
    at = {"server": server, "tool": "get_me", "digest": digest}
    return Statement("pin_tool", {**at, "pinned_at": 3, "pinned_by": "root"}, required=True)


async def pins(store: Store, holder: str = "", server: str = "github") -> Pins:
    at: dict[str, Any] = {"server": server, "holder": holder}
    return pins_of_rows(await store.fetch("pins_of", **at), await store.fetch("sightings_of", **at))


async def test_of_two_first_sights_at_once_one_wins(store: Store) -> None:
    done = await asyncio.gather(*(store.transact(*first_sight(digest)) for digest in "abcdefgh"))
    assert sum(one is not None for one in done) == 1
    assert len((await pins(store)).accepted["get_me"]) == 1


async def test_a_laptops_first_sight_is_its_own_and_everybodys_counts_before_it(store: Store) -> None:
    assert await store.transact(*first_sight("mine", "g"))
    assert await store.transact(*first_sight("yours", "h"))
    assert (await pins(store, "g")).accepted == {"get_me": ("mine",)}
    assert (await pins(store, "h")).accepted == {"get_me": ("yours",)}
    assert (await pins(store)).accepted == {}
    assert await store.transact(pin("yours"))
    for holder in ("", "g", "h", "newcomer"):
        assert (await pins(store, holder)).accepted == {"get_me": ("yours",)}
    assert (await pins(store, "g")).changed("get_me") is not None
    assert await store.transact(*first_sight("other", "newcomer")) is None


async def test_what_a_laptop_sees_next_is_no_first_sight(store: Store) -> None:
    assert await store.transact(*first_sight("mine", "g"))
    assert await store.transact(*first_sight("changed", "g")) is None
    assert (await pins(store, "g")).accepted == {"get_me": ("mine",)}


async def test_a_change_is_one_until_it_is_accepted_or_comes_back(store: Store) -> None:
    await store.transact(*first_sight("one"))
    await store.transact(*seen("two"))
    assert (await pins(store)).changed("get_me") == "description"
    await store.transact(*seen("one", differs=""))
    assert (await pins(store)).changed("get_me") is None
    assert await store.transact(pin("two")) is None, "nobody sees it any more"
    await store.transact(*seen("two"))
    assert await store.transact(pin("two"))
    assert (await pins(store)).changed("get_me") is None
    assert (await pins(store)).accepted == {"get_me": ("one", "two")}


async def test_only_annotations_on_which_all_agree_that_are_accepted_for_everybody_count(store: Store) -> None:
    await store.transact(*first_sight("mine", "g"))
    assert (await pins(store, "g")).annotations == {}
    await store.transact(pin("mine"))
    assert (await pins(store, "g")).annotations == {"get_me": (("readOnly", True),)}
    await store.transact(*seen("two", "g"))
    await store.transact(pin("two"))
    assert (await pins(store, "g")).annotations == {"get_me": ()}


async def test_a_laptop_that_invents_tools_pins_so_many_and_no_more(store: Store) -> None:
    for number in range(3):
        assert await store.transact(*first_sight("d", "g", f"tool{number}", most=3))
    assert await store.transact(*first_sight("d", "g", "one-more", most=3)) is None
    room = Statement("may_pin_more", {"server": "github", "holder": "g", "more": 2, "most": 4}, required=True)
    assert await store.transact(room) is None, "neither of two, where there is room for one"


async def test_what_nobody_sees_or_accepted_is_not_kept(store: Store) -> None:
    await store.transact(*first_sight("one"))
    for number in range(5):
        await store.transact(*seen(f"changed{number}"))
    kept = {row["digest"] for row in await store.fetch("list_tools", server="github")}
    assert kept == {"one", "changed4"}


async def test_what_is_accepted_of_one_server_says_nothing_of_another(store: Store) -> None:
    await store.transact(Statement("seed_server", {"name": "gitlab"}))
    assert await store.transact(*first_sight("one", "h", server="gitlab"), pin("one", "gitlab"))
    assert (await pins(store, "g")).accepted == {}
    assert await store.transact(*first_sight("two", "h", most=1)), "of this server, it is its first"
    assert await store.transact(*first_sight("one", "g", most=1)), "and so it is this laptop's"
    assert (await pins(store, "h", "gitlab")).changed("get_me") is None
    await store.transact(*seen("three", "h"))
    assert (await pins(store, "h")).changed("get_me") == "description"
    assert (await pins(store, "h", "gitlab")).changed("get_me") is None, "what is seen of one neither"
    await store.transact(pin("two"), *first_sight("other tool's", "g", tool="push"))
    assert await store.transact(pin("other tool's")) is None
    assert await store.transact(*seen("three", "g"), Statement("unpin_tool", {"server": "gitlab", "tool": "get_me"}))
    assert (await pins(store, "g", "gitlab")).accepted == {}
    assert (await pins(store, "newcomer")).accepted == {"get_me": ("two",)}
    assert await store.transact(*first_sight("two", "k", server="gitlab"), pin("two"))
    assert (await pins(store, "newcomer", "gitlab")).accepted == {}, "what is accepted again neither"
    assert (await pins(store, "h", "gitlab")).accepted == {"get_me": ("one",)}, "its own first sight"
    await store.transact(*seen("four", "h", server="gitlab"))
    for name in ("forget_pins", "forget_sightings"):
        await store.transact(Statement(name, {"server": "github"}))
    forget = Statement("forget_definitions", {"server": "github"})
    await store.transact(*first_sight("left", "h", tool="push"), forget)
    assert [row["digest"] for row in await store.fetch("list_tools", server="github")] == ["left"]
    of_gitlab = ["one", "two", "four"]
    assert [row["digest"] for row in await store.fetch("list_tools", server="gitlab")] == of_gitlab
    assert (await pins(store, "h", "gitlab")).accepted == {"get_me": ("one",)}
    await store.transact(Statement("forget_all_definitions", {"server": "github"}))
    assert [row["digest"] for row in await store.fetch("list_tools", server="gitlab")] == of_gitlab
    assert (await pins(store, "h", "gitlab")).changed("get_me") == "description"


async def test_tools_are_listed_with_who_accepted_them_and_how_many_see_something_else(store: Store) -> None:
    await store.transact(Statement("seed_server", {"name": "gitlab"}))
    for server in ("gitlab", "github"):
        await store.transact(*first_sight("accepted", "g", server=server), pin("accepted", server))
        await store.transact(*first_sight("his", "h", tool="push", server=server))
        await store.transact(*first_sight("hers", "g", tool="push", server=server))
    await store.transact(*seen("changed", "h"), *seen("changed", "i"), *seen("changed"))
    await store.transact(*seen("new", "h", tool="push"))
    await store.transact(*seen("accepted", "i", server="gitlab"), *seen("hers", "h", tool="push", server="gitlab"))
    await store.transact(
        *seen("new", "i", server="gitlab"), pin("new", "gitlab"), *seen("changed", "i", server="gitlab")
    )

    async def listed(server: str) -> dict[tuple[str, str], tuple[Any, ...]]:
        rows = await store.fetch("list_tools", server=server)
        names = ("pinned", "pinned_by", "pinned_at", "laptops", "refused")
        return {(row["tool"], row["digest"]): tuple(row[name] for name in names) for row in rows}

    assert await listed("github") == {
        ("get_me", "accepted"): (1, "root", 3, 1, 0),
        ("get_me", "changed"): (0, "", 0, 2, 3),  # one is the broker itself
        ("push", "hers"): (0, "", 0, 1, 0),
        ("push", "his"): (0, "", 0, 0, 0),
        ("push", "new"): (0, "", 0, 1, 1),
    }
    assert await listed("gitlab") == {
        ("get_me", "accepted"): (1, "root", 3, 1, 0),
        ("get_me", "new"): (1, "root", 3, 0, 0),
        ("get_me", "changed"): (0, "", 0, 1, 1),
        ("push", "hers"): (0, "", 0, 2, 1),
        ("push", "his"): (0, "", 0, 0, 0),
    }
    await store.transact(*first_sight("his", "i", tool="push"))
    first = {"server": "github", "tool": "push"}
    assert await store.fetch("first_seen", **first) == [{"digest": "his", "holders": 2}]
    assert await store.fetch("first_seen", **first | {"tool": "none"}) == []
    accepted = await store.fetch("first_seen", server="github", tool="get_me")
    assert accepted == [{"digest": "accepted", "holders": 1}], "whoever accepted it for everybody is none of them"
