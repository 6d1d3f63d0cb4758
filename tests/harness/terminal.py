"""A command on a terminal of its own, as a person sees it."""

from __future__ import annotations

import fcntl
import os
import pty
import subprocess
import termios
import threading
from typing import TYPE_CHECKING

from harness.forking import can_run, forking
from harness.processes import COMMANDS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from harness.forking import Forked

    Process = Forked | subprocess.Popen[bytes]


def at_a_terminal(
    name: str,
    arguments: Sequence[str],
    environment: Mapping[str, str],
    typed: Sequence[str],
    stdin: bytes | None = None,
    meanwhile: Callable[[Process], None] | None = None,
) -> tuple[str, int]:
    """Answers each of a command's questions with a line; all that it said, and its exit code.

    With `stdin`, that is what its standard input gives, and questions are answered at the terminal all the same.
    `meanwhile` is called with the process, in a thread of its own.
    """
    terminal, theirs = pty.openpty()
    read, write = os.pipe()
    process = _started(name, arguments, environment, [theirs if stdin is None else read, theirs, theirs])
    os.write(write, stdin or b"")
    for descriptor in (theirs, read, write):
        os.close(descriptor)
    watching = threading.Thread(target=meanwhile, args=(process,)) if meanwhile else None
    if watching:
        watching.start()
    said = b""
    answers = [f"{answer}\n".encode() for answer in typed]
    while True:
        try:
            data = os.read(terminal, 4096)
        except OSError:  # the terminal's other end has closed
            break
        said += data
        if answers and said.count(b": ") > len(typed) - len(answers) and data.endswith(b": "):
            os.write(terminal, answers.pop(0))
    os.close(terminal)
    if watching:
        watching.join()
    return said.decode(), process.wait()


def _started(name: str, arguments: Sequence[str], environment: Mapping[str, str], standard: Sequence[int]) -> Process:
    if name in {"percall", "percall-broker"} and can_run(arguments, environment):
        return forking().fork(COMMANDS / name, arguments, environment, standard)
    stdin, stdout, stderr = standard
    return subprocess.Popen(
        [COMMANDS / name, *arguments],
        stdin=stdin,
        stdout=stdout,
        stderr=stderr,
        env=dict(environment),
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(1, termios.TIOCSCTTY, 0),  # noqa: PLW1509 - one system call
    )
