"""Moments as text: in UTC, whoever writes them, since those who read them sit in more than one place."""

from __future__ import annotations

import time


def stamp(seconds: float) -> str:
    """For programs (RFC 3339), to the second: `2026-11-23T10:00:05Z`."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def fine_stamp(milliseconds: int) -> str:
    """The same to the millisecond, as the record has them: `2026-11-23T10:00:05.250Z`."""
    return f"{stamp(milliseconds // 1000)[:-1]}.{milliseconds % 1000:03}Z"


def in_full(seconds: float) -> str:
    """For people: `2026-11-23 10:00:05 UTC`."""
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(seconds))


def to_the_minute(seconds: float) -> str:
    """For people, where seconds say nothing; that it is UTC, whoever uses it says: `2026-11-23 10:00`."""
    return time.strftime("%Y-%m-%d %H:%M", time.gmtime(seconds))
