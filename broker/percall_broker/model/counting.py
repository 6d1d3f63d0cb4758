"""Numbers as sentences have them."""

from __future__ import annotations

_UNITS = ((86400, "day"), (3600, "hour"), (60, "minute"))


def counted(number: int, noun: str, plural: str = "") -> str:
    """`1 grant`, `2 grants`."""
    return f"{number} {noun if number == 1 else plural or noun + 's'}"


def lasting(seconds: int) -> str:
    """A span of time, in the largest unit that tells it whole: `2 hours`, `90 minutes`."""
    for unit, name in _UNITS:
        if seconds % unit == 0:
            return counted(seconds // unit, name)
    return counted(seconds, "second")
