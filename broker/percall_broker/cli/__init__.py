"""The administrator's commands: nouns, then verbs.

`init`, `invite`, `serve`, `migrate`, `backup` and `key rotate` act on this machine's broker folder; `recipe` and
`policy check` need none. Everything else is a signed request with the administrator's own grant, like anybody's.
"""

from __future__ import annotations

from percall.errors import PercallError, UsageError
from percall_broker.cli.root import tree
from percall_broker.model.errors import BrokerError, Conflict, InvalidInput, NotFound


def main() -> None:
    """Runs the command line. Raises PercallError, as which the broker's own errors go on to the outermost edge;
    UsageError where they are about what was written here.
    """
    try:
        tree()
    except (InvalidInput, NotFound, Conflict) as error:
        raise UsageError(error.code, error.message, error.next_step) from None
    except BrokerError as error:
        raise PercallError(error.code, error.message, error.next_step) from None
