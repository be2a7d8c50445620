"""The table of scores in ``report.md``."""

from __future__ import annotations

import math

from cbirbench.report.footnotes import control_title, footnotes
from cbirbench.report.markup import inline, table
from cbirbench.report.scoreboard import Row, Scoreboard, heading, percent, percent_of


def score_table(board: Scoreboard) -> list[str]:
    """Extractors, then controls, a row each, and the footnotes, as lines of Markdown."""
    rows = []
    for row in board.rows:
        cells = [row_title(row), str(row.runs)]
        for metric in board.metrics:
            score = row.scores[metric]
            figures = f"**{percent(score)}**" if score.best else percent(score)
            cells.append(f"{figures} {board.marks(row, metric)}".rstrip())
            if board.has_chance(metric):
                cells += [board.over_chance(score.mean, row.extractor), board.reliability(row)]
        rows.append(cells)
    for name, means in board.controls.items():
        cells = [f"*{inline(control_title(name))}*", ""]
        for metric in board.metrics:
            cells.append(percent_of(means[metric], math.nan) if metric in means else "")
            if board.has_chance(metric):
                cells += [board.over_chance(means[metric]) if metric in means else "", ""]
        rows.append(cells)
    header = ["extractor", "runs"]
    for metric in board.metrics:
        header.append(inline(heading(metric)))
        if board.has_chance(metric):
            header += ["RR/chance", "reliability"]
    notes = [f"- {inline(line)}" for line in footnotes(board)]
    return [*table(header, rows), "", *notes]


def row_title(row: Row) -> str:
    """An extractor's name in a table of ``report.md``, and that it is a floor where it is one."""
    return ("*floor:* " if row.floor else "") + inline(row.name)
