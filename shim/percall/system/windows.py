"""Windows, which can poll sockets alone: each pipe is carried to a socket by a thread, and a job object holds children.

NEVER RUN ON WINDOWS. It was written to the interface that `posix` defines; all but the job object is plain Python, and
is tested on POSIX.
"""

from __future__ import annotations

import os
import select
import shutil
import signal
import socket
import subprocess
import time
from contextlib import suppress
from threading import Thread

TYPE_CHECKING = False  # as in posix
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import IO

    from percall.run.loop import Loop

READ = 1
WRITE = 4
ENDING = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGBREAK") if hasattr(signal, name))
DEFAULT_PATH = r"C:\Windows\System32;C:\Windows"
INHERITED = (
    "APPDATA",
    "COMMONPROGRAMFILES",
    "COMSPEC",
    "HOMEDRIVE",
    "HOMEPATH",
    "LANG",
    "LOCALAPPDATA",
    "NUMBER_OF_PROCESSORS",
    "OS",
    "PATHEXT",
    "PROCESSOR_ARCHITECTURE",
    "PROGRAMDATA",
    "PROGRAMFILES",
    "PROGRAMFILES(X86)",
    "SYSTEMDRIVE",
    "SYSTEMROOT",
    "TEMP",
    "TMP",
    "TZ",
    "USERNAME",
    "USERPROFILE",
    "WINDIR",
)
"""What a child needs to start at all, and none of which holds secrets."""

PIPE_BYTES = 64 * 1024
"""What is read at once."""
_FLUSH_SECONDS = 2.0
_LAST_WORDS_SECONDS = 0.2
_NEW_GROUP_WITHOUT_WINDOW = 0x00000200 | 0x08000000  # CREATE_NEW_PROCESS_GROUP | CREATE_NO_WINDOW
_sockets: dict[int, socket.socket] = {}
_outward: dict[int, Thread] = {}
_inward: dict[int, Thread] = {}
_standard: dict[int, int] = {}
_ended: list[tuple[Loop, Callable[[], None]]] = []


class Poll:
    """`select.poll` over `select.select`, for sockets. A failed connect, which Windows tells apart, is writable."""

    def __init__(self) -> None:
        self._wanted: dict[int, int] = {}

    def register(self, descriptor: int, events: int = READ | WRITE) -> None:
        """Watch a socket; replaces an earlier watch of it."""
        self._wanted[getattr(descriptor, "fileno", lambda: descriptor)()] = events

    def unregister(self, descriptor: int) -> None:
        """Stop watching it. Raises KeyError when nobody did."""
        del self._wanted[descriptor]

    def poll(self, milliseconds: float | None = None) -> list[tuple[int, int]]:
        """What happened, within a time; None waits for ever."""
        seconds = None if milliseconds is None else milliseconds / 1000
        reads = [one for one, events in self._wanted.items() if events & READ]
        writes = [one for one, events in self._wanted.items() if events & WRITE]
        if not reads and not writes:  # which Windows refuses to wait for
            time.sleep(0 if seconds is None else seconds)
            return []
        readable, writable, failed = select.select(reads, writes, writes, seconds)
        happened: dict[int, int] = dict.fromkeys(readable, READ)
        for one in {*writable, *failed}:
            happened[one] = happened.get(one, 0) | WRITE
        return list(happened.items())


def read(descriptor: int, size: int) -> bytes:
    """`os.read`, of a socket too. Raises OSError."""
    own = _sockets.get(descriptor)
    return os.read(descriptor, size) if own is None else own.recv(size)


def write(descriptor: int, data: bytes | memoryview) -> int:
    """`os.write`, to a socket too. Raises OSError."""
    own = _sockets.get(descriptor)
    return os.write(descriptor, data) if own is None else own.send(data)


def close(descriptor: int) -> None:
    """`os.close`, of a socket too; what was written to a carried stream still arrives."""
    own = _sockets.pop(descriptor, None)
    if own is None:
        os.close(descriptor)
        return
    _inward.pop(descriptor, None)
    with suppress(OSError):
        own.shutdown(socket.SHUT_WR)
    carrier = _outward.pop(descriptor, None)
    if carrier is not None:
        carrier.join(_FLUSH_SECONDS)
    own.close()


def pipe() -> tuple[int, int]:
    """Two sockets that do not block; the second also wakes the loop at a signal, which Windows allows for sockets."""
    reader, writer = socket.socketpair()
    return _kept(reader), _kept(writer)


def standard(number: int) -> int:
    """The process's own stream of that number, carried to a socket by a thread that ends with it."""
    if number not in _standard:
        _standard[number] = _carried(number, towards_us=number == 0)
    return _standard[number]


def incoming(stream: IO[bytes]) -> int:
    """A pipe of ours that another process writes to, carried to a socket. Whoever made the stream closes it."""
    return _carried(os.dup(stream.fileno()), towards_us=True, ours=True)


def widen(_descriptor: int) -> None:
    """Nothing: what a pipe holds is its maker's to say."""


def unblocked(descriptor: int) -> Callable[[], None]:
    """Sockets of ours never block; what is returned writes out what still waits for this process's own streams."""
    del descriptor
    return _flush


def _flush() -> None:
    for descriptor in list(_standard.values()):
        if descriptor in _outward:
            close(descriptor)


def is_deaf(descriptor: int) -> bool:
    """Whether the thread that carries one of our streams has found it closed."""
    carrier = _outward.get(descriptor)
    return carrier is not None and not carrier.is_alive()


def on_child_end(loop: Loop, callback: Callable[[], None]) -> None:
    """Call back from the loop when a child may have ended."""
    _ended.append((loop, callback))


def forked(work: Callable[[], int]) -> None:
    """None: there are no forks here, so the work is for a process that is started the long way."""
    del work


def find(name: str, path: str) -> tuple[str | None, str]:
    """A program's file on a PATH, with the endings of PATHEXT (`npx` is `npx.cmd`); and where it was looked for."""
    folders = [folder for folder in (path or DEFAULT_PATH).split(os.pathsep) if os.path.isabs(folder)]  # noqa: PTH117
    looked = ", ".join(folders) or "no folder"
    return shutil.which(name, path=os.pathsep.join(folders)) if folders else None, looked


class Process:
    """A running child and its own children. `stdin`, `stdout` and `stderr` are sockets that its pipes are carried to.

    The job ends them all when its last handle closes, so also when the shim is killed. A child that starts another
    before it is in the job (microseconds) leaves that one outside.
    """

    def __init__(self, program: str, command: Sequence[str], environment: Mapping[str, str]) -> None:
        self._popen = subprocess.Popen(
            [program, *command[1:]],
            env=dict(environment),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            creationflags=_NEW_GROUP_WITHOUT_WINDOW if os.name == "nt" else 0,
        )
        self._job = _job(self._popen)
        self.pid = self._popen.pid
        self.status: int | None = None
        pipes = (self._popen.stdin, self._popen.stdout, self._popen.stderr)
        numbers = [os.dup(one.fileno()) for one in pipes if one is not None]
        for one in pipes:
            if one is not None:
                one.close()
        self.stdin, self.stdout, self.stderr = (_carried(n, towards_us=i > 0, ours=True) for i, n in enumerate(numbers))
        self._waiter = Thread(target=self._wait, name="percall-child", daemon=True)
        self._waiter.start()

    def _wait(self) -> None:
        status = self._popen.wait()
        for descriptor in (self.stdout, self.stderr):
            if carrier := _inward.get(descriptor):
                carrier.join(_LAST_WORDS_SECONDS)  # what it said last is there before its end is told
        self.status = status
        for loop, callback in _ended:
            loop.call_soon(callback)

    def reap(self) -> bool:
        """Whether the child has ended; `status` is then its exit code."""
        return self.status is not None

    def terminate(self) -> None:
        """Windows has no such request that a program without a window would heed: its input has been closed already."""
        self.close_stdin()

    def kill(self) -> None:
        """End the child and all that the job holds."""
        if self._job is not None:
            self._job.end()
        with suppress(OSError):
            self._popen.kill()

    def close_stdin(self) -> None:
        """Tell the child that nothing more comes."""
        if self.stdin >= 0:
            close(self.stdin)
            self.stdin = -1

    def release(self) -> None:
        """End what is left, and let the job go."""
        self.kill()
        self._waiter.join()


def _job(process: subprocess.Popen[bytes]) -> Job | None:
    if os.name != "nt":  # in the tests
        return None
    from percall.system.windows_job import Job  # noqa: PLC0415 - ctypes, on Windows alone

    return Job(process)


def _kept(own: socket.socket) -> int:
    own.setblocking(False)
    _sockets[own.fileno()] = own
    return own.fileno()


def _carried(number: int, *, towards_us: bool, ours: bool = False) -> int:
    """A socket that stands for a blocking descriptor; a thread carries the bytes. `ours`: it closes the descriptor."""
    near, far = socket.socketpair()
    descriptor = _kept(near)
    target = _inwards if towards_us else _outwards
    carrier = Thread(target=target, args=(number, far, ours), name="percall-carrier", daemon=True)
    carrier.start()
    (_inward if towards_us else _outward)[descriptor] = carrier
    return descriptor


def _inwards(number: int, far: socket.socket, ours: bool) -> None:
    with suppress(OSError):
        while data := os.read(number, PIPE_BYTES):
            far.sendall(data)
    _end(number, far, ours)


def _outwards(number: int, far: socket.socket, ours: bool) -> None:
    with suppress(OSError):
        while data := far.recv(PIPE_BYTES):
            view = memoryview(data)
            while view:
                view = view[os.write(number, view) :]
    _end(number, far, ours)


def _end(number: int, far: socket.socket, ours: bool) -> None:
    far.close()
    if ours:
        with suppress(OSError):
            os.close(number)


if TYPE_CHECKING:
    from percall.system.windows_job import Job
