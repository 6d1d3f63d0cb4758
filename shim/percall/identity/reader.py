"""The helper process that reads one login's secrets: `python -m percall.identity.reader GRANT`, or a fork of a start.

Prints them on stdout, which must be a pipe to the process that asked, and ends. It never asks at a terminal: the
MCP client owns that.
"""

from __future__ import annotations

import json
import sys
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
    return dict(json.loads(text))


def _nobody_is_there() -> NoReturn:
    from percall.identity import passphrase  # noqa: PLC0415 - loaded long ago

    raise passphrase.missing()


def answer(grant: str) -> int:
    """Prints the answer for a grant; the process's exit code."""

    def work() -> dict[str, str]:
        try:
            return read(grant)
        except ValueError:
            raise UsageError(
                "keyring.damaged", "The keyring item is damaged.", "Ask for a new invite and run `percall login`."
            ) from None

    return helper.answer(work)


def main() -> int:
    """Answers for the grant that argv names."""
    if len(sys.argv) != 2 or sys.stdout.isatty():  # noqa: PLR2004 - the module and one grant
        raise SystemExit("percall: started by `percall run`; prints secrets to a pipe only.")
    return answer(sys.argv[1])


if __name__ == "__main__":
    sys.exit(main())
