"""The administrator's commands against a real broker: what they change, what they refuse, what they print."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pty
import re
import stat
import subprocess
import termios
from typing import TYPE_CHECKING

import pytest

from harness.processes import COMMANDS, Broker, Laptop, Line, command, keyed_entry, wait_for
from harness.terminal import at_a_terminal
from percall.proof import base64url
from percall_broker.cli.log import COLUMNS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

KEY = "percall-canary-of-the-administration"


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    with Broker(tmp_path_factory.mktemp("installation")) as running:
        running.add_server("keyed", keyed_entry("http://127.0.0.1:9"), KEY)
        yield running


def grant_of(broker: Broker, person: str, *more: str) -> str:
    done = broker.administrator.administer(
        "grant", "create", person, "--server", "keyed", "--tools", "get_*", *more, "--json"
    )
    return str(json.loads(done.stdout)["grant"])


def refused(laptop: Laptop, *arguments: str, stdin: str = "") -> str:
    done = laptop.administer(*arguments, stdin=stdin, check=False)
    assert done.returncode != 0
    assert "Traceback" not in done.stderr
    return done.stderr


def test_the_broker_folder_is_for_its_owner_alone(broker: Broker) -> None:
    home = broker.folder / "broker"
    for path in [home, *home.rglob("*")]:
        mode = stat.S_IMODE(path.stat().st_mode)
        assert mode & 0o077 == 0, (path, oct(mode))


def test_init_refuses_a_folder_that_is_in_use_and_leaves_nothing_behind_when_it_fails(
    broker: Broker, tmp_path: Path
) -> None:
    again = command("percall-broker", "init", environment=broker.environment, check=False)
    assert again.returncode == 2
    assert "already" in again.stderr
    elsewhere = {**broker.environment, "PERCALL_BROKER_HOME": str(tmp_path / "new")}
    failed = command(
        "percall-broker", "init", "--database", "postgresql://nobody:secret@127.0.0.1:1/x",
        environment=elsewhere, check=False,
    )  # fmt: skip
    assert failed.returncode == 1
    assert "secret" not in failed.stderr + failed.stdout
    assert json.loads(command("percall-broker", "init", "--json", environment=elsewhere).stdout)["invite"]


def test_init_takes_the_settings_that_are_there_and_keeps_them_also_when_it_fails(tmp_path: Path) -> None:
    folder, keys = tmp_path / "broker", tmp_path / "kms"
    folder.mkdir(mode=0o755)
    settings = folder / "settings.toml"
    environment = {"PATH": "/usr/bin:/bin", "PERCALL_BROKER_HOME": str(folder), "CREDENTIALS_DIRECTORY": str(keys)}
    settings.write_text('key_source = "systemd"\nkey_days = 90\n')
    failed = command("percall-broker", "init", environment=environment, check=False)
    assert (failed.returncode, [*folder.iterdir()]) == (1, [settings])
    keys.mkdir()
    (keys / "kek-0001.key").touch(mode=0o600)
    (keys / "kek-0001.key").write_text(base64url(os.urandom(32)))
    refused = command("percall-broker", "init", "--database", "postgresql://x/y", environment=environment, check=False)
    assert "[init.settings]" in refused.stderr
    assert json.loads(command("percall-broker", "init", "--json", environment=environment).stdout)["invite"]
    assert settings.read_text() == 'key_source = "systemd"\nkey_days = 90\n'
    assert not (folder / "keys").exists()
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_a_further_administrator_is_invited_on_the_broker_s_own_machine(broker: Broker, tmp_path: Path) -> None:
    made = command("percall-broker", "invite", "eve", "--json", environment=broker.environment)
    laptop = Laptop(tmp_path / "eve")
    laptop.login(broker.url, json.loads(made.stdout)["invite"])
    assert "keyed" in laptop.administer("server", "list").stdout


@pytest.mark.parametrize(
    "asked",
    [
        ("log", "list", "--person", "nobdy"),
        ("log", "list", "--server", "gihtub"),
        ("log", "list", "--secret-version", "gihtub@1"),
        ("log", "list", "--grant", "g_x"),
        ("device", "list", "--person", "nobdy"),
        ("passkey", "list", "--person", "nobdy"),
    ],
    ids=" ".join,
)
def test_a_name_that_the_broker_does_not_know_is_told_beside_the_empty_answer(
    broker: Broker, asked: tuple[str, ...]
) -> None:
    done = broker.administrator.administer(*asked)
    assert done.stdout.startswith("No ")
    assert re.search(rf"^The broker knows no \w+ '{asked[-1].partition('@')[0]}'\.", done.stderr)
    assert broker.administrator.administer(*asked, "--json").stdout == ""


def test_who_is_known_and_has_nothing_is_not_called_unknown(broker: Broker) -> None:
    grant = grant_of(broker, "idle")
    broker.administrator.administer("person", "remove", "idle")
    for which in (("--person", "idle"), ("--server", "keyed"), ("--grant", grant)):
        done = broker.administrator.administer("log", "list", *which)
        assert (done.stdout, done.stderr) == ("No calls.\n", "")


def test_what_an_automation_may_change_is_told_where_it_is_made(broker: Broker) -> None:
    def made(*more: str) -> str:
        return command("percall-broker", "invite", "ci", *more, environment=broker.environment).stdout

    assert "may change nothing" in made("--automation")
    assert "may change people, grants." in made("--automation", "--may", "people, grants")
    assert "automation" not in made()
    told = broker.administrator.administer("status").stdout
    assert "may change nothing\n" in told
    assert "may change people, grants\n" in told


def test_a_grant_is_suspended_resumed_and_revoked_for_good(broker: Broker) -> None:
    grant = grant_of(broker, "bob")
    for verb, state in (("suspend", "suspended"), ("resume", "active"), ("revoke", "revoked")):
        broker.administrator.administer("grant", verb, grant)
        assert broker.rows("grant", "show", grant)[0]["state"] == state
    assert "revoked already" in refused(broker.administrator, "grant", "resume", grant)


def test_a_grant_holds_the_scope_of_each_of_its_servers(broker: Broker) -> None:
    broker.add_server("second", keyed_entry("http://127.0.0.1:9"), KEY)
    grant = grant_of(broker, "carol", "--server", "second", "--prompts", "p_*", "--expires", "1h", "--agent", "cursor")
    row = broker.rows("grant", "show", grant)[0]
    scope = {"tools": ["get_*"], "prompts": ["p_*"], "resources": []}
    assert row["servers"] == {"keyed": scope, "second": scope}
    assert (row["agent"], row["enrolled"], row["administrator"]) == ("cursor", False, False)
    assert row["expires_at"] - row["created_at"] in range(3590, 3601)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("grant", "create", "dan", "--server", "nothing", "--tools", "*"), "no server nothing"),
        (("grant", "create", "dan", "--server", "keyed"), "names no tool"),
        (("grant", "create", "dan", "--tools", "*"), "at least one server"),
        (("grant", "create", "dan", "--server", "keyed", "--tools", "*", "--expires", "soon"), "not a duration"),
        (("grant", "create", "../dan", "--server", "keyed", "--tools", "*"), "cannot be the name"),
        (("grant", "show", "g_none"), "no grant"),
        (("grant", "revoke", "g_none"), "no grant"),
        (("server", "show", "nothing"), "no server"),
        (("server", "remove", "nothing"), "no server"),
        (("server", "add", "x"), "from a recipe or from a file"),
        (("server", "add", "x", "--recipe", "nothing"), "no recipe"),
        (("server", "add", "x", "--from", "/nonexistent.toml"), "cannot be read: No such file or directory."),
        (("server", "add", "x", "--recipe", "atlassian", "--secret-stdin"), "needs site"),
        (("server", "add", "x", "--recipe", "github"), "no terminal"),
        (("server", "rotate-key", "nothing", "--secret-stdin"), "no server"),
        (("log", "show", "nothing"), "no call"),
        (("log", "list", "--decision", "maybe"), "no decision"),
        (("log", "list", "--since", "yesterday"), "ISO 8601"),
    ],
)
def test_what_cannot_be_done_is_said_in_a_sentence(broker: Broker, arguments: tuple[str, ...], said: str) -> None:
    assert said in refused(broker.administrator, *arguments, stdin=KEY)


@pytest.mark.parametrize("key", ["", "short", "two\nlines of it", "with a tab\there", "ключ-не-ascii", "x" * 9000])
def test_what_cannot_be_a_key_is_refused_and_not_repeated(broker: Broker, key: str) -> None:
    said = refused(broker.administrator, "server", "rotate-key", "keyed", "--secret-stdin", stdin=key)
    assert "key" in said
    assert not key or key not in said


@pytest.mark.parametrize("nothing", ["\n", "\r\n"])
def test_a_server_whose_key_is_empty_is_not_added(broker: Broker, nothing: str) -> None:
    """As of a script whose variable was not set."""
    adding = ("server", "add", "keyless", "--recipe", "github", "--secret-stdin")
    assert "No key was given" in refused(broker.administrator, *adding, stdin=nothing)
    assert "keyless" not in broker.administrator.administer("server", "list").stdout


def test_a_call_id_that_begins_with_a_hyphen_is_no_option(broker: Broker) -> None:
    assert "There is no call" in refused(broker.administrator, "log", "show", "-hABCDEFGHIJKLMNOPQRST", "--arguments")


def test_nobody_but_an_administrator_administers(broker: Broker) -> None:
    laptop = broker.enrol("mallory", "keyed")
    for arguments in (("server", "list"), ("grant", "list"), ("log", "list"), ("log", "changes"), ("log", "tail")):
        assert "administrator" in refused(laptop, *arguments)
    assert "administrator" in refused(laptop, "grant", "create", "m", "--server", "keyed", "--tools", "*")


def test_every_change_stands_in_the_log_with_who_made_it_and_no_secret(broker: Broker) -> None:
    grant = grant_of(broker, "erin")
    broker.administrator.administer("grant", "suspend", grant)
    broker.administrator.administer("server", "rotate-key", "keyed", "--secret-stdin", stdin=KEY + "-2")
    rows = broker.rows("log", "changes", "--limit", "3")
    assert [row["action"] for row in rows] == ["server.rotate_key", "grant.suspended", "grant.create"]
    assert {row["person"] for row in rows} == {"admin"}
    assert rows[1]["details"]["grant"] == grant
    assert KEY not in json.dumps(rows)
    assert broker.rows("log", "changes")[-1]["person"] == ""  # the first administrator, made by init


def test_a_change_that_was_refused_leaves_no_row(broker: Broker) -> None:
    before = len(broker.rows("log", "changes"))
    refused(broker.administrator, "grant", "revoke", "g_none")
    refused(broker.administrator, "server", "remove", "nothing")
    assert len(broker.rows("log", "changes")) == before


def test_a_server_s_name_may_be_used_again_and_its_old_key_does_not_come_back(broker: Broker) -> None:
    broker.add_server("again", keyed_entry("http://127.0.0.1:9"), KEY)
    before = broker.rows("server", "show", "again")[0]
    assert "already" in refused(
        broker.administrator, "server", "add", "again", "--recipe", "github", "--secret-stdin", stdin=KEY
    )
    broker.administrator.administer("server", "remove", "again")
    assert "again" not in broker.administrator.administer("server", "list").stdout
    broker.add_server("again", keyed_entry("http://127.0.0.1:9"), KEY + "-other")
    after = broker.rows("server", "show", "again")[0]
    assert after["version"] > before["version"]
    assert after["secret_version"] == before["secret_version"] + 1


def test_the_key_is_shown_nowhere(broker: Broker) -> None:
    for arguments in (("server", "list"), ("server", "show", "keyed"), ("log", "changes")):
        for more in ((), ("--json",)):
            assert KEY not in broker.administrator.administer(*arguments, *more).stdout
    for path in (broker.folder / "broker").rglob("*"):
        if path.is_file():
            assert KEY.encode() not in path.read_bytes(), path


def test_key_encryption_keys_are_rotated_while_the_broker_serves(broker: Broker) -> None:
    done = command("percall-broker", "key", "rotate", environment=broker.environment)
    assert "wraps" in done.stdout
    assert "keys.rotate" in {row["action"] for row in broker.rows("log", "changes")}
    broker.administrator.administer("server", "rotate-key", "keyed", "--secret-stdin", stdin=KEY + "-3")
    assert broker.rows("server", "list")


def test_the_key_is_asked_for_at_a_terminal_and_not_echoed(broker: Broker) -> None:
    controller, terminal = pty.openpty()

    def take_the_terminal() -> None:
        os.setsid()
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)

    process = subprocess.Popen(
        [str(COMMANDS / "percall-broker"), "server", "add", "typed", "--recipe", "github", "--json"],
        stdin=terminal,
        stdout=subprocess.PIPE,
        stderr=terminal,
        env=broker.administrator.environment,
        preexec_fn=take_the_terminal,  # noqa: PLW1509 - the child needs a terminal of its own to ask at
    )
    os.close(terminal)
    seen = b""
    while b"Key for typed" not in seen:
        seen += os.read(controller, 1024)
    os.write(controller, KEY.encode() + b"\n")
    out, _ = process.communicate(timeout=30)
    os.set_blocking(controller, False)
    with contextlib.suppress(OSError):
        seen += os.read(controller, 65536)
    os.close(controller)
    assert process.returncode == 0, seen
    assert KEY.encode() not in seen + out
    assert json.loads(out)["server"] == "typed"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("add", "keyed", "--recipe", "github"), "There is a server 'keyed' already. [server.exists]"),
        (("add", "a/b", "--recipe", "github"), "'a/b' cannot be the name of a server. [server.name]"),
        (("rotate-key", "nothing"), "There is no server 'nothing'."),
    ],
)
def test_no_key_is_asked_for_that_would_be_refused_whatever_it_is(
    broker: Broker, arguments: tuple[str, ...], said: str
) -> None:
    shown, code = at_a_terminal("percall-broker", ["server", *arguments], broker.administrator.environment, [])
    assert code != 0
    assert said in shown
    assert "Key for" not in shown


@pytest.mark.parametrize("arguments", [("add", "short", "--recipe", "github"), ("rotate-key", "keyed")])
def test_what_cannot_be_a_key_is_refused_before_the_broker_is_asked(broker: Broker, arguments: tuple[str, ...]) -> None:
    shown, code = at_a_terminal("percall-broker", ["server", *arguments], broker.administrator.environment, ["abc"])
    assert code == 2, shown
    assert "A key has 8 to 8192 characters. [secret.length]" in shown


@pytest.mark.parametrize("form", [[], ["--json"]], ids=["for a person", "for a script"])
def test_the_tail_follows_calls_as_they_are_decided(broker: Broker, form: list[str]) -> None:
    person = f"frank{len(form)}"
    laptop = broker.enrol(person, "keyed")
    tail = subprocess.Popen(
        [str(COMMANDS / "percall-broker"), "log", "tail", *form],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=broker.administrator.environment,
    )
    out, errors = Line(tail.stdout), Line(tail.stderr)
    try:
        with laptop.client("keyed") as client:
            client.initialize()

            def followed() -> bool:
                # The tail begins at its own first look: calls before that are not its news.
                assert client.call("delete_item")["isError"] is True
                return not out.lines.empty()

            wait_for(followed, "the tail shows a call")
        line = out.until(b"delete_item")
        row = json.loads(line) if form else dict(zip(COLUMNS, line.decode().split(), strict=True))
        assert (row["person"], row["decision"], row["reason"]) == (person, "forbid", "grant.tool")
        assert "delete_item" in broker.administrator.administer("log", "show", row["call"]).stdout
        with laptop.client("keyed") as client:
            client.initialize()
            client.call("get_item", {"id": 1})
        out.until(b"get_item")
        tail.terminate()
        tail.wait(10)
        told = [each for each in b"".join(out.text).decode().splitlines() if row["call"] in each]
        assert len(told) == 1, "looked at again, and told once"
    finally:
        tail.terminate()
        tail.wait(10)
        out.join(5)
        errors.join(5)
