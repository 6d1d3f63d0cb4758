"""What may be the name of a person, an agent, a group or a server."""

from __future__ import annotations

from percall_broker.model.errors import InvalidInput

_NAME_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._@+-")
_NAME_LENGTH = 64


def is_name(text: str) -> bool:
    """Whether a text can be one."""
    return 0 < len(text) <= _NAME_LENGTH and set(text) <= _NAME_CHARACTERS and text[0] not in ".-"


def check_name(name: str, what: str) -> None:
    """Raises InvalidInput, whose code begins with `what`, for a name that cannot be one."""
    if not is_name(name):
        raise InvalidInput(
            f"{what}.name",
            f"{name!r} cannot be the name of a {what}.",
            f"Use up to {_NAME_LENGTH} letters, digits and . _ @ + -",
        )
