"""The release before with this one, either way round: built as wheels, each in an environment of its own.

The old one is built from the history. Where that is not at hand (a shallow clone), the tests say that they did not run.
"""

from __future__ import annotations

import json
import subprocess
import sys
import sysconfig
import venv
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from harness.processes import COMMANDS, Client, Laptop, Line, keyed_entry
from harness.upstream import CANARY, Upstream
from percall import __version__

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
PREVIOUS = "ef9119289ba23f443ac39f5ea61847a1aed49326"
"""The last commit of 0.1: what a broker of this version still serves."""


@dataclass
class Installed:
    """One release in an environment of its own, with the dependencies of the one that runs the tests."""

    version: str
    bin: Path

    def run(self, name: str, *arguments: str, environment: dict[str, str], stdin: str = "") -> str:
        done = subprocess.run(
            [str(self.bin / name), *arguments],
            input=stdin,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            env=self.environment(environment),
        )
        assert done.returncode == 0, f"{self.version} {name} {arguments}: {done.stdout} {done.stderr}"
        return done.stdout

    def environment(self, environment: dict[str, str]) -> dict[str, str]:
        return {**environment, "PATH": f"{self.bin}:/usr/bin:/bin"}


def install(version: str, tree: Path, folder: Path) -> Installed:
    """Builds a tree's wheel and installs it, without a network."""
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder / "dist")]
    subprocess.run(build, cwd=tree, check=True, capture_output=True, timeout=100)
    (wheel,) = (folder / "dist").glob("*.whl")
    assert wheel.name.startswith(f"percall-{version}-")
    venv.create(folder / "venv", symlinks=True)
    (packages,) = (folder / "venv").glob("lib/python*/site-packages")
    (packages / "dependencies.pth").write_text(f"{sysconfig.get_path('purelib')}\n")
    python = folder / "venv" / "bin" / "python"
    uv = [
        str(COMMANDS / "uv"),
        "pip",
        "install",
        "--quiet",
        "--python",
        str(python),
        "--no-deps",
        "--offline",
        str(wheel),
    ]
    subprocess.run(uv, check=True, capture_output=True, timeout=100)
    installed = Installed(version, python.parent)
    assert installed.run("percall-broker", "--version", environment={}).strip() == f"percall-broker {version}"
    return installed


@pytest.fixture(scope="module")
def releases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Installed]:
    folder = tmp_path_factory.mktemp("releases")
    old = folder / "tree"
    old.mkdir()
    archive = subprocess.run(
        ["git", "-C", str(ROOT), "archive", "--format=tar", PREVIOUS], capture_output=True, check=False
    )
    if archive.returncode:
        pytest.skip(f"the history does not reach back to {PREVIOUS} here: old and new were not tried together")
    subprocess.run(["tar", "-x", "-C", str(old)], input=archive.stdout, check=True)
    for name in ("old", "new"):
        (folder / name).mkdir()
    return {"old": install("0.1.0", old, folder / "old"), "new": install(__version__, ROOT, folder / "new")}


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    with Upstream(CANARY) as running:
        yield running


@pytest.mark.parametrize(("broker_is", "shim_is"), [("old", "new"), ("new", "old"), ("new", "new")])
def test_a_shim_and_a_broker_of_neighbouring_versions_work_together(
    releases: dict[str, Installed], upstream: Upstream, tmp_path: Path, broker_is: str, shim_is: str
) -> None:
    central, local = releases[broker_is], releases[shim_is]
    home = {"HOME": str(tmp_path), "PERCALL_BROKER_HOME": str(tmp_path / "broker")}
    invite = json.loads(central.run("percall-broker", "init", "--json", environment=home))["invite"]
    if broker_is == "new":  # a person's changes would want a terminal
        areas = ("--automation", "--may", "grants,servers,secrets,loopback")
        made = central.run("percall-broker", "invite", "robot", *areas, "--json", environment=home)
        invite = json.loads(made)["invite"]
    command = [str(central.bin / "percall-broker"), "serve", "--listen", "127.0.0.1:0"]
    serving = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=central.environment(home))
    try:
        said, _ = Line(serving.stdout), Line(serving.stderr)
        url = said.until(b"listening on ").decode().split("listening on ", 1)[1].strip()
        administrator = Laptop(tmp_path / "administrator").environment
        enrol = ("--keyring", "file")
        central.run("percall", "login", url, "--invite", invite, *enrol, environment=administrator)
        entry = tmp_path / "keyed.toml"
        entry.write_text(keyed_entry(upstream.url))
        add = ("server", "add", "keyed", "--from", str(entry), "--secret-stdin")
        central.run("percall-broker", *add, environment=administrator, stdin=CANARY)
        grant = ("grant", "create", "alice", "--server", "keyed", "--tools", "get_*", "--json")
        made = json.loads(central.run("percall-broker", *grant, environment=administrator))

        alice = Laptop(tmp_path / "alice").environment
        local.run("percall", "login", url, "--invite", made["invite"], *enrol, environment=alice)
        assert "alice" in local.run("percall", "status", environment=alice)
        with Client([str(local.bin / "percall"), "run", "keyed"], local.environment(alice)) as client:
            client.initialize()
            assert client.call_text("get_item", {"id": 7}).startswith("200 ")
            assert client.call("create_item")["isError"] is True
            central.run("percall-broker", "grant", "revoke", made["grant"], environment=administrator)
            assert "grant.revoked" in client.call_text("get_item", {"id": 8})
        assert upstream.with_real_key() == ["GET /items/7"]
        listed = central.run("percall-broker", "log", "list", "--json", environment=administrator)
        assert {json.loads(line)["outcome"] for line in listed.splitlines()} == {"done", "refused"}
    finally:
        serving.terminate()
        serving.wait(20)
