"""The ways to reach the echo server that `make bench` compares: the competitors in environments of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import venv
from pathlib import Path
from typing import TYPE_CHECKING

from driver import Candidate

if TYPE_CHECKING:
    from contextlib import ExitStack

    from harness.processes import Laptop

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
PLAIN = {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/"), "LANG": "C.UTF-8"}
ECHO = [sys.executable, str(HERE / "echo_stdio.py")]


def installed(package: str) -> Path:
    """A competitor's commands, in an environment of its own, from a lock of hashes."""
    folder, lock = ROOT / ".cache" / package, ROOT / "requirements" / f"{package}.txt"
    ready = folder / ".ready"
    if not ready.exists() or ready.read_text() != lock.read_text():
        venv.create(folder, with_pip=True, clear=True)
        pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, "--require-hashes", "-r", str(lock)], check=True, stderr=subprocess.DEVNULL)
        ready.write_text(lock.read_text())
    return folder / "bin"


def echo_entry(command: list[str], ways: str = "") -> str:
    """An entry for the echo server: without a key, or with one and a way in."""
    delivery = "egress" if ways else "none"
    egress = f"""
[server.environment]
API_KEY = "{{key}}"
[key]
placeholder = "test_{{random:24}}"
[[key.slot]]
header = "Authorization"
format = "Bearer {{key}}"
[egress]
ways = ["{ways}"]
hosts = ["api.example.com"]
"""
    return f"""
[server]
title = "Echo"
delivery = "{delivery}"
attribution = "shared"
command = {json.dumps(command)}
{egress if ways else ""}"""


def aegis(folder: Path) -> Candidate:
    """Decides by a policy file, and writes a row (SQLite, WAL, one fdatasync a call), all in its own process."""
    home = folder / "aegis"
    policy = home / ".config" / "aegis" / "policy.json"
    policy.parent.mkdir(parents=True)
    (home / "work").mkdir()
    rules = {"version": 1, "workspace_roots": [str(home / "work")], "deny_paths": [], "allowed_domains": []}
    policy.write_text(json.dumps({**rules, "sandbox_domains": [], "tool_rules": {"echo": {"effect": "allow"}}}))
    policy.chmod(0o600)
    command = [str(installed("aegis-sandbox") / "aegis"), "proxy", "--", *ECHO]
    return Candidate("aegis-sandbox", command, {**PLAIN, "HOME": str(home)})


def bare(folder: Path, stack: ExitStack) -> Candidate:
    """Two processes and a durable row, as far from each other as shim and broker, and nothing else: the floor."""
    script = str(HERE / "bare.py")
    command = [sys.executable, script, "broker", str(folder / "bare.sqlite3")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    stack.callback(process.wait)
    stack.callback(process.terminate)
    assert process.stdout is not None
    return Candidate(
        "bare processes", [sys.executable, script, "shim", process.stdout.readline().strip(), *ECHO], PLAIN
    )


def echo_over_http(stack: ExitStack) -> str:
    """The URL of the same echo server over streamable HTTP."""
    process = subprocess.Popen([sys.executable, str(HERE / "echo_http.py")], stdout=subprocess.PIPE, text=True)
    stack.callback(process.wait)
    stack.callback(process.terminate)
    assert process.stdout is not None
    return process.stdout.readline().strip()


def mcp_proxy(url: str) -> Candidate:
    """Bridges stdio to the URL, and authorises nothing: compared with a client that speaks HTTP itself."""
    command = [str(installed("mcp-proxy") / "mcp-proxy"), "--transport", "streamablehttp", url]
    return Candidate("mcp-proxy", command, PLAIN, base="HTTP, direct")


def percall(laptop: Laptop, server: str, name: str) -> Candidate:
    """`percall run` as a person of a broker's."""
    return Candidate(name, [str(Path(sys.executable).parent / "percall"), "run", server], laptop.environment)
