"""How-tos for the laptop's side: their very commands, read from the pages and run."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from harness.processes import COMMANDS, Client, Laptop, keyed_entry
from harness.terminal import at_a_terminal
from harness.upstream import CANARY
from percall.identity import kernel_keyring

if TYPE_CHECKING:
    from harness.processes import Broker
    from harness.upstream import Upstream

PAGES = Path(__file__).parents[2] / "docs" / "how-to"
PASSPHRASE = "typed once a day"
WITHOUT_KEYRING = """
import ctypes, os, struct, sys
# As Docker's usual profile does: add_key and keyctl answer EPERM (seccomp(2)).
numbers = (248, 250) if os.uname().machine == "x86_64" else (217, 219)
refuse, allow = (0x06, 0, 0, 0x50001), (0x06, 0, 0, 0x7FFF0000)
code = [(0x20, 0, 0, 0), (0x15, 1, 0, numbers[0]), (0x15, 0, 1, numbers[1]), refuse, allow]
program = b"".join(struct.pack("=HBBI", *line) for line in code)
held = ctypes.create_string_buffer(program)
class Filter(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("program", ctypes.c_void_p)]
libc = ctypes.CDLL(None, use_errno=True)
assert libc.prctl(38, 1, 0, 0, 0) == 0
assert libc.prctl(22, 2, ctypes.byref(Filter(len(code), ctypes.addressof(held))), 0, 0) == 0
os.execv(sys.argv[1], sys.argv[1:])
"""


def blocks(page: str, language: str) -> list[str]:
    text = (PAGES / f"{page}.md").read_text(encoding="utf-8")
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def commands(page: str) -> list[str]:
    """What stands behind a prompt."""
    return [line[2:] for block in blocks(page, "console") for line in block.splitlines() if line.startswith("$ ")]


def invite(broker: Broker, person: str) -> str:
    scope = ("--server", "keyed", "--tools", "get_*", "--expires", "1h", "--json")
    return str(json.loads(broker.administrator.administer("grant", "create", person, *scope).stdout)["invite"])


def filled(command: str, broker: Broker, code: str) -> list[str]:
    return shlex.split(command.replace("https://percall.example.com", broker.url).replace("CODE", code))


def shell(script: str, environment: dict[str, str]) -> str:
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def answer(environment: dict[str, str]) -> str:
    """What a call through `percall run`, as a client starts it, comes to."""
    with Client([str(COMMANDS / "percall"), "run", "keyed"], environment) as client:
        client.initialize()
        return client.call_text("get_item")


@pytest.mark.skipif(not kernel_keyring.is_there(), reason="no kernel keyring here")
def test_the_page_on_ssh_has_calls_work_where_nobody_is_at_the_machine(
    broker: Broker, person: str, tmp_path: Path
) -> None:
    """All but `ssh` itself; WSL's page has the same commands."""
    environment = {name: v for name, v in Laptop(tmp_path).environment.items() if name != "PERCALL_PASSPHRASE_FILE"}
    typed = {"login": [PASSPHRASE, PASSPHRASE, ""], "unlock": [PASSPHRASE]}
    code = invite(broker, person)
    there = commands("ssh")
    assert there.pop(0) == "ssh devbox"
    assert set(commands("wsl")) < set(there)
    worked = []
    for command in there:
        name, verb, *rest = filled(command, broker, code)
        said, ended = at_a_terminal(name, [verb, *rest], environment, typed.get(verb, []))
        assert ended == 0, said
        assert ("New passphrase of the Percall keyring file: " in said) == (verb == "login"), said
        worked.append((verb, answer(environment)))
    assert [(verb, text[:4] == "200 ") for verb, text in worked] == [
        ("login", False),
        ("unlock", True),
        ("status", True),
        ("lock", False),
    ]
    assert all("percall unlock" in text for _, text in worked if not text.startswith("200 "))


def test_the_page_on_dev_containers_has_calls_work_inside_until_the_device_is_revoked(
    broker: Broker, person: str, tmp_path: Path
) -> None:
    environment = {**Laptop(tmp_path).environment, "HOME": str(tmp_path)}
    on_the_host = [command for command in commands("dev-container") if not command.startswith("percall ")]
    assert shell("\n".join(on_the_host), environment) == ""
    (config,) = blocks("dev-container", "json")
    settings = json.loads(config)
    (mounted,) = [mount for mount in settings["mounts"] if "passphrase" in mount]
    source = re.fullmatch(r"source=\$\{localEnv:HOME\}/(.*),target=(.*),type=bind,readonly", mounted)
    assert source is not None
    assert settings["containerEnv"]["PERCALL_PASSPHRASE_FILE"] == source[2]
    inside = {
        **environment,
        "PERCALL_HOME": str(tmp_path / "volume"),
        "PERCALL_PASSPHRASE_FILE": str(tmp_path / source[1]),
    }
    code = invite(broker, person)
    for command in commands("dev-container"):
        if command.startswith("percall "):
            shell(shlex.join(filled(command, broker, code)), inside)
    assert answer(inside).startswith("200 ")
    assert "my-project-container" in broker.administrator.administer("device", "list", "--person", person).stdout

    program = [sys.executable, "-c", WITHOUT_KEYRING, str(COMMANDS / "percall")]
    done = subprocess.run([*program, "unlock"], env=inside, capture_output=True, text=True, check=False)
    assert done.returncode == 3, done.stderr
    assert "unlock.unavailable" in done.stderr
    assert "PERCALL_PASSPHRASE_FILE" in done.stderr
    assert broker.administrator.administer("device", "revoke", "my-project-container").returncode == 0
    assert "revoked" in answer(inside)


def test_the_page_on_servers_in_clients_puts_one_in_and_takes_it_out(
    broker: Broker, upstream: Upstream, person: str, tmp_path: Path
) -> None:
    entry = keyed_entry(upstream.url) + '[probe]\ntool = "get_item"\narguments = "{}"\n'
    broker.add_server("github", entry, CANARY)
    laptop, project = broker.enrol(person, "github"), tmp_path / "project"
    project.mkdir()
    said: dict[str, str] = {}
    for line in commands("servers-in-clients"):
        said[line] = shell(f"cd {shlex.quote(str(project))}; {line}", laptop.environment)
        if line.endswith("--project ."):
            shared = json.loads((project / ".cursor" / "mcp.json").read_text())["mcpServers"]
            assert shared == ({} if "remove" in line else {"github": {"command": "percall", "args": ["run", "github"]}})
    catalog, added, _, doctor, probed, _, removed = said.values()
    assert "github  default  shared  -" in catalog
    assert "It runs as the agent default: Claude Code has no grant of its own (--agent claude-code)." in added
    assert "Claude Code github: It starts, and shows 12 tools." in doctor
    assert "get_item answered" in probed
    assert "github: removed." in removed
    assert json.loads((laptop.home / ".claude.json").read_text())["mcpServers"] == {}


def test_the_page_on_ci_gives_each_job_a_grant_that_ends_with_it_and_administers_nothing(
    broker: Broker, person: str, tmp_path: Path
) -> None:
    (invited,) = commands("ci")
    said = shell(invited, {**broker.environment, "PATH": f"{COMMANDS}:{os.environ['PATH']}"})
    (code,) = re.findall(r"^  (\S+)$", said, re.MULTILINE)
    runner = {name: v for name, v in Laptop(tmp_path).environment.items() if not name.startswith("PERCALL")}
    runner |= {"BROKER_URL": broker.url, "JOB_ID": person, "HOSTNAME": "runner-7", "TMPDIR": str(tmp_path)}
    folder = tmp_path / "ci"
    once, before, in_the_job, after = (
        block.replace("/var/lib/ci", str(folder)).replace("github", "keyed") for block in blocks("ci", "sh")
    )
    shell(once, {**runner, "CODE": code})
    automation = {
        **runner,
        "PERCALL_HOME": str(folder / "percall"),
        "PERCALL_PASSPHRASE_FILE": str(folder / "passphrase"),
    }
    handed = shell(before, automation).strip()
    where = shell(f'{in_the_job}\necho "$PERCALL_HOME"', {**runner, "PERCALL_INVITE": handed}).splitlines()[-1]
    job = {**runner, "PERCALL_HOME": where, "PERCALL_PASSPHRASE_FILE": f"{where}/passphrase"}
    assert answer(job).startswith("200 ")
    refused = subprocess.run(
        [COMMANDS / "percall-broker", "person", "list"], env=job, capture_output=True, text=True, check=False
    )
    assert refused.returncode == 6, "the job administers nothing"
    shell(after, automation)
    assert "removed" in answer(job)
    assert {row["person"] for row in broker.log(person=f"job-{person}")} == {f"job-{person}"}
