"""`percall unlock` and `percall lock`: the keyring file without its passphrase, for a time."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from percall import home
from percall.cli import output, spans
from percall.errors import IdentityError, UsageError
from percall.identity import kernel_keyring, passphrase, unlocking

MOST_SECONDS = 7 * 86400


def unlock(
    duration: Annotated[str, typer.Option("--for", metavar="TIME", help="How long: 30m, 8h, or 7d at most.")] = "8h",
) -> None:
    """Open the keyring file for all your programs, for a time. Until it is over `percall run` needs no passphrase.

    Linux keeps the file's key (never the passphrase) in the kernel's keyring, and drops it by itself.
    """
    seconds = _seconds(duration)
    if not any(login.keyring == "file" for login in home.logins()):
        raise UsageError(
            "unlock.nothing",
            "No login on this device uses the keyring file, so there is nothing to unlock.",
            "The system's keyring is unlocked by the system: see its own settings.",
        )
    if not kernel_keyring.is_there():
        raise _unavailable()
    named = passphrase.file()
    secret = passphrase.from_file(named) if named else passphrase.from_terminal(new=False)
    until = unlocking.unlock(secret, seconds)
    output.say(f"Unlocked until {output.when(until)}, for every program of yours on this machine.")
    output.say("  To lock it sooner: percall lock")


def lock() -> None:
    """Lock the keyring file again. Whatever runs keeps what it has read; whatever starts needs the passphrase."""
    locked = unlocking.lock()
    output.say("Locked." if locked else "It was not unlocked.")


def _seconds(text: str) -> int:
    seconds = spans.seconds(text) or 0
    if not 0 < seconds <= MOST_SECONDS:
        raise UsageError("usage.time", f"--for: {text!r} is no time of up to seven days.", "Say 30m, 8h, or 2d.")
    return seconds


def _unavailable() -> IdentityError:
    if sys.platform == "darwin":
        return IdentityError(
            "unlock.unavailable",
            "macOS keeps no keys in its kernel; its Keychain does what `unlock` is for.",
            "Log in with `--keyring os`: it opens with your session; over SSH, with `security unlock-keychain`.",
        )
    where = "lets no program use" if sys.platform == "linux" else "has no"
    return IdentityError(
        "unlock.unavailable",
        f"This system {where} a kernel keyring, so nothing can be kept unlocked here.",
        "Set PERCALL_PASSPHRASE_FILE to a file (mode 0600) that holds the passphrase, then run `percall login`.",
    )
