"""Nothing is recorded, and so nothing is done, for what does not stand in the very transaction that records it.

Whoever stops something raises versions too, which refuse by themselves; here they are as they were decided on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from harness.statements import call, freeze, outcome, redemption, request, startup
from percall_broker.store import Statement

if TYPE_CHECKING:
    from collections.abc import Callable

    from percall_broker.store import Store

pytestmark = pytest.mark.anyio

END = 100
"""When the grant ends, and the person must sign in again, in the tests that look at that; seconds."""

RECORDED: dict[str, Callable[..., Statement]] = {
    "a call": lambda **changes: call("new", **changes),
    "a redemption": lambda **changes: redemption("unredeemed", **changes),
    "a request of a call": lambda **changes: request("new", "open", **changes),
    "a request of no call": lambda **changes: startup("new", **changes),
}


STOPPED: dict[str, Statement] = {
    "the person is suspended": Statement(
        "set_person_state", {"name": "alice", "state": "suspended", "from_state": "active"}
    ),
    "the person is removed": Statement("remove_person", {"name": "alice"}),
    "the person is frozen": freeze("person", "alice"),
    "the device is revoked": Statement("revoke_device", {"id": "d"}),
    "the device is frozen": freeze("device", "d"),
    "the device key is removed": Statement("remove_device_key", {"thumbprint": "key"}),
    "the server is suspended": Statement("set_server_state", {"name": "github", "state": "suspended"}),
    "the server is frozen": freeze("server", "github"),
    "everything is frozen": freeze("all"),
    "the grant is suspended": Statement("set_grant_state", {"id": "g", "state": "suspended"}),
}
OTHERS: dict[str, Statement] = {
    "another person": Statement("set_person_state", {"name": "bob", "state": "suspended", "from_state": "active"}),
    "another device": freeze("device", "d2"),
    "another server": freeze("server", "gitlab"),
    "another grant": Statement("set_grant_state", {"id": "g2", "state": "suspended"}),
}


@pytest.fixture
async def begun(store: Store) -> Store:
    """The store with a call whose credential is unused and one whose window is open; and somebody else, who stands."""
    await store.append(call("unredeemed"), call("open"), redemption("open"))
    await store.transact(
        Statement("seed_person", {"name": "bob"}),
        Statement("seed_device", {"id": "d2", "person": "bob"}),
        Statement("seed_device_key", {"thumbprint": "key2", "person": "bob", "device": "d2"}),
        Statement("seed_grant", {"id": "g2", "person": "bob", "device": "key2", "expires_at": 0}),
        Statement("seed_server", {"name": "gitlab"}),
    )
    return store


async def is_recorded(store: Store, what: str, **changes: Any) -> bool:
    """Whether it is, by the versions that there are now."""
    versions = {"grant_version": (await store.fetch("read_grant", id="g"))[0]["version"]}
    if what != "a redemption":
        versions["server_version"] = (await store.fetch("read_server", name="github"))[0]["version"]
    return bool((await store.append(RECORDED[what](**versions, **changes)))[0])


@pytest.mark.parametrize("stopped", STOPPED)
@pytest.mark.parametrize("what", RECORDED)
async def test_nothing_is_recorded_while(begun: Store, what: str, stopped: str) -> None:
    await begun.transact(STOPPED[stopped])
    assert not await is_recorded(begun, what)


@pytest.mark.parametrize("other", OTHERS)
@pytest.mark.parametrize("what", RECORDED)
async def test_what_stops_others_disturbs_nobody(begun: Store, what: str, other: str) -> None:
    await begun.transact(OTHERS[other])
    assert await is_recorded(begun, what)


@pytest.mark.parametrize(
    "ending",
    [
        Statement("seed_end", {"id": "g", "expires_at": END}),
        Statement("signed_in", {"person": "alice", "until": END}),
    ],
    ids=["the grant", "the sign-in"],
)
@pytest.mark.parametrize("what", RECORDED)
async def test_it_is_recorded_until_that_ends_and_not_from_then_on(begun: Store, what: str, ending: Statement) -> None:
    await begun.transact(ending)
    assert not await is_recorded(begun, what, now=END)
    assert await is_recorded(begun, what, now=END - 1)


async def test_a_freeze_is_told_of_whom_it_concerns_alone(begun: Store) -> None:
    await begun.transact(freeze("server", "gitlab"), freeze("person", "bob"), freeze("device", "d2"))
    assert (await begun.fetch("read_server", name="github"))[0]["frozen_kind"] is None
    assert (await begun.fetch("read_grant", id="g"))[0]["frozen_kind"] is None
    assert (await begun.fetch("read_server", name="gitlab"))[0]["frozen_name"] == "gitlab"
    assert (await begun.fetch("read_grant", id="g2"))[0]["frozen_kind"] == "person", "the narrowest of two"
    of_other_kinds = [
        freeze(kind, name) for kind in ("person", "device", "server") for name in ("alice", "d", "github")
    ]
    await begun.transact(*(one for one in of_other_kinds if one not in STOPPED.values()))
    assert (await begun.fetch("read_server", name="github"))[0]["frozen_kind"] is None, "by its name alone"
    assert (await begun.fetch("read_grant", id="g"))[0]["frozen_kind"] is None


async def test_a_request_is_recorded_in_its_own_open_window_and_within_its_own_bound(begun: Store) -> None:
    await begun.append(call("settled"), redemption("settled"), outcome("settled"), call("other"), redemption("other"))
    for name in ("unredeemed", "settled", "none"):
        assert not await is_recorded_in(begun, name, "r"), name
    assert [await is_recorded_in(begun, "other", f"o{number}") for number in range(4)] == [True, True, True, False]
    assert await is_recorded_in(begun, "open", "r")
    assert not await is_recorded_in(begun, "open", "stolen", device="key2")
    assert not (await begun.append(startup("stolen", device="key2")))[0]


async def is_recorded_in(store: Store, window: str, name: str, **changes: Any) -> bool:
    return bool((await store.append(request(f"{window}-{name}", window, **changes)))[0])
