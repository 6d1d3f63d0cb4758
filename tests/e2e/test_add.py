"""`percall catalog`, `add` and `remove`: a server that one may use, into each client's config and out of it."""

from __future__ import annotations

import json
import os
import stat
import sys
import tomllib
from typing import TYPE_CHECKING, Any

import pytest

from harness.processes import SERVERS, Client, Laptop
from percall.clients import jsonc

if TYPE_CHECKING:
    from pathlib import Path

    from harness.processes import Broker

CONFIGS = {
    "claude-code": (".claude.json", '{\n  "mcpServers": {\n    "other": {"command": "npx"} // mine\n  }\n}\n'),
    "codex": (".codex/config.toml", 'model = "x" # mine\n\n[mcp_servers.other]\ncommand = "npx"\n'),
    "cursor": (".cursor/mcp.json", '{"mcpServers": {"other": {"command": "npx"}}}'),
    "zed": (".config/zed/settings.json", "// Zed\n{}\n"),
}


@pytest.fixture(scope="module")
def laptop(broker: Broker) -> Laptop:
    """Somebody with one grant, of the agent `default`."""
    return broker.enrol("adder", "keyed")


@pytest.fixture(autouse=True)
def clean(laptop: Laptop) -> None:
    """No client's config from the test before."""
    for file, _ in CONFIGS.values():
        (laptop.home / file).unlink(missing_ok=True)


def put(laptop: Laptop, client: str) -> Path:
    file, text = CONFIGS[client]
    path = laptop.home / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def servers_of(client: str, path: Path) -> dict[str, Any]:
    text = path.read_text()
    data = tomllib.loads(text) if client == "codex" else jsonc.parse(text).value
    return dict(data[{"zed": "context_servers", "codex": "mcp_servers"}.get(client, "mcpServers")])


def rows(laptop: Laptop, *arguments: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in laptop.run(*arguments, "--json").stdout.splitlines()]


@pytest.mark.parametrize("client", ["claude-code", "codex"])
def test_a_server_goes_into_a_clients_config_and_out_again_and_all_else_stays(laptop: Laptop, client: str) -> None:
    path = put(laptop, client)
    before = path.read_text()

    (added,) = rows(laptop, "add", "keyed", "--client", client)

    assert added["state"] == "added"
    written = servers_of(client, path)["keyed"]
    assert [written["command"], *written["args"]] == added["command"]
    assert added["command"][0].startswith("/")
    assert added["command"][1:] == ["run", "keyed"]
    assert written["env"] == {"PERCALL_HOME": f"{laptop.home}/percall"}
    assert {row["server"]: row["state"] for row in rows(laptop, "scan")} == {"other": "no key", "keyed": "percall"}

    (gone,) = rows(laptop, "remove", "keyed", "--client", client)

    assert gone["entry"] == "keyed"
    assert "mine" in before
    assert path.read_text().rstrip() == before.rstrip()


def test_what_was_added_is_a_server_that_works(laptop: Laptop) -> None:
    laptop.run("add", "keyed", "--client", "cursor")
    path = laptop.home / CONFIGS["cursor"][0]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    entry = servers_of("cursor", path)["keyed"]
    outside = {name: laptop.environment[name] for name in ("HOME", "LANG", "PERCALL_PASSPHRASE_FILE")}
    environment = {**outside, "PATH": "/usr/bin:/bin", **entry["env"]}
    with Client([entry["command"], *entry["args"]], environment) as client:
        client.initialize()
        assert client.call_text("get_item").startswith("200 ")


def test_a_command_of_ones_own_is_launched_in_the_place_of_the_entrys(laptop: Laptop, tmp_path: Path) -> None:
    program = tmp_path / "own server.py"
    program.write_text((SERVERS / "keyed.py").read_text().replace('str(a.get("text", ""))', '"by my own"'))
    laptop.run("add", "keyed", "--client", "cursor", "--", sys.executable, str(program), "--", "-x")
    entry = servers_of("cursor", laptop.home / CONFIGS["cursor"][0])["keyed"]
    assert entry["args"] == ["run", "keyed", sys.executable, str(program), "--", "-x"]
    with Client([entry["command"], *entry["args"]], laptop.environment) as client:
        client.initialize()
        assert client.call_text("get_echo") == "by my own"
        assert client.call_text("get_item").startswith("200 ")


def test_a_projects_shared_file_gets_the_bare_name_and_nothing_of_this_machine(laptop: Laptop, tmp_path: Path) -> None:
    done = laptop.run("add", "keyed", "--client", "claude-code", "--project", str(tmp_path), "--as", "items")
    assert str(tmp_path / ".mcp.json") in done.stdout
    assert json.loads((tmp_path / ".mcp.json").read_text()) == {
        "mcpServers": {"items": {"command": "percall", "args": ["run", "keyed"]}}
    }
    assert not (laptop.home / ".claude.json").exists()
    (gone,) = rows(laptop, "remove", "keyed", "--client", "claude-code", "--project", str(tmp_path))
    assert gone["entry"] == "items"
    assert laptop.run("add", "keyed", "--client", "windsurf", "--project", str(tmp_path), check=False).returncode == 2


def test_an_entry_of_the_very_name_goes_alone_and_else_all_that_run_the_server(laptop: Laptop) -> None:
    for name in ("items", "keyed", "more"):
        laptop.run("add", "keyed", "--client", "cursor", "--as", name)
    assert [row["entry"] for row in rows(laptop, "remove", "keyed", "--client", "cursor", "--dry-run")] == ["keyed"]
    assert [row["entry"] for row in rows(laptop, "remove", "keyed", "--client", "cursor")] == ["keyed"]
    assert [row["entry"] for row in rows(laptop, "remove", "keyed", "--client", "cursor")] == ["items", "more"]


def test_another_servers_place_is_not_taken_and_a_moved_command_is_mended(laptop: Laptop) -> None:
    path = put(laptop, "cursor")
    before = path.read_text()
    taken = laptop.run("add", "keyed", "--client", "cursor", "--as", "other", check=False)
    assert taken.returncode == 2
    assert "[add.taken]" in taken.stderr
    refused = laptop.run("remove", "other", "--client", "cursor", check=False)
    assert "[remove.unknown]" in refused.stderr
    assert path.read_text() == before

    path.write_text('{"mcpServers": {"keyed": {"command": "/gone/percall", "args": ["run", "keyed"], "timeout": 5}}}')
    (mended,) = rows(laptop, "add", "keyed", "--client", "cursor")
    assert rows(laptop, "add", "keyed", "--client", "cursor")[0]["state"] == "present"
    assert mended["state"] == "changed"
    entry = servers_of("cursor", path)["keyed"]
    assert entry["command"] == mended["command"][0]
    assert entry["timeout"] == 5


def test_doing_it_again_keeps_what_the_person_has_put_there(laptop: Laptop) -> None:
    """`percall doctor` advises it, where a command has moved."""
    path = put(laptop, "cursor")
    words = ["run", "--agent", "default", "keyed", "--", "my-own", "--flag"]
    secret = "ghp_" + "a1B2" * 9
    kept = {"command": "/gone/percall", "args": words, "env": {"LEVEL": "debug", "GH_TOKEN": secret}}
    path.write_text(json.dumps({"mcpServers": {"keyed": kept}}))

    tried = laptop.run("add", "keyed", "--client", "cursor", "--dry-run").stdout
    assert '-   "command": "/gone/percall",' in tried
    assert secret not in tried
    assert json.loads(path.read_text()) == {"mcpServers": {"keyed": kept}}
    (mended,) = rows(laptop, "add", "keyed", "--client", "cursor")
    assert (mended["state"], mended["command"][1:]) == ("changed", ["run", "keyed", "my-own", "--flag"])
    entry = servers_of("cursor", path)["keyed"]
    assert entry["env"] == {"LEVEL": "debug", "GH_TOKEN": secret, "PERCALL_HOME": f"{laptop.home}/percall"}
    assert [entry["command"], *entry["args"]] == mended["command"]

    laptop.run("add", "keyed", "--client", "cursor", "--", "another")
    assert servers_of("cursor", path)["keyed"]["args"] == ["run", "keyed", "another"]
    assert servers_of("cursor", path)["keyed"]["env"] == entry["env"]


def test_the_agent_that_an_entry_runs_as_stays_while_its_grant_works(broker: Broker, person: str) -> None:
    laptop = broker.enrol(person, "keyed")
    path = put(laptop, "cursor")
    broker.administrator.administer(
        "grant", "create", person, "--server", "keyed", "--agent", "work", "--tools", "get_*"
    )
    laptop.run("status")
    path.write_text(
        '{"mcpServers": {"keyed": {"command": "/gone/percall", "args": ["run", "--agent", "work", "keyed"]}}}'
    )
    assert rows(laptop, "add", "keyed", "--client", "cursor")[0]["agent"] == "work"
    assert rows(laptop, "add", "keyed", "--client", "cursor", "--agent", "default")[0]["agent"] == "default"


def test_a_pipe_in_a_project_is_waited_for_by_nothing(laptop: Laptop, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / ".mcp.json")
    refused = laptop.run("add", "keyed", "--client", "claude-code", "--project", str(tmp_path), check=False)
    assert refused.returncode == 2
    assert "[config.read]" in refused.stderr


def test_a_dry_run_changes_nothing(laptop: Laptop) -> None:
    path = put(laptop, "zed")
    before = path.read_text()
    assert "would be added" in laptop.run("add", "keyed", "--client", "zed", "--dry-run").stdout
    assert "would be added" in laptop.run("add", "keyed", "--client", "cursor", "--dry-run").stdout
    assert path.read_text() == before
    assert not (laptop.home / CONFIGS["cursor"][0]).exists()


def test_a_link_stays_a_link_and_a_file_that_everybody_may_write_is_refused(laptop: Laptop, tmp_path: Path) -> None:
    target = tmp_path / "dotfiles.json"
    target.write_text("{}")
    path = laptop.home / CONFIGS["cursor"][0]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(target)
    laptop.run("add", "keyed", "--client", "cursor")
    assert path.is_symlink()
    assert "keyed" in servers_of("cursor", target)
    target.chmod(0o666)
    refused = laptop.run("remove", "keyed", "--client", "cursor", check=False)
    assert "[config.exposed]" in refused.stderr
    assert "keyed" in servers_of("cursor", target)


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("add", "keyed", "--client", "nothing"), "client.unknown"),
        (("add", "keyed", "--client", "kiro"), "client.read_only"),
        (("add", "unheard-of", "--client", "cursor"), "run.unknown_server"),
        (("add", "keyed", "--client", "cursor", "--agent", "other"), "run.unknown_server"),
        (("add", "keyed", "--client", "cursor", "--project", "/nowhere"), "add.project"),
        (("remove", "keyed", "--client", "cursor"), "remove.unknown"),
    ],
)
def test_what_cannot_be_done_is_said_with_what_to_do(laptop: Laptop, arguments: tuple[str, ...], code: str) -> None:
    done = laptop.run(*arguments, check=False)
    assert done.returncode == 2
    assert f"[{code}]" in done.stderr
    assert not (laptop.home / CONFIGS["cursor"][0]).exists()


def test_an_unknown_server_is_told_with_those_of_the_agent_that_would_have_been_used(laptop: Laptop) -> None:
    told = laptop.run("add", "unheard-of", "--client", "cursor", check=False).stderr
    assert "for agent 'default'" in told
    assert "known there: keyed" in told


def test_a_waiting_grant_of_the_clients_own_agent_is_picked_up_and_the_catalog_shows_it(
    broker: Broker, laptop: Laptop
) -> None:
    grant = ("grant", "create", "adder", "--server", "keyed", "--expires", "30d")
    broker.administrator.administer(*grant, "--tools", "create_*", "--agent", "zed")
    (added,) = rows(laptop, "add", "keyed", "--client", "zed")
    assert added["agent"] == "zed"
    assert added["command"][1:] == ["run", "--agent", "zed", "keyed"]

    (offer,) = rows(laptop, "catalog")
    assert offer["server"] == "keyed"
    assert offer["label"].startswith("key stays in the broker")
    assert {(one["agent"], *one["tools"]) for one in offer["grants"]} == {("default", "get_*"), ("zed", "create_*")}
    assert offer["key"] == "shared"
    assert [one["client"] for one in offer["configured"]] == ["zed"]
    broker.administrator.administer("server", "suspend", "keyed")
    told = laptop.run("catalog").stdout
    broker.administrator.administer("server", "resume", "keyed")
    assert "default, zed" in told
    assert "Zed" in told
    assert "suspended" in told
