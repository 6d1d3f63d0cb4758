"""POSIX: descriptors are polled as they are, a child leads a process group, a watcher ends it should we be killed."""

from __future__ import annotations

import os
import select
import signal
import sys
from contextlib import suppress

TYPE_CHECKING = False  # `typing` itself costs 10 ms of each start
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import IO, NoReturn

    from percall.run.loop import Loop

READ = select.POLLIN
WRITE = select.POLLOUT
Poll = select.poll
read = os.read
write = os.write
close = os.close
ENDING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
"""The signals that ask us to end."""
PIPE_BYTES = 128 * 1024
"""What a pipe on a message's way holds: more would cost a reader that wants all of it at once a mapping of memory."""
DEFAULT_PATH = "/usr/local/bin:/usr/bin:/bin"
INHERITED = (
    "HOME",
    "USER",
    "LOGNAME",
    "SHELL",
    "LANG",
    "LANGUAGE",
    "LC_ALL",
    "LC_CTYPE",
    "TZ",
    "TMPDIR",
    "XDG_CACHE_HOME",
    "XDG_CONFIG_HOME",
    "XDG_DATA_HOME",
    "XDG_RUNTIME_DIR",
)
"""All that a child gets of the client's environment, besides what its entry names. None of these holds secrets."""

_WATCHER = 'trap "" HUP INT TERM; read -r _; kill -s TERM -- "-$1" && sleep 1 && kill -s KILL -- "-$1"'
_RESET_SIGNALS = (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD)


def pipe() -> tuple[int, int]:
    """A pipe to wake the loop by: its reader and its writer, neither of which blocks."""
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    os.set_blocking(writer, False)
    return reader, writer


def standard(number: int) -> int:
    """The process's own stream of that number, as the loop polls it."""
    return number


def incoming(stream: IO[bytes]) -> int:
    """A pipe of ours that another process writes to, as the loop polls it. Whoever made the stream closes it."""
    return stream.fileno()


def widen(descriptor: int) -> None:
    """Have a pipe hold `PIPE_BYTES`, where its system and its user's share allow it: a message that does not fit has to
    wait in the middle until its reader is awake.
    """
    with suppress(ImportError, OSError):  # another system than Linux; no pipe, or the share is used up
        from fcntl import F_SETPIPE_SZ, fcntl  # noqa: PLC0415 - not everywhere

        fcntl(descriptor, F_SETPIPE_SZ, PIPE_BYTES)


def unblocked(descriptor: int) -> Callable[[], None]:
    """Makes one of our own streams non-blocking; what is returned puts it back, since others may share it."""
    if os.isatty(descriptor):
        return lambda: None
    was_blocking = os.get_blocking(descriptor)
    os.set_blocking(descriptor, False)
    return lambda: os.set_blocking(descriptor, was_blocking)


def is_deaf(descriptor: int) -> bool:
    """Whether nobody reads any more at the other end of one of our own streams."""
    poll = select.poll()
    poll.register(descriptor, 0)
    return bool(poll.poll(0))


def on_child_end(loop: Loop, callback: Callable[[], None]) -> None:
    """Call back from the loop when a child may have ended."""
    loop.on_signal(signal.SIGCHLD, callback)


def find(name: str, path: str) -> tuple[str | None, str]:
    """A program's file on a PATH, None when it is not there; and where it was looked for, in words."""
    if "/" in name:
        candidates = [name]
    else:
        folders = [folder for folder in (path or DEFAULT_PATH).split(":") if folder.startswith("/")]
        candidates = [f"{folder}/{name}" for folder in folders]
    looked = ", ".join(candidate.rpartition("/")[0] or candidate for candidate in candidates) or "no folder"
    for candidate in candidates:
        if os.access(candidate, os.X_OK) and not os.path.isdir(candidate):  # noqa: PTH112 - pathlib costs start-up time
            return candidate, looked
    return None, looked


class Process:
    """A running child. `stdin`, `stdout` and `stderr` are our ends of its pipes, non-blocking.

    Raises OSError, ValueError.

    A `/bin/sh` blocked on a pipe that only the shim holds takes the group down should the shim be killed. A process
    that leaves its group with `setsid` outlives both; nothing here pretends otherwise.
    """

    def __init__(self, program: str, command: Sequence[str], environment: Mapping[str, str]) -> None:
        theirs_in, self.stdin = os.pipe()
        self.stdout, theirs_out = os.pipe()
        self.stderr, theirs_err = os.pipe()
        try:
            self.pid = os.posix_spawn(
                program,
                list(command),
                dict(environment),
                file_actions=[
                    (os.POSIX_SPAWN_DUP2, theirs_in, 0),
                    (os.POSIX_SPAWN_DUP2, theirs_out, 1),
                    (os.POSIX_SPAWN_DUP2, theirs_err, 2),
                ],
                setpgroup=0,
                setsigmask=(),
                setsigdef=_RESET_SIGNALS,
            )
        except (OSError, ValueError):
            for descriptor in (self.stdin, self.stdout, self.stderr):
                os.close(descriptor)
            raise
        finally:
            for descriptor in (theirs_in, theirs_out, theirs_err):
                os.close(descriptor)
        for descriptor in (self.stdin, self.stdout, self.stderr):
            os.set_blocking(descriptor, False)
        widen(self.stdin)
        widen(self.stdout)
        self.status: int | None = None
        try:
            self._watcher, self._lifeline = self._watch_over()
        except OSError:
            self.kill()
            os.waitpid(self.pid, 0)
            for descriptor in (self.stdin, self.stdout, self.stderr):
                os.close(descriptor)
            raise

    def _watch_over(self) -> tuple[int, int]:
        """Start the watcher: its id, and our end of the pipe that it blocks on, which only this process holds."""
        theirs, lifeline = os.pipe()
        try:
            watcher = os.posix_spawn(
                "/bin/sh",
                ["sh", "-c", _WATCHER, "percall-watcher", str(self.pid)],
                {"PATH": DEFAULT_PATH},
                file_actions=[
                    (os.POSIX_SPAWN_DUP2, theirs, 0),
                    (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0),
                    (os.POSIX_SPAWN_OPEN, 2, os.devnull, os.O_WRONLY, 0),
                ],
                setpgroup=0,
            )
        except OSError:
            os.close(lifeline)
            raise
        finally:
            os.close(theirs)
        return watcher, lifeline

    def reap(self) -> bool:
        """Whether the child has ended; `status` is then its exit code, negative for a signal."""
        if self.status is None:
            try:
                pid, status = os.waitpid(self.pid, os.WNOHANG)
            except ChildProcessError:
                self.status = 0
            else:
                if pid:
                    self.status = os.waitstatus_to_exitcode(status)
        return self.status is not None

    def terminate(self) -> None:
        """Ask all processes of the child's group to end."""
        self._signal_group(signal.SIGTERM)

    def kill(self) -> None:
        """End them."""
        self._signal_group(signal.SIGKILL)

    def _signal_group(self, number: int) -> None:
        with suppress(ProcessLookupError, PermissionError):  # nobody is left in the group (macOS says so by EPERM)
            os.killpg(self.pid, number)

    def close_stdin(self) -> None:
        """Tell the child that nothing more comes."""
        if self.stdin >= 0:
            os.close(self.stdin)
            self.stdin = -1

    def release(self) -> None:
        """Kill what is left of the group, then dismiss the watcher: the group's id may belong to others later."""
        self.kill()
        if self._watcher:
            os.kill(self._watcher, signal.SIGKILL)
            _reap(self._watcher)
            self._watcher = 0
            os.close(self._lifeline)


class Fork:
    """A fork of this process that does one piece of work: `stdout` is our end of what it writes."""

    def __init__(self, pid: int, output: int) -> None:
        self._pid = pid
        self.stdout = os.fdopen(output, "rb", buffering=0)

    def kill(self) -> None:
        """End it, if it has not ended by itself."""
        with suppress(ProcessLookupError):
            os.kill(self._pid, signal.SIGKILL)

    def wait(self) -> None:
        """Until it has ended."""
        _reap(self._pid)


def _reap(pid: int) -> None:
    """Wait until one of ours has ended."""
    with suppress(ChildProcessError):  # whoever ignores SIGCHLD has the system wait for theirs, and we inherit that
        os.waitpid(pid, 0)


def forked(work: Callable[[], int]) -> Fork | None:
    """Do something in a fork of this process, which ends after it, with the exit code that it returns.

    It has the client's streams no longer. None on macOS, whose frameworks (the keychain's too) do not survive a fork.
    Raises OSError.
    """
    if sys.platform == "darwin":
        return None
    output, theirs = os.pipe()
    try:
        pid = os.fork()
        if not pid:
            _work_apart(work, output, theirs)
    except OSError:
        os.close(output)
        raise
    finally:
        os.close(theirs)
    return Fork(pid, output)


def _work_apart(work: Callable[[], int], reader: int, writer: int) -> NoReturn:
    """In the fork: its own streams, and no way back into what the process was about to do."""
    code = 1
    try:
        os.close(reader)
        null = os.open(os.devnull, os.O_RDWR)
        for descriptor, standard_one in ((null, 0), (writer, 1), (null, 2)):
            os.dup2(descriptor, standard_one)
        code = work()
    finally:
        os._exit(code)
