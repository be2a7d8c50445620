"""A picture grid of a cohort: a scan a row; a mirrored, turned or stretched patient is seen at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cbirbench.checking.scan_views import View
from cbirbench.figures.look import COLOURS, LINE_INCHES, TEXT_POINTS, Page, drawing, hu_range, one_line
from cbirbench.windows import WIDE_WINDOW

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SCANS_PER_PAGE = 8
"""So many rows a page has at most."""

NOTICE = "Patients' images: keep this file where the scans themselves may be."

_PANEL, _GAP, _LEFT = 1.5, 0.08, 0.1  # inches
_THIN = 0.4  # inches: letters would hide a plane lower than this
_AXIAL_PLANES = 3
_EDGES = {"axial": ("R", "L", "A"), "coronal": ("R", "L", "S"), "sagittal": ("A", "P", "S")}
_WIDTH = 2 * _LEFT + 5 * _PANEL + 4 * _GAP
_KEY = (
    "R, L: the patient's right and left; A, P: front and back; S: head. In order: the spine at the back "
    "(below in axial, right in sagittal planes), most of the liver at R, heart and aorta towards L, lungs "
    "above the liver."
)


@dataclass(frozen=True, eq=False)
class GridRow:
    """One scan of the grid.

    Attributes:
        title: Its id.
        facts: What else stands beside the id.
        views: Its planes; empty where it could not be read.
        problem: Why there are none; whatever is given is written in place of the planes.
    """

    title: str
    facts: str
    views: tuple[View, ...]
    problem: str = ""


def draw_cohort_grid(rows: Sequence[GridRow], path: Path, *, title: str, organ: str = "target organ") -> None:
    """Draw one page: of each scan three axial planes, a coronal and a sagittal one, right in millimetres.

    Args:
        rows: The scans, `SCANS_PER_PAGE` at most.
        path: Where to write, as .png, .svg or .pdf.
        title: Stands above the page.
        organ: What is outlined.

    Raises:
        UsageError: The path has another ending.
        MissingError: The file cannot be written.
    """
    with drawing(path, _WIDTH, 0.1, one_line(title)) as figure:
        figure.set_layout_engine("none")  # everything has its place, in inches
        page = Page(figure)
        above = figure.get_figheight()
        inside = _WIDTH - 2 * _LEFT
        heads = [[one_line(row.title), *page.broken(row.facts, inside)] for row in rows]
        problems = [page.broken(row.problem, inside) for row in rows]
        outlined = any(view.outline is not None for row in rows for view in row.views)
        key = f"{hu_range(*WIDE_WINDOW)}. {_KEY}" + f" White line: the {one_line(organ)}." * outlined
        below = page.broken(f"{key}\n{NOTICE}", inside)
        heights = [
            len(head) * LINE_INCHES
            + 0.08
            + (_PANEL + LINE_INCHES + 0.06 if row.views else len(problem) * LINE_INCHES)
            + 0.12
            for row, head, problem in zip(rows, heads, problems, strict=True)
        ]
        figure.set_figheight(above + sum(heights) + len(below) * LINE_INCHES + 0.1)
        if figure.get_suptitle():
            figure.suptitle(figure.get_suptitle(), y=1 - 0.08 / figure.get_figheight())
        top = above
        for row, head, problem, height in zip(rows, heads, problems, heights, strict=True):
            page.write(head[:1], _LEFT, top, weight="bold", size=TEXT_POINTS + 1)
            page.write(head[1:], _LEFT, top + LINE_INCHES + 0.02)
            under = top + len(head) * LINE_INCHES + 0.08
            if row.views:
                _draw_views(page, row.views, under)
            else:
                page.write(problem, _LEFT, under, colour=COLOURS[1])
            top += height
        page.write(below, _LEFT, top)


def _draw_views(page: Page, views: Sequence[View], top: float) -> None:
    axial = 0
    for view in views:
        if view.plane == "axial":
            place, axial = axial, axial + 1
        else:
            place = _AXIAL_PLANES + (view.plane == "sagittal")
        left = _LEFT + place * (_PANEL + _GAP)
        axes = page.axes(left, top, _PANEL, _PANEL)
        axes.spines[:].set_visible(False)
        low, high = WIDE_WINDOW
        axes.imshow(
            view.hu, cmap="gray", vmin=low, vmax=high, aspect=view.aspect, interpolation="antialiased"
        )
        _outline(axes, view)
        _edges(axes, view)
        of = {"axial": "slice", "coronal": "row", "sagittal": "column"}[view.plane]
        caption = f"{view.plane}, {of} {view.index}"
        page.write([caption], left + _PANEL / 2, top + _PANEL + 0.03, align="center", size=TEXT_POINTS - 1)


def _outline(axes: Axes, view: View) -> None:
    if view.outline is not None and view.outline.any() and min(view.outline.shape) > 1:
        axes.autoscale(False)
        axes.contour(view.outline.astype(float), levels=[0.5], colors="white", linewidths=0.7)


def _edges(axes: Axes, view: View) -> None:
    """Letters at the edges of a plane, on black, so that they show on bone as on air; above a thin plane."""
    left, right, top = _EDGES[view.plane]
    rows, columns = view.hu.shape
    thin = _PANEL * rows * view.aspect / columns < _THIN
    for letter, across, up, align in (
        (left, 0.02, 0.5, "left"),
        (right, 0.98, 0.5, "right"),
        (top, 0.5, 0.98, "center"),
    ):
        axes.annotate(
            letter,
            (across, 1.0 if thin else up),
            xycoords="axes fraction",
            xytext=(0, 3 if thin else 0),
            textcoords="offset points",
            ha=align,
            va="bottom" if thin else "center" if up == 0.5 else "top",
            color=COLOURS[4],
            fontsize=TEXT_POINTS,
            fontweight="bold",
            bbox={"facecolor": "black", "edgecolor": "none", "pad": 0.8},
        )
