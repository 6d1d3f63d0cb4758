"""Whose key a request carries, what bars it, and where it goes, as its owner is told before they give it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from percall_broker.model import entry_file
from percall_broker.model.errors import InvalidInput
from percall_broker.model.keys import (
    MAX_KEY_BYTES,
    MIN_KEY_BYTES,
    NO_KEY,
    Key,
    barred_key,
    binding,
    checked_key,
    gone_key,
    key_of,
    places,
)
from percall_broker.model.records import Grant, PersonalKey, Server

if TYPE_CHECKING:
    from percall_broker.model.entry import Entry

SLOT = '[[key.slot]]\nheader = "Authorization"\nformat = "Bearer {key}"\n'
EGRESS = """
[server]
title = "Tracker"
delivery = "egress"
command = ["tracker"]
[key]
placeholder = "trk_{random:24}"
[egress]
ways = ["proxy"]
hosts = ["*.tracker.example"]
[[tool]]
match = ["*"]
requests = ["GET *.tracker.example/**"]
"""
RELAY = """
[server]
title = "Remote"
delivery = "relay"
url = "https://mcp.tracker.example/mcp"
"""


@pytest.mark.parametrize(
    ("text", "origin"), [(EGRESS, "https://api.tracker.example"), (RELAY, "https://mcp.tracker.example")]
)
def test_whatever_stands_in_for_a_host_is_told(text: str, origin: str) -> None:
    plain = places(entry_file.read(text + SLOT))
    assert plain.endswith("(header Authorization)")
    told = places(entry_file.read(text + SLOT, connect={origin: "http://127.0.0.1:9999"}))
    assert told == f"{plain}; http://127.0.0.1:9999 in the place of {origin}"


# --- whose key, and what bars it --------------------------------------------------------------------------------------


def entry(owner: str = "any", *, keyed: bool = True) -> Entry:
    read = entry_file.read(EGRESS + SLOT)
    return replace(read, key_owner=owner, slots=read.slots if keyed else ())


def server(owner: str = "any", *, shared: int = 7, keyed: bool = True) -> Server:
    return Server("tracker", 1, entry(owner, keyed=keyed), "active", shared, binding="here")


def grant(own: PersonalKey | None = None, *, vouched: bool = True, of: str = "tracker") -> Grant:
    return Grant(
        "g", "alice", "cursor", "k", "laptop", administrator=False, servers={}, state="active", version=1, expires_at=0,
        created_at=1, created_by="root", vouched=vouched, keys={of: own} if own else {},
    )  # fmt: skip


OWN = PersonalKey(3, "here")
HERS, SHARED = Key("tracker", "alice", 3, "here"), Key("tracker", "", 7)


@pytest.mark.parametrize(
    ("owner", "own", "shared", "key", "code"),
    [
        ("any", OWN, 7, HERS, None),
        ("any", OWN, 0, HERS, None),
        ("any", None, 7, SHARED, None),
        ("any", None, 0, NO_KEY, "key.missing"),
        ("personal", OWN, 7, HERS, None),
        ("personal", None, 7, NO_KEY, "key.missing"),
        ("shared", OWN, 7, SHARED, None),
        ("shared", OWN, 0, NO_KEY, "key.missing"),
        ("any", PersonalKey(3, "elsewhere"), 7, HERS, "key.moved"),
        ("personal", PersonalKey(3, "elsewhere"), 7, HERS, "key.moved"),
        ("shared", PersonalKey(3, "elsewhere"), 7, SHARED, None),
    ],
)
def test_a_grant_uses_its_persons_own_key_else_the_shared_one(
    owner: str, own: PersonalKey | None, shared: int, key: Key, code: str | None
) -> None:
    asked = grant(own), server(owner, shared=shared)
    assert key_of(*asked) == key
    barred = barred_key(*asked)
    assert (barred and barred.code) == code


def test_a_server_without_a_slot_needs_no_key() -> None:
    asked = grant(OWN), server("personal", keyed=False)
    assert key_of(*asked) == NO_KEY
    assert barred_key(*asked) is None


def test_a_key_for_another_server_is_none_for_this_one() -> None:
    assert key_of(grant(OWN, of="another"), server()) == SHARED


def test_a_device_that_its_person_did_not_introduce_uses_the_shared_key_alone() -> None:
    barred = barred_key(grant(OWN, vouched=False), server())
    assert barred is not None
    assert (barred.code, barred.permitted) == ("key.device", False)
    assert barred_key(grant(vouched=False), server()) is None
    assert barred_key(grant(OWN, vouched=False), server("shared")) is None


@pytest.mark.parametrize(
    ("owner", "message", "next_step"),
    [
        ("any", "neither yours nor a shared one", "percall key add tracker"),
        ("personal", "everybody's own key", "percall key add tracker"),
        ("shared", "no key for 'tracker' yet", "percall-broker server rotate-key tracker"),
    ],
)
def test_who_lacks_a_key_is_told_whose_it_must_be(owner: str, message: str, next_step: str) -> None:
    barred = barred_key(grant(), server(owner, shared=0))
    assert barred is not None
    assert message in barred.message
    assert next_step in barred.next_step


def test_a_key_that_was_removed_while_it_was_used_is_gone_whoever_else_has_one() -> None:
    assert gone_key(grant(OWN), server(), "alice") is None
    assert gone_key(grant(), server(), "") is None
    gone = [gone_key(grant(), server(), "alice"), gone_key(grant(OWN), server("shared"), "alice")]
    gone.append(gone_key(grant(OWN), server(), "bob"))
    assert [one and (one.code, one.permitted) for one in gone] == [("key.removed", False)] * 3


def test_the_vault_knows_a_key_by_whose_it_is() -> None:
    assert (HERS.secret, SHARED.secret) == ("personal/alice/tracker", "tracker")


def test_a_binding_is_of_all_that_says_where_a_key_goes_and_of_nothing_else() -> None:
    plain = entry()
    slot = replace(plain.slots[0], name="X-Api-Key")
    elsewhere = [
        replace(plain, delivery="relay"), replace(plain, url="https://other.example"), replace(plain, hosts=()),
        replace(plain, connect={"https://a.example": "http://127.0.0.1:1"}), replace(plain, slots=(slot,)),
        replace(plain, slots=(replace(plain.slots[0], format="Token {key}"),)),
        replace(plain, slots=(replace(plain.slots[0], kind="query"),)),
    ]  # fmt: skip
    assert len({binding(one) for one in (plain, *elsewhere)}) == len(elsewhere) + 1
    assert binding(replace(plain, title="Another", command=("other",), tools=(), max_requests=1)) == binding(plain)
    two = replace(plain, hosts=("https://a.example", "https://b.example"))
    assert binding(two) == binding(replace(two, hosts=two.hosts[::-1])), "their order says nothing"


@pytest.mark.parametrize("secret", [b"x" * MIN_KEY_BYTES, b"x" * MAX_KEY_BYTES, b"with a space ~ and all"])
def test_a_key_is_one_line_of_visible_characters(secret: bytes) -> None:
    assert checked_key(secret) == secret


@pytest.mark.parametrize(
    ("secret", "code"),
    [
        (b"x" * (MIN_KEY_BYTES - 1), "secret.length"),
        (b"x" * (MAX_KEY_BYTES + 1), "secret.length"),
        (b"two lines\nof a key", "secret.characters"),
        (b"a key and its end\x7f", "secret.characters"),
        ("ключ-из-букв".encode(), "secret.characters"),
    ],
)
def test_what_is_no_key_is_refused(secret: bytes, code: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        checked_key(secret)
    assert refused.value.code == code
