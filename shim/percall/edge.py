"""The outermost edge of both commands: whatever goes wrong becomes a sentence on stderr and an exit code."""

from __future__ import annotations

import errno
import io
import os
import sys

from percall.errors import PercallError, UsageError, plain

TYPE_CHECKING = False  # `typing` itself costs 10 ms of each start
if TYPE_CHECKING:
    from collections.abc import Callable

_FAULT_EXIT_CODE = 1
_INTERRUPTED_EXIT_CODE = 130
_UNREAD_EXIT_CODE = 141  # as shells say it of what SIGPIPE has ended
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def guarded(program: str, command: Callable[[], int]) -> int:
    """The command's exit code, once all that it printed is written."""
    _open_standard_streams()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # whatever a terminal or a file cannot take is spelt out
    try:
        try:
            _check_arguments()
            return command()
        except SystemExit as ended:
            if isinstance(ended.__context__, BrokenPipeError):  # typer has seen to it, and says 1
                raise ended.__context__ from None
            raise
        finally:
            sys.stdout.flush()
    except PercallError as error:
        return report(program, error)
    except KeyboardInterrupt:
        return _INTERRUPTED_EXIT_CODE
    except BrokenPipeError:
        sys.stderr.close()
        return _UNREAD_EXIT_CODE
    except OSError as error:
        return _report_system(program, error)
    except Exception as error:  # noqa: BLE001 - the outermost edge
        return _report_fault(program, error)


def _check_arguments() -> None:
    """Raises UsageError for a byte that is not UTF-8: Python makes half a surrogate pair of it, and no request, file or
    signature of ours takes one.
    """
    for number, argument in enumerate(sys.argv[1:], 1):
        try:
            argument.encode()
        except UnicodeEncodeError:
            raise UsageError(
                "usage.text", f"Argument {number} holds a byte that is not UTF-8.", "Write it anew, in UTF-8."
            ) from None


def _open_standard_streams() -> None:
    """Nobody's, where whoever started us left one closed: its number would be the next file's, which would be read as
    the client, or written to as the terminal.
    """
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        if getattr(sys, name) is None:
            opened = os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free
            if opened == number:
                setattr(sys, name, open(number, mode, encoding="utf-8", closefd=False))  # noqa: SIM115 - for our life
            else:
                os.close(opened)


def report(program: str, error: PercallError) -> int:
    """Says what went wrong and what to do next, on stderr; the exit code to end with."""
    sys.stderr.write(f"{program}: {plain(error.message)} [{plain(error.code)}]\n")
    if error.next_step:
        sys.stderr.write(f"  {plain(error.next_step)}\n")
    return error.exit_code


def _report_system(program: str, error: OSError) -> int:
    if error.errno in _FULL and error.filename is None:
        from contextlib import suppress  # noqa: PLC0415 - `percall run` starts without it

        with suppress(OSError):  # what is in its buffer would be tried once more at the end, and complained of
            sys.stdout.close()
        message, next_step = "The output cannot be written: its disk is full.", "Free some space, and run it again."
    elif error.filename is not None and error.strerror:
        message, next_step = f"{error.filename}: {error.strerror}.", "Check the path and whose it is."
    else:
        return _report_fault(program, error)
    return report(program, PercallError("system.refused", message, next_step))


def _report_fault(program: str, error: BaseException) -> int:
    """Says that we failed, where, and without the error's text, which could hold a secret."""
    trace = error.__traceback__
    while trace and trace.tb_next:
        trace = trace.tb_next
    place = f" in {trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}" if trace else ""
    sys.stderr.write(f"{program}: a fault of ours ({type(error).__name__}{place}). Please report it. [fault]\n")
    return _FAULT_EXIT_CODE
