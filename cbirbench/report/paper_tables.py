"""The paper's tables 2 to 5 from our runs, each cell beside what the paper reports."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from cbirbench.report.cohorts import cohorts_of, of_cohort
from cbirbench.report.paper_layout import Cell, Footnotes, Heading, Note, PaperTable
from cbirbench.report.paper_notes import REPORTED, missing_rows, notes, title
from cbirbench.report.paper_runs import Column, fill_command
from cbirbench.report.reported import FLAWS, OURS, TABLES, ReportedRow, ReportedTable
from cbirbench.report.scoreboard import DASH, Scoreboard, heading, percent, plain, scoreboard
from cbirbench.settings import PROFILES

if TYPE_CHECKING:
    import pandas as pd

HEADINGS = {"map": "MAP", "knn-accuracy": "ACC", "relevance-rank": "RR"}
"""The paper's names of the metrics' families."""

METRIC_OF = {
    "paper": {"map": "map@5", "knn-accuracy": "knn-accuracy@5", "relevance-rank": "relevance-rank"},
    "released-code": {"map": "map@4", "knn-accuracy": "knn-accuracy@5", "relevance-rank": "relevance-rank"},
}
"""What each profile computes under those names: only that stands in its column."""


def score_tables(columns: Mapping[str, Column]) -> list[PaperTable]:
    """Tables 2 to 5; tables 3 and 5 once for each external cohort, and with dashes where there is none.

    Args:
        columns: Runs by profile, as `merge` gives them; at least one.

    Raises:
        DataError: Scores are malformed.
    """
    external = external_cohorts(columns) or [""]
    return [
        _score_table(reported, columns, cohort)
        for reported in TABLES
        for cohort in (external if reported.external else [""])
    ]


def external_cohorts(columns: Mapping[str, Column]) -> list[str]:
    """Names of the external cohorts whose queries the runs have, in order."""
    return sorted({name for column in columns.values() for name in _cohorts(column).unique()} - {""})


def _cohorts(column: Column) -> pd.Series[str]:
    """The external cohort of each score; empty for the benchmark's own queries."""
    import pandas as pd

    if "cohort" not in column.scores:
        return pd.Series("", index=column.scores.index)
    cohorts = column.scores["cohort"].fillna("").astype(str)
    return cohorts.mask(cohorts == column.summary["benchmark"]["name"], "")


def _score_table(reported: ReportedTable, columns: Mapping[str, Column], cohort: str) -> PaperTable:
    absent = reported.external and not cohort
    shown = [profile for profile in PROFILES if profile == "paper" or profile in columns]
    boards: dict[str, Scoreboard] = {}
    if not absent:
        for profile in shown:
            board = _board(reported, columns[profile], cohort) if profile in columns else None
            if board is not None:
                boards[profile] = board
    headings = []
    for family in reported.metrics:
        for profile in shown:
            metric = heading(METRIC_OF[profile][family])
            headings.append(Heading(HEADINGS[family], metric, ("this run,", f"{profile} profile")))
        headings.append(Heading(HEADINGS[family], HEADINGS[family], REPORTED))
    footnotes = Footnotes()
    rows = []
    for row in reported.rows:
        cells: list[Cell] = []
        for family in reported.metrics:
            if absent:
                cells += [Cell(DASH)] * len(shown)
            else:
                own = (
                    _own_cell(reported, row, family, name, columns, boards, footnotes, cohort)
                    for name in shown
                )
                cells += own
            figure = row.figures[family]
            letters = footnotes.letters_of(*(Note(FLAWS[flaw]) for flaw in figure.flaws))
            cells.append(Cell(figure.text, bold_in_paper=figure.bold, letters=letters))
        rows.append((row.label, tuple(cells)))
    any_column = next(iter(columns.values()))
    return PaperTable(
        number=reported.number,
        title=title(reported, any_column, cohort, boards),
        first=reported.heading,
        headings=tuple(headings),
        rows=tuple(rows),
        footnotes=footnotes.by_letter(),
        notes=tuple(notes(reported, columns, cohort, boards)),
        boards=boards,
    )


def _board(reported: ReportedTable, column: Column, cohort: str) -> Scoreboard | None:
    """The table's own scoreboard: its rows, ours named first, and its metrics; None where it has no row."""
    # Ours first: the first-named extractor is the one that is tested to be better.
    wanted = [OURS, *(row.extractor for row in reported.rows if row.extractor != OURS)]
    extractors = [column.extractors[name] for name in wanted if name in column.extractors]
    metrics = [METRIC_OF[column.profile][family] for family in reported.metrics]
    metrics = [metric for metric in metrics if metric in column.summary["metrics"]]
    departures = [item for item in column.summary["departures"] if _concerns(item, reported, column)]
    changed = sorted({str(item["option"]) for item in departures})
    profile_title = column.profile + (f" (changed: {', '.join(changed)})" if changed else "")
    scores = column.scores[
        (_cohorts(column) == cohort)
        & column.scores["extractor"].isin([item["name"] for item in extractors])
        & column.scores["metric"].isin(metrics)
    ]
    if scores.empty:
        return None
    told = cohort in cohorts_of(column.summary)
    summary = {
        **(of_cohort(column.summary, cohort) if told else column.summary),
        "extractors": extractors,
        "metrics": metrics,
        "departures": departures,
        "profile_title": profile_title,
    }
    return scoreboard(summary, scores)


def _concerns(departure: Mapping[str, Any], reported: ReportedTable, column: Column) -> bool:
    """Whether a departure bears on a table: not where it is another extractor's, or of a metric not shown."""
    rows = {row.extractor for row in reported.rows}
    elsewhere = set(column.extractors) - rows
    if "relevance-rank" not in reported.metrics:
        elsewhere |= {"relax", "relevance-rank"}
    return departure["plugin"] not in elsewhere


def _own_cell(
    reported: ReportedTable,
    row: ReportedRow,
    family: str,
    profile: str,
    columns: Mapping[str, Column],
    boards: Mapping[str, Scoreboard],
    footnotes: Footnotes,
    cohort: str,
) -> Cell:
    """A cell of ours; a dash with the command that would fill it where there is no such score."""
    metric, board = METRIC_OF[profile][family], boards.get(profile)
    found = next((item for item in board.rows if item.extractor == row.extractor), None) if board else None
    score = found.scores.get(metric) if found else None
    like = columns.get(profile) or next(iter(columns.values()))
    if found is None or score is None:
        if found is None:
            lacking = [item.extractor for item in missing_rows(reported, board)]
            text = f"No run of {', '.join(lacking)} with profile {profile} was given; this makes one:"
        else:
            lacking = [item.extractor for item in reported.rows]
            text = f"The runs with profile {profile} computed no {heading(metric)}; this does:"
        note = Note(text, fill_command(like, profile, lacking, cohort))
        return Cell(DASH, letters=footnotes.letters_of(note))
    about = []
    if score.runs == 0:
        text = f"{row.extractor} has no {heading(metric)} in the runs that were given; this makes one:"
        about.append(Note(text, fill_command(like, profile, [row.extractor], cohort)))
    weights = (like.extractors[row.extractor].get("options") or {}).get("weights", "imagenet")
    if weights != "imagenet":
        text = f"Not from ImageNet's weights: this run's {row.extractor} has weights={plain(weights)}."
        about.append(Note(text))
    bold = board is not None and _beats_all(reported, row, metric, board)
    return Cell(percent(score), bold=bold, letters=footnotes.letters_of(*about))


def _beats_all(reported: ReportedTable, row: ReportedRow, metric: str, board: Scoreboard) -> bool:
    """Whether this row is ours and its tests against every other row of the paper's table are significant."""
    if row.extractor != OURS or missing_rows(reported, board):
        return False
    others = [board.against_first(item.extractor, metric) for item in reported.rows if item is not row]
    return all(item is not None and item.better == OURS for item in others)
