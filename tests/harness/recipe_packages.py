"""The packages that recipes launch, installed once under .cache at the versions that the recipes name."""

from __future__ import annotations

import fcntl
import json
import subprocess
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from harness.recipe_cases import filled

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

ROOT = Path(__file__).parents[2]
CACHE = ROOT / ".cache"


@contextmanager
def one_at_a_time(name: str) -> Iterator[None]:
    """Several workers, and the demo, may want the same installation at once."""
    CACHE.mkdir(exist_ok=True)
    with (CACHE / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def npm_packages(wanted: Iterable[str], name: str = "npm") -> Path:
    """The node_modules folder that has all of these, under `.cache/NAME`."""
    names = sorted(wanted)
    folder = CACHE / name
    ready = folder / ".ready"
    with one_at_a_time(name):
        if not ready.exists() or ready.read_text() != " ".join(names):
            folder.mkdir(parents=True, exist_ok=True)
            command = ["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix", str(folder)]
            subprocess.run([*command, *names], check=True, capture_output=True, timeout=280)
            ready.write_text(" ".join(names))
    return folder / "node_modules"


def program_of(name: str, packages: Path) -> list[str]:
    """How the installed npm package is started, with the recipe's own arguments: what npx would do."""
    command = filled(name).command
    package = packages / command[2].rpartition("@")[0]
    programs = json.loads((package / "package.json").read_text())["bin"]
    program = programs if isinstance(programs, str) else next(iter(programs.values()))
    return ["node", str(package / program), *command[3:]]
