"""What both engines promise, each proven on both."""

from __future__ import annotations

import asyncio
import contextlib
import json
from pathlib import Path

import psycopg
import pytest

from harness import database
from harness.statements import NO_KEY, SEEDS, call, outcome, redemption, request, seeds, startup
from percall_broker.model.errors import Conflict, InvalidInput, Unavailable
from percall_broker.pipeline.retention import Retention
from percall_broker.store import Statement, Store, migrate, open_store
from percall_broker.store.schema import MIGRATIONS
from percall_broker.store.sqlite import connect

pytestmark = pytest.mark.anyio
ALL = {
    "person": "", "grant_id": "", "device": "", "agent": "", "server": "", "tool": "", "decision": "", "since_ms": 0,
    "until_ms": 0, "before": 0, "limit": 1000, "of_key": 0, "secret_owner": "", "secret_version": 0, "now": 0,
}  # fmt: skip


ALL_MIGRATIONS = [path.stem for path in sorted(MIGRATIONS.glob("*.sql"))]


async def execute(location: str, *statements: str) -> None:
    """Runs statements of an older schema, for which there are no queries any more."""
    if location.startswith("postgresql"):
        async with await psycopg.AsyncConnection.connect(location) as connection:
            for statement in statements:
                await connection.execute(statement.encode())
        return
    with contextlib.closing(connect(Path(location))) as database:
        for statement in statements:
            database.execute(statement)


async def permitted(store: Store) -> set[str]:
    return {row["call"] for row in await store.fetch("list_calls", **ALL | {"decision": "permit"})}


async def test_migrating_twice_changes_nothing(location: str) -> None:
    assert await migrate(location) == ALL_MIGRATIONS
    assert await migrate(location) == []


async def test_a_store_written_by_the_first_schema_keeps_its_grants_and_their_calls(location: str) -> None:
    """What was called a device was a key: it stays enrolled, on a device of its person's and its name."""
    database.of_version(location, 1)
    await execute(
        location,
        "INSERT INTO persons (name, created_at) VALUES ('alice', 1), ('bob', 1)",
        "INSERT INTO devices (thumbprint, person, name, created_at) VALUES ('key', 'alice', 'laptop', 5), "
        "('key2', 'alice', 'laptop', 3), ('key3', 'bob', 'laptop', 4)",
        "INSERT INTO grants VALUES ('g', 'alice', 'default', 'key', 0, '{}', 'active', 1, 0, 1, 'admin')",
        "INSERT INTO servers VALUES ('github', 1, '{}', 'active', 0, 1)",
    )
    assert await migrate(location) == [name for name in ALL_MIGRATIONS if name != "0001_initial"]
    store = await open_store(location)
    devices = await store.fetch("list_devices", person="")
    assert [(row["person"], row["name"], row["keys"], row["grants"]) for row in devices] == [
        ("alice", "laptop", 2, 1),
        ("bob", "laptop", 1, 0),
    ]
    assert (await store.append(call("a")))[0]
    assert (await store.fetch("read_grant", id="g"))[0]["device_name"] == "laptop"
    await store.close()


async def test_a_store_without_its_schema_is_not_opened(postgresql: str, tmp_path: Path) -> None:
    (tmp_path / "empty.db").touch()
    for place in (str(tmp_path / "none.db"), str(tmp_path / "empty.db"), database.new(postgresql)):
        with pytest.raises(Unavailable) as caught:
            await open_store(place)
        assert caught.value.code in {"store.missing", "store.schema"}
        assert caught.value.next_step


async def test_an_intent_is_recorded_once(store: Store) -> None:
    first, again = await asyncio.gather(store.append(call("a")), store.append(call("a", tool="delete")))
    assert [len(first[0]), len(again[0])] == [1, 0]
    (row,) = await store.fetch("list_calls", **ALL)
    assert (row["call"], row["tool"], row["device_name"], row["decision"]) == ("a", "get_me", "laptop", "permit")


@pytest.mark.parametrize(
    "change",
    [
        {"grant_id": "other"},
        {"grant_version": 2},
        {"server": "other"},
        {"server_version": 2},
        {"device": "another key"},
    ],
)
async def test_an_intent_decided_on_something_else_leaves_no_row(store: Store, change: dict[str, object]) -> None:
    results = await asyncio.gather(store.append(call("bad", **change)), store.append(call("good")))
    assert [len(rows) for ((*rows,),) in results] == [0, 1]
    assert await permitted(store) == {"good"}


async def test_what_is_recorded_is_known_by_its_kind_and_id(store: Store) -> None:
    await store.append(call("a"), startup("s"))
    found = {(k, i) for k in ("call", "request") for i in ("a", "s") if await store.fetch("is_recorded", kind=k, id=i)}
    assert found == {("call", "a"), ("request", "s")}


async def test_an_expired_grant_makes_no_call(store: Store) -> None:
    await store.append(Statement("seed_grant", {"id": "brief", "person": "alice", "device": "key", "expires_at": 100}))
    assert (await store.append(call("in time", grant_id="brief", now=99)))[0]
    assert not (await store.append(call("late", grant_id="brief", now=100)))[0]


async def test_arguments_are_stored_only_with_the_record_made_for_them(store: Store) -> None:
    def arguments(name: str, entry: str, sealed: bytes) -> Statement:
        return Statement("store_arguments", {"call": name, "entry": entry, "sealed": sealed})

    results = await store.append(call("a"), arguments("a", '{"call":"a"}', b"\x00sealed"))
    assert all(results)
    replay = await store.append(call("a", entry="{2}"), arguments("a", "{2}", b"other"))
    orphan = await store.append(arguments("none", "{}", b"other"))
    assert replay == [[], []]
    assert orphan == [[]]
    await store.append(call("bare"))
    await store.append(call("bare", entry="{2}"), arguments("bare", "{2}", b"of the replay"))
    assert await store.fetch("read_arguments", call="bare") == []
    assert await store.fetch("read_arguments", call="a") == [{"sealed": b"\x00sealed"}]


async def test_arguments_are_erased_once_they_are_old_and_the_record_of_their_calls_stands(store: Store) -> None:
    day_ms = 86_400_000
    times = {f"c{number}": number * day_ms // 500 for number in range(1200)}  # 500 calls a day
    for name, time_ms in times.items():
        kept = Statement("store_arguments", {"call": name, "entry": f'{{"call":"{name}"}}', "sealed": b"sealed"})
        await store.append(call(name, time_ms=time_ms), kept)
    retention = Retention(store, 86_400)
    assert await Retention(store, 0).erase(1e9) == 0
    assert await retention.erase(2.0 * 86_400) == 500
    assert await retention.erase(2.0 * 86_400) == 0
    assert await retention.erase(3.1 * 86_400) == 550
    left = [name for name in times if await store.fetch("read_arguments", call=name)]
    assert left == [name for name, time_ms in times.items() if time_ms >= 2.1 * day_ms]
    assert await permitted(store) >= set(list(times)[-1000:])
    assert await Retention(store, 3600).erase(9.0 * 86_400) == 150


async def test_of_200_parallel_redemptions_one_wins(store: Store) -> None:
    await store.append(call("a"))
    together = await asyncio.gather(*(store.transact(redemption("a")) for _ in range(200)))
    assert sum(result is not None for result in together) == 1


async def test_of_200_parallel_appended_redemptions_one_wins(store: Store) -> None:
    await store.append(call("a"))
    together = await asyncio.gather(*(store.append(redemption("a")) for _ in range(200)))
    assert sum(bool(rows) for (rows,) in together) == 1


async def test_a_credential_is_not_redeemed_by_another_nor_late_nor_after_the_outcome(store: Store) -> None:
    await store.append(call("a"), call("settled"), outcome("settled"))
    for changed in (
        redemption("a", device="another key"),
        redemption("a", grant_id="other"),
        redemption("a", grant_version=2),
        redemption("a", server="other"),
        redemption("a", time_ms=601_000),
        redemption("settled"),
        redemption("unknown"),
    ):
        assert await store.transact(changed) is None
    assert await store.transact(redemption("a"))


async def test_requests_need_an_open_window(store: Store) -> None:
    await store.append(call("a"))
    assert await store.transact(request("r0", "a")) is None, "not redeemed yet"
    assert await store.transact(redemption("a"), request("r1", "a"))
    assert await store.transact(request("r1", "a")) is None, "a replay"
    assert await store.transact(request("r2", "a", server_version=2)) is None, "the entry changed"
    assert await store.transact(request("r3", "a", device="another key")) is None
    assert await store.transact(request("r4", "a", time_ms=601_000)) is None, "past the deadline"
    for other in ({"grant_id": "other"}, {"grant_version": 2}, {"server": "other"}):
        assert await store.transact(request("r5", "a", **other)) is None, other
    assert await store.transact(request("r5", "a"))
    await store.append(outcome("a"))
    assert await store.transact(request("r6", "a")) is None, "the window is closed"


@pytest.mark.parametrize(
    "other",
    [
        {"grant_id": "other"},
        {"grant_version": 2},
        {"device": "another key"},
        {"server": "other"},
        {"server_version": 2},
    ],
)
async def test_so_does_a_request_of_no_call_that_was_decided_on_something_else(
    store: Store, other: dict[str, object]
) -> None:
    results = await asyncio.gather(store.append(startup("bad", **other)), store.append(startup("good")))
    assert [len(rows) for ((*rows,),) in results] == [0, 1]


async def test_a_request_carries_no_key_where_there_is_none(store: Store) -> None:
    await store.transact(Statement("set_secret_version", {"name": "github", "secret_version": 0}, required=True))
    assert (await store.append(startup("bare", **NO_KEY, carried_version=0)))[0]
    assert not (await store.append(startup("keyed")))[0]


async def test_requests_of_a_window_are_bounded(store: Store) -> None:
    """Those that were refused count for nothing."""
    await store.append(call("a"))
    await store.transact(redemption("a"))
    refused: dict[str, object] = {
        "call": "a", "time_ms": 1002, "grant_id": "g", "person": "alice", "agent": "", "device": "key",
        "server": "github", "tool": "get_me", "reason": "request.rule", "entry": "{}",
    }  # fmt: skip
    await store.append(*(Statement("record_request_refusal", refused | {"id": f"refused{n}"}) for n in range(3)))
    together = await asyncio.gather(*(store.append(request(f"r{n}", "a")) for n in range(20)))
    assert sum(bool(rows) for (rows,) in together) == 3


async def test_requests_of_a_window_are_bounded_across_replicas(location: str) -> None:
    await migrate(location)
    on_one_file = not location.startswith("postgresql")
    replicas = [await open_store(location, SEEDS) for _ in range(1 if on_one_file else 4)]
    await replicas[0].transact(*seeds())
    await replicas[0].append(call("a"))
    await replicas[0].transact(redemption("a"))
    lock = Statement("lock_call", {"call": "a"})
    asked = [replica.transact(lock, request(f"{i}-{n}", "a")) for n in range(5) for i, replica in enumerate(replicas)]
    together = await asyncio.gather(*asked)
    assert sum(results is not None for results in together) == 3
    for replica in replicas:
        await replica.close()


async def test_a_call_s_record_holds_whatever_bears_its_id_in_its_order(store: Store) -> None:
    await store.append(call("other"), call("a"))
    await store.transact(redemption("a"), request("r1", "a"))
    reading = {"time_ms": 1003, "grant_id": "g", "person": "alice", "agent": "", "device": "key", "server": ""}
    told = {"kind": "reading", "id": "x", "call": "a", "reason": "log.arguments", "entry": "{}"}
    await store.append(outcome("a"), Statement("record_change", reading | told))
    rows = await store.fetch("show_call", call="a")
    assert [row["kind"] for row in rows] == ["call", "redemption", "request", "outcome", "reading"]
    assert {row["call"] for row in rows} == {"a"}
    assert await store.fetch("show_call", call="") == []


async def test_the_first_outcome_stands_and_only_of_ones_own_permitted_calls(store: Store) -> None:
    refused = call("refused").parameters
    await store.append(call("a"), Statement("record_refusal", refused), redemption("a"), request("r", "a"))
    strange = await store.append(*map(outcome, ("none", "refused", "r")), outcome("a", grant_id="other"))
    assert strange == [[], [], [], []]
    first, again = await store.append(outcome("a"), outcome("a", outcome="failed"))
    assert (len(first), len(again)) == (1, 0)
    (row,) = await store.fetch("list_calls", **ALL | {"decision": "permit"})
    assert (row["outcome"], row["duration_ms"]) == ("done", 3)


async def test_calls_past_their_deadline_are_found_until_they_are_settled(store: Store) -> None:
    await store.append(call("a", deadline_ms=5000), call("later", deadline_ms=9000), call("done", deadline_ms=5000))
    await store.append(outcome("done"))
    overdue = await store.fetch("overdue_calls", since_ms=0, now_ms=6000, limit=10)
    assert [row["call"] for row in overdue] == ["a"]
    await store.append(outcome("a", outcome="unknown"))
    assert await store.fetch("overdue_calls", since_ms=0, now_ms=6000, limit=10) == []


async def test_of_many_calls_those_that_are_settled_are_found_in_one_reading(store: Store) -> None:
    names = ("a", "-b_", "open")
    await store.append(*map(call, (*names, "another")))
    await store.append(outcome("a"), outcome("-b_", outcome="unknown"), outcome("another"))
    asked = json.dumps(dict.fromkeys((*names, "none")))
    assert {row["call"] for row in await store.fetch("settled_of", calls=asked)} == {"a", "-b_"}
    assert await store.fetch("settled_of", calls="{}") == []


async def test_a_transaction_is_undone_when_a_required_statement_returns_nothing(store: Store) -> None:
    assert await store.transact(call("kept"), call("undone", grant_version=7)) is not None
    required = Statement("record_call", call("b", grant_version=7).parameters, required=True)
    undone, neighbour = await asyncio.gather(store.transact(call("c"), required), store.append(call("d")))
    assert undone is None
    assert neighbour[0]
    assert await permitted(store) == {"kept", "d"}


async def test_one_bad_statement_harms_no_neighbour(store: Store) -> None:
    bad = Statement("seed_grant", {"id": "x", "person": "nobody", "device": "key", "expires_at": 0})
    unbindable = call("b", tool="\ud800")
    results = await asyncio.gather(
        store.append(call("a")), store.append(bad), store.append(unbindable), store.append(call("c")),
        return_exceptions=True,
    )  # fmt: skip
    assert isinstance(results[1], Conflict)
    assert isinstance(results[2], InvalidInput)
    assert await permitted(store) == {"a", "c"}


@pytest.mark.parametrize("value", ["get\0item", "\0", "\ud800"])
async def test_what_one_engine_does_not_keep_none_does(store: Store, value: str) -> None:
    """Else a backup of the one would not go into the other."""
    for writing in (store.append(call("a", tool=value)), store.transact(call("a", tool=value))):
        with pytest.raises(InvalidInput) as caught:
            await writing
        assert caught.value.code == "store.value"
    assert await permitted(store) == set()


@pytest.mark.parametrize("absurd", [{"person": "\ud800"}, {"since_ms": 2**64}, {"until_ms": -(2**64)}])
async def test_what_cannot_be_asked_for_is_the_caller_s_mistake(store: Store, absurd: dict[str, object]) -> None:
    with pytest.raises(InvalidInput) as caught:
        await store.fetch("list_calls", **ALL | absurd)
    assert caught.value.code == "store.value"
    with pytest.raises(InvalidInput):
        await store.fetch("is_recorded", kind="\ud800", id="a")


async def test_an_abandoned_append_harms_nobody(store: Store) -> None:
    abandoned = asyncio.ensure_future(store.append(call("a")))
    kept = asyncio.ensure_future(store.append(call("b")))
    await asyncio.sleep(0)
    abandoned.cancel()
    assert (await kept)[0]
    assert "b" in await permitted(store)


async def test_after_a_revocation_has_returned_no_intent_is_recorded(location: str) -> None:
    """On PostgreSQL the callers and the administrator are two replicas; SQLite has one process."""
    await migrate(location)
    callers = await open_store(location, SEEDS)
    administrator = await open_store(location, SEEDS) if location.startswith("postgresql") else callers
    await callers.transact(
        Statement("seed_person", {"name": "alice"}),
        Statement("seed_device", {"id": "d", "person": "alice"}),
        Statement("seed_device_key", {"thumbprint": "key", "person": "alice", "device": "d"}),
        Statement("seed_server", {"name": "github"}),
    )
    for round_ in range(10):
        grant = f"g{round_}"
        await callers.append(
            Statement("seed_grant", {"id": grant, "person": "alice", "device": "key", "expires_at": 0})
        )
        revoked = asyncio.Event()
        late: list[str] = []

        async def work(
            worker: int, grant: str = grant, revoked: asyncio.Event = revoked, late: list[str] = late
        ) -> int:
            made = 0
            while True:
                begun_after = revoked.is_set()
                name = f"{grant}-{worker}-{made}"
                rows = (await callers.append(call(name, grant_id=grant)))[0]
                if begun_after and rows:
                    late.append(name)
                if not rows:
                    return made
                made += 1

        workers = [asyncio.ensure_future(work(n)) for n in range(8)]
        while not await permitted_of(callers, grant):  # noqa: ASYNC110 - until the workers are at it
            await asyncio.sleep(0)
        await administrator.transact(Statement("seed_revocation", {"id": grant}, required=True))
        at_return = await permitted_of(administrator, grant)
        revoked.set()
        made = sum(await asyncio.gather(*workers))
        assert late == []
        assert at_return == made, "every intent of the grant was there when the revocation returned"
    await callers.close()
    if administrator is not callers:
        await administrator.close()


async def permitted_of(store: Store, grant: str) -> int:
    return len(await store.fetch("list_calls", **ALL | {"grant_id": grant, "decision": "permit", "limit": 10**6}))


async def test_a_changed_entry_stops_calls_decided_on_the_old_one(store: Store) -> None:
    await store.append(call("a"))
    await store.transact(Statement("seed_server_change", {"name": "github"}, required=True))
    assert not (await store.append(call("b")))[0]
    assert (await store.append(call("c", server_version=2)))[0]


async def test_a_proof_is_remembered_until_it_has_expired(store: Store) -> None:
    def proof() -> Statement:
        return Statement("remember_proof", {"jti": "j", "expires_at": 100})

    assert [len(rows) for rows in await store.append(proof(), proof())] == [1, 0]
    await store.append(Statement("forget_proofs", {"now": 100}))
    assert not (await store.append(proof()))[0], "until then a replay is one"
    await store.append(Statement("forget_proofs", {"now": 101}))
    assert (await store.append(proof()))[0]


async def test_what_was_recorded_is_there_after_reopening(location: str, store: Store) -> None:
    await store.append(call("a"))
    reopened = await open_store(location)
    assert await permitted(reopened) == {"a"}
    await reopened.close()


async def test_filters_narrow_the_list(store: Store) -> None:
    refusal = {
        "id": "no", "time_ms": 2000, "grant_id": "g", "person": "alice", "agent": "default", "device": "key",
        "server": "github", "tool": "delete", "reason": "grant.tool", "approval": "", "entry": "{}",
    }  # fmt: skip
    await store.append(call("yes"), Statement("record_refusal", refusal))
    for narrowed, expected in (
        ({"decision": "forbid"}, ["no"]),
        ({"tool": "get_me"}, ["yes"]),
        ({"person": "bob"}, []),
        ({"device": "another key"}, []),
        ({"since_ms": 1500}, ["no"]),
        ({"until_ms": 1500}, ["yes"]),
        ({"limit": 1}, ["no"]),
        ({"before": 2}, ["yes"]),
        ({"server": "github", "agent": "default", "grant_id": "g"}, ["no", "yes"]),
    ):
        assert [row["call"] for row in await store.fetch("list_calls", **ALL | narrowed)] == expected
    assert [row["kind"] for row in await store.fetch("show_call", call="yes")] == ["call"]
    assert [row["seq"] for row in await store.fetch("list_log", after=0, limit=1)] == [1]


async def test_pages_of_calls_hold_each_call_once_also_those_of_one_instant(store: Store) -> None:
    await store.append(*(call(f"c{i}") for i in range(5)))
    found: list[str] = []
    before = 0
    while page := await store.fetch("list_calls", **ALL | {"before": before, "limit": 2}):
        found += [row["call"] for row in page]
        before = page[-1]["seq"]
    assert found == ["c4", "c3", "c2", "c1", "c0"]


async def test_a_closed_store_says_so(store: Store) -> None:
    await store.close()
    with pytest.raises(Unavailable):
        await store.append(call("a"))


STANDING = {
    "a suspended person": Statement(
        "set_person_state", {"name": "alice", "state": "suspended", "from_state": "active"}
    ),
    "a removed person": Statement("remove_person", {"name": "alice"}),
    "a revoked device": Statement("revoke_device", {"id": "d"}),
    "a removed device key": Statement("remove_device_key", {"thumbprint": "key"}),
    "a suspended server": Statement("set_server_state", {"name": "github", "state": "suspended"}),
    **{
        f"a freeze of {kind or 'all'}": Statement(
            "add_freeze", {"kind": kind, "name": name, "reason": "", "created_at": 1, "created_by": "admin"}
        )
        for kind, name in (("all", ""), ("person", "alice"), ("device", "d"), ("server", "github"))
    },
}


@pytest.mark.parametrize("what", STANDING)
async def test_what_stops_a_grant_stops_each_kind_of_intent(store: Store, what: str) -> None:
    await store.append(call("a"), call("b"))
    assert await store.transact(redemption("a"), request("r1", "a"))
    assert (await store.transact(Statement(STANDING[what].name, STANDING[what].parameters, required=True))) is not None
    # With the versions as they are now: not by its version alone is it refused.
    grant = (await store.fetch("read_grant", id="g"))[0]["version"]
    server = (await store.fetch("read_server", name="github"))[0]["version"]
    now = {"grant_version": grant, "server_version": server}
    assert await store.append(call("c", **now)) == [[]]
    assert await store.transact(redemption("b", grant_version=grant)) is None
    assert await store.transact(request("r2", "a", **now)) is None
    assert await store.append(startup("r3", **now)) == [[]]


@pytest.mark.parametrize("touching", ["touch_grants", "touch_servers"])
async def test_after_a_freeze_has_returned_no_intent_is_recorded(location: str, touching: str) -> None:
    """As after a revocation: the rows whose versions the freeze raises are those that intents lock."""
    await migrate(location)
    callers = await open_store(location, SEEDS)
    administrator = await open_store(location, SEEDS) if location.startswith("postgresql") else callers
    await callers.transact(*seeds())
    kind, name = ("person", "alice") if touching == "touch_grants" else ("all", "")
    freeze = (
        Statement("advance_epoch"),
        Statement("add_freeze", {"kind": kind, "name": name, "reason": "", "created_at": 1, "created_by": "admin"}),
        Statement(touching, {"person": "alice", "device": ""} if touching == "touch_grants" else {"name": ""}),
    )
    lift = (Statement("remove_freeze", {"kind": kind, "name": name}),)
    for round_ in range(5):
        frozen = asyncio.Event()
        late: list[str] = []
        version = (await callers.fetch("read_grant", id="g"))[0]["version"]
        of_server = (await callers.fetch("read_server", name="github"))[0]["version"]

        async def work(
            worker: int,
            round_: int = round_,
            frozen: asyncio.Event = frozen,
            late: list[str] = late,
            version: int = version,
            of_server: int = of_server,
        ) -> int:
            made = 0
            while True:
                begun_after = frozen.is_set()
                intent = call(f"{round_}-{worker}-{made}", grant_version=version, server_version=of_server)
                rows = (await callers.append(intent))[0]
                if begun_after and rows:
                    late.append(f"{worker}-{made}")
                if not rows:
                    return made
                made += 1

        before = await permitted_of(callers, "g")
        workers = [asyncio.ensure_future(work(n)) for n in range(8)]
        while await permitted_of(callers, "g") == before:  # noqa: ASYNC110 - until the workers are at it
            await asyncio.sleep(0)
        await administrator.transact(*freeze)
        at_return = await permitted_of(administrator, "g")
        frozen.set()
        made = sum(await asyncio.gather(*workers))
        assert late == []
        assert at_return == before + made, "every intent was there when the freeze returned"
        await administrator.transact(*lift)
    await callers.close()
    if administrator is not callers:
        await administrator.close()


async def test_two_administrators_who_end_each_other_at_once_leave_one(location: str) -> None:
    """Each sees the other in its own snapshot; the epoch's row makes the second wait and look again."""
    await migrate(location)
    one = await open_store(location, SEEDS)
    other = await open_store(location, SEEDS) if location.startswith("postgresql") else one
    for round_ in range(10):
        names = [f"a{round_}", f"b{round_}"]
        for name in names:
            await one.transact(
                Statement("seed_person", {"name": name}),
                Statement("seed_device", {"id": f"d-{name}", "person": name}),
                Statement("seed_device_key", {"thumbprint": f"k-{name}", "person": name, "device": f"d-{name}"}),
                Statement("seed_administrator", {"id": f"g-{name}", "person": name, "device": f"k-{name}"}),
            )
        ended = await asyncio.gather(*(s.transact(*removal(name)) for s, name in zip((one, other), names, strict=True)))
        assert [done is None for done in ended].count(True) == 1, "one of the two is refused"
        left = next(name for name, done in zip(names, ended, strict=True) if done is None)
        await one.transact(Statement("remove_person", {"name": left}))
    await one.close()
    if other is not one:
        await other.close()


def removal(name: str) -> tuple[Statement, ...]:
    concerned = {"person": name, "device": "", "thumbprint": "", "grant_id": "", "now": 1}
    return (
        Statement("advance_epoch"),
        Statement("keep_an_administrator", concerned, required=True),
        Statement("remove_person", {"name": name}, required=True),
        Statement("revoke_grants", {"person": name, "device": "", "thumbprint": ""}),
    )


async def test_a_group_s_grant_and_a_member_who_joins_at_once_meet(location: str) -> None:
    await migrate(location)
    one = await open_store(location, SEEDS)
    other = await open_store(location, SEEDS) if location.startswith("postgresql") else one
    await one.transact(*seeds(), Statement("add_group", {"name": "devs", "created_at": 1}))
    for round_ in range(10):
        identifier = f"gg_{round_}"
        joining = (
            Statement("advance_epoch"),
            Statement("add_member", {"group_name": "devs", "person": "alice", "id": f"m{round_}", "created_at": 1}),
            Statement("add_grants_of_members", {"group_name": "devs", "person": "alice", "group_grant": "", "now": 1}),
        )
        granting = (
            Statement("advance_epoch"),
            Statement(
                "add_group_grant",
                {"id": identifier, "group_name": "devs", "scope": "{}", "agent": "", "expires_seconds": 0}
                | {"created_at": 1, "created_by": "admin"},
            ),
            Statement(
                "add_grants_of_members", {"group_name": "devs", "person": "", "group_grant": identifier, "now": 1}
            ),
        )
        await asyncio.gather(one.transact(*joining), other.transact(*granting))
        made = [row for row in await one.fetch("list_grants") if row["group_grant"] == identifier]
        assert [row["person"] for row in made] == ["alice"]
        await one.transact(
            Statement("remove_member", {"group_name": "devs", "person": "alice"}),
            Statement("end_grants_of_members", {"group_name": "devs", "person": "alice", "group_grant": ""}),
        )
    await one.close()
    if other is not one:
        await other.close()
