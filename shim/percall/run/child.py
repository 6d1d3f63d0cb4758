"""The child server: found on the trusted PATH, started with a clean environment in a process group of its own.

A `/bin/sh` blocked on a pipe that only the shim holds takes the group down should the shim be killed. A process that
leaves its group with `setsid` outlives both; nothing here pretends otherwise.
"""

from __future__ import annotations

import os
import signal
from contextlib import suppress

from percall.errors import LaunchError

TYPE_CHECKING = False  # `typing` itself costs 10 ms of each start
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

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

_DEFAULT_PATH = "/usr/local/bin:/usr/bin:/bin"
_WATCHER = 'trap "" HUP INT TERM; read -r _; kill -s TERM -- "-$1" && sleep 1 && kill -s KILL -- "-$1"'
_RESET_SIGNALS = (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD)


def clean_environment(passed: Sequence[str], path: str) -> dict[str, str]:
    """The child's environment before the entry's own variables: an allow-list, and the trusted PATH."""
    kept = {name: os.environ[name] for name in (*INHERITED, *passed) if name in os.environ}
    kept["PATH"] = path or _DEFAULT_PATH
    return kept


def find_program(name: str, path: str, server: str) -> str:
    """The program's file. Raises LaunchError, which names where it was looked for."""
    if "/" in name:
        candidates = [name]
    else:
        folders = [folder for folder in (path or _DEFAULT_PATH).split(":") if folder.startswith("/")]
        candidates = [f"{folder}/{name}" for folder in folders]
    for candidate in candidates:
        if os.access(candidate, os.X_OK) and not os.path.isdir(candidate):  # noqa: PTH112 - pathlib costs start-up time
            return candidate
    looked = ", ".join(candidate.rpartition("/")[0] or candidate for candidate in candidates) or "no folder"
    raise LaunchError(
        "launch.not_found",
        f"The program {name!r} of server {server!r} was not found (looked in {looked}).",
        f"Install it, or run `percall trust {server}` in a terminal where it works.",
    )


class Child:
    """A running server. `stdin`, `stdout` and `stderr` are our ends of its pipes, non-blocking.

    Raises LaunchError when it cannot be started.
    """

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], server: str) -> None:
        program = find_program(command[0], environment.get("PATH", ""), server)
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
        except (OSError, ValueError) as error:
            for descriptor in (self.stdin, self.stdout, self.stderr):
                os.close(descriptor)
            reason = getattr(error, "strerror", None) or str(error)
            raise LaunchError(
                "launch.failed",
                f"The program {program} of server {server!r} cannot be started: {reason}.",
                "Run it by hand to see why.",
            ) from None
        finally:
            for descriptor in (theirs_in, theirs_out, theirs_err):
                os.close(descriptor)
        for descriptor in (self.stdin, self.stdout, self.stderr):
            os.set_blocking(descriptor, False)
        self.status: int | None = None
        self._watcher = self._watch_over()

    def _watch_over(self) -> int:
        """Start the watcher. It blocks on a pipe whose other end only this process holds."""
        theirs, self._lifeline = os.pipe()
        try:
            return os.posix_spawn(
                "/bin/sh",
                ["sh", "-c", _WATCHER, "percall-watcher", str(self.pid)],
                {"PATH": _DEFAULT_PATH},
                file_actions=[
                    (os.POSIX_SPAWN_DUP2, theirs, 0),
                    (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0),
                    (os.POSIX_SPAWN_OPEN, 2, os.devnull, os.O_WRONLY, 0),
                ],
                setpgroup=0,
            )
        finally:
            os.close(theirs)

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

    def signal_group(self, number: int) -> None:
        """Send a signal to all processes of the child's group."""
        with suppress(ProcessLookupError, PermissionError):  # nobody is left in the group (macOS says so by EPERM)
            os.killpg(self.pid, number)

    def close_stdin(self) -> None:
        """Tell the child that nothing more comes."""
        if self.stdin >= 0:
            os.close(self.stdin)
            self.stdin = -1

    def release(self) -> None:
        """Kill what is left of the group, then dismiss the watcher: the group's id may belong to others later."""
        self.signal_group(signal.SIGKILL)
        if self._watcher:
            os.kill(self._watcher, signal.SIGKILL)
            os.waitpid(self._watcher, 0)
            self._watcher = 0
            os.close(self._lifeline)
