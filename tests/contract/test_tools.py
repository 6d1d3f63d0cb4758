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


def first_sight(digest: str, holder: str = "", tool: str = "get_me", most: int = 10) -> list[Statement]:
    at = {"server": "github", "tool": tool, "digest": digest}
    return [
        Statement("advance_epoch"),
        Statement("define_tool", {**at, "definition": "{}", "annotations": '{"readOnly":true}', "created_at": 1}),
        Statement("pin_first_sight", {**at, "holder": holder, "pinned_at": 1, "most": most}, required=True),
        Statement("see_tool", {**at, "holder": holder, "differs": "", "seen_at": 1}),
    ]


def seen(digest: str, holder: str = "", differs: str = "description") -> list[Statement]:
    at = {"server": "github", "tool": "get_me", "digest": digest}
    return [
        Statement("define_tool", {**at, "definition": "{}", "annotations": "{}", "created_at": 2}),
        Statement("see_tool", {**at, "holder": holder, "differs": differs, "seen_at": 2}),
        Statement("forget_definitions", {"server": "github", "tool": "get_me"}),
    ]


def pin(digest: str) -> Statement:
    at = {"server": "github", "tool": "get_me", "digest": digest}
    return Statement("pin_tool", {**at, "pinned_at": 3, "pinned_by": "root"}, required=True)


async def pins(store: Store, holder: str = "") -> Pins:
    at: dict[str, Any] = {"server": "github", "holder": holder}
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


async def test_what_nobody_sees_or_accepted_is_not_kept(store: Store) -> None:
    await store.transact(*first_sight("one"))
    for number in range(5):
        await store.transact(*seen(f"changed{number}"))
    kept = {row["digest"] for row in await store.fetch("list_tools", server="github")}
    assert kept == {"one", "changed4"}
