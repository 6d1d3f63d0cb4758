"""The administrator's commands: nouns, then verbs.

`init`, `invite`, `serve`, `migrate`, `backup` and `key rotate` act on this machine's broker folder; `recipe` and
`policy check` need none. Everything else is a signed request with the administrator's own grant, like anybody's.
"""

from __future__ import annotations

import sys

from percall.errors import PercallError
from percall_broker.cli.root import application
from percall_broker.model.errors import BrokerError

EXIT_FAILED = 1


def main() -> None:
    """The command `percall-broker`. Errors become one sentence and what to do next, never a traceback."""
    try:
        application()
    except PercallError as error:
        _fail(error, error.exit_code)
    except BrokerError as error:
        _fail(error, EXIT_FAILED)
    except KeyboardInterrupt:
        sys.exit(130)


def _fail(error: PercallError | BrokerError, code: int) -> None:
    sys.stderr.write(f"percall-broker: {error.message} [{error.code}]\n")
    if error.next_step:
        sys.stderr.write(f"  {error.next_step}\n")
    sys.exit(code)
