"""What a package's own files say, and the draft that comes of it."""

from __future__ import annotations

import json
import sys
import zipfile
from typing import TYPE_CHECKING

import pytest

from harness.processes import COMMANDS
from harness.terminal import at_a_terminal
from percall_broker.model.errors import InvalidInput, Unavailable
from percall_broker.recipes import asking
from percall_broker.recipes.draft import draft
from percall_broker.recipes.lint import Tool, entry_of, findings
from percall_broker.recipes.package import Facts, facts, of_sources, sources_of

if TYPE_CHECKING:
    from pathlib import Path

NODE = """
const key = process.env.TRACKER_API_KEY ?? process.env["OPENAI_API_KEY"];
const base = process.env.TRACKER_API_URL || "https://api.tracker.example";
// see https://docs.tracker.example and https://github.com/a/b
fetch("https://api.tracker.example/v1"); fetch("https://cdn.example-cdn.io/x");
"""
PYTHON = 'os.environ["TRACKER_TOKEN"]; os.getenv("TRACKER_BASE_URL"); os.environ.get("HOME")\n'


def test_variables_and_hosts_are_read_from_the_source_the_likeliest_first() -> None:
    found = of_sources("npm", "@acme/tracker-mcp", "1.2.3", [NODE])
    assert found.keys == ("TRACKER_API_KEY", "OPENAI_API_KEY")
    assert found.base_urls == ("TRACKER_API_URL",)
    assert found.hosts[0] == "api.tracker.example"
    assert "github.com" not in found.hosts
    assert found.command == ("npx", "-y", "@acme/tracker-mcp@1.2.3")
    python = of_sources("pypi", "tracker-mcp", "1.0", [PYTHON])
    assert (python.keys, python.base_urls) == (("TRACKER_TOKEN",), ("TRACKER_BASE_URL",))
    assert python.command == ("uvx", "tracker-mcp==1.0")


@pytest.mark.parametrize("package", ["tracker-mcp", "npm:", "npm:--help", "npm:a b", "pypi:../x", "npm:a@1; rm -rf /"])
def test_what_names_no_package_is_refused_before_anything_is_started(package: str) -> None:
    with pytest.raises(InvalidInput, match="is no package"):
        facts(package)


def test_a_draft_is_an_entry_that_maps_what_reads_and_asks_about_the_rest() -> None:
    found = of_sources("npm", "@acme/tracker-mcp", "1.2.3", [NODE])
    tools = (Tool("get_me", reads=True), Tool("close", reads=False))
    text = draft(found, "TRACKER_API_KEY", "api.tracker.example", tools)
    entry = entry_of(text)
    assert entry.environment["TRACKER_API_URL"] == "{listener:https://api.tracker.example}"
    assert entry.default_tools == ("get_me",)
    assert [(rule.match, bool(rule.requests)) for rule in entry.tools] == [(("get_me",), True), (("close",), False)]
    found_in = findings(text, tools)
    assert [finding for finding in found_in if finding.level == "error"] == []
    assert "recipe.draft" in {finding.code for finding in found_in}, "until somebody takes its first lines away"


def test_a_draft_of_a_server_without_a_key_has_none() -> None:
    entry = entry_of(draft(Facts("pypi", "clock-mcp", "1.0", (), (), ()), "", ""))
    assert (entry.delivery, entry.slots, entry.tools) == ("none", (), ())


def test_a_server_is_started_and_asked_for_its_tools() -> None:
    tools = asking.tools_of([str(COMMANDS / "mcp-server-time"), "--local-timezone", "UTC"], {})
    assert {tool.name for tool in tools} == {"get_current_time", "convert_time"}


@pytest.mark.parametrize("command", [["/nonexistent"], ["true"], ["echo", "not a frame"], ["echo", "{}"]])
def test_what_is_no_server_is_told_apart(command: list[str]) -> None:
    with pytest.raises(Unavailable) as told:
        asking.tools_of(command, {})
    assert told.value.next_step


def test_tools_are_read_from_an_answer_a_result_or_a_list() -> None:
    listed = [{"name": "a", "annotations": {"readOnlyHint": True}}, {"name": "b"}]
    expected = (Tool("a", reads=True), Tool("b"))
    assert asking.tools_in({"jsonrpc": "2.0", "result": {"tools": listed}}) == expected
    assert asking.tools_in({"tools": listed}) == asking.tools_in(listed) == expected
    assert asking.tools_in(["a"]) == (Tool("a"),)
    for nonsense in ("{}", '"a"', "[1]", '[{"title": "a"}]', "null"):
        with pytest.raises(ValueError, match="tool"):
            asking.tools_in(json.loads(nonsense))


def test_at_a_terminal_a_person_chooses_among_what_the_package_names(tmp_path: Path) -> None:
    wheel = tmp_path / "tracker_mcp-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("tracker_mcp/server.py", PYTHON + 'os.environ["OTHER_SECRET"]; "https://api.tracker.dev/v1"\n')
    found = of_sources("pypi", "tracker-mcp", "1.0", list(sources_of(wheel)))
    assert found.keys == ("TRACKER_TOKEN", "OTHER_SECRET")
    assert found.hosts == ("api.tracker.dev",)
    script = (
        "from percall_broker.cli.recipe import _chosen; import sys; "
        "sys.stdout.write(_chosen('Which?', ('A_KEY', 'B_KEY'), none=True) + '|')"
    )
    for typed, chosen in (("2", "B_KEY"), ("", "A_KEY"), ("0", ""), ("C_KEY", "C_KEY")):
        said, code = at_a_terminal(sys.executable, ["-c", script], {"PATH": "/usr/bin:/bin"}, [typed])
        assert code == 0
        assert said.rstrip().endswith(f"{chosen}|"), said
