"""The final table of a run in the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from cbirbench.report.footnotes import footnotes
from cbirbench.report.scoreboard import Scoreboard, heading, percent

if TYPE_CHECKING:
    from rich.console import Console


def scoreboard_table(board: Scoreboard) -> Table:
    """The table: an extractor a row, its runs, and each metric in percent with deviation and marks.

    Every cell is a `Text`, so that no name is read as rich's markup; marks survive without colour.
    """
    caption = Text("Synthetic data: scans made by a program, not by a scanner.") if board.synthetic else None
    table = Table(title=Text(board.title), caption=caption)
    table.add_column("extractor", overflow="fold")
    table.add_column("runs", justify="right")
    for metric in board.metrics:
        table.add_column(Text(heading(metric)), justify="right", no_wrap=True)
    # Marks stand in a field of one width, so that the figures line up.
    width = {m: max((len(board.marks(row, m)) for row in board.rows), default=0) for m in board.metrics}
    for row in board.rows:
        cells = [Text(row.title), Text(str(row.runs))]
        for metric in board.metrics:
            score = row.scores[metric]
            marks = f" {board.marks(row, metric):<{width[metric]}}" if width[metric] else ""
            cells.append(Text(percent(score) + marks, style="bold" if score.best else ""))
        table.add_row(*cells)
    return table


def print_scoreboard(board: Scoreboard, console: Console) -> None:
    """Print the table and its footnotes."""
    console.print(scoreboard_table(board))
    for line in footnotes(board):
        console.print(Text(line), highlight=False)
