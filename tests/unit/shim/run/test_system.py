"""What differs between operating systems has one interface; its Windows half is tried here on POSIX."""

from __future__ import annotations

import errno
import os
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from harness.processes import Client
from percall import system
from percall.system import posix, windows

if TYPE_CHECKING:
    from unit.shim.run.conftest import Laptop
    from unit.shim.run.small_broker import SmallBroker

AS_ON_WINDOWS = Path(__file__).with_name("as_on_windows.py")


def client_of(laptop: Laptop) -> Client:
    return Client([sys.executable, str(AS_ON_WINDOWS), "run", "child"], laptop.environment)


def read_all(descriptor: int) -> bytes:
    """All that a non-blocking descriptor gives until its other end closes."""
    poll, data = windows.Poll(), b""
    poll.register(descriptor, windows.READ)
    while poll.poll(10_000):
        piece = windows.read(descriptor, 65536)
        if not piece:
            return data
        data += piece
    raise AssertionError("nothing came")


def test_both_halves_have_the_whole_interface() -> None:
    for name in system.__all__:
        assert hasattr(posix, name)
        assert hasattr(windows, name)
    for name in ("terminate", "kill", "close_stdin", "reap", "release"):
        assert callable(getattr(posix.Process, name))
        assert callable(getattr(windows.Process, name))


FORK = """
import os, sys
from percall import system
def work():
    assert sys.stdin.read() == "", "the client's words are not for it"
    print("an answer", flush=True)
    print("a complaint", file=sys.stderr, flush=True)
    raise {error}
fork = system.forked(work)
print("from the fork:", fork.stdout.readall().decode(), end="")
fork.kill()
fork.wait()
print("and on")
"""


@pytest.mark.skipif(sys.platform == "darwin", reason="no forks there")
@pytest.mark.parametrize("error", ["ValueError", "KeyboardInterrupt", "SystemExit(0)"])
def test_a_fork_has_its_pipe_alone_and_never_comes_back_into_what_forked(error: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FORK.format(error=error)],
        input="a frame\n",
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert (done.stdout, done.stderr) == ("from the fork: an answer\nand on\n", "")


def test_nothing_that_only_posix_has_is_imported_where_a_command_starts() -> None:
    """Every module of the laptop can be imported where these are missing; `system.posix` alone may want them."""
    script = """
import importlib, os, pkgutil, select, signal, sys
sys.platform = "win32"
for module in ("fcntl", "termios", "pwd", "grp", "resource"):
    sys.modules[module] = None
for holder, names in ((os, ("posix_spawn", "killpg", "getuid", "geteuid", "waitpid", "WNOHANG")),
                      (select, ("poll", "epoll", "POLLIN", "POLLOUT")),
                      (signal, ("SIGHUP", "SIGCHLD", "SIGPIPE", "SIGXFSZ", "SIGKILL"))):
    for name in names:
        delattr(holder, name)
import percall
for found in pkgutil.walk_packages(percall.__path__, "percall."):
    if found.name not in {"percall.__main__", "percall.system.posix", "percall.system.windows_job"}:
        importlib.import_module(found.name)
from percall import system
print(system.Process.__module__)
"""
    # What our libraries do on Windows is theirs: they are loaded before, as on the system that we are on.
    libraries = "asyncio getpass httpx keyring.backends.fail nacl.secret ruamel.yaml subprocess tomlkit typer uuid"
    before = "".join(f"import {library}\n" for library in libraries.split())
    done = subprocess.run([sys.executable, "-c", before + script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "percall.system.windows"


def test_a_poll_of_sockets_tells_who_can_be_read_and_written() -> None:
    near, far = socket.socketpair()
    with near, far:
        poll = windows.Poll()
        poll.register(near.fileno(), windows.READ | windows.WRITE)
        assert poll.poll(0) == [(near.fileno(), windows.WRITE)]
        far.send(b"x")
        assert poll.poll(1000) == [(near.fileno(), windows.READ | windows.WRITE)]
        poll.register(near.fileno(), windows.READ)
        assert poll.poll(0) == [(near.fileno(), windows.READ)]
        poll.unregister(near.fileno())
        assert poll.poll(0) == []


def test_a_child_hears_speaks_and_ends() -> None:
    told = threading.Event()

    class Soon:
        def call_soon(self, _callback: object) -> None:
            told.set()

    windows.on_child_end(Soon(), lambda: None)  # type: ignore[arg-type]
    try:
        child = windows.Process("/bin/sh", ["sh", "-c", "cat; echo done >&2; exit 3"], {"PATH": "/bin"})
        large = os.urandom(300_000)
        sender = threading.Thread(target=lambda: send_all(child.stdin, large))
        sender.start()
        received = b""
        poll = windows.Poll()
        poll.register(child.stdout, windows.READ)
        while len(received) < len(large):
            assert poll.poll(10_000)
            received += windows.read(child.stdout, 65536)
        sender.join()
        child.close_stdin()
        assert received == large
        assert read_all(child.stderr) == b"done\n"
        assert told.wait(10)
        assert child.reap()
        assert child.status == 3
        child.release()
    finally:
        windows._ended.clear()


def send_all(descriptor: int, data: bytes) -> None:
    poll = windows.Poll()
    poll.register(descriptor, windows.WRITE)
    view = memoryview(data)
    while view:
        poll.poll(10_000)
        view = view[windows.write(descriptor, view[:10_000]) :]


@pytest.mark.skipif(sys.platform == "win32", reason="no signal there tells of a child's end")
def test_a_process_whose_client_ignores_its_childrens_ends_waits_for_its_own() -> None:
    """A client may have SIGCHLD ignored, and whoever it starts inherits that."""
    script = (
        "import signal, sys\n"
        "signal.signal(signal.SIGCHLD, signal.SIG_IGN)\n"
        "from percall import system\n"
        "fork = system.forked(lambda: print('done', flush=True) or 0)\n"
        "if fork:\n    said = fork.stdout.read()\n    fork.wait()\n    print(said.decode(), end='')\n"
        "else:\n    print('done')\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "done\n", "")


def test_a_child_that_does_not_end_is_killed() -> None:
    child = windows.Process("/bin/sh", ["sh", "-c", "exec sleep 600"], {"PATH": "/bin:/usr/bin"})
    assert not child.reap()
    child.release()
    assert child.reap()


def test_a_program_that_cannot_be_started_is_an_error_of_the_systems() -> None:
    with pytest.raises(OSError, match="No such file"):
        windows.Process("/nonexistent/program", ["program"], {})
    assert windows.find("no-such-program", "/usr/bin:/bin") == (None, "/usr/bin, /bin")
    assert windows.find("sh", "relative:/bin")[0] == "/bin/sh"


def test_a_child_that_nobody_would_watch_over_is_not_left_running(monkeypatch: pytest.MonkeyPatch) -> None:
    spawn, started, open_before = os.posix_spawn, [], len(list(Path("/dev/fd").iterdir()))

    def only_the_child(program: str, *arguments: Any, **more: Any) -> int:
        if program == "/bin/sh":
            raise BlockingIOError(errno.EAGAIN, "no more processes")
        started.append(spawn(program, *arguments, **more))
        return started[0]

    monkeypatch.setattr(os, "posix_spawn", only_the_child)
    with pytest.raises(BlockingIOError):
        posix.Process("/bin/sleep", ["sleep", "60"], {})
    with pytest.raises(ProcessLookupError):
        os.kill(started[0], 0)
    assert len(list(Path("/dev/fd").iterdir())) == open_before


def test_a_whole_session_runs_over_carried_streams(laptop: Laptop, broker: SmallBroker) -> None:
    line = b'{"jsonrpc":"2.0", "id":"x-1","method":"resources/read","params":{"uri":"a:b","n":1.50}}'
    with client_of(laptop) as client:
        assert client.initialize()["result"]["serverInfo"]["name"] == "child"
        assert [tool["name"] for tool in client.request("tools/list")["result"]["tools"]] == ["echo"]
        client.send_bytes(line)
        assert client.receive("x-1")["result"]["line"] == line.decode() + "\n"
        assert client.request("ping")["result"]["line"]
        assert client.close() == 0
    assert [call["frame"] for call in broker.calls] == [line]


@pytest.mark.parametrize("half", ["posix", "windows"])
def test_a_child_that_ends_at_once_ends_the_session_with_its_last_words(laptop: Laptop, half: str) -> None:
    laptop.with_entry(command=("/bin/sh", "-c", "echo last words >&2; exit 5"))
    with client_of(laptop) if half == "windows" else laptop.client() as client:
        assert client.close() != 0
        assert b"last words" in b"".join(client.stderr.text)
