from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from skimage.io import imread

from cbirbench.errors import DataError, UsageError
from cbirbench.figures.windows import draw_clipping, draw_organ_histogram

WIDE, NARROW = (-200.0, 300.0), (50.0, 150.0)


def legend_lines(figure: Figure) -> list[str]:
    (legend,) = figure.legends
    return [text.get_text() for text in legend.get_texts()]


def test_the_three_panels_say_their_range_and_keep_to_it(tmp_path: Path, drawn: list[Figure]) -> None:
    hu = np.arange(-1000, 1000, 10, dtype=np.int16).reshape(10, 20)
    draw_clipping(hu, WIDE, NARROW, tmp_path / "x.png", title="one slice")
    (figure,) = drawn
    assert figure.get_suptitle() == "one slice"
    assert [axes.get_title() for axes in figure.axes] == [
        "No clipping\n−1000 to 990 HU",
        "Narrow window\n50 to 150 HU",
        "Wide window\n−200 to 300 HU",
    ]
    for axes, ends in zip(figure.axes, [(-1000, 990), NARROW, WIDE], strict=True):
        (image,) = axes.images
        assert image.get_clim() == ends
        assert image.origin == "upper"
        np.testing.assert_array_equal(image.get_array(), hu)


def test_grey_values_by_hand(tmp_path: Path) -> None:
    # One HU throughout: 100 is the middle of the narrow window and .6 of the wide one.
    draw_clipping(np.full((30, 30), 100, np.int16), WIDE, NARROW, tmp_path / "x.png")
    grey = imread(tmp_path / "x.png")[:, :, 0]
    row = grey[grey.shape[0] * 2 // 3]
    middle = len(row) // 2
    assert row[middle] in (127, 128)
    assert row[-len(row) // 6] == 153


def test_a_slice_need_not_be_square(tmp_path: Path) -> None:
    for shape in ((4, 200), (200, 4), (1, 1)):
        draw_clipping(np.zeros(shape, np.int16), WIDE, NARROW, tmp_path / "x.png")


@pytest.mark.parametrize("shape", [(3, 4, 5), (7,), (0, 5)])
def test_what_is_no_slice_is_refused(shape: tuple[int, ...], tmp_path: Path) -> None:
    with pytest.raises(DataError, match="rows and columns"):
        draw_clipping(np.zeros(shape, np.int16), WIDE, NARROW, tmp_path / "x.png")


def test_the_histogram_by_hand(tmp_path: Path, drawn: list[Figure]) -> None:
    # Ten voxels: a window's ends count as inside. Wide: all but -201 and 301; narrow: 50, 100, 100 and 150.
    values = np.array([-201, -200, 0, 49, 50, 100, 100, 150, 300, 301], dtype=np.int16)
    draw_organ_histogram(values, WIDE, NARROW, tmp_path / "x.png", organ="spleen", title="ten voxels")
    (figure,) = drawn
    assert legend_lines(figure) == [
        "10 voxels",
        "Wide window, −200 to 300 HU: 80.00 % of voxels",
        "Narrow window, 50 to 150 HU: 40.00 % of voxels",
    ]
    (axes,) = figure.axes
    assert axes.get_xlabel() == "Hounsfield units (HU)"
    heights, edges, _ = axes.patches[0].get_data()  # type: ignore[attr-defined]
    step = round(edges[1] - edges[0])
    assert axes.get_ylabel() == f"Share of spleen voxels (% per {step} HU)"
    assert heights.sum() == pytest.approx(100)
    for value, expected in ((100, 20), (0, 10), (200, 0)):
        assert heights[np.searchsorted(edges, value) - 1] == pytest.approx(expected)
    low, high = axes.get_xlim()
    assert low < -200 and high > 301
    lines = {round(float(line.get_xdata()[0])): line.get_linestyle() for line in axes.lines}  # type: ignore[index]
    assert lines == {-200: "--", 300: "--", 50: "-", 150: "-"}  # told apart without colour


def test_outliers_do_not_stretch_the_axis_but_are_counted(tmp_path: Path, drawn: list[Figure]) -> None:
    values = np.concatenate([np.full(9990, 100), np.full(5, -3000), np.full(5, 20000)])
    draw_organ_histogram(values, WIDE, NARROW, tmp_path / "x.png")
    (axes,) = drawn[0].axes
    assert axes.get_xlim()[0] > -250 and axes.get_xlim()[1] < 350
    heights = axes.patches[0].get_data()[0]  # type: ignore[attr-defined]
    assert heights.sum() == pytest.approx(99.9)
    assert "99.90 % of voxels" in legend_lines(drawn[0])[1]


def test_an_organ_outside_both_windows_is_seen(tmp_path: Path, drawn: list[Figure]) -> None:
    values = np.random.default_rng(0).normal(-800, 50, 2000)
    draw_organ_histogram(values, WIDE, NARROW, tmp_path / "x.png", organ="lung")
    heights = drawn[0].axes[0].patches[0].get_data()[0]  # type: ignore[attr-defined]
    assert heights.sum() > 99.7
    assert drawn[0].axes[0].get_xlim()[1] > 300


@pytest.mark.parametrize("values", [[], [float("nan"), 5.0], [float("inf")]])
def test_without_usable_voxels_nothing_is_drawn(values: list[float], tmp_path: Path) -> None:
    with pytest.raises(DataError, match="liver voxels"):
        draw_organ_histogram(np.array(values), WIDE, NARROW, tmp_path / "x.png")
    assert list(tmp_path.iterdir()) == []


def test_a_window_out_of_order_is_refused(tmp_path: Path) -> None:
    for windows in (((300.0, -200.0), NARROW), (WIDE, (50.0, 50.0))):
        with pytest.raises(UsageError, match="HU window"):
            draw_clipping(np.zeros((2, 2), np.int16), *windows, tmp_path / "x.png")
        with pytest.raises(UsageError, match="HU window"):
            draw_organ_histogram(np.zeros(2), *windows, tmp_path / "x.png")
    assert list(tmp_path.iterdir()) == []
