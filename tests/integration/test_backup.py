"""Backup, restore, review and migration by the commands, over brokers that serve."""

from __future__ import annotations

import json
import os
import re
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import pytest

import percall_broker
from harness import database
from harness.openbao import openbao
from harness.processes import COMMANDS, Broker, Line, automation_invite, command, keyed_entry, serving
from harness.signing import SigningLaptop
from harness.upstream import CANARY, Upstream
from integration.conftest import Served
from integration.test_watching import figures, figures_url, get

if TYPE_CHECKING:
    from collections.abc import Mapping

    from harness.openbao import OpenBao

WHOLE = re.compile(
    r" is whole, and as it was made: .*\n"
    r"It holds \d+ people, \d+ devices, \d+ grants, 1 server, \d+ sealed secrets and \d+ entries of the log\.\n"
)
"""What is said of a backup that is."""


def broker(
    *arguments: str, environment: Mapping[str, str], check: bool = True, file_bytes: int = 0
) -> subprocess.CompletedProcess[str]:
    """`percall-broker`, where no file may grow beyond some bytes."""
    if not file_bytes:
        return command("percall-broker", *arguments, environment=environment, check=check)
    bounded = (resource.RLIMIT_FSIZE, (file_bytes, file_bytes))
    return subprocess.run(
        [str(COMMANDS / "percall-broker"), *arguments],
        env={**environment, "PYTHONDONTWRITEBYTECODE": "1"},  # which would be cut off as well
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        preexec_fn=lambda: resource.setrlimit(*bounded),
    )


def test_a_restored_broker_refuses_everybody_until_an_administrator_has_looked(
    tmp_path: Path, upstream: Upstream
) -> None:
    file = tmp_path / "a.backup"
    with Served(tmp_path / "lost") as lost:
        lost.add_server("keyed", keyed_entry(upstream.url), CANARY)
        alice, kept = lost.enrol()
        bob, revoked_later = lost.enrol()
        carol, revoked = lost.enrol()
        lost.change(revoked, "revoke")
        assert alice.call("keyed", "get_item")["decision"] == "permit"
        broker("backup", "create", str(file), environment=lost.environment)
        lost.change(revoked_later, "revoke")  # which the backup does not know
        assert "which need it: kek-0001" in broker("key", "rotate", environment=lost.environment).stdout
    assert CANARY.encode() not in file.read_bytes()
    home = tmp_path / "new" / "broker"
    home.mkdir(parents=True, mode=0o700)
    shutil.copytree(tmp_path / "lost" / "broker" / "keys", home / "keys")
    again = Served(tmp_path / "new", url=lost.url)
    again.environment = {**lost.environment, "PERCALL_BROKER_HOME": str(home)}
    assert WHOLE.search(broker("backup", "check", str(file), environment=again.environment).stdout)
    broker("backup", "restore", str(file), environment=again.environment)
    again.start()
    try:
        for laptop, code in ((alice, "suspended"), (bob, "suspended"), (carol, "revoked"), (lost.administrator, "")):
            laptop.nonce = ""
            answer = laptop.ask("keyed", "tools/call", {"name": "get_item", "arguments": {}})
            said = answer.body.decode()
            assert '"permit"' not in said
            assert code in said
        assert lost.administrator.send("GET", "/v1/admin/grants").status == 403
        administrator = SigningLaptop.enrolled(again.url, automation_invite(again.environment))
        review = administrator.administer("GET", "/v1/admin/review")
        waiting = {row["grant"]: row["calls"] for row in review["grants"]}
        assert waiting[kept] == 1
        assert revoked_later in waiting
        assert revoked not in waiting
        refused = administrator.send("POST", "/v1/admin/review/resume", b'{"grants":["%s"]}' % revoked.encode())
        assert refused.code == "review.grant"
        former = [row["grant"] for row in review["grants"] if row["administrator"]]
        assert len(former) >= 2, "a person's and an automation's"
        for together in (former[:1], former[1:], [kept, *former]):
            refused = administrator.send("POST", "/v1/admin/review/resume", json.dumps({"grants": together}).encode())
            assert refused.code == "automation.administrators"
        administrator.administer("POST", f"/v1/admin/grants/{revoked_later}/revoke")
        administrator.administer("POST", "/v1/admin/review/resume", {"grants": [kept]})
        assert alice.call("keyed", "get_item")["decision"] == "permit"
        assert bob.call("keyed", "get_item")["decision"] == "forbid"
        left = {row["grant"] for row in administrator.administer("GET", "/v1/admin/review")["grants"]}
        assert not left & {kept, revoked_later, revoked}
    finally:
        again.stop(signal.SIGKILL)


def test_all_that_waits_is_resumed_however_many_there_are(tmp_path: Path) -> None:
    with Broker(tmp_path) as served:
        resume = ("review", "resume", "--all")
        assert served.administrator.administer(*resume).stdout == "No grant waits for a review.\n"
        (one,) = served.rows("person", "invite", "alice")
        with closing(sqlite3.connect(tmp_path / "broker" / "store.sqlite3")) as store, store:
            store.row_factory = sqlite3.Row
            row = dict(store.execute("SELECT * FROM grants WHERE id = ?", (one["grant"],)).fetchone())
            into = f"INSERT INTO grants ({', '.join(row)}) VALUES ({', '.join('?' * len(row))})"  # noqa: S608
            many = [{**row, "id": f"g{number}", "state": "suspended"} for number in range(1001)]
            store.executemany(into, [tuple(each.values()) for each in many])
            waiting = [(each["id"], each["version"]) for each in many]
            store.executemany("INSERT INTO restored_grants (grant_id, version) VALUES (?, ?)", waiting)
        assert "Working again: 1001 grants. Still waiting: 0." in served.administrator.administer(*resume).stdout


def test_a_full_disk_leaves_no_backup(tmp_path: Path) -> None:
    with Served(tmp_path / "b") as served:
        target = tmp_path / "backups"
        target.mkdir()
        done = broker("backup", "create", str(target / "a"), environment=served.environment, file_bytes=1500)
        assert done.returncode == 1
        assert "Traceback" not in done.stderr
        assert list(target.iterdir()) == []
        broker("backup", "create", str(target / "a"), environment=served.environment)
        assert (target / "a").stat().st_mode & 0o777 == 0o600


_CHECK = "import sqlite3, sys; print(*sqlite3.connect(sys.argv[1]).execute('PRAGMA integrity_check').fetchone())"


def restored_on_a_disk_of(size: int, backup: Path, keys: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    """`backup restore` where there is no more room; what it leaves, and whether SQLite finds that whole."""
    folder.mkdir()
    script = f"""
        mount -t tmpfs -o size={size} none {folder} || exit 77
        cp -r {keys} {folder}/keys
        {COMMANDS}/percall-broker backup restore {backup}; code=$?
        ls {folder}
        [ $code -ne 0 ] || {sys.executable} -c "{_CHECK}" {folder}/store.sqlite3
        exit $code
    """
    return with_a_disk_of_its_own(script, folder)


def with_a_disk_of_its_own(script: str, home: Path) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script],
        env={"PATH": os.environ["PATH"], "PERCALL_BROKER_HOME": str(home)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    if done.returncode == 77 or "unshare" in done.stderr:
        pytest.skip("this machine lets nobody mount a disk that is small enough")
    return done


@pytest.mark.skipif(shutil.which("unshare") is None, reason="a disk that is small enough is mounted by Linux alone")
def test_a_disk_that_is_full_in_the_middle_of_a_table_is_told_in_a_sentence_alone(tmp_path: Path) -> None:
    home, disk = tmp_path / "broker", tmp_path / "disk"
    broker("init", environment={"PATH": "/usr/bin:/bin", "PERCALL_BROKER_HOME": str(home)})
    with closing(sqlite3.connect(home / "store.sqlite3")) as store, store:
        store.execute("CREATE TABLE large (number INTEGER, text TEXT)")
        store.executemany("INSERT INTO large VALUES (?, ?)", [(number, "x" * 1000) for number in range(1000)])
    disk.mkdir()
    script = f"""
        mount -t tmpfs -o size=64k none {disk} || exit 77
        {COMMANDS}/percall-broker backup create {disk}/a
    """
    done = with_a_disk_of_its_own(script, home)
    assert done.returncode == 1
    said = f"percall-broker: The backup {disk}/a could not be written: No space left on device. [backup.write]"
    assert done.stderr.splitlines() == [said, "  Nothing of it was kept."]


@pytest.mark.skipif(shutil.which("unshare") is None, reason="a disk that is small enough is mounted by Linux alone")
def test_a_store_is_restored_whole_or_not_at_all_where_there_is_hardly_room(tmp_path: Path) -> None:
    home, file = tmp_path / "broker", tmp_path / "a.backup"
    environment = {"PATH": "/usr/bin:/bin", "PERCALL_BROKER_HOME": str(home)}
    broker("init", environment=environment)
    store = home / "store.sqlite3"
    with closing(sqlite3.connect(store)) as connection, connection:
        rows = [(f"e{number}", "x", 1, "", "x" * 10_000) for number in range(300)]
        connection.executemany("INSERT INTO events (id, type, time_ms, token, body) VALUES (?, ?, ?, ?, ?)", rows)
    broker("backup", "create", str(file), environment=environment)
    size = store.stat().st_size
    enough = restored_on_a_disk_of(size * 8 // 5, file, home / "keys", tmp_path / "enough")
    assert (enough.returncode, enough.stdout.splitlines()[-1]) == (0, "ok"), enough
    too_small = restored_on_a_disk_of(size * 4 // 5, file, home / "keys", tmp_path / "small")
    assert too_small.returncode == 1
    assert "database or disk is full" in too_small.stderr
    assert too_small.stdout.split() == ["keys", "serve.lock"]


def test_an_old_store_is_served_only_after_an_explicit_migration_with_a_backup(tmp_path: Path) -> None:
    home = tmp_path / "broker"
    environment = {"PATH": "/usr/bin:/bin", "PERCALL_BROKER_HOME": str(home)}
    broker("init", environment=environment)
    store = home / "store.sqlite3"
    store.unlink()
    database.of_version(str(store), 1)
    refused = broker("serve", "--listen", "127.0.0.1:0", environment=environment, check=False)
    assert refused.returncode == 1
    assert "percall-broker migrate" in refused.stderr
    (home / "keys").rename(tmp_path / "keys")
    without = broker("migrate", environment=environment, check=False)
    assert without.returncode == 1
    assert "--no-backup" in without.stderr
    (tmp_path / "keys").rename(home / "keys")
    done = broker("migrate", environment=environment)
    assert "0002" in done.stdout
    (backup,) = (home / "backups").iterdir()
    checked = json.loads(broker("backup", "check", str(backup), "--json", environment=environment).stdout)
    assert checked["migrations"] == ["0001_initial"]
    assert list(checked["rows"]) == sorted(checked["rows"])
    assert "Nothing to do" in broker("migrate", environment=environment).stdout
    served = Served(tmp_path, environment=environment)
    served.start()
    assert served.stop() == 0


def test_a_backup_without_a_name_is_not_made(tmp_path: Path) -> None:
    environment = {"PATH": "/usr/bin:/bin", "PERCALL_BROKER_HOME": str(tmp_path / "broker")}
    done = broker("backup", "create", "", environment=environment, check=False)
    assert (done.returncode, "into a new file" in done.stderr) == (2, True)


def test_a_backup_and_none_is_refused_before_anything_is_done(tmp_path: Path) -> None:
    environment = {"PATH": "/usr/bin:/bin", "PERCALL_BROKER_HOME": str(tmp_path / "broker")}
    done = broker("migrate", "--backup", "x", "--no-backup", environment=environment, check=False)
    assert done.returncode == 2
    assert "--backup FILE or --no-backup" in done.stderr


def test_a_store_is_not_migrated_under_a_broker_that_serves_it(tmp_path: Path) -> None:
    with Served(tmp_path / "b") as served:
        store = tmp_path / "b" / "broker" / "store.sqlite3"
        with closing(sqlite3.connect(store)) as connection, connection:
            connection.execute("DELETE FROM migrations WHERE number = (SELECT MAX(number) FROM migrations)")
        done = broker("migrate", environment=served.environment, check=False)
        assert done.returncode == 1
        assert "Another broker serves" in done.stderr
        assert not (tmp_path / "b" / "broker" / "backups").exists()


def test_nor_is_a_database_that_a_broker_on_another_machine_serves_and_no_backup_is_left(
    tmp_path: Path, postgresql: str
) -> None:
    with Served(tmp_path / "b", postgresql) as served:
        shutil.copytree(tmp_path / "b" / "broker", tmp_path / "elsewhere")
        elsewhere = {**served.environment, "PERCALL_BROKER_HOME": str(tmp_path / "elsewhere")}
        with psycopg.connect(served.database, autocommit=True) as connection:
            connection.execute("DELETE FROM migrations WHERE number = (SELECT MAX(number) FROM migrations)")
        for more in ((), ("--backup", str(tmp_path / "named"))):
            done = broker("migrate", *more, environment=elsewhere, check=False)
            assert done.returncode == 1
            assert "A broker serves this database" in done.stderr
            assert done.stdout == ""
        assert list(tmp_path.rglob("*.backup")) == []
        assert not (tmp_path / "named").exists()


def sealed_again(served: Served, bao: OpenBao) -> str:
    """Starts the broker anew where its key source does not take its token any more; the token that it took."""
    served.stop()
    token = bao.token.read_text()
    bao.token.write_text("expired")
    served.process = serving(served.url.removeprefix("http://"), environment=served.environment)
    served.stdout, served.stderr = Line(served.process.stdout), Line(served.process.stderr)
    served.stderr.until(b"keys.forbidden")
    return token


def test_a_broker_whose_key_source_is_down_starts_sealed_and_opens_by_itself(tmp_path: Path) -> None:
    with openbao(tmp_path) as bao:
        bao.make_key("percall")
        settings = {"key_source": "transit", "transit_address": bao.url, "transit_token_file": str(bao.token)}
        with Served(tmp_path / "b", settings=settings) as served:
            served.add_server("none", '[server]\ntitle = "n"\ndelivery = "none"\ncommand = ["true"]\n')
            assert not (tmp_path / "b" / "broker" / "keys").exists()
            file = tmp_path / "a.backup"
            broker("backup", "create", str(file), environment=served.environment)
            broker("key", "rotate", environment=served.environment)
            assert "transit:percall:v1" in broker("backup", "check", str(file), environment=served.environment).stdout
            token = sealed_again(served, bao)
            administrator = served.administrator
            answer = administrator.exchange("GET", "/v1/session", b"", {})
            assert (answer.status, answer.code) == (503, "broker.sealed")
            assert bao.url not in answer.body.decode()
            assert administrator.exchange("GET", "/healthz", b"", {}).status == 200
            bao.token.write_text(token)
            served.stdout.until(b"listening on")
            administrator.nonce = ""
            assert administrator.administer("GET", "/v1/admin/servers")[0]["server"] == "none"


def test_the_first_key_is_with_openbao_where_the_settings_are_there_before_the_broker(tmp_path: Path) -> None:
    folder = tmp_path / "broker"
    folder.mkdir()
    with openbao(tmp_path) as bao:
        bao.make_key("percall")
        (folder / "settings.toml").write_text(
            f'key_source = "transit"\ntransit_address = "{bao.url}"\ntransit_token_file = "{bao.token}"\n'
        )
        environment = {"PATH": "/usr/bin:/bin", "PERCALL_BROKER_HOME": str(folder)}
        broker("init", environment=environment)
        assert broker("key", "rotate", environment=environment).stdout.startswith("transit:percall:v2 wraps")
    assert not (folder / "keys").exists()


def test_a_sealed_broker_is_watched_like_any_other(tmp_path: Path) -> None:
    with openbao(tmp_path) as bao:
        bao.make_key("percall")
        settings = {"key_source": "transit", "transit_address": bao.url, "transit_token_file": str(bao.token)}
        with Served(tmp_path / "b", settings=settings | {"metrics_listen": "127.0.0.1:0"}) as served:
            token = sealed_again(served, bao)
            for url in (served.url, figures_url(served)):
                assert get(url, "/healthz").status == 200
                ready = get(url, "/readyz")
                assert (ready.status, ready.json) == (503, {"ready": False, "problems": {"keys": "broker.sealed"}})
            found = figures(served)
            assert found['percall_not_ready{problem="keys"}'] == 1
            assert found['percall_not_ready{problem="store"}'] == 0
            assert "process_open_fds" in found
            bao.token.write_text(token)
            served.stdout.until(b"listening on")
            assert get(figures_url(served), "/readyz").status == 200
            assert figures(served)['percall_not_ready{problem="keys"}'] == 0
            assert served.stop() == 0


def test_what_a_newer_version_has_migrated_goes_back_by_the_backup_that_it_made(
    tmp_path: Path, upstream: Upstream
) -> None:
    newer = tmp_path / "newer" / "percall_broker"
    shutil.copytree(Path(percall_broker.__file__).parent, newer, ignore=shutil.ignore_patterns("__pycache__"))
    (newer / "store" / "migrations" / "9000_of_tomorrow.sql").write_text(
        "ALTER TABLE grants ADD COLUMN of_tomorrow INTEGER NOT NULL DEFAULT 0;\n"
    )
    with Served(tmp_path / "b") as served:
        served.add_server("keyed", keyed_entry(upstream.url), CANARY)
        alice, grant = served.enrol()
        served.stop()
        home = tmp_path / "b" / "broker"
        done = broker("migrate", environment=served.environment | {"PYTHONPATH": str(newer.parent)})
        assert "9000_of_tomorrow" in done.stdout
        for refused in (("serve", "--listen", "127.0.0.1:0"), ("migrate",)):
            said = broker(*refused, environment=served.environment, check=False)
            assert said.returncode == 1
            assert "A newer version of the broker has written this" in said.stderr
        # Back: this version again, over an emptied folder.
        (backup,) = (home / "backups").iterdir()
        for path in home.glob("store.sqlite3*"):
            path.unlink()
        broker("backup", "restore", str(backup), environment=served.environment)
        served.start()
        alice.nonce = ""
        assert alice.call("keyed", "get_item")["refusal"]["code"] == "grant.suspended"
        administrator = SigningLaptop.enrolled(served.url, automation_invite(served.environment))
        administrator.administer("POST", "/v1/admin/review/resume", {"grants": [grant]})
        assert alice.call("keyed", "get_item")["decision"] == "permit"
