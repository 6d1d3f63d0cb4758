"""The key never reaches the laptop: not its files, environments, arguments, memory, frames or logs."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

from harness.processes import COMMANDS, Broker, Client, command
from harness.upstream import CANARY

if TYPE_CHECKING:
    from harness.upstream import Upstream

linux_only = pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="reads /proc/PID/mem")


def memory_of(pid: int) -> bytes:
    """Every readable private or anonymous mapping of a process."""
    found = bytearray()
    maps = Path(f"/proc/{pid}/maps").read_text()
    with Path(f"/proc/{pid}/mem").open("rb", buffering=0) as memory:
        for start, end, rights in re.findall(r"^([0-9a-f]+)-([0-9a-f]+) (\S+)", maps, re.MULTILINE):
            if rights.startswith("r") and int(end, 16) < 1 << 47:
                try:
                    memory.seek(int(start, 16))
                    found += memory.read(int(end, 16) - int(start, 16))
                except OSError:
                    continue
    return bytes(found)


@linux_only
def test_the_canary_key_is_nowhere_on_the_laptops_side(broker: Broker, upstream: Upstream, person: str) -> None:
    laptop = broker.enrol(person, "keyed")
    with laptop.client("keyed") as client:
        client.initialize()
        assert client.call_text("get_item", {"id": 77}).startswith("200 ")
        assert client.call_text("get_reflection").startswith("200 ")
        assert "GET /items/77" in upstream.with_real_key()
        needle = CANARY.encode()
        shim = psutil.Process(client.process.pid)
        processes = [shim, *shim.children(recursive=True)]
        assert len(processes) >= 2
        if os.geteuid() != 0:  # what this test must search, only root can
            processes.remove(shim)
        for process in processes:
            pid = process.pid
            memory = memory_of(pid)
            assert b"PATH" in memory or b"/bin/sh" in memory, "the search itself must see the process"
            assert needle not in memory, process.cmdline()
            assert needle not in Path(f"/proc/{pid}/environ").read_bytes()
            assert needle not in Path(f"/proc/{pid}/cmdline").read_bytes()
    assert needle not in b"".join(client.stdout.text) + b"".join(client.stderr.text)
    files = [path for path in laptop.home.rglob("*") if path.is_file()]
    assert files
    assert not [path for path in files if needle in path.read_bytes()]


LOOK = """
import sys
for name in ("environ", "mem"):
    try:
        open(f"/proc/{sys.argv[1]}/{name}", "rb")
        print(name)
    except PermissionError:
        pass
"""


@pytest.fixture
def may() -> list[str]:
    """What a command begins with that has no more rights than its user's."""
    if not os.geteuid() and shutil.which("setpriv") is None:
        pytest.skip("root may look into everything, and setpriv, which could take that from it, is missing")
    return [] if os.geteuid() else ["setpriv", "--bounding-set=-all"]


def open_to_others(may: list[str], process: int) -> list[str]:
    """Which of a process's environment and memory another one may open."""
    command = [*may, sys.executable, "-c", LOOK, str(process)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()


@linux_only
def test_no_other_process_of_the_same_user_looks_into_the_shim(broker: Broker, person: str, may: list[str]) -> None:
    laptop = broker.enrol(person, "keyed")
    with Client([*may, str(COMMANDS / "percall"), "run", "keyed"], laptop.environment) as client:
        client.initialize()
        assert client.call_text("get_item", {"id": 1}).startswith("200 "), "by now the shim holds its key"
        shim = psutil.Process(client.process.pid)
        (child,) = (one for one in shim.children() if "keyed.py" in " ".join(one.cmdline()))
        assert open_to_others(may, child.pid) == ["environ", "mem"], "the test itself must be able to look"
        assert open_to_others(may, shim.pid) == []


@linux_only
def test_no_other_process_of_the_same_user_looks_into_the_broker(tmp_path: Path, may: list[str]) -> None:
    broker = Broker(tmp_path)
    command("percall-broker", "init", "--administrator", "root", environment=broker.environment)
    serve = [*may, str(COMMANDS / "percall-broker"), "serve", "--listen", "127.0.0.1:0"]
    with subprocess.Popen(serve, stdout=subprocess.PIPE, env=broker.environment) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith(b"listening on ")
        found = open_to_others(may, process.pid)
        process.terminate()
    assert found == []


@linux_only
def test_the_broker_leaves_no_core(tmp_path: Path) -> None:
    environment = Broker(tmp_path).environment
    command("percall-broker", "init", environment=environment)

    def aborted(*program: str) -> int:
        """How a process ends that may leave a core as large as it likes, and is told to abort once it runs."""
        shell = ["sh", "-c", 'ulimit -c unlimited; exec "$@"', "sh", *program]
        with subprocess.Popen(shell, stdout=subprocess.PIPE, env=environment, cwd=tmp_path) as process:
            assert process.stdout is not None
            assert process.stdout.readline()
            process.send_signal(signal.SIGABRT)
            ended = os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
            assert ended is not None
            return ended.si_code

    if aborted("sh", "-c", "echo; exec sleep 60") != os.CLD_DUMPED:
        pytest.skip("nothing leaves a core here")
    assert aborted(str(COMMANDS / "percall-broker"), "serve", "--listen", "127.0.0.1:0") == os.CLD_KILLED


@linux_only
def test_the_canary_key_is_in_clear_in_no_file_of_the_broker_either(broker: Broker) -> None:
    files = [path for path in (broker.folder / "broker").rglob("*") if path.is_file()]
    assert files
    assert not [path for path in files if CANARY.encode() in path.read_bytes()]
    said = b"".join(broker.stdout.text) + b"".join(broker.stderr.text)
    assert CANARY.encode() not in said


def test_nobody_reads_a_secret_back(broker: Broker) -> None:
    for arguments in (["server", "show", "keyed"], ["server", "list"], ["log", "list"]):
        done = broker.administrator.administer(*arguments, "--json")
        assert CANARY not in done.stdout + done.stderr
