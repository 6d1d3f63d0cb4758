"""A backup is whole or refused, and brings nothing back to life, on both engines and from one to the other."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from contextlib import closing
from hashlib import sha256
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import pytest

from harness.keeping import keep
from harness.statements import SEEDS, call, startup
from percall_broker.backup import Archive, authentic, create, restore
from percall_broker.model.errors import BrokerError, Conflict, InvalidInput, Unavailable
from percall_broker.store import Statement, Store, open_store
from percall_broker.vault import KeyFolder, Vault

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.anyio
CANARY = b"canary-secret-of-the-upstream"
ALL = {
    "person": "", "grant_id": "", "agent": "", "server": "", "tool": "", "decision": "", "since_ms": 0, "until_ms": 0,
    "limit": 10_000,
}  # fmt: skip
_numbers = count(1)


@pytest.fixture
def keys(tmp_path: Path) -> KeyFolder:
    folder = KeyFolder(tmp_path / "keys")
    folder.add()
    return folder


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "a.backup"


@pytest.fixture
def empty(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[str], str]:
    """An empty place of an engine."""

    def make(engine: str) -> str:
        number = next(_numbers)
        if engine == "sqlite":
            return str(tmp_path / f"restored{number}.db")
        url: str = request.getfixturevalue("postgresql")
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE restored{number}".encode())
        server, _, options = url.partition("?")
        return f"{server.rpartition('/')[0]}/restored{number}?{options}"

    return make


async def states(store: Store) -> dict[str, str]:
    return {row["id"]: row["state"] for row in await store.fetch("list_grants")}


@pytest.mark.parametrize("target", ["sqlite", "postgresql"])
async def test_what_was_active_waits_and_what_was_revoked_stays_so(
    store: Store, location: str, keys: KeyFolder, file: Path, empty: Callable[[str], str], target: str
) -> None:
    vault = Vault(store, keys)
    await keep(store, vault, "github", 1, CANARY)
    nonce, signing = await vault.own_key("nonce"), await vault.own_key("signing")
    for name in ("gone", "paused"):
        await store.append(Statement("seed_grant", {"id": name, "person": "alice", "device": "key", "expires_at": 0}))
    await store.append(call("of another", grant_id="gone"), startup("no call", time_ms=1000))
    await store.append(Statement("seed_revocation", {"id": "gone"}))
    await store.append(Statement("set_grant_state", {"id": "paused", "state": "suspended"}))
    await store.append(Statement("add_invite", {"code_hash": "c", "grant_id": "g", "expires_at": 2_000_000_000}))
    await store.append(call("a"), call("b"))
    await store.append(Statement("store_arguments", {"call": "a", "entry": '{"call":"a"}', "sealed": b"\x00\xff'\\"}))
    await store.append(Statement("record_refusal", call("refused").parameters))
    await create(location, keys, file)
    await store.append(Statement("seed_revocation", {"id": "g"}))  # and this the backup does not know

    place = empty(target)
    done = await restore(place, keys, file)
    assert (done.rows["grants"], done.rows["log"]) == (3, 5)
    restored = await open_store(place, SEEDS)
    try:
        assert await states(restored) == {"g": "suspended", "gone": "revoked", "paused": "suspended"}
        (waiting,) = await restored.fetch("grants_to_review")
        assert (waiting["grant_id"], waiting["calls"], waiting["last_call_ms"]) == ("g", 2, 1000)
        assert not (await restored.append(call("c")))[0], "a suspended grant makes no call"
        (invite,) = await restored.fetch("read_invite", code_hash="c")
        assert invite["expires_at"] < 2_000_000_000
        opened = Vault(restored, keys)
        assert await opened.unseal("github", 1) == CANARY
        assert await opened.own_key("signing") == signing
        assert await opened.own_key("nonce") != nonce, "captured requests open nothing"
        assert await restored.fetch("read_arguments", call="a") == [{"sealed": b"\x00\xff'\\"}]
        assert (await restored.fetch("last_restore"))[0]["log_until_ms"] == 1000
        for wrong in ("paused", "gone", "none"):
            assert await restored.transact(Statement("resume_restored_grant", {"id": wrong}, required=True)) is None
        assert await restored.transact(Statement("resume_restored_grant", {"id": "g"}, required=True))
        assert await restored.fetch("grants_to_review") == []
        assert await states(restored) == {"g": "active", "gone": "revoked", "paused": "suspended"}
        (recorded,) = await restored.append(call("c", grant_version=3))
        assert recorded[0]["seq"] > 5, "the log goes on after what was restored"
        await restored.append(Statement("set_grant_state", {"id": "g", "state": "suspended"}))
        assert await restored.fetch("grants_to_review") == [], "somebody has changed it"
        again = Statement("resume_restored_grant", {"id": "g"}, required=True)
        assert await restored.transact(again) is None
    finally:
        await restored.close()


async def test_a_restored_store_under_review_can_be_backed_up_and_restored_again(
    store: Store, location: str, keys: KeyFolder, tmp_path: Path
) -> None:
    first, second = tmp_path / "1.backup", tmp_path / "2.backup"
    await create(location, keys, first)
    await restore(str(tmp_path / "1.db"), keys, first)
    await create(str(tmp_path / "1.db"), keys, second)
    await restore(str(tmp_path / "2.db"), keys, second)
    again = await open_store(tmp_path / "2.db")
    try:
        assert [row["grant_id"] for row in await again.fetch("grants_to_review")] == ["g"]
        assert await states(store) == {"g": "active"}, "a backup changes nothing"
    finally:
        await again.close()


async def test_a_backup_made_while_calls_run_is_one_moment_of_the_store(
    store: Store, location: str, keys: KeyFolder, file: Path, tmp_path: Path
) -> None:
    """Each call is recorded with its arguments in one commit: a backup has both or none."""
    made = asyncio.Event()

    async def calls() -> int:
        number = 0
        while not made.is_set() or number < 50:
            name, entry = f"c{number}", f'{{"call":"c{number}"}}'
            arguments = Statement("store_arguments", {"call": name, "entry": entry, "sealed": b"x" * 2000})
            assert all(await store.append(call(name), arguments)), "no call fails"
            number += 1
        return number

    running = asyncio.create_task(calls())
    for _ in range(20):
        await store.append(call(f"before{_}"))
    await create(location, keys, file)
    made.set()
    written = await running
    done = await restore(str(tmp_path / "r.db"), keys, file)
    assert done.rows["log"] - 20 == done.rows["arguments"]
    assert 0 < done.rows["arguments"] <= written


async def test_no_key_is_in_a_backup(store: Store, location: str, keys: KeyFolder, file: Path, tmp_path: Path) -> None:
    vault = Vault(store, keys)
    await keep(store, vault, "github", 1, CANARY)
    own = await vault.own_key("signing")
    await vault.unseal("github", 1)
    await create(location, keys, file)
    held = file.read_bytes()
    stored = (tmp_path / "keys" / "kek-0001.key").read_bytes().strip()
    unwrapped = [kept.data_key for kept in vault._unwrapped.values()]
    assert len(unwrapped) == 2
    for key in (CANARY, stored, keys.key("kek-0001"), own, *unwrapped):
        for form in (key, key.hex().encode(), json.dumps(key.decode("latin-1")).encode()):
            assert form not in held
    assert file.stat().st_mode & 0o777 == 0o600


async def test_half_a_backup_is_refused_wherever_it_ends(
    store: Store, location: str, keys: KeyFolder, file: Path, tmp_path: Path
) -> None:
    await store.append(*(call(f"c{number}") for number in range(20)))
    await create(location, keys, file)
    whole, half, place = file.read_bytes(), tmp_path / "half.backup", tmp_path / "r.db"
    lines = whole.splitlines(keepends=True)
    ends = {sum(map(len, lines[:number])) for number in range(len(lines))} | set(range(0, len(whole), 397))
    ends |= {len(whole) - 1}
    for end in sorted(ends):
        half.write_bytes(whole[:end])
        with pytest.raises(InvalidInput) as caught:
            await restore(str(place), keys, half)
        assert caught.value.code in {"backup.form", "backup.half"}, end
        assert not place.exists()
    half.write_bytes(whole + b"\n")
    with pytest.raises(InvalidInput):
        Archive(half)


async def test_an_altered_backup_is_refused_also_with_a_digest_that_fits(
    store: Store, location: str, keys: KeyFolder, file: Path, tmp_path: Path
) -> None:
    await store.append(Statement("seed_revocation", {"id": "g"}))
    await create(location, keys, file)
    *lines, trailer = file.read_bytes().splitlines(keepends=True)
    altered = b"".join(lines).replace(b'"revoked"', b'"active"')
    assert altered != b"".join(lines)
    forged = tmp_path / "forged.backup"
    forged.write_bytes(altered + trailer)
    with pytest.raises(InvalidInput) as caught:
        await restore(str(tmp_path / "r.db"), keys, forged)
    assert caught.value.code == "backup.damaged"
    fitting = json.loads(trailer) | {"sha256": sha256(altered).hexdigest()}
    forged.write_bytes(altered + json.dumps(fitting).encode() + b"\n")
    with Archive(forged), pytest.raises(InvalidInput) as caught:
        await restore(str(tmp_path / "r.db"), keys, forged)
    assert caught.value.code == "backup.altered"
    assert not list(tmp_path.glob("r.db*"))


@pytest.mark.usefixtures("store")
async def test_a_backup_under_other_keys_or_none_is_refused(
    location: str, keys: KeyFolder, file: Path, tmp_path: Path
) -> None:
    await create(location, keys, file)
    other = KeyFolder(tmp_path / "other")
    with pytest.raises(Unavailable) as caught:
        await restore(str(tmp_path / "r.db"), other, file)
    assert caught.value.code == "keys.missing"
    other.add()
    with Archive(file) as archive, pytest.raises(BrokerError) as refused:
        await authentic(archive, other)
    assert refused.value.code == "backup.keys"


@pytest.mark.usefixtures("store")
async def test_a_backup_from_a_newer_version_is_refused_with_a_sentence(
    location: str, keys: KeyFolder, file: Path, tmp_path: Path
) -> None:
    await create(location, keys, file)
    head, *rest = file.read_bytes().splitlines(keepends=True)
    newer = tmp_path / "newer.backup"
    for change in ({"percall_backup": 2}, {"migrations": ["0001_initial", "9999_later"]}):
        lines = [json.dumps(json.loads(head) | change).encode() + b"\n", *rest[:-1]]
        trailer = json.loads(rest[-1]) | {"sha256": sha256(b"".join(lines)).hexdigest()}
        newer.write_bytes(b"".join(lines) + json.dumps(trailer).encode() + b"\n")
        with pytest.raises(Unavailable) as caught:
            await restore(str(tmp_path / "r.db"), keys, newer)
        assert caught.value.code in {"backup.newer", "store.newer"}
        assert "newer version" in caught.value.message.lower()


@pytest.mark.parametrize(
    "text", [b"", b"\n", b"{}\n", b"[]\n", b"PK\x03\x04", b'{"percall_backup":"1"}\n', b"\xff" * 99]
)
async def test_what_is_no_backup_is_refused(text: bytes, file: Path) -> None:
    file.write_bytes(text)
    with pytest.raises(InvalidInput):
        Archive(file)


@pytest.mark.usefixtures("store")
@pytest.mark.parametrize("when", [-1, 10**18])
async def test_a_backup_of_no_time_is_none(location: str, keys: KeyFolder, file: Path, when: int) -> None:
    await create(location, keys, file)
    header, rest = file.read_text().split("\n", 1)
    file.write_text(json.dumps({**json.loads(header), "created_at": when}) + "\n" + rest)
    with pytest.raises(InvalidInput) as caught:
        Archive(file)
    assert caught.value.code == "backup.form"


async def test_nothing_that_is_there_is_overwritten(store: Store, location: str, keys: KeyFolder, file: Path) -> None:
    file.write_text("mine")
    with pytest.raises(Conflict):
        await create(location, keys, file)
    assert file.read_text() == "mine"
    file.unlink()
    await create(location, keys, file)
    await store.close()
    with pytest.raises(Conflict) as caught:
        await restore(location, keys, file)
    assert caught.value.code == "restore.exists"


@pytest.mark.parametrize("left", ["-wal", "-shm", "-journal"])
async def test_nothing_is_restored_under_the_log_of_a_store_that_was_taken_away(
    store: Store, location: str, keys: KeyFolder, file: Path, empty: Callable[[str], str], left: str
) -> None:
    await create(location, keys, file)
    await store.close()
    place = Path(empty("sqlite"))
    beside = place.with_name(place.name + left)
    beside.write_bytes(b"what SQLite would write into the restored store")
    with pytest.raises(Conflict) as caught:
        await restore(str(place), keys, file)
    assert caught.value.code == "restore.exists"
    assert beside.name in caught.value.message
    assert not place.exists()


@pytest.mark.parametrize("location", ["postgresql"], indirect=True)  # a file's lock is in the broker's folder
async def test_a_served_database_is_not_restored_into(keys: KeyFolder, store: Store, location: str, file: Path) -> None:
    await create(location, keys, file)
    with pytest.raises(Unavailable) as caught:
        await restore(location, keys, file)
    assert caught.value.code == "broker.running"
    assert await states(store) == {"g": "active"}


async def test_what_was_used_or_ended_after_the_backup_is_not_open_again(
    store: Store, location: str, keys: KeyFolder, file: Path, empty: Callable[[str], str]
) -> None:
    link = {"code_hash": "link", "grant_id": "g", "purpose": "sign-in", "expires_at": 2_000_000_000}
    session = {"token_hash": "session", "grant_id": "g", "how": "link", "passkey": "", "may_enrol_until": 0, "now": 1}
    account = {"issuer": "https://login.example", "subject": "1", "person": "alice", "linked_at": 2}
    await store.append(
        Statement("add_console_link", link),
        Statement("add_console_session", session | {"expires_at": 2_000_000_000}),
        Statement("expect_account", {"person": "alice", "until": 2_000_000_000}),
    )
    await create(location, keys, file)
    place = empty("sqlite")
    await restore(place, keys, file)
    restored = await open_store(place, SEEDS)
    try:
        assert await restored.append(Statement("use_console_link", {"code_hash": "link", "now": 2})) == [[]]
        wanted = {"token_hash": "session", "now": 2, "seen_since": 0}
        assert await restored.fetch("read_console_session", **wanted) == []
        assert await restored.append(Statement("link_account", account)) == [[]]
    finally:
        await restored.close()


async def test_an_approval_from_before_the_backup_lets_nothing_pass_after_a_restore(
    store: Store, location: str, keys: KeyFolder, file: Path, empty: Callable[[str], str]
) -> None:
    given = {
        "grant_id": "g", "person": "alice", "server": "github", "tool": "merge", "rule": "", "shape": "",
        "varying": "[]", "session": "", "expires_at": 2_000_000_000, "given_by": "lea", "given_ms": 1,
    }  # fmt: skip
    await keep(store, Vault(store, keys), "github", 1, CANARY)
    await store.append(
        Statement("seed_approvals", {"most": 2}),
        Statement("allow_approval", {"id": "ap1", "scope": "once", "time_ms": 1, "expires_at": 2_000_000_000}),
        Statement("add_lasting_answer", {**given, "id": "ap1", "effect": "allow"}),
        Statement("add_lasting_answer", {**given, "id": "ap2", "effect": "never", "expires_at": 0}),
    )
    await create(location, keys, file)
    place = empty("sqlite")
    await restore(place, keys, file)
    restored = await open_store(place, SEEDS)
    try:
        shown = [(await restored.fetch("read_approval", id=name, now=1))[0] for name in ("ap1", "ap2")]
        assert [(row["state"], row["lasting"]) for row in shown] == [("ended", "ended"), ("ended", "active")]
        assert [row["name"] for row in await restored.fetch("held_by", persons='{"alice":null}')] == ["ap2"]
    finally:
        await restored.close()


async def test_a_row_that_postgresql_does_not_keep_is_named_and_nothing_is_restored(
    location: str, store: Store, keys: KeyFolder, file: Path, empty: Callable[[str], str]
) -> None:
    """Versions before this one let SQLite keep a NUL."""
    if location.startswith("postgresql"):
        return
    await store.append(call("a"))
    with closing(sqlite3.connect(location)) as connection, connection:
        connection.execute("UPDATE log SET tool = 'get' || char(0)")
    await create(location, keys, file)
    place = empty("postgresql")
    with pytest.raises(Unavailable) as caught:
        await restore(place, keys, file)
    assert "'log'" in caught.value.message
    with pytest.raises(Unavailable):
        await open_store(place)
    await restore(empty("sqlite"), keys, file)
