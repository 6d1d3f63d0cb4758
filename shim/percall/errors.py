"""The errors of the laptop's side: one small tree, each with a stable code, a sentence, and what to do next.

PercallError
├── UsageError          the command line or a file of the user's cannot be used as it is
├── IdentityError       keyring, device key, grant or enrolment
├── LaunchError         the child server cannot be started
├── FrameError          a JSON-RPC frame that is refused before anything else looks at it
├── BrokerUnreachable   no answer from the broker
├── BrokerRefusal       the broker answered, and the answer is no
└── WireError           what travelled between shim and broker is not in the form that `wire` defines
"""

from __future__ import annotations


class PercallError(Exception):
    """An error a person can act on. `code` is stable; `next_step` says what to do."""

    exit_code = 1

    def __init__(self, code: str, message: str, next_step: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.next_step = next_step

    def __str__(self) -> str:
        return f"{self.message} {self.next_step}".rstrip()


class UsageError(PercallError):
    """The command line or a file of the user's cannot be used as it is."""

    exit_code = 2


def plain(text: str) -> str:
    """Text without control characters: parts of it may come from a broker or a file."""
    return "".join(character if character.isprintable() else f"\\x{ord(character):02x}" for character in text)


def word(name: str) -> str:
    """A name as one word for a shell, in what is printed to be copied: a broker or a project may have chosen it."""
    from shlex import quote  # noqa: PLC0415 - what is rarely said costs no start

    return quote(name)


class IdentityError(PercallError):
    """Keyring, device key, grant or enrolment."""

    exit_code = 3


class LaunchError(PercallError):
    """The child server cannot be started."""

    exit_code = 4


class FrameError(PercallError):
    """A JSON-RPC frame that is refused before anything else looks at it."""


class BrokerUnreachable(PercallError):  # noqa: N818 - names the condition that the person sees
    """No answer from the broker."""

    exit_code = 5


class BrokerRefusal(PercallError):  # noqa: N818 - an answer, not a failure of ours
    """The broker answered, and the answer is no."""

    exit_code = 6


class WireError(PercallError):
    """What travelled between shim and broker is not in the form that `percall.wire` defines."""
