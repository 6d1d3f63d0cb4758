"""Real, unmodified clients with the configs that `percall adopt` and `percall add` wrote, each for a whole turn.

No account, and no network beyond loopback: a fake model stands in for their vendors' (`harness/model.py`).
"""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import pytest

from harness import npm
from harness.model import NAME, TOLD, Call, Model
from harness.processes import Laptop, keyed_entry
from harness.terminal import at_a_terminal
from harness.upstream import CANARY, Upstream

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from harness.model import Turn
    from harness.processes import Broker

# What was tried is told in docs/how-to/move-from-pasted-keys.md.
pytestmark = [pytest.mark.node, pytest.mark.timeout(300)]

PASSPHRASE = "four words that differ"
PASTED = {"command": "keyed-server", "args": [], "env": {"API_KEY": CANARY}}
PACKAGES = (
    "@anthropic-ai/claude-code@2.1.330",
    "@google/gemini-cli@0.61.0",
    "@modelcontextprotocol/inspector@2.12.0",
    "@openai/codex@0.169.0",
    "opencode-ai@1.18.33",
)
CLAUDE = "@anthropic-ai/claude-code-linux-*/claude"
CODEX = "@openai/codex/bin/codex.js"
INSPECTOR = "@modelcontextprotocol/inspector/clients/launcher/build/index.js"
KEPT_OUT = "The item 13 is not for agents."
RULES = f"""
@id("grants") permit(principal, action, resource);
@id("thirteen") @reason("{KEPT_OUT}") forbid(principal, action, resource)
when {{ context has arguments && context.arguments.hasTag("number") && context.arguments.getTag("number") == "13" }};
"""
CALLS = (Call("get_item", {"id": 7}), Call("get_item", {"id": 13, "number": "13"}))


class Case(NamedTuple):
    """How a client is told to take one turn, how it names the tool, and as whom it introduces itself to servers."""

    program: str
    arguments: tuple[str, ...]
    protocol: str
    tool: str
    claims: str
    server: str = "own"


CASES = {
    "claude-code": Case(
        CLAUDE,
        ("-p", "go", "--allowedTools", "mcp__keyed"),
        "anthropic",
        "mcp__keyed__get_item",
        "claude-code 2.1.330",
    ),
    "codex": Case(
        CODEX,
        ("exec", "--skip-git-repo-check", "--dangerously-bypass-approvals-and-sandbox", "go"),
        "responses",
        "get_item",
        "codex-mcp-client 0.169.0",
    ),
    "gemini-cli": Case(
        "@google/gemini-cli/bundle/gemini.js",
        ("-m", "gemini-2.5-flash", "-p", "go"),
        "gemini",
        "mcp_keyed_get_item",
        "gemini-cli-mcp-client 0.61.0",
    ),
    "opencode": Case(
        "opencode-linux-*/bin/opencode", ("run", "go"), "chat", "shared_get_item", "opencode 1.18.33", server="shared"
    ),
}


@dataclass
class Taken:
    """A client's whole turn: all that it said, and its exit code."""

    said: str
    code: int


def configs(model: str) -> dict[str, str]:
    """What the person's clients hold, by file: pasted keys, and which model to ask."""
    return {
        ".claude.json": json.dumps({"mcpServers": {"keyed": PASTED}}),
        ".codex/config.toml": (
            f'model = "{NAME}"\nmodel_provider = "loopback"\n[model_providers.loopback]\nname = "loopback"\n'
            f'base_url = "{model}"\nwire_api = "responses"\n[mcp_servers.keyed]\ncommand = "keyed-server"\n'
            f'required = true # else the turn starts without it\n[mcp_servers.keyed.env]\nAPI_KEY = "{CANARY}"\n'
        ),
        ".gemini/settings.json": json.dumps(
            {
                "security": {"auth": {"selectedType": "gemini-api-key"}},
                "mcpServers": {"keyed": {**PASTED, "trust": True}},
            }
        ),
        ".config/opencode/opencode.json": json.dumps(
            {
                "model": f"loopback/{NAME}",
                "small_model": f"loopback/{NAME}",
                "provider": {
                    "loopback": {
                        "npm": "@ai-sdk/openai-compatible",
                        "options": {"baseURL": model, "apiKey": "none"},
                        "models": {NAME: {}},
                    }
                },
            }
        ),
    }


def settings(model: str) -> dict[str, str]:
    """Variables that keep the clients on loopback."""
    return {
        "ANTHROPIC_BASE_URL": model,
        "ANTHROPIC_API_KEY": "none",
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        "DISABLE_AUTOUPDATER": "1",
        "ENABLE_TOOL_SEARCH": "false",  # all tools go to the model at once
        "MCP_CONNECTION_NONBLOCKING": "0",  # the turn waits for the servers
        "GOOGLE_GEMINI_BASE_URL": model,
        "GEMINI_API_KEY": "none",
        "GEMINI_CLI_TRUST_WORKSPACE": "true",
        "OPENCODE_DISABLE_AUTOUPDATE": "1",
        "OPENCODE_DISABLE_MODELS_FETCH": "1",
    }


@pytest.fixture(scope="module")
def packages() -> Path:
    return npm.packages(PACKAGES, "npm-clients")


@pytest.fixture(scope="module")
def model() -> Iterator[Model]:
    with Model(CALLS) as running:
        yield running


@pytest.fixture(scope="module")
def configured(broker: Broker, upstream: Upstream, model: Model) -> Laptop:
    """A person whose pasted keys were moved, and whose opencode got a server with a shared key by `percall add`."""
    broker.add_server("shared", keyed_entry(upstream.url), CANARY)
    path = broker.folder / "own.toml"
    path.write_text(keyed_entry(upstream.url) + '[recognise]\nlaunches = ["program:keyed-server"]\n')
    (broker.folder / "rules").mkdir()
    (broker.folder / "rules" / "rules.cedar").write_text(RULES)
    root = broker.administrator
    root.administer("server", "add", "own", "--from", str(path), "--no-key")
    root.administer("policy", "apply", str(broker.folder / "rules"))
    invite = json.loads(root.administer("person", "invite", "alice", "--json").stdout)["invite"]
    laptop = Laptop(broker.folder / "alice", settings(model.url))
    login = ("login", broker.url, "--invite", invite, "--keyring", "file")
    said, code = at_a_terminal("percall", login, laptop.environment, [PASSPHRASE, PASSPHRASE])
    assert code == 0, said
    for agent, case in CASES.items():
        scope = ("--server", case.server, "--tools", "get_*", "--expires", "1d", "--agent", agent)
        root.administer("grant", "create", "alice", *scope)
    for file, text in configs(model.url).items():
        (laptop.home / file).parent.mkdir(parents=True, exist_ok=True)
        (laptop.home / file).write_text(text)
    said, code = at_a_terminal("percall", ("adopt", "--yes"), laptop.environment, [PASSPHRASE])
    assert code == 0, said
    laptop.run("add", "shared", "--client", "opencode")
    return laptop


def command(packages: Path, program: str) -> list[str]:
    """How a client's program is started, from the package as it came."""
    found = next(packages.glob(program), None)
    if found is None:
        pytest.skip(f"npm brings no {program} for this machine")
    return [npm.NODE, str(found)] if found.suffix == ".js" else [str(found)]


@pytest.fixture(scope="module")
def taken(configured: Laptop, packages: Path) -> dict[str, Taken]:
    """Every client's turn, all at once."""
    started = {
        agent: subprocess.Popen(
            [*command(packages, case.program), *case.arguments],
            env=configured.environment,
            cwd=configured.home,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for agent, case in CASES.items()
        if any(packages.glob(case.program))
    }
    ended = {agent: process.communicate(timeout=120)[0] for agent, process in started.items()}
    return {agent: Taken(said, started[agent].returncode) for agent, said in ended.items()}


@pytest.fixture(params=CASES)
def agent(request: pytest.FixtureRequest, taken: dict[str, Taken]) -> str:
    if request.param not in taken:
        pytest.skip(f"npm brings no {CASES[request.param].program} for this machine")
    return str(request.param)


def last_turn(model: Model, agent: str) -> Turn:
    return [turn for turn in model.turns if turn.protocol == CASES[agent].protocol][-1]


def test_a_permitted_call_is_made_with_the_real_key_and_its_result_reaches_the_model(
    agent: str, taken: dict[str, Taken], model: Model, upstream: Upstream, broker: Broker
) -> None:
    assert taken[agent].code == 0, taken[agent].said
    assert TOLD in taken[agent].said
    assert "/items/7" in last_turn(model, agent).results[0]
    (row,) = [row for row in broker.log(agent=agent) if row["decision"] == "permit"]
    assert (row["person"], row["server"], row["tool"], row["outcome"]) == (
        "alice",
        CASES[agent].server,
        "get_item",
        "done",
    )
    (story,) = broker.rows("log", "show", row["call"])
    assert {entry["client"] for entry in story["entries"] if "client" in entry} == {CASES[agent].claims}
    assert upstream.with_real_key().count("GET /items/7") == len(taken)
    assert all(seen.key_was_real for seen in upstream.seen)


def test_a_refused_call_tells_the_model_why_and_what_to_do_and_the_upstream_sees_nothing(
    agent: str, model: Model, upstream: Upstream, broker: Broker
) -> None:
    refusal = last_turn(model, agent).results[1]
    assert KEPT_OUT in refusal
    assert "Ask your administrator, who can change the policy, if you need this. [policy.forbid]" in refusal
    (row,) = [row for row in broker.log(agent=agent) if row["decision"] == "forbid"]
    assert (row["reason"], row["outcome"]) == ("policy.forbid", "refused")
    assert "GET /items/13" not in {f"{seen.method} {seen.path}" for seen in upstream.seen}


def test_a_tool_that_is_not_granted_is_not_offered_to_the_model(agent: str, model: Model) -> None:
    offered = last_turn(model, agent).tools
    assert CASES[agent].tool in offered
    assert not [name for name in offered if name.endswith(("create_item", "delete_item"))]


def test_the_key_is_nowhere_on_the_laptop_after_the_turns(configured: Laptop, taken: dict[str, Taken]) -> None:
    files = [file for file in configured.home.rglob("*") if file.is_file()]
    assert {".claude.json", "config.toml", "settings.json"} <= {file.name for file in files}
    assert [file for file in files if CANARY.encode() in file.read_bytes()] == []
    assert not [agent for agent, one in taken.items() if CANARY in one.said]


def ran(laptop: Laptop, *words: str) -> str:
    done = subprocess.run(
        words, env=laptop.environment, cwd=laptop.home, capture_output=True, text=True, timeout=60, check=False,
        stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert CANARY not in done.stdout + done.stderr
    return done.stdout + done.stderr


def test_claude_codes_own_check_connects_to_the_adopted_server(configured: Laptop, packages: Path) -> None:
    said = ran(configured, *command(packages, CLAUDE), "mcp", "get", "keyed")
    assert "Connected" in said, said
    assert "run --agent claude-code own" in said


def test_codex_reads_the_adopted_entry(configured: Laptop, packages: Path) -> None:
    said = ran(configured, *command(packages, CODEX), "mcp", "list", "--json")
    (entry,), _ = json.JSONDecoder().raw_decode(said[said.index("[") :])  # stderr's warnings come after it
    assert entry["transport"]["args"] == ["run", "--agent", "codex", "own"]


def test_the_inspector_calls_with_the_real_key_and_does_not_see_what_is_not_granted(
    configured: Laptop, packages: Path, upstream: Upstream
) -> None:
    config = ("--cli", "--config", str(configured.home / ".claude.json"), "--server", "keyed", "--method", "tools/call")
    said = ran(configured, *command(packages, INSPECTOR), *config, "--tool-name", "get_item")
    assert "200 " in said, said
    assert "GET /items/1" in upstream.with_real_key()
    refused = ran(configured, *command(packages, INSPECTOR), *config, "--tool-name", "delete_item")
    assert "not found on server" in refused, refused  # it lists first, and what is not granted is not listed
    assert not any(request.startswith("DELETE") for request in upstream.with_real_key())
