"""The examples run, as they are."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent


@pytest.mark.timeout(300)
def test_the_demo_tells_its_whole_story() -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "examples" / "demo" / "run.py")],
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    story = done.stdout
    assert "Move the keys out of everyone's dotfiles" in story
    assert "The grant does not name the tool 'jira_create_issue'" in story
    assert "found 0 times" in story
    assert "This agent's grant is revoked." in story
    seen = story.split("all that Jira saw:")[1]
    assert "GET /rest/api/2/issue/DEMO-1 real key" in seen
    assert "DELETE" not in seen
    assert "no key" not in seen


def test_the_example_policies_hold_and_pass_their_own_tests() -> None:
    folder = ROOT / "examples" / "policies"
    path = f"{Path(sys.executable).parent}:/usr/bin:/bin"
    done = subprocess.run([folder / "run.sh"], capture_output=True, text=True, env={"PATH": path}, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "few-searches" in done.stdout
    how_to = (ROOT / "docs" / "how-to" / "policies.md").read_text()
    told = done.stdout[done.stdout.index("RESULT") :].splitlines()
    assert [line for line in told if line not in how_to.splitlines()] == []
