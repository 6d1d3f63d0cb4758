"""Whether a grant and a server may be used: what stops each, and which of several reasons is told."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from percall import wire
from percall_broker.model import standing
from percall_broker.model.entry import Entry
from percall_broker.model.errors import Forbidden
from percall_broker.model.records import Freeze, Grant, Scope, Server

NOW = 1000.0
END = int(NOW)
SERVER = Server("github", 1, Entry("GitHub", "none", ("true",)), "active", 0)


def grant(**changes: Any) -> Grant:
    plain = Grant(
        "g", "alice", "default", "key", "laptop", administrator=False, servers={"github": Scope(("*",))},
        state="active", version=1, expires_at=0, created_at=0, created_by="root",
    )  # fmt: skip
    return replace(plain, **changes)


def freeze(kind: str, name: str = "x") -> Freeze:
    return Freeze(kind, name, "lost", "ada", 0)


STOPS: list[tuple[dict[str, Any], str, str]] = [
    ({"person_state": "removed"}, "revoked", "person.removed"),
    ({"device_state": "revoked"}, "revoked", "device.revoked"),
    ({"state": "revoked"}, "revoked", "grant.revoked"),
    ({"person_state": "suspended"}, "suspended", "person.suspended"),
    ({"sign_in_until": END}, "expired", "person.sign_in"),
    ({"freeze": freeze("all")}, "frozen", "broker.frozen"),
    ({"freeze": freeze("person")}, "frozen", "person.frozen"),
    ({"freeze": freeze("device")}, "frozen", "device.frozen"),
    ({"state": "suspended"}, "suspended", "grant.suspended"),
    ({"expires_at": END}, "expired", "grant.expired"),
]
"""In the order in which they are told: what is final first, then what concerns most."""
OF_THE_GRANT = {"grant.revoked", "grant.suspended", "grant.expired"}


@pytest.mark.parametrize(("changes", "state", "code"), STOPS, ids=[code for _, _, code in STOPS])
def test_a_grant_is_stopped_and_with_it_all_that_it_runs(changes: dict[str, Any], state: str, code: str) -> None:
    stopped = grant(**changes)
    refusal = standing.barred(stopped, NOW)
    assert refusal is not None
    assert (refusal.permitted, refusal.code, standing.state_of(stopped, NOW)) == (False, code, state)
    assert standing.unusable(stopped, "github", SERVER, NOW) == refusal
    assert code in wire.CODES_OF_STANDING, "by which a laptop ends the server at the first call that is refused"
    of_holder = standing.key_barred(stopped, NOW)
    assert (of_holder and of_holder.code) == (None if code in OF_THE_GRANT else code)
    with pytest.raises(Forbidden) as raised:
        standing.require(refusal)
    assert (raised.value.code, raised.value.next_step) == (code, refusal.next_step)


@pytest.mark.parametrize("first", range(len(STOPS)))
def test_of_several_reasons_the_first_is_told(first: int) -> None:
    changes: dict[str, Any] = {}
    for stop, _, _ in reversed(STOPS[first:]):
        changes |= stop
    refusal = standing.barred(grant(**changes), NOW)
    assert refusal is not None
    assert refusal.code == STOPS[first][2]


def test_a_grant_that_stands_until_a_second_from_now_stands() -> None:
    for standing_one in (grant(), grant(expires_at=END + 1, sign_in_until=END + 1)):
        assert standing.state_of(standing_one, NOW) == "active"
        assert standing.barred(standing_one, NOW) is None
        assert standing.key_barred(standing_one, NOW) is None
        assert standing.unusable(standing_one, "github", SERVER, NOW) is None
    standing.require(None)


def test_a_freeze_of_everything_leaves_the_administrators_who_can_lift_it() -> None:
    assert standing.barred(grant(freeze=freeze("all"), administrator=True), NOW) is None
    for kind in ("person", "device"):
        assert standing.barred(grant(freeze=freeze(kind), administrator=True), NOW) is not None


def test_a_frozen_person_is_told_who_froze_what_when_and_why() -> None:
    refusal = standing.barred(grant(freeze=freeze("person", "alice")), NOW)
    assert refusal is not None
    assert refusal.message == "ada froze all that alice may do at 1970-01-01 00:00 UTC: lost."
    assert refusal.next_step.endswith("percall-broker unfreeze --person alice")


@pytest.mark.parametrize(
    ("server", "code"),
    [
        (None, "server.removed"),
        (replace(SERVER, state="removed", freeze=freeze("server")), "server.removed"),
        (replace(SERVER, state="suspended", freeze=freeze("server")), "server.frozen"),
        (replace(SERVER, state="suspended"), "server.suspended"),
    ],
)
def test_a_server_is_closed_to_all_calls(server: Server | None, code: str) -> None:
    refusal = standing.closed("github", server)
    assert refusal is not None
    assert (refusal.permitted, refusal.code) == (False, code)
    assert code in wire.CODES_OF_STANDING
    assert standing.unusable(grant(), "github", server, NOW) == refusal
    unnamed = standing.unusable(grant(servers={}), "github", server, NOW)
    assert unnamed is not None
    assert unnamed.code == "grant.server", "who may not use it is told nothing of it"


@pytest.mark.parametrize(
    ("expires_at", "sign_in_until", "end"), [(0, 0, 0), (5, 0, 5), (0, 7, 7), (5, 7, 5), (7, 5, 5)]
)
def test_a_grant_ends_by_itself_at_the_earlier_of_two(expires_at: int, sign_in_until: int, end: int) -> None:
    assert standing.ends_at(grant(expires_at=expires_at, sign_in_until=sign_in_until)) == end


def test_a_grant_waits_for_a_device_while_it_may_be_picked_up() -> None:
    waiting = grant(claimable=True, device="")
    assert standing.is_waiting(waiting, NOW)
    for other in ({"claimable": False}, {"device": "key"}, {"state": "suspended"}, {"expires_at": END}):
        assert not standing.is_waiting(replace(waiting, **other), NOW)
