"""The command `percall`: `run` is dispatched here, before the command line's library is imported; the rest is in `cli`.

The one place where an error becomes a sentence on stderr and an exit code. Stdout belongs to the commands' answers,
and under `run` to protocol frames alone.
"""

from __future__ import annotations

import sys

from percall.errors import PercallError, UsageError
from percall.lean import dataclass

RUN_OPTIONS = {"--agent": "NAME"}
"""The options of `run`, each with what it takes; `cli.run` shows the same ones in the help."""
_HELP = ("--help", "-h")
_FAULT_EXIT_CODE = 1
_INTERRUPTED_EXIT_CODE = 130


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


def report(error: PercallError) -> int:
    """Says what went wrong and what to do next, on stderr; the exit code to end with."""
    sys.stderr.write(f"percall: {_plain(error.message)} [{_plain(error.code)}]\n")
    if error.next_step:
        sys.stderr.write(f"  {_plain(error.next_step)}\n")
    return error.exit_code


def report_fault(error: BaseException) -> int:
    """Says that we failed, where, and without the error's text, which could hold a secret."""
    trace = error.__traceback__
    while trace and trace.tb_next:
        trace = trace.tb_next
    place = f" in {trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}" if trace else ""
    sys.stderr.write(f"percall: a fault of ours ({type(error).__name__}{place}). Please report it. [fault]\n")
    return _FAULT_EXIT_CODE


def _plain(text: str) -> str:
    """Without control characters: parts of it may come from a broker or a file."""
    return "".join(character if character.isprintable() else f"\\x{ord(character):02x}" for character in text)


def main() -> int:
    """The process's outermost edge."""
    try:
        if sys.argv[1:2] == ["run"]:
            wanted = parse_run(sys.argv[2:])
            if wanted is not None:
                from percall import run  # noqa: PLC0415 - before typer, which costs a tenth of a second

                return run.main(wanted.server, wanted.agent, wanted.command)
        from percall import cli, own_memory  # noqa: PLC0415 - only where `run` is not meant

        own_memory.close()
        return cli.main()
    except PercallError as error:
        return report(error)
    except KeyboardInterrupt:
        return _INTERRUPTED_EXIT_CODE
    except BrokenPipeError:
        sys.stderr.close()
        return _FAULT_EXIT_CODE
    except Exception as error:  # noqa: BLE001 - the outermost edge
        return report_fault(error)


if __name__ == "__main__":
    sys.exit(main())
