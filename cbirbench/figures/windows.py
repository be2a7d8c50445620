"""Figures 2 and 3 of the paper: what HU windows do to a slice, and where an organ's voxels lie."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cbirbench.errors import DataError
from cbirbench.figures.look import COLOURS, drawing, hu_range
from cbirbench.windows import check_window

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Window = tuple[float, float]

BINS = 150
"""About how many bars the histogram has; they are whole numbers of HU wide."""


def draw_clipping(
    hu: NDArray[np.int16], wide: Window, narrow: Window, path: Path, *, title: str = ""
) -> None:
    """Draw one slice without clipping, in the narrow and in the wide window (paper, figure 2).

    Each image runs from black at the lower to white at the upper end of the range in its heading; without
    clipping, that is the range of the slice itself.

    Args:
        hu: One slice in HU, radiological view, shape ``(rows, columns)``.
        wide: The wide window, in HU.
        narrow: The narrow window, in HU.
        path: Where to write, as .png, .svg or .pdf.
        title: Stands above the figure.

    Raises:
        DataError: The slice is no 2-D array, or is empty.
        UsageError: A window is empty, or the path has another ending.
        MissingError: The file cannot be written.
    """
    if hu.ndim != 2 or hu.size == 0:
        raise DataError(f"A slice has rows and columns, got shape {hu.shape}.", "Give one slice in HU.")
    check_window(*wide)
    check_window(*narrow)
    whole = (float(hu.min()), float(hu.max()))
    shown = (("No clipping", whole), ("Narrow window", narrow), ("Wide window", wide))
    height = 2.92 * min(max(hu.shape[0] / hu.shape[1], 0.2), 5.0)
    with drawing(path, 9.0, height + 0.5, title) as figure:
        for axes, (name, (low, high)) in zip(figure.subplots(1, 3), shown, strict=True):
            axes.imshow(hu, cmap="gray", vmin=low, vmax=high, interpolation="antialiased")
            axes.set_axis_off()
            axes.set_title(f"{name}\n{hu_range(low, high)}")


def draw_organ_histogram(
    values_hu: NDArray[Any],
    wide: Window,
    narrow: Window,
    path: Path,
    *,
    organ: str = "liver",
    title: str = "",
) -> None:
    """Draw how an organ's voxels are distributed over HU, with both windows (paper, figure 3).

    The legend says which share of the voxels lies inside each window, its ends included. The axis covers both
    windows and all but the outermost 0.1 % of the voxels on either side; shares are of all voxels.

    Args:
        values_hu: HU of every voxel of the organ, shape ``(n,)``.
        wide: The wide window, in HU.
        narrow: The narrow window, in HU.
        path: Where to write, as .png, .svg or .pdf.
        organ: What the organ is called.
        title: Stands above the figure.

    Raises:
        DataError: There are no voxels, or some are not finite.
        UsageError: A window is empty, or the path has another ending.
        MissingError: The file cannot be written.
    """
    check_window(*wide)
    check_window(*narrow)
    values = np.asarray(values_hu).ravel()
    if not values.size or not np.isfinite(values).all():
        found = "NaN or infinity among them" if values.size else "none"
        raise DataError(
            f"A histogram of {organ} voxels needs their HU, got {found}.",
            f"Take slices whose masks show the {organ}.",
        )
    low_tail, high_tail = np.percentile(values, [0.1, 99.9])
    margin = 0.04 * (wide[1] - wide[0])
    low = min(wide[0] - margin, narrow[0], float(low_tail))
    high = max(wide[1] + margin, narrow[1], float(high_tail))
    step = max(1, round((high - low) / BINS))
    # Edges half-way between whole HU: every bar then counts equally many of the values that scanners store.
    edges = np.arange(np.floor(low), np.ceil(high) + step + 1, step) - 0.5
    counts = np.histogram(values, edges)[0]
    windows = (
        ("Wide", wide, COLOURS[0], "--", ""),
        ("Narrow", narrow, COLOURS[1], "-", "///"),
    )
    with drawing(path, 6.4, 4.0, title) as figure:
        axes = figure.subplots()
        axes.stairs(
            100 * counts / values.size, edges, fill=True, color="0.45", label=f"{values.size:,} voxels"
        )
        for name, (start, end), colour, style, hatch in windows:
            inside = 100 * float(np.mean((values >= start) & (values <= end)))
            axes.axvspan(
                start,
                end,
                facecolor=(colour, 0.10),
                edgecolor=(colour, 0.45),
                hatch=hatch,
                linewidth=0,
                zorder=0,
            )
            label = f"{name} window, {hu_range(start, end)}: {inside:.2f} % of voxels"
            axes.axvline(start, color=colour, linestyle=style, linewidth=1.6, label=label)
            axes.axvline(end, color=colour, linestyle=style, linewidth=1.6)
        axes.set_xlim(edges[0], edges[-1])
        axes.set_ylim(bottom=0)
        axes.set_xlabel("Hounsfield units (HU)")
        axes.set_ylabel(f"Share of {organ} voxels (% per {step} HU)")
        figure.legend(loc="outside lower center", ncols=1)
