"""Installs the suite once, runs it against a URL for one revision, and reads what it found."""

from __future__ import annotations

import json
import re
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness import npm

if TYPE_CHECKING:
    from pathlib import Path

VERSION = "0.2.0-alpha.12"
"""The newest pre-release; it holds the required sets of both revisions."""
REVISIONS = ("2025-11-25", "2026-07-28")

_PACKAGE = "@modelcontextprotocol/conformance"
_SECONDS = 280
_SUMMARY = re.compile(r"^[✓✗] ([a-z0-9/-]+): (\d+) passed, (\d+) failed", re.MULTILINE)
_NOT_SCORED = re.compile(r"^  [✓✗] ([a-z0-9/-]+) \(([a-z-]+)\)", re.MULTILINE)


@dataclass(frozen=True)
class Scenario:
    """What one scenario came to. `unscored` says why it is not required: extension, added-after-release or pending.

    `failures` are the ids of its failing checks.
    """

    name: str
    failures: tuple[str, ...]
    unscored: str = ""

    @property
    def passes(self) -> bool:
        return not self.failures


def run(url: str, revision: str, results: Path) -> dict[str, Scenario]:
    """The server suite's required set of one revision (and what is run beside it, unscored) against a URL."""
    suite = npm.packages([f"{_PACKAGE}@{VERSION}"], "conformance") / _PACKAGE
    command = [npm.NODE, str(suite / "dist" / "index.js"), "server", "--url", url, "--requirements", revision]
    done = subprocess.run(
        [*command, "-o", str(results)], capture_output=True, text=True, timeout=_SECONDS, check=False, cwd=suite
    )
    unscored = dict(_NOT_SCORED.findall(done.stdout))
    found = {
        name: Scenario(name, _failures(results, name), unscored.get(name, ""))
        for name, _, _ in _SUMMARY.findall(done.stdout)
    }
    if not found:
        raise AssertionError(f"The suite did not run: {done.stdout[-2000:]}{done.stderr[-2000:]}")
    return found


def _failures(results: Path, name: str) -> tuple[str, ...]:
    """The failing checks of one scenario; one that wrote no result has failed as a whole."""
    files = list(results.glob(f"server-{name}-2*/checks.json"))
    if not files:
        return ("no result",)
    checks = [check for file in files for check in json.loads(file.read_text())]
    return tuple(sorted({check["id"] for check in checks if check["status"] == "FAILURE"}))
