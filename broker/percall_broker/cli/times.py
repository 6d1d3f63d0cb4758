"""Times as people write them in options: how long something lasts, or since when."""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime

from percall.errors import UsageError

_DURATION = re.compile(r"([1-9]\d{0,5})([smhdw])")
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}


def seconds_of(duration: str, also: str = "") -> int:
    """The seconds of `30d`, `12h`, `15m` or `90s`. Raises UsageError, which names these and what may be said `also`."""
    found = _DURATION.fullmatch(duration)
    if not found:
        raise UsageError("cli.duration", f"{duration!r} is not a duration.", f"Write 30d, 12h, 15m or 90s{also}.")
    return int(found[1]) * _UNITS[found[2]]


def end_of(duration: str) -> int:
    """When something ends that lasts so long from now, in seconds since the epoch; 0 where nobody says. Raises
    UsageError.
    """
    return int(time.time()) + seconds_of(duration) if duration else 0


def milliseconds_of(moment: str) -> int:
    """A moment: ISO 8601 (UTC unless it says otherwise), or `2h` for two hours ago; 0 for none. Raises UsageError."""
    if not moment:
        return 0
    try:
        parsed = datetime.fromisoformat(moment)
    except ValueError:
        try:
            return int((time.time() - seconds_of(moment)) * 1000)
        except UsageError:
            raise UsageError(
                "cli.time", f"{moment!r} is no time.", "Write 2026-11-23T10:00 (ISO 8601), or 2h for two hours ago."
            ) from None
    return int((parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)).timestamp() * 1000)
