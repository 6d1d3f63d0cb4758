"""People, their devices and groups: what each change touches and what it leaves, on both engines."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from harness.statements import changed, freeze
from percall_broker.store import Statement

if TYPE_CHECKING:
    from percall_broker.store import Store

pytestmark = pytest.mark.anyio

END = 100
"""When what ends in these tests does; seconds."""


async def column(store: Store, statement: str, of: str, /, **parameters: Any) -> set[Any]:
    return {row[of] for row in await store.fetch(statement, **parameters)}


async def states(store: Store) -> dict[str, str]:
    return {row["id"]: row["state"] for row in await store.fetch("list_grants")}


async def versions(store: Store) -> dict[str, int]:
    return {row["id"]: row["version"] for row in await store.fetch("list_grants")}


async def touched(store: Store, statement: str, /, **parameters: Any) -> set[str]:
    """The grants whose version a statement raises, as it says too."""
    before = await versions(store)
    said = {row["id"] for row in await changed(store, statement, **parameters)}
    after = await versions(store)
    assert said == {grant for grant in after if after[grant] > before.get(grant, after[grant])}
    return said


def grant(name: str, person: str, device: str | None) -> Statement:
    return Statement("seed_grant", {"id": name, "person": person, "device": device, "expires_at": 0})


@pytest.fixture
async def people(store: Store) -> Store:
    """The store with Bob, who has a laptop with two agents and a desk, and Ada and Bea, who administer."""
    await store.transact(
        *(Statement("seed_person", {"name": name}) for name in ("bob", "ada", "bea")),
        *(
            Statement("seed_device", {"id": device, "person": person})
            for device, person in (("laptop", "bob"), ("desk", "bob"), ("ada's", "ada"), ("bea's", "bea"))
        ),
        *(
            Statement("seed_device_key", {"thumbprint": key, "person": person, "device": device})
            for key, person, device in (
                ("k1", "bob", "laptop"), ("k2", "bob", "laptop"), ("k3", "bob", "desk"),
                ("ka", "ada", "ada's"), ("kb", "bea", "bea's"),
            )
        ),
        grant("laptop", "bob", "k1"), grant("second agent", "bob", "k2"), grant("desk", "bob", "k3"),
        grant("unbound", "bob", None), grant("revoked", "bob", "k1"), Statement("seed_revocation", {"id": "revoked"}),
        Statement("seed_administrator", {"id": "ada", "person": "ada", "device": "ka"}),
        Statement("seed_administrator", {"id": "bea", "person": "bea", "device": "kb"}),
    )  # fmt: skip
    return store


# --- what a change reaches --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("of", "reached"),
    [
        ({"person": "bob"}, {"laptop", "second agent", "desk", "unbound"}),
        ({"device": "laptop"}, {"laptop", "second agent"}),
        ({"thumbprint": "k1"}, {"laptop"}),
        ({}, set()),
    ],
    ids=["a person", "a device", "a device key", "nothing"],
)
async def test_a_revocation_ends_what_is_of(people: Store, of: dict[str, str], reached: set[str]) -> None:
    named = {"person": "", "device": "", "thumbprint": ""} | of
    if "thumbprint" not in of:
        touch = {name: named[name] for name in ("person", "device")}
        assert await touched(people, "touch_grants", **touch) == reached | ({"revoked"} if reached else set())
    assert await touched(people, "revoke_grants", **named) == reached
    assert {name for name, state in (await states(people)).items() if state == "revoked"} == reached | {"revoked"}
    assert await touched(people, "revoke_grants", **named) == set(), "a revocation is final"


async def test_a_change_of_a_group_or_a_server_or_a_grant_touches_what_it_is_of(people: Store) -> None:
    await people.transact(
        *(Statement("add_group", {"name": name, "created_at": 1}) for name in ("leads", "others")),
        Statement("add_member", {"group_name": "leads", "person": "bob", "id": "m1", "created_at": 1}),
        Statement("add_member", {"group_name": "others", "person": "alice", "id": "m2", "created_at": 1}),
        Statement("seed_server", {"name": "gitlab"}),
    )
    bobs = {"laptop", "second agent", "desk", "unbound", "revoked"}
    assert await touched(people, "touch_grants_of_members", group_name="leads") == bobs
    assert await touched(people, "touch_grant", id="desk") == {"desk"}
    assert {row["name"] for row in await changed(people, "touch_servers", name="gitlab")} == {"gitlab"}
    assert {row["name"] for row in await changed(people, "touch_servers", name="")} == {"github", "gitlab"}


# --- some administrator stays -----------------------------------------------------------------------------------------


async def kept(store: Store, **of: str) -> bool:
    named = {"person": "", "device": "", "thumbprint": "", "grant_id": "", "now": END} | of
    return bool(await store.fetch("keep_an_administrator", **named))


LAST = [{"person": "ada"}, {"device": "ada's"}, {"thumbprint": "ka"}, {"grant_id": "ada"}]


@pytest.mark.parametrize("of", LAST, ids=["person", "device", "device key", "grant"])
async def test_the_last_administrator_is_kept_by(people: Store, of: dict[str, str]) -> None:
    assert await kept(people, **of), "Bea stays"
    await changed(people, "seed_automation", id="bea")
    assert not await kept(people, **of), "an automation makes no administrator"
    for other in ({"person": "bea"}, {"person": "bob"}, {"device": "laptop"}, {"thumbprint": "k1"}, {"grant_id": "g"}):
        assert await kept(people, **other), "Ada stays"
    await changed(people, "seed_end", id="ada", expires_at=END)
    assert await kept(people, **of), "whoever cannot act is missed by nobody"


ENDED: dict[str, Statement] = {
    "expired": Statement("seed_end", {"id": "bea", "expires_at": END}),
    "suspended": Statement("set_grant_state", {"id": "bea", "state": "suspended"}),
    "a suspended person's": Statement(
        "set_person_state", {"name": "bea", "state": "suspended", "from_state": "active"}
    ),
    "a removed key's": Statement("remove_device_key", {"thumbprint": "kb"}),
    "a revoked device's": Statement("revoke_device", {"id": "bea's"}),
    "a frozen person's": freeze("person", "bea"),
    "a frozen device's": freeze("device", "bea's"),
}


@pytest.mark.parametrize("ended", ENDED)
async def test_an_administrator_whose_grant_cannot_act_is_none(people: Store, ended: str) -> None:
    await changed(people, "seed_end", id="bea", expires_at=END + 1)
    assert await kept(people, person="ada"), "while it lasts"
    await people.transact(ENDED[ended])
    assert not await kept(people, person="ada")
    await people.transact(
        Statement("seed_administrator", {"id": "robot", "person": "bob", "device": "k1"}),
        Statement("seed_automation", {"id": "robot"}),
        Statement("seed_end", {"id": "ada", "expires_at": END + 1}),
    )
    rows = {row["name"]: row["administrator"] for row in await people.fetch("list_persons", now=END)}
    assert rows == {"alice": 0, "ada": 1, "bea": 0, "bob": 0}


# --- people -----------------------------------------------------------------------------------------------------------


async def test_a_name_is_one_persons_until_they_are_removed(people: Store) -> None:
    """What is known, and active, of each."""

    async def known(name: str) -> tuple[bool, bool]:
        return bool(await people.fetch("known_person", name=name)), bool(await people.fetch("active_person", name=name))

    await changed(people, "add_person", name="bob", created_at=2)
    assert {row["name"]: row["created_at"] for row in await people.fetch("list_persons", now=1)}["bob"] == 1
    assert await known("bob") == (True, True)
    suspend = {"name": "bob", "state": "suspended", "from_state": "active"}
    assert await changed(people, "set_person_state", **suspend)
    assert not await changed(people, "set_person_state", **suspend), "he is suspended already"
    assert await known("bob") == (True, False)
    assert await changed(people, "remove_person", name="bob")
    assert not await changed(people, "remove_person", name="bob")
    assert not await changed(people, "set_person_state", **suspend)
    assert await known("bob") == (False, False)
    assert await known("ada") == (True, True)
    await changed(people, "add_person", name="bob", created_at=2)
    assert await known("bob") == (True, True)
    assert {row["name"]: row["created_at"] for row in await people.fetch("list_persons", now=1)}["bob"] == 2


async def test_people_are_listed_with_what_of_theirs_is_not_ended(people: Store) -> None:
    await changed(people, "seed_end", id="desk", expires_at=END)
    await changed(people, "revoke_device", id="desk")
    await people.transact(freeze("person", "bob"))
    await people.transact(freeze("device", "alice"))

    async def bob(now: int) -> tuple[Any, ...]:
        rows = {row["name"]: row for row in await people.fetch("list_persons", now=now)}
        assert rows["alice"]["frozen_kind"] is None
        return tuple(rows["bob"][name] for name in ("devices", "grants", "administrator", "frozen_name"))

    assert await bob(END - 1) == (1, 4, 0, "bob")
    assert await bob(END) == (1, 3, 0, "bob")


# --- devices ----------------------------------------------------------------------------------------------------------


async def test_a_device_and_its_keys_are_known_until_they_end(people: Store) -> None:
    assert await column(people, "known_device_key", "thumbprint", thumbprint="k1") == {"k1"}
    assert await changed(people, "remove_device_key", thumbprint="k1")
    assert not await changed(people, "remove_device_key", thumbprint="k1")
    assert await column(people, "known_device_key", "thumbprint", thumbprint="k1") == set()
    assert await column(people, "known_device_key", "thumbprint", thumbprint="k2") == {"k2"}
    assert {row["keys"] for row in await people.fetch("list_devices", person="bob") if row["id"] == "laptop"} == {1}
    again = {"thumbprint": "k1", "created_at": 2}
    assert not await changed(people, "add_device_key", **again, person="bob", device="desk")
    assert not await changed(people, "add_device_key", **again, person="ada", device="laptop")
    assert await changed(people, "add_device_key", **again, person="bob", device="laptop")
    assert await column(people, "known_device_key", "thumbprint", thumbprint="k1") == {"k1"}

    assert not await changed(people, "rename_device", id="laptop", person="ada", name="mine")
    assert await changed(people, "rename_device", id="laptop", person="bob", name="thin")
    assert await column(people, "devices_named", "id", name="thin") == {"laptop"}
    assert await column(people, "devices_named", "id", name="laptop") == {"d", "laptop", "desk", "ada's", "bea's"}
    assert await changed(people, "revoke_device", id="laptop")
    assert not await changed(people, "revoke_device", id="laptop")
    assert not await changed(people, "rename_device", id="laptop", person="bob", name="thick")
    assert await column(people, "known_device_key", "thumbprint", thumbprint="k1") == set()
    assert await column(people, "read_device_key", "device_state", thumbprint="k1") == {"revoked"}


async def test_a_grant_can_wait_for_who_has_a_device_that_stands(people: Store) -> None:
    async def has_device(person: str) -> bool:
        return bool(await people.fetch("has_device", person=person))

    await changed(people, "revoke_device", id="laptop")
    assert await has_device("bob"), "his desk"
    await changed(people, "remove_device_key", thumbprint="k3")
    assert not await has_device("bob")
    assert await has_device("ada")
    assert {row["id"] for row in await changed(people, "remove_devices", person="bob")} == {"desk"}
    assert await has_device("ada")


async def test_devices_are_listed_with_their_keys_and_grants(people: Store) -> None:
    await changed(people, "remove_device_key", thumbprint="k2")
    await people.transact(freeze("device", "desk"))
    await people.transact(freeze("person", "laptop"))
    bobs = await people.fetch("list_devices", person="bob")
    rows = {row["id"]: (row["keys"], row["grants"], row["frozen_name"]) for row in bobs}
    assert rows == {"laptop": (1, 2, None), "desk": (1, 1, "desk")}
    assert {row["id"] for row in await people.fetch("list_devices", person="")} == {
        "d",
        "laptop",
        "desk",
        "ada's",
        "bea's",
    }


async def test_a_freeze_stands_as_it_was_made_until_it_is_lifted(people: Store) -> None:
    every = [freeze("device", "laptop"), freeze("device", "ada's"), freeze("person", "laptop"), freeze("person", "bob")]
    assert await people.append(*every) == [
        [{"name": "laptop"}],
        [{"name": "ada's"}],
        [{"name": "laptop"}],
        [{"name": "bob"}],
    ]
    again = every[0].parameters | {"created_by": "another"}
    assert not await changed(people, "add_freeze", **again)
    assert await column(people, "list_freezes", "created_by") == {"admin"}
    assert not await changed(people, "remove_freeze", kind="device", name="bob")
    await changed(people, "remove_device_freezes", person="bob")
    assert len(await people.fetch("list_freezes")) == 3
    assert await changed(people, "remove_freeze", kind="person", name="laptop")
    left = {(row["kind"], row["name"]) for row in await people.fetch("list_freezes")}
    assert left == {("device", "ada's"), ("person", "bob")}


async def test_grants_are_listed_once_with_their_device_and_the_narrowest_freeze(people: Store) -> None:
    async def listed() -> dict[str, tuple[Any, ...]]:
        rows = await people.fetch("list_grants")
        assert len({row["id"] for row in rows}) == len(rows) == 8
        return {row["id"]: (row["device_id"], row["device_name"], row["frozen_name"]) for row in rows}

    await people.transact(
        freeze("device", "laptop"), freeze("person", "bob"), freeze("person", "desk"), freeze("device", "ada"),
        freeze("server", "bea"),
    )  # fmt: skip
    assert await listed() == {
        "g": ("d", "laptop", None), "laptop": ("laptop", "laptop", "bob"), "second agent": ("laptop", "laptop", "bob"),
        "revoked": ("laptop", "laptop", "bob"), "desk": ("desk", "laptop", "bob"), "unbound": ("", "", "bob"),
        "ada": ("ada's", "laptop", None), "bea": ("bea's", "laptop", None),
    }  # fmt: skip
    await changed(people, "remove_freeze", kind="person", name="bob")
    names = {grant: name for grant, (_, _, name) in (await listed()).items()}
    assert names == {grant: "laptop" if grant in {"laptop", "second agent", "revoked"} else None for grant in names}
    await people.transact(freeze("all", ""))
    names = {grant: name for grant, (_, _, name) in (await listed()).items()}
    assert names == {grant: "laptop" if grant in {"laptop", "second agent", "revoked"} else "" for grant in names}


async def test_a_grant_changes_its_state_until_it_is_revoked(people: Store) -> None:
    for state, may in (
        ("active", False),
        ("suspended", True),
        ("suspended", False),
        ("active", True),
        ("revoked", True),
    ):
        assert bool(await touched(people, "set_grant_state", id="laptop", state=state)) == may
    for state in ("active", "suspended", "revoked"):
        assert await touched(people, "set_grant_state", id="laptop", state=state) == set()


# --- invites, and what waits for a device -----------------------------------------------------------------------------


async def test_an_invite_is_used_once_and_in_time_and_ends_with_its_person(people: Store) -> None:
    for code, of, until in (("one", "unbound", END), ("two", "unbound", END), ("hers", "ada", END)):
        await changed(people, "add_invite", code_hash=code, grant_id=of, expires_at=until)
    assert not await changed(people, "use_invite", code_hash="one", now=END)
    assert not await changed(people, "use_invite", code_hash="none", now=1)
    assert await changed(people, "use_invite", code_hash="one", now=END - 1)
    assert not await changed(people, "use_invite", code_hash="one", now=END - 1)
    assert len(await changed(people, "end_invites", person="bob", now=END)) == 0, "over, or used"
    assert len(await changed(people, "end_invites", person="bob", now=1)) == 1
    assert not await changed(people, "use_invite", code_hash="two", now=1)
    assert await changed(people, "use_invite", code_hash="hers", now=1)


async def test_a_grant_is_bound_once_while_it_and_its_person_stand(people: Store) -> None:
    for name in ("later", "agent's"):
        await people.transact(grant(name, "bob", None))
    bound = {"device": "k1", "agent": "claude"}
    assert not await changed(people, "bind_grant", id="laptop", **bound), "it is bound"
    assert await touched(people, "bind_grant", id="unbound", **bound) == {"unbound"}
    await people.transact(waiting("any", claimable=0), Statement("bind_grant", {"id": "any", **bound}))
    agents = {row["id"]: row["agent"] for row in await people.fetch("list_grants")}
    assert (agents["unbound"], agents["any"]) == ("default", "claude"), "the agent that an administrator named stays"
    await changed(people, "set_grant_state", id="later", state="suspended")
    assert not await changed(people, "bind_grant", id="later", **bound)
    await changed(people, "set_person_state", name="bob", state="suspended", from_state="active")
    assert not await changed(people, "bind_grant", id="agent's", **bound)


def waiting(name: str, person: str = "bob", **changes: Any) -> Statement:
    made = {
        "id": name, "person": person, "agent": "", "administrator": 0, "automation": 0, "may": "", "scope": "{}",
        "expires_at": 0, "created_at": 1, "created_by": "ada", "claimable": 1,
    }  # fmt: skip
    return Statement("add_grant", made | changes)


async def test_what_waits_for_a_person_is_picked_up_by_their_device(people: Store) -> None:
    await people.transact(
        waiting("any"), waiting("claude", agent="claude"), waiting("codex", agent="codex"), waiting("hers", "ada"),
        waiting("over", expires_at=END), waiting("invited", claimable=0), waiting("administers", administrator=1),
        waiting("suspended"), Statement("set_grant_state", {"id": "suspended", "state": "suspended"}),
    )  # fmt: skip
    assert await column(people, "waiting_grants", "id", person="bob", now=END) == {"any", "claude", "codex"}
    assert await column(people, "waiting_grants", "id", person="bob", now=END - 1) >= {"over"}
    claim = {"person": "bob", "agent": "claude", "now": END}
    for key in ("ka", "none"):
        assert await touched(people, "claim_grants", thumbprint=key, **claim) == set(), "no key of his"
    assert await touched(people, "claim_grants", thumbprint="k1", **claim) == {"any", "claude"}
    assert await touched(people, "claim_grants", thumbprint="k1", **claim) == set()
    assert await column(people, "waiting_grants", "id", person="bob", now=END) == {"codex"}
    assert await touched(people, "claim_grants", thumbprint="k3", **claim | {"now": END - 1}) == {"over"}, "in time"
    rows = {row["id"]: (row["device"], row["agent"]) for row in await people.fetch("list_grants")}
    assert (rows["any"], rows["claude"], rows["codex"]) == (("k1", "claude"), ("k1", "claude"), ("", "codex"))

    await changed(people, "bind_grant", id="administers", device="k1", agent="claude")
    assert await column(people, "claimed_grants", "id", thumbprint="k1", now=END) == {"any", "claude"}
    assert await column(people, "claimed_grants", "id", thumbprint="k2", now=END) == set()
    assert await column(people, "taken_grants", "id", device="laptop", now=END) == {"any", "claude"}
    assert await column(people, "taken_grants", "id", device="desk", now=END) == set()
    await changed(people, "set_grant_state", id="any", state="revoked")
    await changed(people, "seed_end", id="claude", expires_at=END)
    for name, of in (("claimed_grants", {"thumbprint": "k1"}), ("taken_grants", {"device": "laptop"})):
        assert await column(people, name, "id", **of, now=END) == set()
        assert await column(people, name, "id", **of, now=END - 1) == {"claude"}
    await changed(people, "remove_device_key", thumbprint="k1")
    assert await column(people, "taken_grants", "id", device="laptop", now=END - 1) == set()


@pytest.mark.parametrize(
    "ended",
    [
        Statement("remove_device_key", {"thumbprint": "k1"}),
        Statement("revoke_device", {"id": "laptop"}),
        Statement("set_person_state", {"name": "bob", "state": "suspended", "from_state": "active"}),
    ],
    ids=["removed key", "revoked device", "suspended person"],
)
async def test_nothing_is_picked_up_by_a(people: Store, ended: Statement) -> None:
    await people.transact(waiting("any"), ended)
    claim = {"person": "bob", "thumbprint": "k1", "agent": "claude", "now": 1}
    assert await touched(people, "claim_grants", **claim) == set()


async def test_what_was_granted_with_an_invite_that_nobody_used_in_time_waits_instead(people: Store) -> None:
    lapsed: dict[str, Any] = {"claimable": 0, "scope": '{"servers":{"github":{}}}'}
    await people.transact(
        waiting("late", **lapsed), waiting("open", **lapsed), waiting("hers", "ada", **lapsed),
        waiting("waits", **lapsed | {"claimable": 1}), waiting("nothing", **lapsed | {"scope": '{"servers":{}}'}),
        waiting("administers", **lapsed, administrator=1), waiting("over", **lapsed),
        Statement("set_grant_state", {"id": "over", "state": "revoked"}),
        waiting("bound", **lapsed), Statement("bind_grant", {"id": "bound", "device": "k1", "agent": "a"}),
        Statement("set_grant_state", {"id": "unbound", "state": "revoked"}),
        *(
            Statement("add_invite", {"code_hash": of, "grant_id": of, "expires_at": END})
            for of in ("late", "hers", "waits", "nothing", "administers", "over")
        ),
        Statement("add_invite", {"code_hash": "open", "grant_id": "open", "expires_at": END + 1}),
    )  # fmt: skip
    assert await column(people, "lapsed_grants", "id", person="bob", now=END) == {"late"}
    assert await column(people, "lapsed_grants", "id", person="bob", now=END - 1) == set()
    await changed(people, "use_invite", code_hash="open", now=END)
    assert await column(people, "lapsed_grants", "id", person="bob", now=END) == {"late", "open"}
    for name, may in (("late", True), ("waits", False), ("bound", False), ("over", False)):
        assert [row["id"] for row in await changed(people, "let_wait", id=name)] == [name] * may
    assert not await changed(people, "let_wait", id="late")


# --- what is one person's ---------------------------------------------------------------------------------------------


async def test_what_ends_with_a_person_is_theirs_alone(people: Store) -> None:
    key = {"kind": "passphrase", "salt": b"s", "passes": 3, "memory_bytes": 1, "created_at": 1}
    for person, thumbprint in (("ada", "ka"), ("bea", "kb")):
        until, linked = {"person": person, "until": END}, {"issuer": "https://idp", "subject": person, "linked_at": 1}
        await people.transact(
            Statement("add_passkey", {"id": person, "person": person, "name": "p", "public_key": "k", "now": 1}),
            Statement("vouch_device_key", {"thumbprint": thumbprint, "person": person, "created_at": 1}),
            Statement("expect_account", until), Statement("link_account", linked | {"person": person}, required=True),
            Statement("add_presence_key", {**key, "person": person, "public_key": person}),
        )  # fmt: skip

    async def left(person: str) -> list[bool]:
        return [
            bool(await people.fetch("list_passkeys", person=person)),
            bool((await people.fetch("read_grant", id=person))[0]["vouched"]),
            bool(await people.fetch("read_account", issuer="https://idp", subject=person)),
            bool(await people.fetch("read_presence_key", person=person)),
        ]

    ends = ("remove_passkeys", "forget_vouched_device_keys", "forget_accounts", "remove_presence_key")
    await people.transact(*(Statement(one, {"person": "ada"}) for one in ends))
    assert await left("ada") == [False] * 4
    assert await left("bea") == [True] * 4
    await changed(people, "end_accounts", person="ada")
    assert await left("bea") == [True] * 4
    accounts = await people.fetch("read_account", issuer="https://idp", subject="bea")
    await changed(people, "end_accounts", person="bea")
    assert await people.fetch("read_account", issuer="https://idp", subject="bea") != accounts
    await changed(people, "add_passkey", id="ada's", person="ada", name="p", public_key="k", now=1)
    assert await changed(people, "remove_passkey", id="ada's") == [{"person": "ada", "name": "p"}]
    assert await column(people, "list_passkeys", "id", person="") == {"bea"}


# --- what an automation stopped ---------------------------------------------------------------------------------------


async def test_what_an_automation_stopped_is_what_it_stopped_last_itself(people: Store) -> None:
    rows = 0

    async def stops(person: str, action: str, details: str, server: str = "", presence: str = "automation") -> None:
        nonlocal rows
        rows += 1
        entry = f'{{"action":"{action}","details":{{{details},"reason":""}},"presence":"{presence}"}}'
        row = dict.fromkeys(("call", "grant_id", "agent", "device"), "") | {"person": person, "server": server}
        row |= {"kind": "change", "id": f"c{rows}", "reason": action, "entry": entry}
        await people.transact(Statement("record_change", {**row, "time_ms": rows}, required=True))

    async def itself(person: str, action: str, details: str, server: str = "") -> bool:
        of = {"action": action, "details": f'"details":{{{details}', "server": server, "person": person}
        return bool(await people.fetch("stopped_itself", **of))

    bob, eve = '"person":"bob"', '"person":"eve"'
    await stops("ci", "person.suspend", bob)
    await stops("hr", "person.suspend", eve)
    await stops("hr", "freeze", bob)
    await stops("ci", "server.suspended", '"x":1', "github")
    await stops("ada", "server.suspended", '"x":1', "gitlab", "passphrase")
    assert await itself("ci", "person.suspend", bob)
    assert await itself("hr", "person.suspend", eve)
    assert await itself("ci", "server.suspended", '"x"', "github")
    assert not await itself("hr", "person.suspend", bob), "another did"
    assert not await itself("hr", "person.suspend", '"person":"be')
    assert not await itself("ada", "server.suspended", '"x"', "gitlab"), "no automation did"
    await stops("ci", "person.suspend", bob, presence="passphrase")
    assert not await itself("ci", "person.suspend", bob), "a person of its name"


# --- groups -----------------------------------------------------------------------------------------------------------


@pytest.fixture
async def grouped(people: Store) -> Store:
    """The store with the groups `leads` (Bob and Ada) and `others` (Bob), and what their members are granted."""
    await people.transact(
        *(Statement("add_group", {"name": name, "created_at": 1}) for name in ("leads", "others")),
        *(
            Statement("add_member", {"group_name": group, "person": person, "id": group + person, "created_at": 1})
            for group, person in (("leads", "bob"), ("leads", "ada"), ("others", "bob"))
        ),
        *(
            Statement("add_group_grant", {"id": name, "group_name": group, "scope": "{}", "agent": "", "created_at": 1,
                                          "created_by": "ada", "expires_seconds": seconds})
            for name, group, seconds in (("read", "leads", 0), ("write", "leads", 50), ("o", "others", 0))
        ),
    )  # fmt: skip
    return people


async def made(store: Store, **of: str) -> set[str]:
    named = {"group_name": "leads", "person": "", "group_grant": ""} | of
    return {row["id"] for row in await changed(store, "add_grants_of_members", **named, now=END)}


async def test_each_member_is_granted_what_their_group_is(grouped: Store) -> None:
    assert await made(grouped, person="bob") == {"g_readleadsbob", "g_writeleadsbob"}
    await changed(grouped, "set_grant_state", id="g_readleadsbob", state="revoked")
    assert await made(grouped, group_grant="write") == {"g_writeleadsada"}, "what was made before stays"
    await changed(grouped, "end_group_grants", group_name="", id="read")
    assert await made(grouped) == set()
    rows = {row["id"]: row["expires_at"] for row in await grouped.fetch("list_grants") if row["group_grant"]}
    assert rows == {"g_readleadsbob": 0, "g_writeleadsbob": END + 50, "g_writeleadsada": END + 50}
    assert (await states(grouped))["g_readleadsbob"] == "revoked"


@pytest.mark.parametrize(
    ("of", "reached"),
    [
        ({"group_name": "leads", "person": "bob"}, {"g_readleadsbob", "g_writeleadsbob"}),
        ({"person": "bob"}, {"g_readleadsbob", "g_writeleadsbob", "g_oothersbob"}),
        ({"group_grant": "read"}, {"g_readleadsbob", "g_readleadsada"}),
        ({"group_name": "others"}, {"g_oothersbob"}),
    ],
    ids=["leaves a group", "leaves", "is granted no more", "was in a group that is no more"],
)
async def test_a_groups_grants_end_for_who(grouped: Store, of: dict[str, str], reached: set[str]) -> None:
    await made(grouped)
    await made(grouped, group_name="others")
    named = {"group_name": "", "person": "", "group_grant": ""} | of
    assert await touched(grouped, "end_grants_of_members", **named) == reached
    assert await touched(grouped, "end_grants_of_members", **named) == set()
    assert {name for name, state in (await states(grouped)).items() if state == "revoked"} == reached | {"revoked"}


async def test_members_come_and_go_each_from_their_own_group(grouped: Store) -> None:
    await changed(grouped, "remove_person", name="bea")
    join = {"group_name": "leads", "id": "again", "created_at": 2}
    for person in ("bob", "bea", "nobody"):
        assert not await changed(grouped, "add_member", **join, person=person)
    rows = [(row["person"], row["device_keys"]) for row in await grouped.fetch("list_members", group_name="leads")]
    assert rows == [("ada", 1), ("bob", 3)]
    await changed(grouped, "remove_device_key", thumbprint="k1")
    await changed(grouped, "revoke_device", id="desk")
    rows = [(row["person"], row["device_keys"]) for row in await grouped.fetch("list_members", group_name="leads")]
    assert rows == [("ada", 1), ("bob", 1)]
    assert await column(grouped, "groups_of", "name", person="bob") == {"leads", "others"}
    assert await column(grouped, "held_by", "name", persons='{"bob":null}') == {"leads", "others"}
    assert {row["group_name"] for row in await changed(grouped, "remove_member", group_name="leads", person="bob")} == {
        "leads"
    }
    assert not await changed(grouped, "remove_member", group_name="leads", person="bob")
    assert await changed(grouped, "add_member", **join, person="bob")
    assert len(await changed(grouped, "remove_member", group_name="", person="bob")) == 2
    assert await column(grouped, "groups_of", "name", person="ada") == {"leads"}
    assert await column(grouped, "groups_of", "name", person="bob") == set()


async def test_groups_and_what_they_are_granted_are_listed_until_they_end(grouped: Store) -> None:
    rows = {row["name"]: (row["members"], row["grants"]) for row in await grouped.fetch("list_groups")}
    assert rows == {"leads": (2, 2), "others": (1, 1)}
    assert await column(grouped, "list_group_grants", "id", group_name="") == {"read", "write", "o"}
    assert len(await changed(grouped, "end_group_grants", group_name="", id="read")) == 1
    assert len(await changed(grouped, "end_group_grants", group_name="", id="read")) == 0
    assert await column(grouped, "list_group_grants", "id", group_name="leads") == {"write"}
    assert len(await changed(grouped, "end_group_grants", group_name="leads", id="")) == 1
    rows = {row["name"]: (row["members"], row["grants"]) for row in await grouped.fetch("list_groups")}
    assert rows == {"leads": (2, 0), "others": (1, 1)}
    assert {row["person"] for row in await changed(grouped, "remove_members", group_name="leads")} == {"bob", "ada"}
    assert await changed(grouped, "remove_group", name="leads")
    assert not await changed(grouped, "remove_group", name="leads")
    assert await column(grouped, "known_group", "name", name="leads") == set()
    assert await column(grouped, "known_group", "name", name="others") == {"others"}
    assert await column(grouped, "groups_of", "name", person="bob") == {"others"}
