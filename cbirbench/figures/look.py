"""What all figures share: how they look, and how they are written.

Nothing of matplotlib's own state is used or left changed: a figure looks the same whatever a user's
matplotlibrc says, and is drawn without a display.
"""

from __future__ import annotations

import textwrap
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from cbirbench.atomic import replacing
from cbirbench.errors import UsageError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FORMATS = (".png", ".svg", ".pdf")
"""Endings that a figure's path may have."""

DPI = 150
"""Resolution of a PNG, in pixels an inch."""

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
"""Told apart by colour-blind readers as well (Okabe and Ito 2008); no figure relies on colour alone."""

TEXT_POINTS, LINE_INCHES = 7.0, 0.125
"""Size of the texts of a `Page`, and how far apart its lines are."""

_LOOK = {
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlesize": "medium",
    "figure.dpi": DPI,
    "figure.titlesize": 10.0,
    "font.size": 9.0,
    "legend.frameon": False,
    "pdf.fonttype": 42,
    "svg.hashsalt": "cbirbench",  # else the ids within an SVG are drawn anew each time
    "text.parse_math": False,  # names and titles are text, whatever dollar signs they hold
}

_TITLE_LINE = 0.19
"""Height of a line of a title, in inches."""

_LETTERS_PER_INCH = 11
"""How many letters of a title fit, with some room to spare."""

_NO_DATES: dict[str, dict[str, Any]] = {
    ".png": {"Software": None},
    ".svg": {"Date": None},
    ".pdf": {"CreationDate": None},
}


def check_format(path: Path) -> None:
    """Raise UsageError unless the path's ending is one of `FORMATS`."""
    if path.suffix.lower() not in FORMATS:
        received = f"the ending {path.suffix!r}" if path.suffix else "no ending"
        raise UsageError(
            f"A figure is written as {', '.join(FORMATS)}, and {path} has {received}.",
            f"Name it {path.stem or 'figure'}.png, for example.",
        )


@contextmanager
def drawing(path: Path, width: float, height: float, title: str = "") -> Iterator[Figure]:
    """Give a figure that is empty but for its title; when the block ends it is written to `path`, whole.

    Equal figures give equal bytes: no date is written.

    Args:
        path: Where to write; the ending, one of `FORMATS`, decides how.
        width: In inches.
        height: In inches, without the title.
        title: Stands above everything, on as many lines as it takes.

    Raises:
        UsageError: The path has another ending.
        MissingError: The file cannot be written.
    """
    check_format(path)
    import matplotlib.style
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with matplotlib.style.context(["default", _LOOK]), warnings.catch_warnings():
        # A name in a script that the font lacks is drawn as boxes; a warning would help nobody.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        fitting = int(width * _LETTERS_PER_INCH)
        lines = [part for line in title.splitlines() for part in textwrap.wrap(line, fitting)]
        above = _TITLE_LINE * len(lines) + 0.1 if lines else 0.0
        figure = Figure(figsize=(width, height + above), layout="constrained")
        FigureCanvasAgg(figure)
        if lines:
            figure.suptitle("\n".join(lines))
        yield figure
        ending = path.suffix.lower()
        with replacing(path) as temporary:
            figure.savefig(temporary, format=ending[1:], dpi=DPI, metadata=_NO_DATES[ending])


def one_line(text: object) -> str:
    """A name from outside, without line breaks; a control character, which an SVG must not hold, is �."""
    return "".join(letter if letter.isprintable() else "�" for letter in " ".join(str(text).split()))


def hu_range(low: float, high: float) -> str:
    """``−200 to 300 HU``, with a true minus sign."""
    return f"{low:g} to {high:g} HU".replace("-", "−")


@dataclass(frozen=True)
class Page:
    """A figure on which things have their places in inches, from the left and from the top."""

    figure: Figure

    def axes(self, left: float, top: float, width: float, height: float) -> Axes:
        """Add axes without ticks."""
        across, down = self.figure.get_size_inches()
        place = (left / across, 1 - (top + height) / down, width / across, height / down)
        axes = self.figure.add_axes(place)
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set_visible(True)
        return axes

    def write(
        self,
        lines: Sequence[str],
        left: float,
        top: float,
        *,
        align: Literal["left", "center", "right"] = "left",
        colour: str = "black",
        size: float = TEXT_POINTS,
        weight: str = "normal",
        rotation: float = 0,
    ) -> None:
        """Write lines below each other; a rotated line has its middle at `top`."""
        across, down = self.figure.get_size_inches()
        for position, text in enumerate(lines):
            self.figure.text(
                left / across,
                1 - (top + position * LINE_INCHES) / down,
                text,
                ha=align,
                va="center" if rotation else "top",
                color=colour,
                fontsize=size,
                fontweight=weight,
                rotation=rotation,
            )

    def rule(self, left: float, top: float, bottom: float) -> None:
        """Draw a thin upright line."""
        from matplotlib.lines import Line2D

        across, down = self.figure.get_size_inches()
        ends = ([left / across] * 2, [1 - top / down, 1 - bottom / down])
        self.figure.add_artist(Line2D(*ends, color="0.8", linewidth=0.8))

    def broken(self, text: str, inches: float) -> list[str]:
        """A text in lines that fit, measured: a W is three times as wide as an i. Its own lines are kept."""
        broken: list[str] = []
        for line in filter(None, map(one_line, text.splitlines())):
            fitting, width = [line], self.width(line)
            letters = int(1.2 * len(line) * inches / width) if width > inches else 0
            while letters > 0 and max(map(self.width, fitting)) > inches:
                fitting = textwrap.wrap(line, letters)
                letters -= 1
            broken += fitting
        return broken

    def width(self, text: str) -> float:
        """Width of a text in one line, in inches."""
        from matplotlib.font_manager import FontProperties

        renderer: Any = self.figure.canvas.get_renderer()  # type: ignore[attr-defined]
        font = FontProperties(size=TEXT_POINTS)
        return float(renderer.get_text_width_height_descent(text, font, False)[0]) / self.figure.dpi
