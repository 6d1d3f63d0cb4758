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
    plot = plots.lines(0, 3_600_000, [("median", [10, 20, None, 20, 30])])
    ((_, path),) = plot.lines
    assert path.count("M") == 2
    assert plot.points == ()


def test_a_value_without_neighbours_is_a_point_since_no_line_shows_it() -> None:
    plot = plots.lines(0, 3_600_000, [("median", [10, None, 20, 30]), ("p95", [None, None, None, 40])])
    assert [(series, path.count("M")) for series, path in plot.lines] == [("median", 1), ("p95", 0)]
    assert [series for *_, series in plot.points] == ["median", "p95"]
    for x, y, _ in plot.points:
        assert plots.LEFT <= x <= plots.WIDTH
        assert plots.TOP <= y <= plots.HEIGHT - plots.BOTTOM


@pytest.mark.parametrize(
    ("highest", "shown"),
    [
        (4, ["0", "2", "4"]),
        (900, ["0", "500", "1k"]),
        (5000, ["0", "2.5k", "5k"]),
        (20_000, ["0", "10k", "20k"]),
        (1_000_000, ["0", "500k", "1M"]),
        (5_000_000, ["0", "2.5M", "5M"]),
        (40_000_000, ["0", "20M", "40M"]),
    ],
)
def test_counts_beside_a_plot_are_short_and_never_in_powers_of_ten(highest: int, shown: list[str]) -> None:
    assert [label.text for label in plots.stacked(0, 3_600_000, [("permitted", [highest])]).up] == shown


def test_from_a_second_on_durations_beside_a_plot_are_in_seconds() -> None:
    assert [label.text for label in plots.lines(0, 3_600_000, [("median", [1500])]).up] == ["0 ms", "1 s", "2 s"]
    assert [label.text for label in plots.lines(0, 3_600_000, [("median", [600])]).up] == ["0 ms", "400 ms", "800 ms"]


@pytest.mark.parametrize(("highest", "end"), [(0, 4), (4, 4), (5, 5), (13, 20), (101, 200), (801, 1000)])
def test_axes_end_at_round_numbers(highest: float, end: float) -> None:
    assert plots.nice(highest) == end


def test_an_empty_day_is_a_plot_too() -> None:
    plot = plots.stacked(0, 3_600_000, [("permitted", [0] * 24), ("refused", [0] * 24)])
    assert not any(bar.pieces for bar in plot.bars)
    assert [label.text for label in plot.up] == ["0", "2", "4"]
