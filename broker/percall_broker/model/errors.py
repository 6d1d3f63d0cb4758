"""The broker's errors: one small tree, each with a stable code, a sentence, and what to do next.

BrokerError                  answered as {"error": {"code", "message", "next_step"}} with `status`
├── InvalidInput      400    the request is not in the form that it must have
├── Unauthenticated   401    no valid grant, proof or invite
├── Forbidden         403    known, and not allowed
├── NotFound          404
├── Conflict          409    exists already, or changed in between
├── TooMany           429    more failures than a stranger may have: nothing was looked at
├── UpstreamFailed    502    the upstream could not be reached or answered in a way we refuse
└── Unavailable       503    the store, a key source or the disk: nothing is decided, so nothing is allowed
"""

from __future__ import annotations

from typing import Protocol

from percall import wire


class BrokerError(Exception):
    """An error that is answered to the caller. `grant` is whose request it was, where a token of ours showed one."""

    status = 500
    grant = ""

    def __init__(self, code: str, message: str, next_step: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.next_step = next_step


class InvalidInput(BrokerError):  # noqa: N818 - the tree reads as the answers it becomes
    """The request is not in the form that it must have."""

    status = 400


class Unauthenticated(BrokerError):  # noqa: N818
    """No valid grant, proof or invite. `challenge` is the DPoP error of RFC 9449, section 7.1. `tried`: something was
    shown, and it was not right.
    """

    status = 401

    def __init__(
        self, code: str, message: str, next_step: str = "", *, challenge: str = "invalid_token", tried: bool = True
    ) -> None:
        super().__init__(code, message, next_step)
        self.challenge = challenge
        self.tried = tried


class Forbidden(BrokerError):  # noqa: N818
    """Known, and not allowed. `approval` is what it waits for, where somebody may still allow it."""

    status = 403

    def __init__(self, code: str, message: str, next_step: str = "", *, approval: wire.Asked | None = None) -> None:
        super().__init__(code, message, next_step)
        self.approval = approval


class NotFound(BrokerError):  # noqa: N818
    """Nothing of that name."""

    status = 404


class Conflict(BrokerError):  # noqa: N818
    """It exists already, or it changed in between."""

    status = 409


class TooMany(BrokerError):  # noqa: N818
    """More failures than a stranger may have: nothing was looked at. `seconds` from now on it may be tried again."""

    status = 429

    def __init__(self, code: str, message: str, next_step: str = "", *, seconds: int = 1) -> None:
        super().__init__(code, message, next_step)
        self.seconds = seconds


class UpstreamFailed(BrokerError):  # noqa: N818
    """The upstream could not be reached, or answered in a way we refuse."""

    status = 502


class Unavailable(BrokerError):  # noqa: N818
    """The store, a key source or the disk: nothing is decided, so nothing is allowed."""

    status = 503


class Worded(Protocol):
    """What is refused and why: an error, or a decision."""

    @property
    def code(self) -> str:
        """Stable."""

    @property
    def message(self) -> str:
        """A sentence."""

    @property
    def next_step(self) -> str:
        """What to do; may be empty."""


def refusal(said: Worded) -> wire.Refusal:
    """The same for a laptop."""
    return wire.Refusal(said.code, said.message, said.next_step)


def forbidden(said: Worded) -> Forbidden:
    """The same as an error."""
    return Forbidden(said.code, said.message, said.next_step)
