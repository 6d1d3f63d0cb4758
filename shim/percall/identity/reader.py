"""The helper process that reads logins' secrets: `python -m percall.identity.reader GRANT…`, or a fork of a start.

Prints them on stdout, a line for each grant, and ends; stdout must be a pipe to the process that asked. It never asks
at a terminal: the MCP client owns that.
"""

from __future__ import annotations

import json
import sys
from functools import partial
from typing import NoReturn

from percall import home
from percall.errors import UsageError
from percall.identity import helper


def read(grant: str) -> dict[str, str]:
    """The secrets of a grant's login. Raises IdentityError or UsageError."""
    login = home.login(grant)
    if login.keyring == "file":
        from percall.identity import keyring_file, passphrase, unlocking  # noqa: PLC0415 - nacl, only where needed

        lock = keyring_file.lock_of(grant)
        key = unlocking.opened(lock, passphrase.file(login.passphrase_file), _nobody_is_there)
        text = keyring_file.unseal(grant, key)
    else:
        from percall.identity import keyring_os  # noqa: PLC0415 - keyring, only where it is needed

        text = keyring_os.get(login.backend, grant)
    try:
        return dict(json.loads(text))
    except ValueError:
        raise UsageError(
            "keyring.damaged", "The keyring item is damaged.", "Ask for a new invite and run `percall login`."
        ) from None


def _nobody_is_there() -> NoReturn:
    from percall.identity import passphrase  # noqa: PLC0415 - loaded long ago

    raise passphrase.missing()


def answer(*grants: str) -> int:
    """Prints an answer for each grant; the process's exit code."""
    return helper.answer(*(partial(read, grant) for grant in grants))


def main() -> int:
    """Answers for the grants that argv names."""
    if not sys.argv[1:] or sys.stdout.isatty():
        raise SystemExit("percall: started by `percall run`; prints secrets to a pipe only.")
    return answer(*sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
