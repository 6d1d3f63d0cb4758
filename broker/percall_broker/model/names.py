"""Refuses what cannot be the name of a person, an agent, a group or a server: whoever asks, in one sentence."""

from __future__ import annotations

from percall import wire
from percall_broker.model.errors import InvalidInput


def check_name(name: str, what: str) -> None:
    """Raises InvalidInput, whose code begins with `what`, for a name that cannot be one."""
    if not wire.is_name(name):
        raise InvalidInput(
            f"{what}.name",
            f"{name!r} cannot be the name of a {what}.",
            f"Use up to {wire.MAX_NAME_CHARACTERS} letters, digits and . _ @ + -",
        )
