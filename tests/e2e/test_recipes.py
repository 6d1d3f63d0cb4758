"""Each recipe with its real, unmodified package, against a fake upstream that answers only to the real key."""

from __future__ import annotations

import fcntl
import json
import shutil
import subprocess
import venv
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from harness.upstream import CANARY, Upstream

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness.processes import Broker, Laptop

ROOT = Path(__file__).parent.parent.parent
CACHE = ROOT / ".cache"
GITHUB = "@modelcontextprotocol/server-github@2025.4.8"
NOTION = "@notionhq/notion-mcp-server@2.5.2"
TAVILY = "tavily-mcp@0.2.22"
PARAMETERS = ("--set", "site=acme.atlassian.net", "--set", "email=bot@acme.example")
REPOSITORY = {"total_count": 1, "incomplete_results": False, "items": []}

pytestmark = [pytest.mark.node, pytest.mark.timeout(300)]


@contextmanager
def one_at_a_time(name: str) -> Iterator[None]:
    """Several workers, and the demo, may want the same installation at once."""
    CACHE.mkdir(exist_ok=True)
    with (CACHE / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@pytest.fixture(scope="session")
def packages() -> Path:
    """The npm packages, at the versions that the recipes name, installed once under .cache."""
    if not shutil.which("npm"):
        pytest.skip("npm is not on this machine: the Node recipes did not run")
    folder = CACHE / "npm"
    wanted = f"{GITHUB} {NOTION} {TAVILY}"
    ready = folder / ".ready"
    if not ready.exists() or ready.read_text() != wanted:
        folder.mkdir(parents=True, exist_ok=True)
        command = ["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix", str(folder)]
        subprocess.run([*command, *wanted.split()], check=True, capture_output=True, timeout=240)
        ready.write_text(wanted)
    return folder / "node_modules" / ".bin"


@pytest.fixture(scope="session")
def atlassian() -> Path:
    """`mcp-atlassian` from its lock of hashes, in an environment of its own; the demo shares it."""
    folder, lock = CACHE / "mcp-atlassian", ROOT / "requirements" / "mcp-atlassian.txt"
    ready = folder / ".ready"
    with one_at_a_time("mcp-atlassian"):
        if not ready.exists() or ready.read_text() != lock.read_text():
            venv.create(folder, with_pip=True, clear=True)
            pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
            subprocess.run([*pip, "--require-hashes", "--no-deps", "-r", str(lock)], check=True, timeout=240)
            ready.write_text(lock.read_text())
    return folder / "bin" / "mcp-atlassian"


@pytest.fixture(scope="module")
def upstream() -> Iterator[Upstream]:
    with Upstream(CANARY) as running:
        running.answers["/search/repositories"] = REPOSITORY
        running.answers["/v1/users"] = {"object": "list", "results": [], "has_more": False}
        running.answers["/search"] = {"query": "percall", "results": [], "answer": "yes", "response_time": 0.1}
        running.answers["/rest/api/2/issue/DEMO-1"] = {"id": "1", "key": "DEMO-1", "fields": {"summary": "found it"}}
        running.answers["/rest/api/3/issue/DEMO-1"] = {"id": "1", "key": "DEMO-1", "fields": {"summary": "found it"}}
        yield running


def recipe(broker: Broker, upstream: Upstream, name: str, origin: str, *more: str) -> Laptop:
    """Adds the server with a loopback stand-in for its API, and enrols somebody for all its tools."""
    add = ("server", "add", name, "--recipe", name, "--secret-stdin", "--connect", f"{origin}={upstream.url}", *more)
    broker.administrator.administer(*add, stdin=CANARY)
    return broker.enrol(f"user-of-{name}", name, tools="*")


def test_github_by_preload_reads_with_the_real_key_and_may_not_write_in_a_read_tool(
    broker: Broker, upstream: Upstream, packages: Path
) -> None:
    laptop = recipe(broker, upstream, "github", "https://api.github.com")
    with laptop.client("github", "--", "node", str(packages / "mcp-server-github")) as client:
        client.initialize()
        assert client.call("search_repositories", {"query": "percall"}).get("isError") is not True
    assert any(path.startswith("GET /search/repositories") for path in upstream.with_real_key())


def test_notion_reads_with_the_real_key(broker: Broker, upstream: Upstream, packages: Path) -> None:
    laptop = recipe(broker, upstream, "notion", "https://api.notion.com")
    with laptop.client("notion", "--", "node", str(packages / "notion-mcp-server")) as client:
        client.initialize()
        tools = [tool["name"] for tool in client.request("tools/list")["result"]["tools"]]
        tool = next(name for name in tools if name.endswith("get-users"))
        assert client.call(tool).get("isError") is not True
    assert any(path.startswith("GET /v1/users") for path in upstream.with_real_key())


def test_tavily_puts_the_key_in_its_header_and_its_body_and_nowhere_else(
    broker: Broker, upstream: Upstream, packages: Path
) -> None:
    laptop = recipe(broker, upstream, "tavily", "https://api.tavily.com")
    with laptop.client("tavily", "--", "node", str(packages / "tavily-mcp")) as client:
        client.initialize()
        assert client.call("tavily_search", {"query": "percall"}).get("isError") is not True
    seen = next(seen for seen in upstream.seen if seen.path.startswith("/search") and seen.method == "POST")
    headers = {name.lower(): value for name, value in seen.headers.items()}
    assert headers["authorization"] == f"Bearer {CANARY}"
    assert json.loads(seen.body)["api_key"] == CANARY


def test_atlassian_reads_an_issue_with_the_real_key(broker: Broker, upstream: Upstream, atlassian: Path) -> None:
    laptop = recipe(broker, upstream, "atlassian", "https://acme.atlassian.net", *PARAMETERS)
    with laptop.client("atlassian", "--", str(atlassian)) as client:
        client.initialize()
        result = client.call("jira_get_issue", {"issue_key": "DEMO-1"})
    assert "found it" in str(result), result
    assert any("/issue/DEMO-1" in path for path in upstream.with_real_key())


def test_the_time_server_needs_no_key_and_is_gated_and_logged_like_the_rest(broker: Broker) -> None:
    broker.administrator.administer("server", "add", "time", "--recipe", "time")
    laptop = broker.enrol("user-of-time", "time", tools="get_current_time")
    with laptop.client("time", "--", "mcp-server-time", "--local-timezone", "UTC") as client:
        client.initialize()
        assert "UTC" in client.call_text("get_current_time", {"timezone": "UTC"})
        refused = client.call("convert_time", {"source_timezone": "UTC", "time": "10:00", "target_timezone": "UTC"})
    assert refused["isError"] is True
    assert {row["decision"] for row in broker.log("--server", "time")} == {"permit", "forbid"}
