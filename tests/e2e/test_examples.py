"""The examples run, as they are."""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from harness.processes import Line

ROOT = Path(__file__).parent.parent.parent
PATH = f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin"


@pytest.mark.timeout(300)
def test_the_demo_tells_its_whole_story() -> None:
    environment = {**os.environ, "PATH": PATH}  # what says where packages come from, too
    script = ROOT / "examples" / "demo" / "run.sh"
    done = subprocess.run([script], capture_output=True, text=True, env=environment, timeout=280, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    story = done.stdout.replace(platform.node(), "vm")
    assert "Move the keys out of everyone's dotfiles" in story
    assert "The grant does not name the tool 'jira_create_issue'" in story
    assert "found 0 times" in story
    assert "This agent's grant is revoked." in story
    seen = story.split("all that Jira saw:")[1]
    assert "GET /rest/api/2/issue/DEMO-1 real key" in seen
    assert "DELETE" not in seen
    assert "no key" not in seen
    readme = (ROOT / "README.md").read_text().split("(shortened):")[1].split("```")[1].splitlines()[1:]
    told = {without_particulars(line) for line in story.splitlines()}
    assert [line for line in readme if without_particulars(line) not in told] == []
    assert "{" not in done.stderr, "the broker's own log is not part of the story"


def without_particulars(line: str) -> str:
    """A line of the demo without what differs from run to run: ids, times, ports, places, how much and how long."""
    line = re.sub(r"\bg_[\w-]+|^ {4}[\w-]{22}  ", "", line)
    return " ".join(word for word in line.split() if not re.search(r"[\d/]", word))


def test_the_example_policies_hold_and_pass_their_own_tests() -> None:
    told = run_example("policies")
    assert "few-searches" in told
    how_to = (ROOT / "docs" / "how-to" / "policies.md").read_text().splitlines()
    assert [line for line in told[told.index("RESULT") :].splitlines() if line not in how_to] == []


def run_example(name: str, *arguments: str, code: int = 0) -> str:
    """An example's own script, with nothing of the tests' environment but the commands."""
    environment = {"PATH": PATH, "LANG": "C.UTF-8"}
    script = [str(ROOT / "examples" / name / "run.sh"), *arguments]
    done = subprocess.run(script, capture_output=True, text=True, env=environment, timeout=100, check=False)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize(("name", "configs"), [("claude", 2), ("cursor", 1)])
def test_a_clients_config_starts_its_server_as_it_says(name: str, configs: int) -> None:
    told = run_example(name)
    assert told.count("time offers get_current_time\n") == configs
    assert told.count('"timezone": "UTC"') == configs
    assert told.count("The grant does not name the tool 'convert_time'") == configs


def test_who_leaves_a_team_of_three_is_refused_and_the_others_are_not() -> None:
    before, after = run_example("team-of-three").split("ben leaves the team\n")
    assert before == "ada: served\nben: served\ncleo: served\n"
    assert after.splitlines()[0] == "ada: served"
    assert "grant is revoked" in after.splitlines()[1]
    assert after.splitlines()[2] == "cleo: served"


def test_the_ci_check_passes_a_clean_repository_and_stops_a_pasted_key_and_an_unfit_entry(tmp_path: Path) -> None:
    assert "nothing to object to" in run_example("ci")
    config = (ROOT / "examples" / "ci" / "repository" / ".mcp.json").read_text()
    key = "ghp_" + "aB3" * 12
    pasted = config.replace('"command": "percall"', f'"env": {{"T": "{key}"}}, "command": "npx"')
    (tmp_path / ".mcp.json").write_text(pasted)
    assert key not in run_example("ci", str(tmp_path), code=7)
    (tmp_path / ".mcp.json").write_text(config)
    entry = (ROOT / "examples" / "ci" / "entries" / "tracker.toml").read_text()
    (tmp_path / "tracker.toml").write_text(entry.replace("issue-tracker-mcp@1.2.3", "issue-tracker-mcp"))
    assert "recipe.unpinned" in run_example("ci", str(tmp_path), str(tmp_path), code=1)


def test_the_files_for_a_broker_that_stays_up_are_as_hard_as_they_say() -> None:
    told = run_example("deploy")
    if shutil.which("systemd-analyze"):
        assert "percall-broker.service: verified" in told
    assert "com.percall.broker.plist: read" in told
    assert "Dockerfile: read" in told


def test_the_containers_health_check_finds_a_broker_behind_a_proxy_alive(tmp_path: Path) -> None:
    text = (ROOT / "examples" / "deploy" / "Dockerfile").read_text()
    check = json.loads(re.findall(r"CMD (\[.*urllib.*\])", text)[0])
    listen = re.findall(r"PERCALL_BROKER_METRICS_LISTEN=(\S+)", text)[0]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        chosen = f"127.0.0.1:{free.getsockname()[1]}"
    check = [sys.executable, *(word.replace(listen, chosen) for word in check[1:])]
    environment = {
        "PATH": PATH,
        "HOME": str(tmp_path),
        "PERCALL_BROKER_HOME": str(tmp_path / "broker"),
        "PERCALL_BROKER_METRICS_LISTEN": chosen,
        "PERCALL_BROKER_LISTEN": "127.0.0.1:0",
        "PERCALL_BROKER_PUBLIC_URL": "https://percall.example.com",
        "PERCALL_BROKER_TRUSTED_PROXIES": "192.0.2.1",
    }
    subprocess.run(["percall-broker", "init"], env=environment, check=True, capture_output=True)
    assert subprocess.run(check, capture_output=True, check=False).returncode != 0
    with subprocess.Popen(["percall-broker", "serve"], env=environment, stdout=-1, stderr=-1) as broker:
        said, _ = Line(broker.stdout), Line(broker.stderr)
        try:
            said.until(b"listening on")
            assert subprocess.run(check, capture_output=True, check=False).returncode == 0
        finally:
            broker.terminate()


def test_every_example_is_in_the_index_and_has_a_readme_and_a_script() -> None:
    index = (ROOT / "examples" / "README.md").read_text()
    for folder in sorted(path for path in (ROOT / "examples").iterdir() if path.is_dir() and path.name[0] not in "._"):
        assert f"({folder.name}/)" in index
        assert (folder / "README.md").exists(), folder.name
        assert os.access(folder / "run.sh", os.X_OK), folder.name
