"""Figures 8 to 11 of the paper: a query and what was retrieved for it, each above its importance map."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from cbirbench.errors import DataError
from cbirbench.figures.look import COLOURS, LINE_INCHES, TEXT_POINTS, Page, drawing, hu_range, one_line
from cbirbench.windows import WIDE_WINDOW, check_window

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

MOST_BESIDE = 5
"""So many retrieved slices stand beside each other, as in the paper; further ones go on below."""

PANEL_INCHES = 1.6
"""Side of a panel."""

IMPORTANCE_COLOURS = "coolwarm"
"""Blue to red, as in the paper, and told apart by colour-blind readers."""

UNCERTAINTY_COLOURS = "Purples"

SHADE = 0.4
"""A map's colour is darkened by so much at most, where the slice beneath it is black."""

_LEFT, _GAP, _APART, _MARGIN = 0.3, 0.12, 0.42, 0.1  # inches; what a row shows stands in _LEFT and _APART
_HEADING, _BAR = 0.23, 0.07  # inches
_LARGE = TEXT_POINTS + 1
_SAME, _OTHER = (COLOURS[2], "-", "✓ same label"), (COLOURS[1], "--", "✗ other label")


@dataclass(frozen=True, eq=False)
class ShownSlice:
    """One slice of the figure.

    Attributes:
        hu: Hounsfield units, shape ``(rows, columns)``, radiological view.
        outline: Where the target organ is, same shape; None where the cohort has no masks.
        importance: The importance map, same shape; None where the slice was not explained. Pixels without a
            value are NaN.
        title: The slice's id.
        label: What the slice shows: ``liver`` or ``no liver``.
        distance: From the query; None for the query itself.
        right: Whether it has the query's label; None for the query itself.
        note: What else to say of the map, its reliability say, or why there is none.
        uncertainty: The map's uncertainty, same shape; None where there is none.
    """

    hu: NDArray[np.int16]
    outline: NDArray[np.bool_] | None
    importance: NDArray[np.float32] | None
    title: str
    label: str
    distance: float | None
    right: bool | None
    note: str = ""
    uncertainty: NDArray[np.float32] | None = None


@dataclass(frozen=True)
class _Map:
    """A row of maps: what it is called, its colours and what their ends mean."""

    of: Literal["importance", "uncertainty"]
    colours: str
    key: str

    def values(self, item: ShownSlice) -> NDArray[np.float32] | None:
        return item.importance if self.of == "importance" else item.uncertainty


_IMPORTANCE = _Map("importance", IMPORTANCE_COLOURS, "blue is least, red most important")
_UNCERTAINTY = _Map("uncertainty", UNCERTAINTY_COLOURS, "white is least, purple most uncertain")


@dataclass(frozen=True)
class _Panel:
    """A slice with its place and its texts, broken into lines."""

    item: ShownSlice
    rank: int  # 0 is the query
    left: float
    about: list[str]
    note: list[str]


def draw_explained_retrieval(
    query: ShownSlice,
    retrieved: Sequence[ShownSlice],
    path: Path,
    *,
    title: str,
    caption: str = "",
    window: tuple[float, float] = WIDE_WINDOW,
    organ: str = "liver",
) -> None:
    """Draw the query and its retrieved slices, nearest first, each above its maps (paper, figures 8 to 11).

    Around a similarity of .9 a map's values differ by little, and from slice to slice by more: each map is
    coloured over its own range, from its lowest to its highest value, and both stand beneath it. A map is
    shaded by the slice, so that one sees where its colours lie. Importance and uncertainty have a row each
    where any slice has such a map.

    Args:
        query: The query.
        retrieved: What was retrieved for it, nearest first.
        path: Where to write, as .png, .svg or .pdf.
        title: Stands above the figure.
        caption: Stands below the figure, above the key.
        window: HU window of the slices.
        organ: What is outlined.

    Raises:
        DataError: Nothing was retrieved, or an outline or a map has another shape than its slice.
        UsageError: The window is empty, or the path has another ending.
        MissingError: The file cannot be written.
    """
    check_window(*window)
    if not retrieved:
        raise DataError(
            f"Nothing was retrieved for {query.title!r}: there is no retrieval to draw.",
            "Give at least one retrieved slice.",
        )
    items = [query, *retrieved]
    for item in items:
        _check(item)
    maps = [
        each for each in (_IMPORTANCE, _UNCERTAINTY) if any(each.values(item) is not None for item in items)
    ]

    bands = math.ceil(len(retrieved) / MOST_BESIDE)
    columns = math.ceil(len(retrieved) / bands)
    width = _LEFT + PANEL_INCHES + _APART + columns * (PANEL_INCHES + _GAP) - _GAP + _MARGIN
    with drawing(path, width, 0.1, "\n".join(map(one_line, title.splitlines()))) as figure:
        figure.set_layout_engine("none")  # everything has its place, in inches
        page = Page(figure)
        above = figure.get_figheight() - 0.05
        panels = [_panel(page, rank, item, columns) for rank, item in enumerate(items)]
        lines = [panels[: columns + 1]]
        lines += [panels[i : i + columns] for i in range(columns + 1, len(panels), columns)]
        key = page.broken(caption, width - _LEFT - _MARGIN)
        key += page.broken(_key(items, maps, organ), width - _LEFT - _MARGIN)
        heights = [_rows(line, maps)[-1] + 0.15 for line in lines]
        figure.set_figheight(above + sum(heights) + len(key) * LINE_INCHES + _MARGIN)
        if figure.get_suptitle():
            figure.suptitle(figure.get_suptitle(), y=1 - 0.08 / figure.get_figheight())
        top = above
        for line, height in zip(lines, heights, strict=True):
            _draw_line(page, line, maps, top, window)
            top += height
        page.write(key, _LEFT, top)


def _check(item: ShownSlice) -> None:
    if item.hu.ndim != 2 or item.hu.size == 0:
        raise DataError(
            f"A slice has rows and columns, {item.title!r} has shape {item.hu.shape}.",
            "Give one slice in HU.",
        )
    layers = {"outline": item.outline, "importance": item.importance, "uncertainty": item.uncertainty}
    for name, layer in layers.items():
        if layer is not None and layer.shape != item.hu.shape:
            raise DataError(
                f"Slice {item.title!r} has shape {item.hu.shape}, its {name} {layer.shape}.",
                "Give both at the slice's native size, without padding.",
            )


def _panel(page: Page, rank: int, item: ShownSlice, columns: int) -> _Panel:
    left = _LEFT
    if rank:
        left += PANEL_INCHES + _APART + (rank - 1) % columns * (PANEL_INCHES + _GAP)
    distance = "" if item.distance is None else f"distance {f'{item.distance:#.4g}'.rstrip('.')}"
    about = page.broken("\n".join((one_line(item.title), one_line(item.label), distance)), PANEL_INCHES)
    return _Panel(item, rank, left, about, page.broken(item.note, PANEL_INCHES))


def _rows(line: Sequence[_Panel], maps: Sequence[_Map]) -> list[float]:
    """Where a line's rows of panels begin, and where the last one's texts end: inches below its top."""
    about, note = (
        max(len(texts) for texts in column) * LINE_INCHES
        for column in ([panel.about for panel in line], [panel.note for panel in line])
    )
    scaled = PANEL_INCHES + _BAR + LINE_INCHES + 0.12
    rows = [_HEADING, _HEADING + PANEL_INCHES + about + 0.12]
    rows += [rows[1] + (position + 1) * scaled + note for position in range(len(maps))]
    return rows


def _draw_line(
    page: Page, line: Sequence[_Panel], maps: Sequence[_Map], top: float, window: tuple[float, float]
) -> None:
    first, *of_maps, end = (top + row for row in _rows(line, maps))
    names = [f"CT, {hu_range(*window)}", *(each.of.capitalize() for each in maps)]
    for name, upper in zip(names, (first, *of_maps), strict=True):
        page.write([name], line[0].left - 0.19, upper + PANEL_INCHES / 2, rotation=90, align="center")
    if line[0].rank == 0:
        page.rule(line[0].left + PANEL_INCHES + 0.12, top, end - 0.06)

    for panel in line:
        item, left = panel.item, panel.left
        colour, style, mark = "black", "-", ""
        if item.right is not None and panel.rank:
            colour, style, mark = _SAME if item.right else _OTHER
        name = str(panel.rank) if panel.rank else "Query"
        page.write([name], left, top + 0.05, size=_LARGE + 1, weight="bold")
        page.write([mark], left + PANEL_INCHES, top + 0.06, align="right", colour=colour, size=_LARGE)
        grey = _grey(item.hu, window)
        axes = page.axes(left, first, PANEL_INCHES, PANEL_INCHES)
        axes.imshow(grey, cmap="gray", vmin=0, vmax=1, interpolation="antialiased")
        _outline(axes, item.outline)
        for spine in axes.spines.values():
            spine.set(color=colour, linestyle=style, linewidth=2.2)
        page.write(panel.about, left, first + PANEL_INCHES + 0.06)
        for each, upper in zip(maps, of_maps, strict=True):
            bottom = _draw_map(page, item, each, grey, left, upper)
            if each is maps[0]:
                page.write(panel.note, left, bottom)


def _draw_map(
    page: Page, item: ShownSlice, each: _Map, grey: NDArray[np.floating[Any]], left: float, top: float
) -> float:
    """Draw a slice's map and its scale; where they end, in inches from the top."""
    import matplotlib

    axes = page.axes(left, top, PANEL_INCHES, PANEL_INCHES)
    axes.spines[:].set(color="0.6", linewidth=0.6)
    bottom = top + PANEL_INCHES + 0.05
    values = each.values(item)
    if values is None:
        axes.set_facecolor("0.93")
        page.write(["No map"], left + PANEL_INCHES / 2, top + PANEL_INCHES / 2, align="center")
        return bottom

    defined = np.isfinite(values)
    low, high = _range(values[defined])
    flat = high <= low
    scaled = np.full(values.shape, 0.5) if flat else (values.astype(np.float64) - low) / (high - low)
    colours = matplotlib.colormaps[each.colours]
    shaded = colours(np.where(defined, scaled, 0.5))[..., :3] * (1 - SHADE + SHADE * grey[..., None])
    axes.imshow(np.where(defined[..., None], shaded, grey[..., None]), interpolation="antialiased")
    _hatch(axes, ~defined)
    _outline(axes, item.outline)
    if not defined.any():
        page.write(["no value anywhere"], left, bottom)
        return bottom + LINE_INCHES

    bar = page.axes(left, bottom, PANEL_INCHES, _BAR)
    bar.spines[:].set_visible(False)
    steps = np.full(2, 0.5) if flat else np.linspace(0, 1, 256)
    bar.imshow(steps[None], cmap=each.colours, vmin=0, vmax=1, aspect="auto")
    bottom += _BAR + 0.02
    if flat:
        page.write([f"{_rounded(low, abs(low))} throughout"], left, bottom)
        return bottom + LINE_INCHES
    lowest, highest = _rounded(low, high - low), _rounded(high, high - low)
    size = TEXT_POINTS * min(1.0, PANEL_INCHES / page.width(f"{lowest}  {highest}"))
    page.write([lowest], left, bottom, size=size)
    page.write([highest], left + PANEL_INCHES, bottom, align="right", size=size)
    return bottom + LINE_INCHES


def _grey(hu: NDArray[np.int16], window: tuple[float, float]) -> NDArray[np.float64]:
    return np.clip((hu.astype(np.float64) - window[0]) / (window[1] - window[0]), 0.0, 1.0)


def _range(values: NDArray[np.float32]) -> tuple[float, float]:
    """Lowest and highest value; twice the lowest where they differ by no more than float32 rounds."""
    if not values.size:
        return 0.0, 0.0
    low, high = float(values.min()), float(values.max())
    rounding = 4 * float(np.finfo(np.float32).eps) * max(abs(low), abs(high))
    return (low, high) if high - low > rounding else (low, low)


def _rounded(value: float, span: float) -> str:
    """A number to a hundredth of a span's leading digit: both ends of a range then differ as they should."""
    decimals = 2 - math.floor(math.log10(span)) if span else 0
    value = round(value, decimals)
    if not value:
        return "0"
    if decimals > 6 and abs(value) < 1e-4:  # 1.20e−7
        text = f"{value:.{max(0, decimals + math.floor(math.log10(abs(value))))}e}".replace("e-0", "e-")
    else:
        text = f"{value:.{max(0, decimals)}f}"
    return text.replace("-", "−")


def _key(items: Sequence[ShownSlice], maps: Sequence[_Map], organ: str) -> str:
    """What frames, lines and colours mean, of those that are in the figure."""
    found = {item.right for item in items[1:]}
    texts = []
    if True in found:
        texts.append("Solid frame, ✓: the query's label.")
    if False in found:
        texts.append("Dashed frame, ✗: another label.")
    if any(item.outline is not None and item.outline.any() for item in items):
        texts.append(f"White line: the {organ}.")
    drawn = {each: [v for item in items if (v := each.values(item)) is not None] for each in maps}
    texts += [f"{each.of.capitalize()}: {each.key}." for each in maps if drawn[each]]
    if any(drawn.values()):
        texts.append("Each map has its own range, given below it, and is darkened where its slice is dark.")
    if any(not np.isfinite(values).all() for each in maps for values in drawn[each]):
        texts.append("Hatched: no value.")
    return " ".join(texts)


def _outline(axes: Axes, mask: NDArray[np.bool_] | None) -> None:
    """A white line with black sides: it shows on grey as on every colour of a map."""
    if mask is not None and mask.any():
        axes.autoscale(False)
        for colour, width in (("black", 2.0), ("white", 0.9)):
            axes.contour(*_framed(mask), levels=[0.5], colors=colour, linewidths=width)


def _hatch(axes: Axes, mask: NDArray[np.bool_]) -> None:
    if mask.any():
        axes.autoscale(False)
        hatched = axes.contourf(*_framed(mask), levels=[0.5, 1.5], colors="none", hatches=["////"])
        hatched.set(edgecolor="0.5", linewidth=0)


def _framed(mask: NDArray[np.bool_]) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """A mask with a pixel of nothing around it, so that its contours close at the slice's edges."""
    rows, columns = mask.shape
    return np.arange(-1, columns + 1), np.arange(-1, rows + 1), np.pad(mask != 0, 1).astype(float)
