"""What may be the name of a person, an agent, a group or a server."""

from __future__ import annotations

from percall_broker.model.errors import InvalidInput

_NAME_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._@+-")
_NAME_LENGTH = 64


def check_name(name: str, what: str) -> None:
    """Raises InvalidInput, whose code begins with `what`, for a name that cannot be one."""
    if not name or len(name) > _NAME_LENGTH or not set(name) <= _NAME_CHARACTERS or name[0] in ".-":
        raise InvalidInput(
            f"{what}.name",
            f"{name!r} cannot be the name of a {what}.",
            f"Use up to {_NAME_LENGTH} letters, digits and . _ @ + -",
        )
