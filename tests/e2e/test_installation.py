"""The built wheel, installed as people install it, and the tutorial followed with what came of it."""

from __future__ import annotations

import functools
import json
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from harness.npm import ROOT
from harness.processes import COMMANDS, Client, Line
from harness.recipe_packages import node_packages, program_of
from harness.terminal import at_a_terminal
from harness.upstream import CANARY, Upstream

if TYPE_CHECKING:
    from collections.abc import Callable

TUTORIAL = (ROOT / "docs" / "tutorial" / "first-server.md").read_text(encoding="utf-8")
PASSPHRASE = "a passphrase that is long enough"
INSTALLERS = {
    "uv": ["tool", "install", "--constraints", str(ROOT / "requirements" / "dev.txt")],
    "pipx": ["tool", "run", "pipx", "install"],
}

pytestmark = pytest.mark.timeout(240)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True, timeout=100)
    return next(folder.glob("*.whl"))


def install(installer: str, wheel: Path, folder: Path) -> Path:
    """Installs the wheel with the broker; the folder with its commands."""
    places = {
        "UV_TOOL_DIR": str(folder / "tools"),
        "UV_TOOL_BIN_DIR": str(folder / "bin"),
        "PIPX_HOME": str(folder / "pipx"),
        "PIPX_BIN_DIR": str(folder / "bin"),
    }
    wanted = f"percall[broker] @ {wheel.as_uri()}"
    command = [str(COMMANDS / "uv"), *INSTALLERS[installer], "--python", sys.executable, wanted]
    done = subprocess.run(
        command, env={**os.environ, **places}, capture_output=True, text=True, timeout=200, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "bin"


@pytest.fixture(scope="module")
def installed_by(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The commands that an installer has installed: once for all that run them."""
    return functools.cache(lambda installer: install(installer, wheel, tmp_path_factory.mktemp(installer)))


def home_of(commands: Path, folder: Path) -> dict[str, str]:
    """An empty home, and nothing of the tests' own environment."""
    folder.mkdir()
    return {"PATH": f"{commands}:/usr/bin:/bin", "HOME": str(folder), "LANG": "C.UTF-8", "TERM": "dumb"}


@pytest.fixture
def environment(installed_by: Callable[[str], Path], tmp_path: Path) -> dict[str, str]:
    return home_of(installed_by("uv"), tmp_path / "home")


def ran(environment: dict[str, str], *command: str, **more: str) -> str:
    done = subprocess.run(command, env={**environment, **more}, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout


@pytest.mark.parametrize("installer", INSTALLERS)
def test_both_commands_run_from_the_installed_wheel(
    installer: str, installed_by: Callable[[str], Path], tmp_path: Path
) -> None:
    environment = home_of(installed_by(installer), tmp_path / "home")
    assert ran(environment, "percall", "--version").startswith("percall ")
    assert ran(environment, "percall-broker", "--version").startswith("percall-broker ")
    assert "github" in ran(environment, "percall-broker", "recipe", "list")  # files that must be in the wheel
    assert "appliesTo" in ran(environment, "percall-broker", "policy", "schema")
    assert "invite" in ran(environment, "percall-broker", "init")  # and the migrations


def test_without_the_extra_the_broker_says_how_to_install_it(wheel: Path, tmp_path: Path) -> None:
    folder = tmp_path / "lean"
    places = {"UV_TOOL_DIR": str(folder / "tools"), "UV_TOOL_BIN_DIR": str(folder / "bin")}
    command = [str(COMMANDS / "uv"), *INSTALLERS["uv"], "--python", sys.executable, f"percall @ {wheel.as_uri()}"]
    subprocess.run(command, env={**os.environ, **places}, capture_output=True, timeout=200, check=True)
    lean = {"PATH": f"{folder / 'bin'}:/usr/bin:/bin", "HOME": str(tmp_path)}
    assert ran(lean, "percall", "--version").startswith("percall ")
    done = subprocess.run(["percall-broker", "serve"], env=lean, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "uv tool install '.[broker]'" in done.stderr


@pytest.mark.parametrize(
    ("program", "typing", "expected"),
    [("percall", "lo", {"login", "log"}), ("percall-broker", "rec", {"recipe"})],
)
def test_bash_completes_commands(environment: dict[str, str], program: str, typing: str, expected: set[str]) -> None:
    function = f"_{program.replace('-', '_')}_completion"
    script = f"""
      eval "$({program} --show-completion bash)"
      COMP_WORDS=({program} {typing}); COMP_CWORD=1; {function} {program}
      printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    told = set(ran(environment, "bash", "-c", script).split())
    assert expected <= told
    assert all(word.startswith(typing) for word in told)


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_zsh_and_fish_are_told_the_commands_as_they_ask(environment: dict[str, str], shell: str) -> None:
    asking = {"_TYPER_COMPLETE_ARGS": "percall lo", "_TYPER_COMPLETE_FISH_ACTION": "get-args"}
    told = ran(environment, "percall", **asking, _PERCALL_COMPLETE=f"complete_{shell}")
    assert re.search(r"\blogin\b", told)
    assert re.search(r"\blog\b", told)
    assert "trust" not in told


def steps() -> list[list[str]]:
    """The tutorial's commands, in order, each as its words."""
    blocks = re.findall(r"```console\n(.*?)```", TUTORIAL, re.DOTALL)
    return [shlex.split(line[2:]) for block in blocks for line in block.splitlines() if line.startswith("$ ")]


class Follower:
    """Somebody who does what the tutorial says: types its commands, and fills in what they printed before."""

    def __init__(self, environment: dict[str, str], github: str) -> None:
        self.environment = environment
        self.github = github
        self.invite = self.grant = ""
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = str(free.getsockname()[1])
        self.has_keyring = bool(os.environ.get("PERCALL_TEST_KEYRING"))
        if self.has_keyring:
            environment["DBUS_SESSION_BUS_ADDRESS"] = os.environ["DBUS_SESSION_BUS_ADDRESS"]

    def filled_in(self, words: list[str]) -> list[str]:
        known = {"8711": self.port, "CODE": self.invite, "GRANT": self.grant}
        for said, meant in known.items():
            words = [word.replace(said, meant) for word in words]
        return words

    def type(self, words: list[str]) -> str:
        command = self.filled_in(words)
        if command[1] == "login" and not self.has_keyring:
            command += ["--keyring", "file"]  # as it says for a machine without
            file = Path(self.environment["HOME"]) / "passphrase"
            file.touch(0o600)
            file.write_text("for the keyring file\n")
            self.environment["PERCALL_PASSPHRASE_FILE"] = str(file)
        if command[1] == "server":
            command += ["--connect", f"https://api.github.com={self.github}"]
        program = shutil.which(command[0], path=self.environment["PATH"])
        told, code = at_a_terminal(str(program), command[1:], self.environment, self._answers(command))
        assert code == 0, f"{command}: {told}"
        if invited := re.search(r"--invite\s+(\S+)|^\s+([A-Za-z0-9_-]{20,})\s*$", told, re.MULTILINE):
            self.invite = invited[1] or invited[2]
        if command[1:3] == ["grant", "list"]:
            self.grant = next(line.split()[0] for line in told.splitlines() if "alice" in line)
        return told

    def _answers(self, command: list[str]) -> list[str]:
        if command[1] == "login":
            return [""] if "--agent" in command else [PASSPHRASE, PASSPHRASE]
        if command[1] == "server":
            return [CANARY, PASSPHRASE]
        return [PASSPHRASE] if command[1:3] in (["grant", "create"], ["grant", "revoke"]) else []


@pytest.mark.node
def test_the_tutorial_is_followed_to_its_end(environment: dict[str, str]) -> None:
    """Word for word, but for the port, the codes that it prints, and GitHub, which is stood in for on loopback."""
    server = program_of("github", node_packages())
    work = steps()
    assert work.pop(0) == ["uv", "tool", "install", ".[broker]"]
    with ExitStack() as stack:
        github = stack.enter_context(Upstream(CANARY))
        github.answers["/search/repositories"] = {"total_count": 1, "incomplete_results": False, "items": []}
        follower = Follower(environment, github.url)
        follower.type(work.pop(0))
        serving = follower.filled_in(work.pop(0))
        broker = stack.enter_context(subprocess.Popen(serving, env=environment, stdout=-1, stderr=-1))
        stack.callback(broker.terminate)
        said, _ = Line(broker.stdout), Line(broker.stderr)
        said.until(b"listening on")
        while "--agent" not in work[0]:
            follower.type(work.pop(0))
        follower.type(work.pop(0))
        follower.type(work.pop(0))
        written = json.loads((Path(environment["HOME"]) / ".claude.json").read_text())["mcpServers"]["github"]
        config = json.loads(re.findall(r"```json\n(.*?)```", TUTORIAL, re.DOTALL)[0])["mcpServers"]["github"]
        assert written["args"] == config["args"]
        client = Client([config["command"], *config["args"], "--", *server], environment)
        with client:
            client.initialize()
            assert client.call("search_repositories", {"query": "x"}).get("isError") is not True
            assert any(path.startswith("GET /search/repositories") for path in github.with_real_key())
            assert "search_repositories" in follower.type(work.pop(0))
            while work:
                follower.type(work.pop(0))
            assert "grant is revoked" in str(client.call("search_repositories", {"query": "x"}))
