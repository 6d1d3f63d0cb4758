"""`percall doctor`, as somebody runs it whose server does not work: what it finds, and what it says to do."""

from __future__ import annotations

import datetime as dt
import json
import os
import subprocess
from typing import TYPE_CHECKING, Any

import pytest
import trustme

from harness.processes import COMMANDS, Broker, Laptop, UnusualBroker, keyed_entry
from harness.upstream import CANARY
from percall_broker.model import entry_file

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from harness.upstream import Upstream

PASTED = "ghp_" + "a1B2c3D4e5F6" * 3


@pytest.fixture(scope="module")
def laptop(broker: Broker) -> Laptop:
    """Somebody with a grant, and Cursor set up for it."""
    made = broker.enrol("patient", "keyed")
    made.run("add", "keyed", "--client", "cursor")
    return made


@pytest.fixture
def config(laptop: Laptop) -> Iterator[Path]:
    """Cursor's config, which is mended after the test."""
    path = laptop.home / ".cursor" / "mcp.json"
    before = path.read_text()
    yield path
    path.write_text(before)


def examined(laptop: Laptop, *arguments: str, code: int) -> list[dict[str, Any]]:
    done = laptop.run("doctor", "--json", *arguments, check=False)
    assert done.returncode == code, done.stdout + done.stderr
    assert not done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def of(found: list[dict[str, Any]], check: str, state: str = "") -> dict[str, Any]:
    """The one finding of a check, in this state where one is named."""
    (one,) = [finding for finding in found if finding["check"] == check and state in {"", finding["state"]}]
    return one


def test_all_is_well_and_the_server_that_cursor_has_is_asked_for_its_tools(laptop: Laptop) -> None:
    found = examined(laptop, code=0)
    assert {one["state"] for one in found} == {"ok"}
    assert [one["check"] for one in found] == ["files", "command", "keyring", "broker", "clock", "grant", "server"]
    assert of(found, "server")["about"] == "Cursor keyed"
    told = laptop.run("doctor", "--no-start").stdout
    assert told.endswith("6 looked at, 0 problems, 0 warnings.\n")


def test_a_machine_where_nobody_has_logged_in_yet_has_one_problem(tmp_path: Path) -> None:
    found = examined(Laptop(tmp_path), "--no-start", code=2)
    assert [one["check"] for one in found if one["state"] == "problem"] == ["login"]
    assert of(found, "files")["message"] == "It is not there yet; the first login makes it."


def test_a_damaged_file_of_one_agent_is_told_and_the_others_are_looked_at(broker: Broker, person: str) -> None:
    laptop = broker.enrol(person, "keyed")
    laptop.login(broker.url, broker.invite(f"{person}-b", "keyed", tools="get_*"), "--agent", "cursor")
    logins = {row["agent"]: row["grant"] for row in map(json.loads, laptop.run("status", "--json").stdout.splitlines())}
    for agent, kind in (("default", "sessions"), ("cursor", "logins")):
        (laptop.home / "percall" / kind / f"{logins[agent]}.json").write_text("{")
    told = examined(laptop, "--no-start", code=2)
    assert [one["code"] for one in told if one["state"] == "problem"] == ["home.damaged"] * 2
    assert of(told, "grant")["about"] == f"agent default, {logins['default']}"
    told = examined(laptop, "--no-start", code=2)
    assert "logins/" in of(told, "login")["message"], "the broker's word has mended the session"
    with laptop.client("keyed") as client:
        client.initialize()
        assert client.call_text("get_item").startswith("200 ")
    refused = laptop.run("run", "--agent", "cursor", "keyed", check=False)
    assert "[home.damaged]" in refused.stderr
    (laptop.home / "percall" / "logins" / f"{logins['default']}.json").write_text("{")
    told = examined(laptop, "--no-start", code=2)
    assert [one["code"] for one in told if one["state"] == "problem"] == ["home.damaged"] * 2


def test_a_command_that_moved_is_told_with_the_line_that_mends_it(laptop: Laptop, config: Path) -> None:
    entry = {"command": "/gone/percall", "args": ["run", "keyed"]}
    config.write_text(json.dumps({"mcpServers": {"items": entry}}))
    found = examined(laptop, code=4)
    server = of(found, "server")
    assert server["state"] == "problem"
    assert "/gone/percall" in server["message"]
    mend = "percall add keyed --client cursor --as items"
    assert mend in server["next_step"]
    assert of(found, "config", "warning")["code"] == "config.home"
    laptop.run(*mend.split()[1:])
    assert examined(laptop, "items", code=0)[-1]["state"] == "ok"


def test_a_config_that_is_broken_and_a_key_that_is_pasted_are_told_and_no_key_is_printed(
    laptop: Laptop, config: Path
) -> None:
    pasted = {"command": "npx", "args": ["server"], "env": {"GITHUB_TOKEN": PASTED}}
    config.write_text(json.dumps({"mcpServers": {"gh": pasted}}))
    broken = laptop.home / ".gemini" / "settings.json"
    broken.parent.mkdir(exist_ok=True)
    broken.write_text("{ broken")
    try:
        told = laptop.run("doctor", check=False)
        done = laptop.run("doctor", "--json", "--no-start", check=False)
    finally:
        broken.unlink()
    assert told.returncode == done.returncode == 2
    assert "percall adopt cursor gh" in told.stdout
    assert PASTED not in told.stdout + told.stderr + done.stdout + done.stderr
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert "Line 1" in of(found, "config", "problem")["message"]
    assert of(found, "config", "warning")["next_step"] == "percall adopt cursor gh"


def test_a_locked_keyring_is_told_and_stops_the_servers(laptop: Laptop) -> None:
    (laptop.home / "passphrase").write_text("another passphrase\n")
    try:
        found = examined(laptop, code=3)
    finally:
        (laptop.home / "passphrase").write_text("a passphrase for the tests\n")
    assert of(found, "keyring")["state"] == "problem"
    assert of(found, "broker")["state"] == "ok"
    assert not [one for one in found if one["check"] == "grant"]


def test_a_changed_command_waits_for_trust_and_a_suspended_server_says_so(
    broker: Broker, laptop: Laptop, upstream: Upstream
) -> None:
    before, after = broker.folder / "keyed.toml", broker.folder / "changed.toml"
    before.write_text(keyed_entry(upstream.url))
    after.write_text(before.read_text().replace("keyed.py", 'keyed.py", "--changed'))
    assert entry_file.read(after.read_text()).command[-1] == "--changed"
    broker.administrator.administer("server", "update", "keyed", "--from", str(after))
    broker.administrator.administer("server", "suspend", "keyed")
    try:
        found = examined(laptop, code=4)
    finally:
        broker.administrator.administer("server", "resume", "keyed")
        broker.administrator.administer("server", "update", "keyed", "--from", str(before))
    assert "percall trust keyed" in of(found, "trust")["next_step"]
    assert "suspended" in of(found, "grant", "warning")["message"]
    server = of(found, "server")
    assert server["code"] == "trust.changed"
    assert server["next_step"].endswith("`percall trust keyed`.")


def test_what_is_named_and_unknown_and_what_no_client_has_yet(broker: Broker, laptop: Laptop) -> None:
    found = examined(laptop, "unheard-of", "--agent", "default", code=2)
    assert of(found, "server")["code"] == "doctor.unknown"
    assert laptop.run("doctor", "--client", "nothing", check=False).returncode == 2
    elsewhere = broker.enrol("newcomer", "keyed")
    found = examined(elsewhere, "keyed", code=0)
    assert of(found, "server")["about"] == "agent default keyed"
    (elsewhere.home / "percall").chmod(0o755)
    assert of(examined(elsewhere, "--no-start", code=0), "files")["next_step"].startswith("Close it: chmod 700 ")


def test_of_an_agent_that_is_named_only_its_own_servers_are_started(broker: Broker, person: str) -> None:
    laptop = broker.enrol(person, "keyed")
    laptop.login(broker.url, broker.invite(person, "keyed", tools="get_*"), "--agent", "other")
    for agent in ("default", "other"):
        laptop.run("add", "keyed", "--client", "cursor", "--agent", agent, "--as", f"of-{agent}")

    def started(*arguments: str, code: int = 0) -> list[str]:
        return [one["about"] for one in examined(laptop, *arguments, code=code) if one["check"] == "server"]

    assert started() == ["Cursor of-default", "Cursor of-other"]
    for agent in ("default", "other"):
        assert started("--agent", agent) == started("keyed", "--agent", agent) == [f"Cursor of-{agent}"]
    assert started("of-default", "--agent", "other", code=2) == ["of-default"], "which no client has for that agent"
    laptop.run("remove", "of-other", "--client", "cursor")
    assert started("keyed", "--agent", "other") == ["agent other keyed"], "as no client has it yet"


def test_of_a_server_that_is_named_its_own_grants_are_told_and_an_end_that_leaves_nothing(
    broker: Broker, upstream: Upstream
) -> None:
    broker.add_server("besides", keyed_entry(upstream.url), CANARY)
    laptop = broker.enrol("brief", "keyed", expires="2h")
    laptop.login(broker.url, broker.invite("brief", "besides", expires="90d", tools="get_*"))
    ending = of(examined(laptop, "--no-start", code=0), "grant", "warning")
    assert ending["message"] in {"The grant for keyed ends in 2 hours.", "The grant for keyed ends in 1 hour."}
    found = of(examined(laptop, "besides", code=0), "grant")
    assert (found["state"], found["message"]) == ("ok", "It covers besides.")
    laptop.login(broker.url, broker.invite("brief", "keyed", expires="90d", tools="get_*"))
    told = [one["message"] for one in examined(laptop, "keyed", code=0) if one["check"] == "grant"]
    assert len(told) == 2
    assert any(message.endswith("; another one goes on.") for message in told)


def test_a_grant_that_ended_is_named_and_no_problem_once_another_goes_on_in_its_place(
    broker: Broker, person: str
) -> None:
    laptop = broker.enrol(person, "keyed")
    (login,) = map(json.loads, laptop.run("status", "--json").stdout.splitlines())
    broker.administrator.administer("grant", "revoke", login["grant"])
    found = of(examined(laptop, "--no-start", code=6), "grant")
    assert (found["state"], found["about"]) == ("problem", f"agent default, {login['grant']}")
    refused = laptop.run("status", "--json", check=False)
    assert (refused.returncode, json.loads(refused.stdout)["refusal"]["code"]) == (6, "grant.revoked")
    laptop.login(broker.url, broker.invite(person, "keyed", tools="get_*"))
    told = [one["message"] for one in examined(laptop, code=0) if one["check"] == "grant"]
    assert told == ["It covers keyed.", "This agent's grant is revoked. Another one goes on."]
    assert "is revoked. Another one goes on." in laptop.run("status").stdout
    broker.administrator.administer("server", "suspend", "keyed")
    try:
        refused = laptop.run("status", "--json", check=False)
    finally:
        broker.administrator.administer("server", "resume", "keyed")
    newest = json.loads(refused.stdout.splitlines()[0])
    assert (refused.returncode, newest["refusal"], newest["servers"][0]["refusal"]["code"]) == (
        6,
        None,
        "server.suspended",
    )


def test_nothing_that_a_project_s_file_says_is_run(laptop: Laptop, tmp_path: Path) -> None:
    """Somebody looks at a repository that they have cloned: its author's program waits there under our name."""
    ran = tmp_path / "ran"
    program = tmp_path / "percall"
    program.write_text(f"#!/bin/sh\ntouch {ran}\n")
    program.chmod(0o755)
    preload = {"PATH": str(tmp_path), "PERCALL_HOME": str(tmp_path / "theirs")}
    servers = {
        "beside": {"command": "./percall", "args": ["run", "keyed"]},
        "first": {"command": "percall", "args": ["run", "keyed"], "env": preload},
        "launched": {"command": "sh", "args": [str(program), "run", "keyed"]},
        "own": {"command": "percall", "args": ["run", "keyed", "--", str(program)]},
        "ungranted": {"command": str(program), "args": ["run", "--agent", "nobody", "keyed"]},
    }
    (tmp_path / ".mcp.json").write_text(json.dumps({"mcpServers": servers}))

    def in_it(*names: str) -> dict[str, str]:
        done = subprocess.run(
            [str(COMMANDS / "percall"), "doctor", *names, "--json"],
            env=laptop.environment,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert not ran.exists()
        told = map(json.loads, done.stdout.splitlines())
        return {one["about"]: one["state"] for one in told if one["check"] == "server"}

    found = in_it()
    assert found.pop("Cursor keyed") == "ok"
    assert found == {
        f"Claude Code {name} (.mcp.json of this project)": "problem" if name == "ungranted" else "ok"
        for name in ("beside", "first", "own", "ungranted")
    }
    assert in_it("beside") == {"Claude Code beside (.mcp.json of this project)": "ok"}, "by the client's name for it"


def test_a_server_is_started_where_no_project_can_put_a_program_before_it(broker: Broker, tmp_path: Path) -> None:
    """`npx` takes a package's program from the folder that it is started in, before any registry's."""
    command = json.dumps(["/bin/sh", "-c", 'ls -A > "$HOME/seen"; exit 3'])
    broker.add_server("looking", f'[server]\ntitle = "T"\ndelivery = "none"\ncommand = {command}\n', "")
    laptop = broker.enrol("visitor", "looking")
    (tmp_path / "node_modules").mkdir()
    (tmp_path / ".mcp.json").write_text('{"mcpServers": {"l": {"command": "percall", "args": ["run", "looking"]}}}')
    home = os.path.relpath(laptop.environment["PERCALL_HOME"], tmp_path)
    done = subprocess.run(
        [str(COMMANDS / "percall"), "doctor", "--json"],
        env={**laptop.environment, "PERCALL_HOME": home},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 4, done.stdout
    assert (laptop.home / "seen").read_text() == ""


def test_a_probe_is_called_where_it_is_asked_for_and_one_that_is_refused_is_told(
    broker: Broker, upstream: Upstream
) -> None:
    for name, tool in (("probed", "get_item"), ("misprobed", "create_item")):
        entry = keyed_entry(upstream.url) + f'[probe]\ntool = "{tool}"\narguments = "{{}}"\n'
        broker.add_server(name, entry, CANARY)
    laptop = broker.enrol("prober", "probed", "misprobed")
    plain = examined(laptop, "probed", code=0)
    assert of(plain, "server")["message"].endswith(" tools.")
    assert broker.log(person="prober") == []
    found = examined(laptop, "probed", "misprobed", "--probe", code=4)
    assert of(found, "server", "ok")["message"].endswith(", and get_item answered.")
    refused = of(found, "server", "problem")
    assert "create_item" in refused["message"]
    assert "It said: " not in refused["message"], "the refusal itself, and once"
    assert refused["next_step"] == f"See what it says: {COMMANDS / 'percall'} run misprobed"
    calls = {(row["server"], row["tool"], row["decision"]) for row in broker.log(person="prober")}
    assert calls == {("probed", "get_item", "permit"), ("misprobed", "create_item", "forbid")}


def test_a_certificate_that_ends_soon_and_then_a_broker_that_is_away(tmp_path: Path, upstream: Upstream) -> None:
    authority = trustme.CA()
    soon = dt.datetime.now(dt.UTC) + dt.timedelta(days=3)
    issued = authority.issue_cert("127.0.0.1", not_after=soon)
    certificate, key, ca = (tmp_path / name for name in ("certificate.pem", "key.pem", "ca.pem"))
    issued.cert_chain_pems[0].write_to_path(certificate)
    issued.private_key_pem.write_to_path(key)
    authority.cert_pem.write_to_path(ca)
    serve, login = ("--tls-cert", str(certificate), "--tls-key", str(key)), ("--ca-file", str(ca))
    with UnusualBroker(tmp_path / "installation", serve_arguments=serve, login_arguments=login) as broker:
        broker.add_server("keyed", keyed_entry(upstream.url), CANARY)
        laptop = broker.enrol("alice", "keyed", expires="2d")
        found = examined(laptop, "--no-start", code=0)
        assert "ends in 2 days" in of(found, "certificate")["message"]
        assert of(found, "grant")["code"] == "grant.ends"
        broker.stop()
        found = examined(laptop, "--no-start", code=5)
        assert of(found, "broker")["code"] == "broker.unreachable"
        assert of(found, "grant")["state"] == "problem"
