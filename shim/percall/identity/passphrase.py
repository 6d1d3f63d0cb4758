"""The passphrase of the encrypted keyring file: from a file that only this user can read, or typed at a terminal.

Never from argv or an environment variable's value, which other processes can see.
"""

from __future__ import annotations

import os
import stat
import sys

from percall.errors import IdentityError

VARIABLE = "PERCALL_PASSPHRASE_FILE"
LEAST_CHARACTERS = 8


def file(recorded: str = "") -> str:
    """The passphrase file to use: the variable's, or the one that login recorded; empty for none."""
    return os.environ.get(VARIABLE) or recorded


def from_file(path: str) -> bytes:
    """The passphrase in a file, without the newline at its end. Raises IdentityError when the file is not private."""
    try:
        with open(path, "rb") as opened:  # noqa: PTH123 - pathlib costs 5 ms, for which a remote server's client waits
            status = os.fstat(opened.fileno())
            if os.name == "posix" and (status.st_mode & 0o077 or status.st_uid not in {os.getuid(), 0}):
                mode = stat.filemode(status.st_mode)
                raise IdentityError(
                    "passphrase.exposed",
                    f"Others can read the passphrase file {path} ({mode}), so it is refused.",
                    f"Make it yours alone: `chmod 600 {path}`.",
                )
            text = opened.read(4096).rstrip(b"\r\n")
    except OSError as error:
        raise IdentityError(
            "passphrase.file",
            f"The passphrase file {path} cannot be read: {error.strerror}.",
            f"Set {VARIABLE} to a file that holds the passphrase.",
        ) from None
    return _checked(text)


def from_terminal(*, new: bool) -> bytes:
    """The passphrase typed at the terminal, twice when it is new. Raises IdentityError when there is no terminal."""
    if not sys.stdin.isatty():
        raise _unset() if new else missing()
    from percall.identity.prompts import hidden  # noqa: PLC0415 - not for the helper, which nobody types to

    typed = hidden(f"{'New passphrase' if new else 'Passphrase'} of the Percall keyring file: ")
    if new and typed != hidden("The same again: "):
        raise IdentityError("passphrase.differs", "The two passphrases differ.", "Try again.")
    return _checked(typed.encode()) if new else typed.encode()


def missing() -> IdentityError:
    """Nobody is there to type the passphrase."""
    return IdentityError(
        "passphrase.missing",
        "The keyring file is locked, and there is no terminal to ask for its passphrase at.",
        "Run percall unlock at a terminal; nothing needs to be started anew. "
        f"Or set {VARIABLE} to a file (mode 0600) that holds the passphrase, then run `percall login`.",
    )


def _unset() -> IdentityError:
    return IdentityError(
        "passphrase.unset",
        "The keyring file needs a passphrase, and there is no terminal to choose it at.",
        f"Log in at a terminal, or set {VARIABLE} to a file (mode 0600) that holds the passphrase.",
    )


def _checked(text: bytes) -> bytes:
    if len(text) < LEAST_CHARACTERS:
        raise IdentityError(
            "passphrase.short", f"The passphrase has fewer than {LEAST_CHARACTERS} characters.", "Choose a longer one."
        )
    return text
