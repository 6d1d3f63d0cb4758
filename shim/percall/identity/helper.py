"""What both keyring helpers share: a time-out of our own, and JSON answers on stdout, errors included.

A keyring may hang for two minutes (D-Bus without a service) or for ever (a prompt that nobody sees). The watchdog
ends the process from its own thread, whatever the main thread waits for.
"""

from __future__ import annotations

import json
import os
import sys
import time
from _thread import start_new_thread

from percall import own_memory
from percall.errors import IdentityError, PercallError
from percall.identity import OTHER_CHOICE

TYPE_CHECKING = False  # `typing` itself costs 10 ms of each start
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sized

VARIABLE = "PERCALL_KEYRING_TIMEOUT"
DEFAULT_SECONDS = 30.0
"""Long enough to type a password at the desktop's own prompt."""


def seconds() -> float:
    """The time-out: PERCALL_KEYRING_TIMEOUT where it is a sensible number."""
    try:
        wanted = float(os.environ.get(VARIABLE, ""))
    except ValueError:
        return DEFAULT_SECONDS
    return wanted if 0 < wanted <= 600 else DEFAULT_SECONDS  # noqa: PLR2004 - ten minutes


def answer(*works: Callable[[], dict[str, str]]) -> int:
    """Does one work after the other, prints the answer of each, and returns the process's exit code."""
    own_memory.close()
    left = list(works)
    start_new_thread(_give_up_after, (seconds(), left))  # which ends with the process, however soon that is
    code = 0
    while left:
        code = _answer_one(left[0]) or code
        del left[0]
    return code


def _answer_one(work: Callable[[], dict[str, str]]) -> int:
    try:
        _print(work())
    except PercallError as error:
        _print_error(error)
        return IdentityError.exit_code
    except Exception as error:  # noqa: BLE001 - the process's outermost edge; keyring libraries raise what they like
        from percall.identity.keyring_os import explain  # noqa: PLC0415 - imports no more than we have by now

        _print_error(explain(error))
        return IdentityError.exit_code
    return 0


def _give_up_after(patience: float, left: Sized) -> None:
    """The watchdog, in a thread of its own: nothing tells it that a keyring hangs but that the time is over.

    A `threading.Timer` waits alike, and its module would be imported for it.
    """
    time.sleep(patience)
    error = IdentityError(
        "keyring.timeout",
        f"The keyring gave no answer within {patience:g} seconds.",
        f"Unlock or restart the desktop's keyring service. {OTHER_CHOICE}",
    )
    for _ in range(len(left)):
        _print_error(error)
    os._exit(IdentityError.exit_code)


def _print_error(error: PercallError) -> None:
    _print({"error": {"code": error.code, "message": error.message, "next_step": error.next_step}})


def _print(members: Mapping[str, object]) -> None:
    sys.stdout.write(json.dumps(members, separators=(",", ":")) + "\n")
    sys.stdout.flush()
