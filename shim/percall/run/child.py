"""The child server: found on the trusted PATH, started with a clean environment, ended with all that it started."""

from __future__ import annotations

import os

from percall import system
from percall.errors import LaunchError, word

TYPE_CHECKING = False  # `typing` itself costs 10 ms of each start
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


def clean_environment(passed: Sequence[str], path: str) -> dict[str, str]:
    """The child's environment before the entry's own variables: an allow-list, and the trusted PATH."""
    kept = {name: os.environ[name] for name in (*system.INHERITED, *passed) if name in os.environ}
    kept["PATH"] = path or system.DEFAULT_PATH
    return kept


def find_program(name: str, path: str, server: str) -> str:
    """The program's file. Raises LaunchError, which names where it was looked for."""
    found, looked = system.find(name, path)
    if found is not None:
        return found
    raise LaunchError(
        "launch.not_found",
        f"The program {name!r} of server {server!r} was not found (looked in {looked}).",
        f"Install it, or run `percall trust {word(server)}` in a terminal where it works.",
    )


class Child(system.Process):
    """A running server. `stdin`, `stdout` and `stderr` are our ends of its pipes, non-blocking.

    Raises LaunchError when it cannot be started.
    """

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], server: str) -> None:
        program = find_program(command[0], environment.get("PATH", ""), server)
        try:
            super().__init__(program, command, environment)
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise LaunchError(
                "launch.failed",
                f"The program {program} of server {server!r} cannot be started: {reason}.",
                "Run it by hand to see why.",
            ) from None
