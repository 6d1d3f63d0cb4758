"""One thing that was looked at, and how it was found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from percall.errors import PercallError

OK, WARNING, PROBLEM = "ok", "warning", "problem"


@dataclass(frozen=True, slots=True)
class Finding:
    """`check` is what was looked at (keyring, broker, clock …), `about` whose; `exit_code` counts for a problem."""

    state: str
    check: str
    about: str
    message: str
    next_step: str = ""
    code: str = ""
    exit_code: int = 0


def ok(check: str, about: str, message: str) -> Finding:
    """As it should be."""
    return Finding(OK, check, about, message)


def warning(check: str, about: str, message: str, next_step: str, *, code: str) -> Finding:
    """It works, and yet deserves a look."""
    return Finding(WARNING, check, about, message, next_step, code)


def problem(check: str, about: str, error: PercallError) -> Finding:
    """It does not work."""
    return Finding(PROBLEM, check, about, error.message, error.next_step, error.code, error.exit_code)
