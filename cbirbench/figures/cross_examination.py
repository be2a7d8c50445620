"""Figure 12 of the paper: a slice of a new study, and the slices of the previous one that answer it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cbirbench.errors import DataError
from cbirbench.figures.look import COLOURS, LINE_INCHES, TEXT_POINTS, Page, drawing, hu_range, one_line
from cbirbench.windows import WIDE_WINDOW, check_window

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MOST_BESIDE = 6
"""So many slices stand beside each other; further ones go on below."""

PANEL_INCHES = 1.5
"""Side of a panel; the query's is `QUERY_INCHES`."""

QUERY_INCHES = 1.9

_EDGE, _GAP, _APART, _MARGIN = 0.12, 0.12, 0.3, 0.1  # inches
_ROW_NAME, _NAME_LINE, _HEADING, _BELOW = 0.24, 0.15, 0.2, 0.1  # inches
_NAME_POINTS, _BOLD = TEXT_POINTS + 1.5, 1.2  # bold letters are wider by about so much
_MARKED, _MARK = COLOURS[2], "✓"


@dataclass(frozen=True, eq=False)
class ExamSlice:
    """One slice of the figure.

    Attributes:
        hu: Hounsfield units, shape ``(rows, columns)``, radiological view.
        heading: Stands above it: its place in the row.
        about: Lines below it.
        mark: Why it is framed, ``expert's 2`` for instance; empty for no frame.
    """

    hu: NDArray[np.int16]
    heading: str
    about: Sequence[str]
    mark: str = ""


@dataclass(frozen=True)
class ExamRow:
    """Slices of the previous study in one order.

    Attributes:
        name: Whose order it is.
        items: The slices, first to last.
    """

    name: str
    items: Sequence[ExamSlice]


def draw_cross_examination(
    query: ExamSlice,
    rows: Sequence[ExamRow],
    path: Path,
    *,
    title: str,
    caption: str = "",
    window: tuple[float, float] = WIDE_WINDOW,
) -> None:
    """Draw the query on the left and on its right a row for each order (paper, figure 12).

    In the paper's figure the upper row is the physician's choice and the lower one the system's.

    Args:
        query: The query.
        rows: Orders of the previous study's slices, with at least one slice each.
        path: Where to write, as .png, .svg or .pdf.
        title: Stands above the figure.
        caption: Stands below it.
        window: HU window of the slices.

    Raises:
        DataError: There is no row, a row is empty, or a slice has no rows and columns.
        UsageError: The window is empty, or the path has another ending.
        MissingError: The file cannot be written.
    """
    check_window(*window)
    if not rows or not all(row.items for row in rows):
        raise DataError("A cross-examination without slices cannot be drawn.", "Give at least one a row.")
    for item in (query, *(item for row in rows for item in row.items)):
        if item.hu.ndim != 2 or item.hu.size == 0:
            raise DataError(
                f"A slice has rows and columns, {item.heading!r} has shape {item.hu.shape}.",
                "Give one slice in HU.",
            )
    across = min(MOST_BESIDE, max(len(row.items) for row in rows))
    left = _EDGE + QUERY_INCHES + _APART
    width = left + across * (PANEL_INCHES + _GAP) - _GAP + _MARGIN
    with drawing(path, width, 0.1, "\n".join(map(one_line, title.splitlines()))) as figure:
        figure.set_layout_engine("none")  # everything has its place, in inches
        page = Page(figure)
        above = figure.get_figheight() + 0.02
        fitting = (width - left) * TEXT_POINTS / _NAME_POINTS / _BOLD
        lines = [
            (page.broken(row.name, fitting) if start == 0 else [], row.items[start : start + across])
            for row in rows
            for start in range(0, len(row.items), across)
        ]
        heights = [_names_height(names) + _height(page, items) for names, items in lines]
        query_height = _HEADING + QUERY_INCHES + _BELOW + LINE_INCHES * len(_about(page, query, QUERY_INCHES))
        beneath = max(sum(heights), query_height)
        key = page.broken(caption, width - _EDGE - _MARGIN)
        key += page.broken(_key(rows, window), width - _EDGE - _MARGIN)
        figure.set_figheight(above + beneath + 0.08 + len(key) * LINE_INCHES + _MARGIN)
        if figure.get_suptitle():
            figure.suptitle(figure.get_suptitle(), y=1 - 0.08 / figure.get_figheight())

        _draw(page, query, _EDGE, above, QUERY_INCHES, window)
        page.rule(left - _APART / 2, above, above + beneath - _BELOW)
        top = above
        for (names, items), height in zip(lines, heights, strict=True):
            for number, name in enumerate(names):
                page.write([name], left, top + number * _NAME_LINE, size=_NAME_POINTS, weight="bold")
            upper = top + _names_height(names)
            for place, item in enumerate(items):
                _draw(page, item, left + place * (PANEL_INCHES + _GAP), upper, PANEL_INCHES, window)
            top += height
        page.write(key, _EDGE, above + beneath + 0.08)


def _about(page: Page, item: ExamSlice, width: float) -> list[str]:
    return page.broken("\n".join(item.about), width)


def _names_height(names: Sequence[str]) -> float:
    return _ROW_NAME + (len(names) - 1) * _NAME_LINE if names else 0.0


def _height(page: Page, items: Sequence[ExamSlice]) -> float:
    texts = max(len(_about(page, item, PANEL_INCHES)) for item in items)
    return _HEADING + PANEL_INCHES + _BELOW + (texts + 0.6) * LINE_INCHES


def _draw(
    page: Page, item: ExamSlice, left: float, top: float, side: float, window: tuple[float, float]
) -> None:
    page.write([one_line(item.heading)], left, top, size=_NAME_POINTS, weight="bold")
    axes = page.axes(left, top + _HEADING, side, side)
    axes.imshow(item.hu, cmap="gray", vmin=window[0], vmax=window[1], interpolation="antialiased")
    axes.spines[:].set(color="black", linewidth=0.8)
    if item.mark:
        axes.spines[:].set(color=_MARKED, linewidth=2.2)
        mark = f"{_MARK} {one_line(item.mark)}"
        page.write([mark], left + side, top + 0.02, align="right", colour=_MARKED, size=TEXT_POINTS + 0.5)
    page.write(_about(page, item, side), left, top + _HEADING + side + 0.05)


def _key(rows: Sequence[ExamRow], window: tuple[float, float]) -> str:
    marked = any(item.mark for row in rows for item in row.items)
    return f"CT, {hu_range(*window)}." + (f" Thick frame, {_MARK}: chosen and retrieved." if marked else "")
