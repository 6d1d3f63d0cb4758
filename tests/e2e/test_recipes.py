"""Each recipe with its real, unmodified package, against a fake upstream that answers only to the real key.

The probe of each is called, as whoever adopts a config calls it. Remote servers are stood in for on loopback.
"""

from __future__ import annotations

import json
import os
import subprocess
import venv
from typing import TYPE_CHECKING, Any

import pytest

from harness import npm
from harness.npm import CACHE, ROOT, one_at_a_time
from harness.processes import COMMANDS, Laptop
from harness.recipe_cases import CASES, NODE, REMOTE, TOOLS, UNLISTED, filled
from harness.recipe_packages import node_packages, program_of
from harness.remote import Remote
from harness.terminal import at_a_terminal
from harness.upstream import CANARY, Upstream
from percall_broker import recipes
from percall_broker.model import rules

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from harness.processes import Broker


pytestmark = [pytest.mark.node, pytest.mark.timeout(300)]


@pytest.fixture(scope="session")
def packages() -> Path:
    """The npm packages, at the versions that the recipes name, installed once under .cache."""
    return node_packages()


@pytest.fixture(scope="session")
def atlassian() -> Path:
    """`mcp-atlassian` from its lock of hashes, in an environment of its own; the demo shares it."""
    folder, lock = CACHE / "mcp-atlassian", ROOT / "requirements" / "mcp-atlassian.txt"
    ready = folder / ".ready"
    with one_at_a_time("mcp-atlassian"):
        if not ready.exists() or ready.read_text() != lock.read_text():
            venv.create(folder, clear=True)
            install = [str(COMMANDS / "uv"), "pip", "install", "--quiet", "--python", str(folder / "bin" / "python")]
            subprocess.run([*install, "--require-hashes", "--no-deps", "-r", str(lock)], check=True, timeout=240)
            ready.write_text(lock.read_text())
    return folder / "bin" / "mcp-atlassian"


@pytest.fixture(scope="module")
def upstream() -> Iterator[Upstream]:
    with Upstream(CANARY) as running:
        for case in CASES.values():
            running.answers.update(case.answers)
        yield running


@pytest.fixture(scope="module")
def remote() -> Iterator[Remote]:
    with Remote() as running:
        yield running


@pytest.fixture(scope="module")
def laptop(broker: Broker, upstream: Upstream, remote: Remote) -> Laptop:
    """One person who may use every tool of every recipe, each with a loopback stand-in for its API."""
    names = recipes.names()
    for name in (name for name in names if name in CASES or name in REMOTE):
        entry = filled(name)
        origins = (
            [rules.parse_url(entry.url).origin] if entry.url else [host for host in entry.hosts if "*" not in host]
        )
        if name == "slack":
            origins.append("https://acme.slack.com")  # where its auth.test says that the workspace is
        stand_in = remote.url if entry.url else upstream.url
        connect = [word for origin in origins for word in ("--connect", f"{origin}={stand_in}")]
        values = CASES[name].values if name in CASES else ()
        secret = ("--secret-stdin",) if entry.slots else ()
        adding = ("server", "add", name, "--recipe", name, *values, *secret, *connect)
        broker.administrator.administer(*adding, stdin=CANARY if entry.slots else "")
    servers = [word for name in names if name in CASES or name in REMOTE for word in ("--server", name)]
    made = broker.administrator.administer(
        "grant", "create", "robin", *servers, "--tools", "*", "--expires", "30d", "--json"
    )
    result = Laptop(broker.folder / "laptop-robin")
    result.login(broker.url, str(json.loads(made.stdout)["invite"]))
    return result


def used(laptop: Laptop, name: str, program: list[str], arguments: dict[str, Any] | None = None) -> None:
    """Starts the server behind the gate; its tools are those that we reviewed, and its probe answers."""
    case, entry = CASES[name], filled(name)
    with laptop.client(name, "--", *program, *case.more) as client:
        client.initialize()
        listed = {tool["name"] for tool in client.request("tools/list")["result"]["tools"]}
        if name in TOOLS:
            known = set(f"{TOOLS[name]['reads']} {TOOLS[name]['others']}".split())
            assert listed == known - UNLISTED.get(name, set())
        if case.call == "-":
            return
        probe = entry.probe
        tool = case.call or (probe.tool if probe else "")
        result = client.call(tool, arguments or case.arguments or (json.loads(probe.arguments) if probe else {}))
    assert result.get("isError") is not True, result
    assert case.told in json.dumps(result), result


@pytest.mark.parametrize("name", NODE)
def test_a_node_recipe_reads_with_the_real_key(name: str, laptop: Laptop, upstream: Upstream, packages: Path) -> None:
    used(laptop, name, program_of(name, packages))
    if wanted := NODE[name].seen:
        assert any(request.startswith(wanted) for request in upstream.with_real_key())


def test_the_probe_of_gitlab_answers_too(laptop: Laptop, upstream: Upstream, packages: Path) -> None:
    with laptop.client("gitlab", "--", *program_of("gitlab", packages)) as client:
        client.initialize()
        client.request("tools/call", {"name": "whoami", "arguments": {}})  # wants forty members of a user
    assert "GET /api/v4/user" in upstream.with_real_key()


def test_the_key_goes_into_the_bodies_that_a_recipe_names_and_nowhere_else(
    laptop: Laptop, upstream: Upstream, packages: Path
) -> None:
    for name, path, member in (("tavily", "/search", "api_key"), ("hubspot", "/oauth/", "tokenKey")):
        used(laptop, name, program_of(name, packages))
        sent = [seen for seen in upstream.seen if seen.path.startswith(path) and member.encode() in seen.body]
        headers = {key.lower(): value for key, value in sent[-1].headers.items()}
        assert headers["authorization"] == f"Bearer {CANARY}"
        assert json.loads(sent[-1].body)[member] == CANARY


def test_a_slack_server_starts_with_the_requests_that_its_recipe_lists_and_no_others(
    laptop: Laptop, upstream: Upstream, packages: Path
) -> None:
    before = len(upstream.seen)
    with laptop.client("slack", "--", *program_of("slack", packages)) as client:
        client.initialize()
        client.request("tools/list")
        startup = {seen.path for seen in upstream.seen[before:] if seen.key_was_real}
        assert "/api/auth.test" in startup
        assert client.call("conversations_join", {"channel_id": "C1"}).get("isError") is not True
    assert any(path == "POST /api/conversations.join" for path in upstream.with_real_key())
    assert not any("chat.postMessage" in path for path in startup)


def test_atlassian_reads_an_issue_with_the_real_key(laptop: Laptop, upstream: Upstream, atlassian: Path) -> None:
    used(laptop, "atlassian", [str(atlassian)])
    assert any("/issue/DEMO-1" in path for path in upstream.with_real_key())


def test_a_python_server_without_a_key_answers_through_the_gate(broker: Broker, laptop: Laptop, tmp_path: Path) -> None:
    used(laptop, "time", [str(COMMANDS / "mcp-server-time")])
    used(
        laptop,
        "fetch",
        [str(COMMANDS / "mcp-server-fetch"), "--ignore-robots-txt", "--allow-private-ips"],
        {"url": f"{broker.url}/healthz"},
    )
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@a.example", "-C", str(tmp_path)]
    subprocess.run([*git, "init", "--quiet"], check=True)
    subprocess.run([*git, "commit", "--quiet", "--allow-empty", "--message", "found it"], check=True)
    used(laptop, "git", [str(COMMANDS / "mcp-server-git")], {"repo_path": str(tmp_path)})


@pytest.mark.parametrize("name", REMOTE)
def test_a_remote_recipe_is_reached_with_the_key_where_it_says(name: str, laptop: Laptop, remote: Remote) -> None:
    probe = filled(name).probe
    assert probe is not None
    before = len(remote.seen)
    with laptop.client(name) as client:
        client.initialize()
        assert client.call(probe.tool, json.loads(probe.arguments)).get("isError") is not True
    assert all(seen.key_was_real for seen in remote.seen[before:])
    assert any(json.loads(body or b"{}").get("method") == "tools/call" for body in remote.bodies()[before:])
    path = rules.parse_url(filled(name).url).path
    assert {seen.path for seen in remote.seen[before:]} == {path}


def test_a_draft_of_a_real_package_says_what_its_recipe_says_and_is_checked(
    broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", f"{os.environ['PATH']}:{npm.on_path()}")
    draft = broker.folder / "brave.toml"
    package = "npm:" + filled("brave-search").command[2]
    made = broker.administrator.administer("recipe", "new", package, "--to", str(draft))
    assert "is a draft" in made.stdout
    text, shipped = draft.read_text(), filled("brave-search")
    assert f'command = ["npx", "-y", "{shipped.command[2]}"]' in text
    assert 'BRAVE_API_KEY = "{key}"' in text
    assert 'hosts = ["api.search.brave.com"]' in text
    again = broker.administrator.administer("recipe", "new", package, "--to", str(draft), check=False)
    assert again.returncode == 2
    tools = broker.folder / "tools.json"
    tools.write_text(json.dumps(TOOLS["brave-search"]["reads"].split()))
    checked = broker.administrator.administer("recipe", "check", str(draft), "--tools", str(tools), check=False)
    assert checked.returncode == 1  # its probe was a guess
    assert "recipe.unmapped" in checked.stdout
    assert "recipe.probe" in checked.stdout


def test_what_a_package_leaves_open_a_draft_asks_at_a_terminal(broker: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", f"{os.environ['PATH']}:{npm.on_path()}")
    command = ["recipe", "new", "npm:" + filled("brave-search").command[2]]
    said, code = at_a_terminal("percall-broker", command, broker.administrator.environment, ["1", "brave.example"])
    assert code == 0, said
    assert 'BRAVE_API_KEY = "{key}"' in said
    assert 'hosts = ["brave.example"]' in said
    said, code = at_a_terminal("percall-broker", command, broker.administrator.environment, ["99"])
    assert (code, "The list has no 99" in said) == (2, True)


def test_a_recipe_that_is_shown_can_be_given_back(broker: Broker) -> None:
    shown = broker.administrator.administer("recipe", "show", "memory").stdout
    file = broker.folder / "memory.toml"
    file.write_text(shown)
    assert "nothing to object to" in broker.administrator.administer("recipe", "check", str(file)).stdout
    broker.administrator.administer("server", "add", "notes", "--from", str(file))
