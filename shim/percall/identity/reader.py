"""The helper process that reads one login's secrets: `python -m percall.identity.reader GRANT`.

Prints them on stdout, which must be a pipe to the process that asked, and ends. It never asks at a terminal: the
MCP client owns that.
"""

from __future__ import annotations

import json
import sys

from percall import home
from percall.errors import UsageError
from percall.identity import helper


def read(grant: str) -> dict[str, str]:
    """The secrets of a grant's login. Raises IdentityError or UsageError."""
    login = home.login(grant)
    if login.keyring == "file":
        from percall.identity import keyring_file, passphrase  # noqa: PLC0415 - nacl, only where it is needed

        path = passphrase.file(login.passphrase_file)
        if not path:
            raise passphrase.missing()
        text = keyring_file.unseal(grant, passphrase.from_file(path))
    else:
        from percall.identity import keyring_os  # noqa: PLC0415 - keyring, only where it is needed

        text = keyring_os.get(login.backend, grant)
    return dict(json.loads(text))


def main() -> int:
    """Answers for the grant that argv names."""
    if len(sys.argv) != 2 or sys.stdout.isatty():  # noqa: PLR2004 - the module and one grant
        raise SystemExit("percall: started by `percall run`; prints secrets to a pipe only.")

    def work() -> dict[str, str]:
        try:
            return read(sys.argv[1])
        except ValueError:
            raise UsageError(
                "keyring.damaged", "The keyring item is damaged.", "Ask for a new invite and run `percall login`."
            ) from None

    return helper.answer(work)


if __name__ == "__main__":
    sys.exit(main())
