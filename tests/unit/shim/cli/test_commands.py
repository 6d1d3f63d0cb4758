"""login, status, log and trust as a person runs them, against a real broker."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import trustme

from harness.processes import COMMANDS, SERVERS, Broker, Laptop, UnusualBroker
from harness.terminal import at_a_terminal

if TYPE_CHECKING:
    from collections.abc import Iterator

ENTRY = f"""
[server]
title = "A server without a key"
delivery = "none"
command = ["{sys.executable}", "{SERVERS / "keyed.py"}"]
"""


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    with Broker(tmp_path_factory.mktemp("installation")) as running:
        running.add_server("clock", ENTRY, "")
        yield running


def invite(broker: Broker, person: str) -> str:
    done = broker.administrator.administer(
        "grant", "create", person, "--server", "clock", "--tools", "get_*", "--expires", "30d", "--json"
    )
    return str(json.loads(done.stdout)["invite"])


def further(broker: Broker, person: str) -> str:
    """An invite for somebody who has a device already."""
    done = broker.administrator.administer("person", "invite", person, "--json")
    return str(json.loads(done.stdout)["invite"])


def log_in(laptop: Laptop, url: str, code: str, *more: str) -> dict[str, Any]:
    return dict(json.loads(laptop.login(url, code, "--json", *more).stdout))


def test_login_says_who_you_are_what_you_may_use_and_what_was_accepted(broker: Broker, tmp_path: Path) -> None:
    done = Laptop(tmp_path).login(broker.url, invite(broker, "alice"), "--agent", "claude", "--device", "a laptop")
    assert "alice on a laptop, agent claude" in done.stdout
    assert "get_*" in done.stdout
    assert "accepted on first sight: " in done.stdout
    assert "percall run --agent claude clock" in done.stdout


def test_login_leaves_no_secret_in_the_clear(broker: Broker, tmp_path: Path) -> None:
    laptop = Laptop(tmp_path)
    done = laptop.login(broker.url, invite(broker, "ann"))
    secrets = json.loads(
        subprocess.run(
            [sys.executable, "-m", "percall.identity.reader", next((tmp_path / "percall" / "logins").iterdir()).stem],
            env=laptop.environment,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
    )
    for path in (path for path in (tmp_path / "percall").rglob("*") if path.is_file()):
        assert secrets["seed"] not in path.read_text()
        assert secrets["token"] not in path.read_text()
    assert secrets["token"] not in done.stdout + done.stderr


def test_the_same_agent_at_the_same_broker_keeps_its_key_and_another_agent_gets_its_own(
    broker: Broker, tmp_path: Path
) -> None:
    laptop = Laptop(tmp_path)
    assert log_in(laptop, broker.url, invite(broker, "bea"))["reused_key"] is False
    assert log_in(laptop, broker.url, further(broker, "bea"))["reused_key"] is True
    assert log_in(laptop, broker.url, further(broker, "bea"), "--agent", "cursor")["reused_key"] is False


def test_a_machine_without_a_keyring_spends_no_invite(broker: Broker, tmp_path: Path) -> None:
    laptop = Laptop(tmp_path)
    code = invite(broker, "cleo")
    refused = laptop.run("login", broker.url, "--invite", code, check=False)
    assert refused.returncode == 3
    assert "--keyring file" in refused.stderr
    assert laptop.login(broker.url, code).returncode == 0


def test_a_passphrase_that_does_not_open_the_earlier_items_spends_no_invite(broker: Broker, tmp_path: Path) -> None:
    laptop = Laptop(tmp_path)
    log_in(laptop, broker.url, invite(broker, "dora"))
    (tmp_path / "passphrase").write_text("another passphrase\n")
    code = further(broker, "dora")
    refused = laptop.run("login", broker.url, "--invite", code, "--keyring", "file", check=False)
    assert (refused.returncode, "keyring.passphrase" in refused.stderr) == (3, True)
    (tmp_path / "passphrase").write_text("a passphrase for the tests\n")
    log_in(laptop, broker.url, code)


def test_a_used_invite_and_a_made_up_one_are_refused(broker: Broker, tmp_path: Path) -> None:
    code = invite(broker, "emma")
    Laptop(tmp_path / "a").login(broker.url, code)
    for bad in (code, "made-up"):
        refused = Laptop(tmp_path / "b").run("login", broker.url, "--invite", bad, "--keyring", "file", check=False)
        assert refused.returncode == 6
        assert "invite" in refused.stderr


def test_status_tells_the_grant_the_broker_and_the_keyring(broker: Broker, tmp_path: Path) -> None:
    laptop = Laptop(tmp_path)
    log_in(laptop, broker.url, invite(broker, "fay"))
    said = laptop.run("status").stdout
    assert f"{broker.url}: reachable" in said
    standing = json.loads(laptop.run("status", "--json").stdout)
    assert (standing["state"], standing["keyring"], standing["reachable"]) == ("active", "file", True)
    assert [(server["name"], server["trusted"]) for server in standing["servers"]] == [("clock", True)]


def test_status_shows_a_revocation_and_a_changed_command(tmp_path: Path) -> None:
    with Broker(tmp_path / "broker") as broker:
        broker.add_server("clock", ENTRY, "")
        laptop = Laptop(tmp_path / "laptop")
        grant = log_in(laptop, broker.url, invite(broker, "alice"))["grant"]
        (tmp_path / "changed.toml").write_text(ENTRY.replace('keyed.py"]', 'keyed.py", "--more"]'))
        broker.administrator.administer("server", "update", "clock", "--from", str(tmp_path / "changed.toml"))
        assert "percall trust clock" in laptop.run("status").stdout
        declined = laptop.run("trust", "clock", check=False)
        assert (declined.returncode, "no_terminal" in declined.stderr) == (2, True)
        assert "+ command" in declined.stdout
        assert "--more" in declined.stdout
        assert json.loads(laptop.run("status", "--json").stdout)["servers"][0]["trusted"] is False
        laptop.run("trust", "clock", "--yes")
        assert json.loads(laptop.run("status", "--json").stdout)["servers"][0]["trusted"] is True
        broker.administrator.administer("grant", "revoke", grant)
        assert json.loads(laptop.run("status", "--json", check=False).stdout)["state"] == "revoked"
        broker.stop()
        away = laptop.run("status", "--json", check=False)
        assert away.returncode == 5
        assert json.loads(away.stdout)["error"]["code"] == "broker.unreachable"


def test_log_shows_ones_own_calls_and_nobody_elses(broker: Broker) -> None:
    mine, other = broker.enrol("bob", "clock"), broker.enrol("carol", "clock")
    with mine.client("clock") as client:
        client.initialize()
        client.call("get_echo", {"text": "x"})
        assert client.call("create_item")["isError"] is True
    rows = [json.loads(line) for line in mine.run("log", "--json").stdout.splitlines()]
    assert [(row["tool"], row["decision"], row["person"]) for row in rows] == [
        ("get_echo", "permit", "bob"),
        ("create_item", "forbid", "bob"),
    ]
    assert {"call", "time", "agent", "device", "server", "reason", "outcome", "duration_ms"} <= set(rows[0])
    assert len(mine.run("log", "--decision", "forbid", "--since", "1h", "--json").stdout.splitlines()) == 1
    assert mine.run("log", "--limit", "1").stdout.count("create_item") == 1
    assert other.run("log").stdout == "No calls.\n"


def test_log_says_of_which_agent_it_has_no_calls_and_why(broker: Broker) -> None:
    laptop = broker.enrol("judy", "clock")
    with laptop.client("clock") as client:
        client.initialize()
        client.call("get_echo", {"text": "x"})
    laptop.login(broker.url, broker.invite("judy", "clock", tools="get_*"))
    _, oldest = map(json.loads, laptop.run("status", "--json").stdout.splitlines())
    broker.administrator.administer("grant", "revoke", oldest["grant"])
    told = laptop.run("log")
    assert ("get_echo" in told.stdout, told.stderr) == (True, ""), "another grant of the agent tells them"
    cursor = log_in(laptop, broker.url, further(broker, "judy"), "--agent", "cursor")["grant"]
    broker.administrator.administer("grant", "revoke", cursor)
    told = laptop.run("log")
    assert "get_echo" in told.stdout
    assert told.stderr.startswith(f"Without the calls of agent cursor of judy at {broker.url}: This agent's grant is ")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("log", "--decision", "maybe"), "Say permit, ask or forbid."),
        (("log", "--agent", "nope"), "There is no login of agent 'nope' in"),
        (("log", "--agent", "nope"), "(of default there is)"),
        (("key", "list", "--agent", "nope"), "Name one of those with --agent"),
        (("login", "URL", "--agent", "bad name!"), "letters, digits and . _ @ + -"),
        (("agent", "remove", "nope"), "percall agent list"),
        (("request", "clock", "--tool", "x", "--for", "31d"), "Say 30m, 2h, or 7d: 30 days at most."),
        (("request", "clock", "--tool", "x", "--for", "soon"), "Say 30m, 2h, or 7d: 30 days at most."),
    ],
)
def test_what_cannot_be_meant_is_refused_with_what_can(
    broker: Broker, enrolled: Laptop, arguments: tuple[str, ...], told: str
) -> None:
    done = enrolled.run(*(broker.url if word == "URL" else word for word in arguments), check=False)
    assert done.returncode == 2, done.stdout + done.stderr
    assert told in " ".join(done.stderr.split())


def test_a_locked_keyring_is_told_once_and_as_the_keyrings(broker: Broker) -> None:
    laptop = broker.enrol("gwen", "clock")
    laptop.login(broker.url, further(broker, "gwen"), "--agent", "cursor")
    (laptop.home / "passphrase").write_text("another passphrase\n")
    said = laptop.run("status", check=False)
    assert said.returncode == 3
    assert said.stdout.count("The passphrase does not open the keyring file.") == 1
    assert said.stdout.count(f"broker   {broker.url}: not asked") == 2, said.stdout


def test_a_broker_that_is_away_is_told_once_and_what_is_refused_is_not_offered(tmp_path: Path) -> None:
    with Broker(tmp_path / "installation") as running:
        running.add_server("clock", ENTRY, "")
        laptop = running.enrol("hugo", "clock")
        laptop.login(running.url, further(running, "hugo"), "--agent", "cursor")
        assert "To use one: " in laptop.run("catalog").stdout
        running.administrator.administer("server", "suspend", "clock")
        assert "To use one: " not in laptop.run("catalog").stdout
        running.stop()
        said = laptop.run("catalog", check=False).stdout
    assert said.count("is unreachable") == 1
    assert f"agents cursor, default: as last seen. The broker at {running.url} is unreachable: " in said


@pytest.fixture(scope="module")
def enrolled(broker: Broker) -> Laptop:
    return broker.enrol("ivan", "clock")


def test_a_broker_under_a_private_authority_needs_the_ca_file_once(tmp_path: Path) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    server = authority.issue_cert("127.0.0.1")
    server.private_key_pem.write_to_path(tmp_path / "key.pem")
    with (tmp_path / "cert.pem").open("wb") as file:
        file.writelines(blob.bytes() for blob in server.cert_chain_pems)
    arguments = ("--tls-cert", str(tmp_path / "cert.pem"), "--tls-key", str(tmp_path / "key.pem"))
    trusting = ("--ca-file", str(tmp_path / "ca.pem"))
    with UnusualBroker(tmp_path / "broker", serve_arguments=arguments, login_arguments=trusting) as broker:
        assert broker.url.startswith("https://")
        refused = Laptop(tmp_path / "b").run("login", broker.url, "--invite", "x", "--keyring", "file", check=False)
        assert (refused.returncode, "broker.certificate" in refused.stderr) == (5, True)
        (tmp_path / "ca.pem").unlink()
        assert broker.administrator.run("status").returncode == 0


def test_a_file_that_is_no_certificate_is_named(tmp_path: Path) -> None:
    file = tmp_path / "ca.pem"
    login = ("login", "https://127.0.0.1:9", "--invite", "x", "--ca-file", str(file))
    refused = Laptop(tmp_path / "l").run(*login, check=False)
    assert (refused.returncode, f"There is no file {file}. [login.ca_file]" in refused.stderr) == (2, True)
    file.write_text("not a certificate")
    refused = Laptop(tmp_path / "l").run(*login, check=False)
    assert (refused.returncode, f"{file} holds no certificates. [login.ca_file]" in refused.stderr) == (2, True)


def test_at_a_terminal_the_passphrase_is_asked_for_twice_and_not_shown(broker: Broker, tmp_path: Path) -> None:
    laptop = Laptop(tmp_path)
    environment = {name: v for name, v in laptop.environment.items() if name != "PERCALL_PASSPHRASE_FILE"}
    said, code = at_a_terminal(
        "percall",
        ["login", broker.url, "--invite", invite(broker, "dave"), "--keyring", "file"],
        environment,
        ["typed passphrase", "typed passphrase", ""],
    )
    assert code == 0, said
    assert "leave empty for none" in said
    assert "(file: a file encrypted under a passphrase of its own)" in said
    assert "typed passphrase" not in said
    said, code = at_a_terminal("percall", ["status"], environment, ["typed passphrase"])
    assert (code, "reachable" in said) == (0, True), said
    without = subprocess.run(
        [str(COMMANDS / "percall"), "status"],
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert without.returncode == 3
    assert "PERCALL_PASSPHRASE_FILE" in without.stdout


@pytest.mark.keyring
@pytest.mark.skipif(
    not (shutil.which("gnome-keyring-daemon") and shutil.which("dbus-run-session")),
    reason="no Secret Service here: apt-get install --no-install-recommends dbus gnome-keyring",
)
def test_the_operating_systems_keyring_serves_login_and_status(broker: Broker, tmp_path: Path) -> None:
    script = '"$1" login "$2" --invite "$3" --json && "$1" status --json && "$1" status'
    done = subprocess.run(
        [
            str(Path(__file__).parents[3] / "with_keyring.sh"),
            "bash",
            "-c",
            script,
            "_",
            str(COMMANDS / "percall"),
            broker.url,
            invite(broker, "erin"),
        ],
        env=Laptop(tmp_path).environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    lines = done.stdout.splitlines()
    login, status = (json.loads(line) for line in lines[:2])
    assert "  keyring  os (SecretService)" in lines
    assert (login["keyring"], status["reachable"]) == ("os", True)
    assert status["backend"] == "keyring.backends.SecretService.Keyring"
    assert not (tmp_path / "percall" / "keyring").exists()
