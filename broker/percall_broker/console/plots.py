"""Plots as inline SVG: the geometry is worked out here, the template draws it. No script, no style attribute."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

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
    """A plot over time: bars, or lines. Lines are SVG paths by series; `points` those that no line reaches, as
    (x, y, series).
    """

    bars: tuple[Bar, ...]
    lines: tuple[tuple[str, str], ...]
    points: tuple[tuple[float, float, str], ...]
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
    return Plot(tuple(bars), (), (), _across(start_ms, bucket_ms, buckets), _up(end, _count))


def lines(start_ms: int, bucket_ms: int, series: Sequence[tuple[str, Sequence[float | None]]]) -> Plot:
    """Lines over time; where a bucket has no value the line is broken."""
    buckets = len(series[0][1])
    end = nice(max((value for _, values in series for value in values if value is not None), default=0))
    step = (WIDTH - LEFT - RIGHT) / buckets
    drawn, alone = [], []
    for name, values in series:
        path: list[str] = []
        for is_known, run in groupby(enumerate(values), key=lambda one: one[1] is not None):
            points = [(round(LEFT + (i + 0.5) * step, 2), round(_y(value or 0, end), 2)) for i, value in run]
            if is_known and len(points) == 1:
                alone.append((*points[0], name))
            elif is_known:
                path.append("M" + "L".join(f"{x:.2f} {y:.2f}" for x, y in points))
        drawn.append((name, "".join(path)))
    return Plot((), tuple(drawn), tuple(alone), _across(start_ms, bucket_ms, buckets), _up(end, _duration))


def _y(value: float, end: float) -> float:
    return HEIGHT - BOTTOM - value / end * (HEIGHT - TOP - BOTTOM)


def _up(end: float, form: Callable[[float], str]) -> tuple[Label, ...]:
    return tuple(Label(round(_y(end * part, end), 2), form(end * part)) for part in (0, 0.5, 1))


def _count(value: float) -> str:
    for unit, name in ((1_000_000, "M"), (1000, "k")):
        if value >= unit:
            return f"{value / unit:g}{name}"
    return f"{value:g}"


def _duration(value: float) -> str:
    return f"{value:g} ms" if value < 1000 else f"{value / 1000:g} s"  # noqa: PLR2004 - a second


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
