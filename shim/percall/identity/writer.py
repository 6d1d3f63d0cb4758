"""The helper process that writes to the OS keyring: `python -m percall.identity.writer probe|store|delete …`.

`probe` chooses the backend and tries it out; `store BACKEND GRANT` keeps the item that stands on stdin, never in argv.
"""

from __future__ import annotations

import sys

from percall.errors import UsageError
from percall.identity import helper, keyring_os


def write(arguments: list[str]) -> dict[str, str]:
    """Does what the arguments say. Raises IdentityError or UsageError."""
    match arguments:
        case ["probe"]:
            backend = keyring_os.choose()
            keyring_os.probe(backend)
            return {"backend": backend}
        case ["store", backend, grant]:
            keyring_os.put(backend, grant, sys.stdin.read())
            return {"backend": backend}
        case ["delete", backend, grant]:
            keyring_os.delete(backend, grant)
            return {"backend": backend}
        case _:
            raise UsageError("keyring.writer", "The keyring's writer is started by `percall login`.")


if __name__ == "__main__":
    sys.exit(helper.answer(lambda: write(sys.argv[1:])))
