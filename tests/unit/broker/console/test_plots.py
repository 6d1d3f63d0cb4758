"""Plots: bars stand on one another inside their frame, and lines break where nothing is known."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from percall_broker.console import plots

COUNTS = st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 10**6)), min_size=1, max_size=60)


@given(COUNTS)
def test_bars_stay_in_their_frame_and_on_one_another(counts: list[tuple[int, int]]) -> None:
    first, second = [a for a, _ in counts], [b for _, b in counts]
    plot = plots.stacked(0, 3_600_000, [("permitted", first), ("refused", second)])
    assert len(plot.bars) == len(counts)
    for bar, (below, above) in zip(plot.bars, counts, strict=True):
        assert bar.x >= plots.LEFT
        assert bar.x + bar.width <= plots.WIDTH
        assert [series for *_, series in bar.pieces] == ["permitted"] * bool(below) + ["refused"] * bool(above)
        bottom = plots.HEIGHT - plots.BOTTOM
        for y, height, _ in bar.pieces:
            assert y + height == pytest.approx(bottom, abs=0.05)
            assert y >= plots.TOP - 0.05
            bottom = y
        assert f"{below} permitted, {above} refused" in bar.title


def test_a_line_breaks_where_nothing_is_known() -> None:
    ((_, path),) = plots.lines(0, 3_600_000, [("median", [10, None, 20, 30])]).lines
    assert path.count("M") == 2


@pytest.mark.parametrize(("highest", "end"), [(0, 4), (4, 4), (5, 5), (13, 20), (101, 200), (801, 1000)])
def test_axes_end_at_round_numbers(highest: float, end: float) -> None:
    assert plots.nice(highest) == end


def test_an_empty_day_is_a_plot_too() -> None:
    plot = plots.stacked(0, 3_600_000, [("permitted", [0] * 24), ("refused", [0] * 24)])
    assert not any(bar.pieces for bar in plot.bars)
    assert [label.text for label in plot.up] == ["0", "2", "4"]
