"""The process that tries a draft: its files on the first line of standard input, then calls; a line answers each.

The first answer is `[]`; an object instead of a list says why the policies do not hold. It decides nothing: what it
answers is shown to whoever asked.
"""

from __future__ import annotations

import contextlib
import os
import sys

import msgspec

from percall_broker.model.errors import InvalidInput
from percall_broker.policy.evaluation import Evaluator
from percall_broker.policy.language import read
from percall_broker.policy.trial import SECONDS, Call

_CALLS = msgspec.json.Decoder(list[Call])


def main() -> None:
    """Answers until nobody asks any more."""
    _bound()
    files = msgspec.json.decode(sys.stdin.buffer.readline(), type=dict[str, str])
    try:
        policies = read(files, 0)
    except InvalidInput as error:
        _say({"code": error.code, "message": error.message, "next_step": error.next_step})
        return
    _say([])
    evaluate = Evaluator()
    for line in sys.stdin.buffer:
        _say([evaluate(policies, asked, now) for asked, now in _CALLS.decode(line)])


def _bound() -> None:
    """The end, should the broker be killed while Cedar evaluates: nobody else would end us then."""
    if sys.platform != "win32":
        import resource  # noqa: PLC0415 - POSIX alone has it

        with contextlib.suppress(OSError):  # a service's filter of system calls may not let it
            os.nice(10)
        resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))


def _say(answer: object) -> None:
    sys.stdout.buffer.write(msgspec.json.encode(answer) + b"\n")
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
