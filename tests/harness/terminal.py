"""A command on a terminal of its own, as a person sees it."""

from __future__ import annotations

import os
import pty
from typing import TYPE_CHECKING

from harness.processes import COMMANDS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


def at_a_terminal(
    name: str,
    arguments: Sequence[str],
    environment: Mapping[str, str],
    typed: Sequence[str],
    stdin: bytes | None = None,
) -> tuple[str, int]:
    """Answers each of a command's questions with a line; all that it said, and its exit code.

    With `stdin`, that is what its standard input gives, and questions are answered at the terminal all the same.
    """
    read, write = os.pipe()
    child, terminal = pty.fork()
    if child == 0:
        if stdin is not None:
            os.dup2(read, 0)
        os.close(write)
        os.execve(COMMANDS / name, [name, *arguments], dict(environment))  # noqa: S606 - no shell is what we want
    os.write(write, stdin or b"")
    os.close(write)
    os.close(read)
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
    return said.decode(), os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
