"""What is said of a name that nothing here has."""

from __future__ import annotations

from percall_broker.model.errors import NotFound


def server(name: str) -> NotFound:
    """There is no such server."""
    return NotFound("server.unknown", f"There is no server {name!r}.", "See: percall-broker server list.")


def person(name: str) -> NotFound:
    """There is no such person."""
    return NotFound("person.unknown", f"There is no person {name!r}.", "See: percall-broker person list.")


def group(name: str) -> NotFound:
    """There is no such group."""
    return NotFound("group.unknown", f"There is no group {name!r}.", "See: percall-broker group list.")
