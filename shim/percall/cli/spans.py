"""Spans of time, as a person types them: `30m`, `8h`, `7d`."""

from __future__ import annotations

import re

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def seconds(text: str, units: str = "smhd") -> int | None:
    """How many seconds a span has, in one of these units; None for what is none."""
    span = re.fullmatch(rf"(\d{{1,6}})([{units}])", text)
    return int(span[1]) * _SECONDS[span[2]] if span else None
