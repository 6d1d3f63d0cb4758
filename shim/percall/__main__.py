"""The command `percall`: `run` is dispatched here, before the command line's library is imported; the rest is in `cli`.

Stdout belongs to the commands' answers, and under `run` to protocol frames alone.
"""

from __future__ import annotations

import sys

from percall import edge
from percall.errors import UsageError
from percall.lean import dataclass

RUN_OPTIONS = {"--agent": "NAME"}
"""The options of `run`, each with what it takes; `cli.run` shows the same ones in the help."""
_HELP = ("--help", "-h")


@dataclass(frozen=True, slots=True)
class RunArguments:
    """What `percall run` was asked to do; `command` is the launch given here instead of the entry's, None for none."""

    server: str
    agent: str | None
    command: list[str] | None


def parse_run(arguments: list[str]) -> RunArguments | None:
    """The arguments after `run`; None when they ask for help. Raises UsageError.

    Everything after the server (and an optional `--`, which some clients swallow) is the command.
    """
    agent: str | None = None
    server = ""
    rest = list(arguments)
    while rest:
        word = rest.pop(0)
        name, equals, value = word.partition("=")
        if word in _HELP:
            return None
        if name in RUN_OPTIONS:
            if not equals:
                value = rest.pop(0) if rest else ""
            if not value or value.startswith("-"):
                raise UsageError("usage.run", f"{name} needs a {RUN_OPTIONS[name]}.", _SEE_HELP)
            agent = value
        elif word == "--" and server:
            return RunArguments(server, agent, _command(rest))
        elif word.startswith("-"):
            raise UsageError("usage.run", f"`percall run` has no option {word}.", _SEE_HELP)
        elif server:
            return RunArguments(server, agent, [word, *rest])
        else:
            server = word
    if not server:
        raise UsageError("usage.run", "`percall run` needs the name of a server.", _SEE_HELP)
    return RunArguments(server, agent, None)


_SEE_HELP = "See `percall run --help`."


def _command(words: list[str]) -> list[str]:
    if not words:
        raise UsageError("usage.run", "There is no command after `--`.", _SEE_HELP)
    return words


def main() -> int:
    """The command `percall`."""
    return edge.guarded("percall", _somewhere)


def _somewhere() -> int:
    try:
        return _dispatched()
    except FileNotFoundError:
        if _is_folder_there():
            raise
        raise UsageError("usage.folder", "This folder is gone.", "Go to another one, and run this again.") from None


def _is_folder_there() -> bool:
    from pathlib import Path  # noqa: PLC0415 - `percall run` starts without it

    try:
        Path.cwd()
    except FileNotFoundError:
        return False
    return True


def _dispatched() -> int:
    if sys.argv[1:2] == ["run"]:
        wanted = parse_run(sys.argv[2:])
        if wanted is not None:
            from percall import run  # noqa: PLC0415 - before typer, which costs a tenth of a second

            return run.main(wanted.server, wanted.agent, wanted.command)
    from percall import cli, own_memory  # noqa: PLC0415 - only where `run` is not meant

    own_memory.close()
    return cli.main()


if __name__ == "__main__":
    sys.exit(main())
