"""Our two commands in forks of an interpreter that has loaded them: processes of their own, without a start each time.

Most of what a command takes is Python's start and its imports, and the tests run some thousand commands. What depends
on the start itself is not for this: the tests of an installation, of the shim and of `serve` start the real commands.
"""

from __future__ import annotations

import atexit
import functools
import importlib
import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import percall.__main__
import percall.broker_command

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

_OF_THE_START = ("LD_", "LC_", "PYTHON")
"""Variables that an interpreter heeds only when it starts."""
_MOST_BYTES = 1024 * 1024
_PATIENCE_SECONDS = 60


def can_run(arguments: Sequence[str], environment: Mapping[str, str]) -> bool:
    """Whether a fork is as good as a start. On macOS none is: its frameworks do not survive one."""
    if sys.platform != "linux" or list(arguments[:1]) in (["run"], ["serve"]):
        return False
    return not any(name.startswith(_OF_THE_START) for name in environment)


class Forking:
    """The interpreter that forks; one command at a time."""

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
            argv = [str(program), *arguments]
            asked = {"argv": argv, "environment": dict(environment), "folder": str(Path.cwd())}
            with self._turn:
                descriptors = [file.fileno() for file in (given, output, errors)]
                socket.send_fds(self._ours, [json.dumps(asked).encode()], descriptors)
                code = json.loads(self._ours.recv(_MOST_BYTES))
            output.seek(0)
            errors.seek(0)
            return subprocess.CompletedProcess(argv, code, output.read().decode(), errors.read().decode())


@functools.cache
def forking() -> Forking:
    """The one of this process."""
    return Forking()


def _serve(connection: socket.socket) -> None:
    mains = _loaded()
    assert threading.active_count() == 1, "a fork would lose a thread"
    while True:
        data, descriptors, _, _ = socket.recv_fds(connection, _MOST_BYTES, 3)
        if not data:
            return
        child = os.fork()
        if child == 0:
            connection.close()
            _become(json.loads(data), descriptors, mains)
        for descriptor in descriptors:
            os.close(descriptor)
        connection.send(json.dumps(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])).encode())


def _loaded() -> Mapping[str, Callable[[], object]]:
    """The two commands' entry points, with what most of their commands import."""
    for module in ("percall.cli", "percall_broker.cli"):
        importlib.import_module(module)
    return {"percall": percall.__main__.main, "percall-broker": percall.broker_command.main}


def _become(asked: Mapping[str, Any], descriptors: Sequence[int], mains: Mapping[str, Callable[[], object]]) -> None:
    code: object = 1
    try:
        os.setsid()  # without a terminal, wherever the tests are run
        for number, descriptor in enumerate(descriptors):
            os.dup2(descriptor, number)
            os.close(descriptor)
        sys.stdin, sys.stdout, sys.stderr = open(0), open(1, "w"), open(2, "w")  # noqa: SIM115 - as they start
        os.chdir(asked["folder"])
        os.environ.clear()
        os.environ.update(asked["environment"])
        sys.argv = asked["argv"]
        code = mains[Path(sys.argv[0]).name]()
    except SystemExit as ended:
        code = ended.code
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code if isinstance(code, int) else int(code is not None))


if __name__ == "__main__":
    _serve(socket.socket(fileno=int(sys.argv[1])))
