"""The final table of a run in the terminal."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from rich.table import Table
from rich.text import Text

from cbirbench.report.cautions import cautions
from cbirbench.report.footnotes import control_title, footnotes
from cbirbench.report.scoreboard import Scoreboard, heading, percent, percent_of

if TYPE_CHECKING:
    from rich.console import Console

NAME_WIDTH = 22
"""What longer names are folded to before a table is made narrower by other means."""


@dataclass(frozen=True)
class _Column:
    """A column's heading and its cells: extractors first, then controls."""

    heading: str
    cells: Sequence[Text]
    justify: Literal["left", "right"] = "right"

    @property
    def width(self) -> int:
        return max(Text(self.heading).cell_len, *(cell.cell_len for cell in self.cells), 0)


def scoreboard_tables(board: Scoreboard, width: int) -> list[Table]:
    """The table: an extractor a row, its runs, and each metric in percent with deviation and marks.

    Every cell is a `Text`, so that no name is read as rich's markup; marks survive without colour.

    Args:
        board: What to show.
        width: Columns of the terminal. Where they are too few the table loses its padding; where these are
            too few still, its metrics are dealt to several tables.
    """
    first = [_names(board), _runs(board)]
    groups = [_metric(board, metric) for metric in board.metrics]
    everything = [column for group in groups for column in group]
    for padding in (1, 0):
        if _width([*first, *everything], padding) <= width:
            parts = [everything]
            break
    else:
        parts = [[]]
        for group in groups:
            if parts[-1] and _width([*first, *parts[-1], *group], padding) > width:
                parts.append([])
            parts[-1] += group
    tables = [_table(board, [*first, *part], padding) for part in parts]
    tables[0].title = Text(board.title)
    if board.synthetic:
        tables[-1].caption = Text("Synthetic data: scans made by a program, not by a scanner.")
    return tables


def print_scoreboard(board: Scoreboard, console: Console) -> None:
    """Print the table, its footnotes, and what is to be minded."""
    for table in scoreboard_tables(board, console.width):
        console.print(table)
    for line in [*footnotes(board), *(f"Mind: {line}" for line in cautions(board))]:
        console.print(Text(line), highlight=False)


def _table(board: Scoreboard, columns: Sequence[_Column], padding: int) -> Table:
    table = Table(padding=(0, padding), show_edge=bool(padding))
    for place, column in enumerate(columns):
        overflow: Literal["fold", "ellipsis"] = "fold" if place == 0 else "ellipsis"
        table.add_column(Text(column.heading), justify=column.justify, overflow=overflow, no_wrap=place > 0)
    for place, cells in enumerate(zip(*(column.cells for column in columns), strict=True)):
        if place == len(board.rows):
            table.add_section()
        if place >= len(board.rows) and not any(cells[1:]):
            continue  # a control has nothing to say in a table of other metrics
        table.add_row(*cells)
    return table


def _width(columns: Sequence[_Column], padding: int) -> int:
    """Columns of the terminal that a table takes whose first column is folded to `NAME_WIDTH`."""
    name, *others = (column.width for column in columns)
    rules = len(columns) + 1 if padding else len(columns) - 1
    return min(name, NAME_WIDTH) + sum(others) + 2 * padding * len(columns) + rules


def _names(board: Scoreboard) -> _Column:
    titles = [*(row.title for row in board.rows), *map(control_title, board.controls)]
    return _Column("extractor", [Text(title) for title in titles], justify="left")


def _runs(board: Scoreboard) -> _Column:
    return _Column("runs", [*(Text(str(row.runs)) for row in board.rows), *(Text() for _ in board.controls)])


def _metric(board: Scoreboard, metric: str) -> list[_Column]:
    """A metric's column, and beside relevance ranks those of chance and reliability."""
    # Marks stand in a field of one width, so that the figures line up.
    field = max((len(board.marks(row, metric)) for row in board.rows), default=0)
    cells = []
    for row in board.rows:
        score = row.scores[metric]
        marks = f" {board.marks(row, metric):<{field}}" if field else ""
        cells.append(Text(percent(score) + marks, style="bold" if score.best else ""))
    controls = [means.get(metric) for means in board.controls.values()]
    blank = " " * (field + 1) if field else ""
    cells += [Text() if mean is None else Text(percent_of(mean, math.nan) + blank) for mean in controls]
    columns = [_Column(heading(metric), cells)]
    if board.has_chance(metric):
        ratios = [board.over_chance(row.scores[metric].mean, row.extractor) for row in board.rows]
        ratios += ["" if mean is None else board.over_chance(mean) for mean in controls]
        trust = [*(board.reliability(row) for row in board.rows), *("" for _ in controls)]
        columns.append(_Column("×chance", [Text(ratio) for ratio in ratios]))
        columns.append(_Column("rel.", [Text(value) for value in trust]))
    return columns
