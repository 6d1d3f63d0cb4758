"""Our two commands in forks of an interpreter that has loaded them: processes of their own, without a start each time.

Most of what a command takes is Python's start, its imports and the making of the command tree, and the tests run some
thousand commands and some hundred brokers. What depends on the start itself is not for this: the tests of an
installation, of what the documents and the examples show, and of the shim start the real commands.
"""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import functools
import gc
import importlib
import json
import os
import select
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import termios
import threading
import traceback
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import percall.__main__
import percall.broker_command
import percall_broker.store.statements

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

_OF_THE_START = ("LD_", "LC_", "PYTHON")
"""Variables that an interpreter heeds only when it starts."""
_OF_COMMANDS = (
    "percall.cli",
    "percall_broker.cli",
    "percall_broker.settings",
    "percall.own_memory",
    "typer._adapters",
    "httpcore",
    "certifi",
)
"""What most commands import, also where they do so late."""
_OF_SERVE = ("percall_broker.app", "uvloop")
_MOST_BYTES = 1024 * 1024
_PATIENCE_SECONDS = 60


def can_run(arguments: Sequence[str], environment: Mapping[str, str]) -> bool:
    """Whether a fork is as good as a start. On macOS none is: its frameworks do not survive one."""
    if sys.platform != "linux" or list(arguments[:1]) == ["run"]:
        return False
    return not any(name.startswith(_OF_THE_START) for name in environment)


class Forked:
    """A process that was forked, as `subprocess.Popen` shows one that was started."""

    def __init__(self, pid: int, handle: int, ended: int) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self.stdout: IO[bytes] | None = None
        self.stderr: IO[bytes] | None = None
        self._handle = handle  # which never means another process, as its number may once it is over
        self._ended = ended  # says its exit code

    def poll(self) -> int | None:
        """Its exit code; None while it runs."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            return self.wait(0)
        return None

    def wait(self, timeout: float | None = None) -> int:
        """Its exit code, when it has ended. Raises TimeoutExpired."""
        if self.returncode is None:
            if not select.select([self._ended], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired(str(self.pid), timeout or 0)
            self.returncode = int(json.loads(os.read(self._ended, 100)))
            os.close(self._ended)
            os.close(self._handle)
        return self.returncode

    def send_signal(self, number: signal.Signals) -> None:
        """Sends it a signal, unless it has ended."""
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._handle, number)


class Forking:
    """The interpreter that forks."""

    def __init__(self) -> None:
        self._ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._ours.settimeout(_PATIENCE_SECONDS)
        self._turn = threading.Lock()
        with theirs:
            command = [sys.executable, __file__, str(theirs.fileno())]
            environment = {"PATH": os.defpath, "LANG": "C.UTF-8"}
            self._process = subprocess.Popen(command, env=environment, pass_fds=[theirs.fileno()])
        atexit.register(self._close)

    def _close(self) -> None:
        self._ours.close()
        self._process.wait()

    def run(
        self, program: Path, arguments: Sequence[str], environment: Mapping[str, str], stdin: str
    ) -> subprocess.CompletedProcess[str]:
        """As `subprocess.run`, with what was said as text."""
        with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
            given.write(stdin.encode())
            given.seek(0)
            descriptors = [file.fileno() for file in (given, output, errors)]
            code = self.fork(program, arguments, environment, descriptors).wait(_PATIENCE_SECONDS)
            output.seek(0)
            errors.seek(0)
            argv = [str(program), *arguments]
            return subprocess.CompletedProcess(argv, code, output.read().decode(), errors.read().decode())

    def start(self, program: Path, arguments: Sequence[str], environment: Mapping[str, str]) -> Forked:
        """As `subprocess.Popen`, with what it says in pipes."""
        (output, theirs), (errors, theirs_too) = os.pipe(), os.pipe()
        with Path(os.devnull).open("rb") as nothing:
            forked = self.fork(program, arguments, environment, [nothing.fileno(), theirs, theirs_too])
        for descriptor in (theirs, theirs_too):
            os.close(descriptor)
        forked.stdout, forked.stderr = os.fdopen(output, "rb"), os.fdopen(errors, "rb")
        return forked

    def fork(
        self, program: Path, arguments: Sequence[str], environment: Mapping[str, str], standard: Sequence[int]
    ) -> Forked:
        """One with these as standard input, output and error; an output that is a terminal is its controlling one."""
        asked = {"argv": [str(program), *arguments], "environment": dict(environment), "folder": str(Path.cwd())}
        ended, tells = os.pipe()
        try:
            with self._turn:
                socket.send_fds(self._ours, [json.dumps(asked).encode()], [*standard, tells])
                data, handles, _, _ = socket.recv_fds(self._ours, _MOST_BYTES, 1)
        finally:
            os.close(tells)
        return Forked(json.loads(data), handles[0], ended)


@functools.cache
def forking() -> Forking:
    """The one of this process."""
    return Forking()


# --- in the interpreter that forks ------------------------------------------------------------------------------------


def _serve(connection: socket.socket) -> None:
    mains = _loaded()
    selector = selectors.DefaultSelector()
    selector.register(connection, selectors.EVENT_READ)
    while True:
        for key, _ in selector.select():
            if key.data is not None:
                selector.unregister(key.fd)
                os.close(key.fd)
                _tell_the_end(*key.data)
            elif not _fork(connection, selector, mains):
                return


def _fork(
    connection: socket.socket, selector: selectors.BaseSelector, mains: Mapping[str, Callable[[], object]]
) -> bool:
    """Forks as it is asked; False: nobody is there who asks, nor for those that were forked."""
    data, descriptors, _, _ = socket.recv_fds(connection, _MOST_BYTES, 4)
    others = [key for key in selector.get_map().values() if key.data is not None]
    if not data:
        for other in others:
            os.kill(other.data[0], signal.SIGKILL)
        return False
    asked = json.loads(data)
    if asked["argv"][1:2] == ["serve"]:
        for module in _OF_SERVE:  # only here, since most tests need no more than commands
            importlib.import_module(module)
        percall_broker.store.statements.load("sqlite")
        gc.freeze()
    assert threading.active_count() == 1, "a fork would lose a thread"
    *standard, tells = descriptors
    child = os.fork()
    if child == 0:
        connection.close()
        selector.close()
        for descriptor in (tells, *(other.fd for other in others), *(other.data[1] for other in others)):
            os.close(descriptor)
        _become(asked, standard, mains)
    for descriptor in standard:
        os.close(descriptor)
    handle = os.pidfd_open(child)
    socket.send_fds(connection, [json.dumps(child).encode()], [handle])
    selector.register(handle, selectors.EVENT_READ, (child, tells))
    return True


def _tell_the_end(child: int, tells: int) -> None:
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    with contextlib.suppress(BrokenPipeError):  # nobody waits for it any more
        os.write(tells, json.dumps(code).encode())
    os.close(tells)


def _loaded() -> Mapping[str, Callable[[], object]]:
    """The two commands' entry points, with what most of their commands import."""
    for module in _OF_COMMANDS:
        importlib.import_module(module)
    gc.freeze()  # so that no child looks through it all for garbage, and has to copy it
    return {"percall": percall.__main__.main, "percall-broker": percall.broker_command.main}


def _become(asked: Mapping[str, Any], standard: Sequence[int], mains: Mapping[str, Callable[[], object]]) -> None:
    code: object = 1
    try:
        os.setsid()  # without the terminal that the tests are run at
        for number, descriptor in enumerate(standard):
            os.dup2(descriptor, number)
            os.close(descriptor)
        if os.isatty(1):
            fcntl.ioctl(1, termios.TIOCSCTTY, 0)
        sys.stdin, sys.stdout = open(0), open(1, "w")  # noqa: SIM115 - as they start
        sys.stderr = open(2, "w", buffering=1, errors="backslashreplace")  # noqa: SIM115 - as it starts
        os.chdir(asked["folder"])
        os.environ.clear()
        os.environ.update(asked["environment"])
        sys.argv = asked["argv"]
        code = mains[Path(sys.argv[0]).name]()
    except SystemExit as ended:
        code = ended.code
    except BaseException:  # noqa: BLE001 - a process's outermost edge
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code if isinstance(code, int) else int(code is not None))


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # what is started in the background ignores it
    _serve(socket.socket(fileno=int(sys.argv[1])))
