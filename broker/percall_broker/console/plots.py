"""Plots as inline SVG: the geometry is worked out here, the template draws it. No script, no style attribute."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

WIDTH, HEIGHT = 480.0, 150.0
LEFT, RIGHT, TOP, BOTTOM = 46.0, 4.0, 10.0, 22.0
_HOUR_MS, _DAY_MS = 3_600_000, 86_400_000
_LABELS = 6


@dataclass(frozen=True, slots=True)
class Bar:
    """One bucket's bar, of pieces stacked from below: (y, height, series). `title` says it in words."""

    x: float
    width: float
    pieces: tuple[tuple[float, float, str], ...]
    title: str


@dataclass(frozen=True, slots=True)
class Label:
    """A tick of an axis."""

    at: float
    text: str


@dataclass(frozen=True, slots=True)
class Plot:
    """A plot over time: bars, or lines with their points. Lines are SVG paths by series."""

    bars: tuple[Bar, ...]
    lines: tuple[tuple[str, str], ...]
    across: tuple[Label, ...]
    up: tuple[Label, ...]


def nice(highest: float) -> float:
    """The end of an axis: the next round number, so that its half and quarter read well; at least 4."""
    if highest <= 4:  # noqa: PLR2004 - the smallest axis that has whole ticks
        return 4
    power = 10.0 ** math.floor(math.log10(highest))
    return next(step * power for step in (1, 2, 4, 5, 8, 10) if step * power >= highest)


def stacked(start_ms: int, bucket_ms: int, series: Sequence[tuple[str, Sequence[int]]]) -> Plot:
    """Bars over time, of series from below (a name and a count for each bucket)."""
    buckets = len(series[0][1])
    end = nice(max((sum(counts[i] for _, counts in series) for i in range(buckets)), default=0))
    step = (WIDTH - LEFT - RIGHT) / buckets
    bars = []
    for i in range(buckets):
        pieces, below = [], 0
        for name, counts in series:
            if counts[i]:
                top = _y(below + counts[i], end)
                pieces.append((round(top, 2), round(_y(below, end) - top, 2), name))
                below += counts[i]
        words = ", ".join(f"{counts[i]} {name}" for name, counts in series)
        title = f"{_time(start_ms + i * bucket_ms, bucket_ms)}: {words}"
        bars.append(Bar(round(LEFT + i * step + step * 0.14, 2), round(step * 0.72, 2), tuple(pieces), title))
    return Plot(tuple(bars), (), _across(start_ms, bucket_ms, buckets), _up(end, "{:g}"))


def lines(start_ms: int, bucket_ms: int, series: Sequence[tuple[str, Sequence[float | None]]]) -> Plot:
    """Lines over time; where a bucket has no value the line is broken."""
    buckets = len(series[0][1])
    end = nice(max((value for _, values in series for value in values if value is not None), default=0))
    step = (WIDTH - LEFT - RIGHT) / buckets
    drawn = []
    for name, values in series:
        path, pen_down = [], False
        for i, value in enumerate(values):
            if value is None:
                pen_down = False
                continue
            point = f"{LEFT + (i + 0.5) * step:.2f} {_y(value, end):.2f}"
            path.append(f"{'L' if pen_down else 'M'}{point}" + ("" if pen_down else f"L{point}"))
            pen_down = True
        drawn.append((name, "".join(path)))
    return Plot((), tuple(drawn), _across(start_ms, bucket_ms, buckets), _up(end, "{:g} ms"))


def _y(value: float, end: float) -> float:
    return HEIGHT - BOTTOM - value / end * (HEIGHT - TOP - BOTTOM)


def _up(end: float, form: str) -> tuple[Label, ...]:
    return tuple(Label(round(_y(end * part, end), 2), form.format(end * part)) for part in (0, 0.5, 1))


def _across(start_ms: int, bucket_ms: int, buckets: int) -> tuple[Label, ...]:
    step = (WIDTH - LEFT - RIGHT) / buckets
    every = max(1, math.ceil(buckets / _LABELS))
    return tuple(
        Label(round(LEFT + (i + 0.5) * step, 2), _time(start_ms + i * bucket_ms, bucket_ms))
        for i in range(every // 2, buckets, every)
    )


def _time(ms: int, bucket_ms: int) -> str:
    form = "%d %b" if bucket_ms >= _DAY_MS else "%d %b %H:%M" if bucket_ms > _HOUR_MS else "%H:%M"
    return time.strftime(form, time.gmtime(ms / 1000))
