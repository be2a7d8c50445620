from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cbirbench.errors import DataError
from cbirbench.figures.curves import COLUMNS, draw_curves

Row = tuple[str, int, int, str, float]

THREE_RUNS: list[Row] = [
    *(("ours", run, 1, "map@5", value) for run, value in enumerate((0.5, 0.6, 0.7))),
    *(("ours", run, 2, "map@5", value) for run, value in enumerate((0.8, 0.8, 0.8))),
    ("frozen", 0, 1, "map@5", 0.4),
    ("frozen", 0, 2, "map@5", 0.4),
    *(("ours", run, 2, "relevance-rank", 0.1 * (run + 1)) for run in range(3)),
]


def table(rows: Sequence[Row]) -> pd.DataFrame:
    return pd.DataFrame(list(rows), columns=list(COLUMNS))


def lines(axes: Axes) -> dict[str, list[tuple[float, float]]]:
    return {
        str(line.get_label()): [(float(x), float(y)) for x, y in np.asarray(line.get_xydata())]
        for line in axes.lines
    }


def band(axes: Axes, position: int) -> list[tuple[float, float]]:
    """Lower and upper end of one band, epoch by epoch, from its outline."""
    outline = axes.collections[position].get_paths()[0].vertices
    ends: dict[float, list[float]] = {}
    for x, y in np.asarray(outline):
        ends.setdefault(float(x), []).append(float(y))
    return [(min(found), max(found)) for _, found in sorted(ends.items())]


def test_means_and_bands_by_hand(tmp_path: Path, drawn: list[Figure]) -> None:
    draw_curves(table(THREE_RUNS), tmp_path / "x.png", title="figure 6", headings={"map@5": "MAP@5"})
    (figure,) = drawn
    assert figure.get_suptitle() == "figure 6"
    first, second = figure.axes
    assert (first.get_title(), second.get_title()) == ("MAP@5", "relevance-rank")
    assert lines(first) == {
        "ours (3 runs)": [(1, pytest.approx(60)), (2, pytest.approx(80))],
        "frozen (1 run)": [(1, pytest.approx(40)), (2, pytest.approx(40))],
    }
    # .5, .6, .7 have a sample deviation of .1; three equal values one of 0.
    assert band(first, 0) == [pytest.approx((50, 70)), pytest.approx((80, 80))]
    assert lines(second) == {"ours (3 runs)": [(2, pytest.approx(20))]}
    assert second.collections[0].get_segments()[0][:, 1] == pytest.approx([10, 30])  # type: ignore[attr-defined]
    assert (first.get_xlabel(), first.get_ylabel()) == ("Epoch", "Percent")
    assert first.get_xlim() == second.get_xlim()


def test_a_single_run_has_no_band(tmp_path: Path, drawn: list[Figure]) -> None:
    rows = [("frozen", 0, epoch, "map@5", 0.4) for epoch in (1, 2, 3)]
    draw_curves(table(rows), tmp_path / "x.png")
    (axes,) = drawn[0].axes
    assert all(not collection.get_paths() for collection in axes.collections)
    assert drawn[0].legends[0].get_title().get_text() in ("", "None")


def test_the_legend_says_what_the_band_is_and_how_many_runs(tmp_path: Path, drawn: list[Figure]) -> None:
    rows = [*THREE_RUNS, ("ours", 0, 3, "map@5", 0.9)]
    draw_curves(table(rows), tmp_path / "x.png")
    (legend,) = drawn[0].legends
    assert "± 1 sample standard deviation over runs" in legend.get_title().get_text()
    assert [text.get_text() for text in legend.get_texts()] == ["ours (1 to 3 runs)", "frozen (1 run)"]


def test_curves_are_told_apart_without_colour(tmp_path: Path, drawn: list[Figure]) -> None:
    rows = [(name, 0, epoch, "map@5", 0.5) for name in "abcdefghij" for epoch in (1, 2)]
    draw_curves(table(rows), tmp_path / "x.png")
    styles = [(line.get_linestyle(), line.get_marker()) for line in drawn[0].axes[0].lines]
    assert len(set(styles)) == 10


def test_nan_is_left_out(tmp_path: Path, drawn: list[Figure]) -> None:
    rows = [
        ("ours", 0, 1, "map@5", 0.2),
        ("ours", 1, 1, "map@5", math.nan),
        ("ours", 0, 2, "map@5", math.nan),
        ("ours", 0, 3, "map@5", 0.4),
        ("ours", 0, 1, "purity@5", math.nan),
    ]
    draw_curves(table(rows), tmp_path / "x.png")
    (axes,) = drawn[0].axes
    assert lines(axes) == {"ours (1 run)": [(1, pytest.approx(20)), (3, pytest.approx(40))]}


def test_epochs_come_in_order_whatever_the_rows_order(tmp_path: Path, drawn: list[Figure]) -> None:
    rows = [("ours", 0, epoch, "map@5", epoch / 100) for epoch in (30, 0, 20, 10)]
    draw_curves(table(rows), tmp_path / "x.png")
    assert [x for x, _ in lines(drawn[0].axes[0])["ours (1 run)"]] == [0, 10, 20, 30]


def test_many_metrics_many_epochs_odd_names(tmp_path: Path, drawn: list[Figure]) -> None:
    rows = [("a $\\x_1\n", 0, epoch, f"m{k}$", 0.5) for k in range(5) for epoch in range(100)]
    draw_curves(table(rows), tmp_path / "x.svg")
    shown = [axes for axes in drawn[0].axes if axes.axison]
    assert [axes.get_title() for axes in shown] == [f"m{k}$" for k in range(5)]
    assert list(lines(shown[0])) == ["a $\\x_1 (1 run)"]


@pytest.mark.parametrize(
    ("curves", "says"),
    [
        (table(THREE_RUNS).drop(columns="epoch"), "epoch is not there"),
        (table([]), "no value to draw"),
        (table([("ours", 0, 1, "map@5", math.nan)]), "no value to draw"),
        (
            table([THREE_RUNS[0], THREE_RUNS[0]]),
            "two values for extractor ours, run 0, epoch 1, metric map@5",
        ),
    ],
)
def test_a_table_that_cannot_be_drawn(curves: pd.DataFrame, says: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=says) as caught:
        draw_curves(curves, tmp_path / "x.png")
    assert caught.value.remedy
    assert list(tmp_path.iterdir()) == []
