from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from cbirbench.errors import DataError
from cbirbench.figures.view_pairs import draw_view_pairs


def test_a_row_a_slice_on_fixed_scales(tmp_path: Path, drawn: list[Figure]) -> None:
    rng = np.random.default_rng(0)
    slices = [rng.integers(-1000, 1000, shape).astype(np.int16) for shape in ((20, 16), (30, 30))]
    views = (rng.uniform(0.4, 0.6, (2, 8, 8)), rng.uniform(0.0, 0.1, (2, 8, 8)))
    draw_view_pairs(
        slices, views, tmp_path / "x.png", titles=["a\nb", "second"], caption="synthetic, hu-clip"
    )
    (figure,) = drawn
    assert figure.get_suptitle() == "synthetic, hu-clip"
    grid = np.array(figure.axes).reshape(2, 3)
    assert [axes.get_title() for axes in grid[0]] == ["Slice, −200 to 300 HU", "View 1", "View 2"]
    assert [axes.get_ylabel() for axes in grid[:, 0]] == ["a b", "second"]
    for row in range(2):
        shown = [slices[row], views[0][row], views[1][row]]
        for axes, image, ends in zip(grid[row], shown, [(-200, 300), (0, 1), (0, 1)], strict=True):
            np.testing.assert_array_equal(axes.images[0].get_array(), image)
            assert axes.images[0].get_clim() == ends


def test_nothing_hangs_over_the_edge(tmp_path: Path, drawn: list[Figure]) -> None:
    long = "1.2.840.113704.1.111.2604.1126357612.7_z0123"
    caption = "phantom (synthetic): views by hu-clip, " + "profile paper " * 12
    draw_view_pairs(
        [np.zeros((9, 9), np.int16)],
        (np.zeros((1, 8, 8)), np.zeros((1, 8, 8))),
        tmp_path / "x.png",
        titles=[long],
        caption=caption,
    )
    (figure,) = drawn
    label = figure.axes[0].yaxis.label.get_window_extent()
    title = figure.texts[0].get_window_extent()
    for extent in (label, title):
        assert extent.x0 >= 0 and extent.x1 <= figure.bbox.width
        assert extent.y0 >= 0 and extent.y1 <= figure.bbox.height
    assert label.y1 <= title.y0
    assert figure.axes[0].get_ylabel().replace("\n", "") == long


@pytest.mark.parametrize(("slices", "views", "titles"), [(0, 0, 0), (2, 1, 2), (1, 1, 2), (1, 2, 1)])
def test_counts_that_do_not_agree(slices: int, views: int, titles: int, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="two views a slice"):
        draw_view_pairs(
            [np.zeros((4, 4), np.int16)] * slices,
            (np.zeros((views, 8, 8)), np.zeros((slices, 8, 8))),
            tmp_path / "x.png",
            titles=["t"] * titles,
            caption="",
        )
    assert list(tmp_path.iterdir()) == []
