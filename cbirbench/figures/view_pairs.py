"""Slices beside the two training views that an augmentation makes of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING, Any

import numpy as np

from cbirbench.errors import DataError
from cbirbench.figures.look import drawing, hu_range, one_line
from cbirbench.windows import WIDE_WINDOW

if TYPE_CHECKING:
    from numpy.typing import NDArray

PANEL_INCHES = 1.9
"""Side of a panel."""

FITTING = 26
"""Letters of a row's title that fit along a panel; a longer one goes on in a second line."""


def draw_view_pairs(
    slices_hu: Sequence[NDArray[np.int16]],
    views: tuple[NDArray[Any], NDArray[Any]],
    path: Path,
    *,
    titles: Sequence[str],
    caption: str,
) -> None:
    """Draw a row a slice: the slice itself in the paper's wide window, its first and its second view.

    Views are shown from black at 0 to white at 1, unscaled, as an extractor sees them.

    Args:
        slices_hu: Slices in HU, radiological view, shape ``(rows, columns)`` each; shapes may differ.
        views: First and second view of each, in 0..1, shape ``(n, size, size)``.
        path: Where to write, as .png, .svg or .pdf.
        titles: What each row is: the slice's id, say.
        caption: Stands above the figure: the data, the augmentation, its options.

    Raises:
        DataError: There are no slices, or not one title and two views a slice.
        UsageError: The path has another ending.
        MissingError: The file cannot be written.
    """
    count = len(slices_hu)
    if count == 0 or {len(titles), len(views[0]), len(views[1])} != {count}:
        raise DataError(
            f"Pairs of views need a title and two views a slice, got {count} slices, {len(titles)} titles "
            f"and {len(views[0])} and {len(views[1])} views.",
            "Give as many of each, at least one.",
        )
    headings = (f"Slice, {hu_range(*WIDE_WINDOW)}", "View 1", "View 2")
    with drawing(path, 3 * PANEL_INCHES + 0.4, count * PANEL_INCHES + 0.3, caption) as figure:
        grid = figure.subplots(count, 3, squeeze=False)
        for row, (hu, first, second, text) in enumerate(zip(slices_hu, *views, titles, strict=True)):
            ranges = (WIDE_WINDOW, (0.0, 1.0), (0.0, 1.0))
            for axes, image, (low, high) in zip(grid[row], (hu, first, second), ranges, strict=True):
                axes.imshow(image, cmap="gray", vmin=low, vmax=high, interpolation="antialiased")
                axes.set(xticks=[], yticks=[])
                axes.spines[:].set_visible(False)
            grid[row, 0].set_ylabel("\n".join(wrap(one_line(text), FITTING)), fontsize="small")
        for axes, heading in zip(grid[0], headings, strict=True):
            axes.set_title(heading)
