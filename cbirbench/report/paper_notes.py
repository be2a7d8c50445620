"""What is said above and beneath the paper's tables: on which data, by which rules, and what is missing."""

from __future__ import annotations

import math
from collections.abc import Mapping

from cbirbench.permutation import ALPHA
from cbirbench.report.cautions import patients_warning, runs_warning
from cbirbench.report.footnotes import scope_lines
from cbirbench.report.paper_layout import Note
from cbirbench.report.paper_runs import Column, fill_command
from cbirbench.report.reported import OURS, ReportedRow, ReportedTable
from cbirbench.report.scoreboard import DASH, Scoreboard, correlation, plain

REPORTED = ("reported by", "the paper")
"""Heading of the paper's own figures, in two lines."""

NO_COHORT = "No run with an external cohort was given."


def comparable(column: Column) -> bool:
    """Whether the runs are of the paper's Decathlon protocol: that benchmark, its options as they are."""
    name = column.summary["benchmark"]["name"]
    return name == "decathlon" and all(item["plugin"] != name for item in column.summary["departures"])


def missing_rows(reported: ReportedTable, board: Scoreboard | None) -> list[ReportedRow]:
    """Rows of the paper's table that a profile's runs do not have."""
    have = {row.extractor for row in board.rows} if board else set()
    return [row for row in reported.rows if row.extractor not in have]


def title(reported: ReportedTable, column: Column, cohort: str, boards: Mapping[str, Scoreboard]) -> str:
    """What a table shows, on which data and under which profiles, as plain text.

    Args:
        reported: The paper's table.
        column: Any of the runs: all are of one benchmark.
        cohort: The external cohort's name; empty for the benchmark's own queries, and where there is none.
        boards: The table's scores by profile.
    """
    name = plain(column.summary["benchmark"]["name"])
    if reported.external:
        where = f"queries of the external cohort {plain(cohort)}" if cohort else "no external cohort was run"
        gallery = "of its other patients" if _among_themselves(column, cohort) else f"of {name}"
        where += f", gallery {gallery}, NOT the paper's UNN cohort" if cohort else ""
    elif comparable(column):
        where = "decathlon"
    elif name == "decathlon":
        where = "decathlon with changed slices, NOT the paper's data"
    else:
        where = f"measured on {name}, NOT on the paper's Decathlon data"
    if column.summary["benchmark"]["synthetic"] and boards:
        where += " (synthetic data)"
    profiles = "; ".join(f"profile {plain(board.profile_title)}" for board in boards.values())
    return f"{reported.caption}: {where}" + (f" — {profiles}" if profiles else "")


def _among_themselves(column: Column, cohort: str) -> bool:
    """Whether a cohort was its own gallery."""
    entries = column.summary.get("cohorts") or ()
    return any(entry["name"] == cohort and entry.get("gallery") == "self" for entry in entries)


def notes(
    reported: ReportedTable, columns: Mapping[str, Column], cohort: str, boards: Mapping[str, Scoreboard]
) -> list[Note]:
    """What holds for a whole table; the arguments are those of `title`, with the runs by profile."""
    column = next(iter(columns.values()))
    texts = [NO_COHORT] if reported.external and not cohort else []
    texts += _on_the_data(reported, column, cohort)
    texts += [
        f"Percent; mean ± sample standard deviation over runs ({DASH}: a single run). The column "
        f"“{' '.join(REPORTED)}” is as reported on the paper's own data; * marks what the paper prints bold.",
        "The paper's text defines MAP over k = 1..5 (our MAP@5); its released program takes k = 1..4 (our "
        "MAP@4). Which of them its tables hold is not said.",
    ]
    for profile, board in boards.items():
        texts += _on_a_profile(reported, columns[profile], board)
    lines = [Note(text) for text in texts]
    if "released-code" not in columns and not (reported.external and not cohort):
        lacking = [row.extractor for row in reported.rows]
        command = fill_command(column, "released-code", lacking, cohort)
        lines.append(
            Note("No run with profile released-code was given; this would add its columns:", command)
        )
    return lines


def _on_the_data(reported: ReportedTable, column: Column, cohort: str) -> list[str]:
    """Whether what the paper reports can be compared, and whether the data are synthetic."""
    name = plain(column.summary["benchmark"]["name"])
    if reported.external:
        where = f"the cohort {plain(cohort)}" if cohort else "none"
        texts = [
            "The reported figures are NOT comparable: the paper measured them on its UNN cohort, which is "
            f"not public; this run's external queries: {where}."
        ]
    elif not comparable(column):
        changed = " with changed options" if name == "decathlon" else ""
        texts = [
            "The reported figures are NOT comparable: the paper measured them on slices of the Decathlon's "
            f"131 labelled liver scans, this run on {name}{changed}."
        ]
    else:
        texts = ["The paper does not publish which slices it drew: its figures are of another draw."]
    if column.summary["benchmark"]["synthetic"] and not (reported.external and not cohort):
        texts.append("Synthetic data: scans made by a program, not by a scanner.")
    return texts


def _on_a_profile(reported: ReportedTable, column: Column, board: Scoreboard) -> list[str]:
    """What holds for one profile's columns: runs, bold, scopes, chance, warnings and departures."""
    counts = {row.extractor: row.runs for row in board.rows}
    runs = ", ".join(
        f"{row.label} {counts[row.extractor]}" for row in reported.rows if row.extractor in counts
    )
    patients = "1 query patient" if board.patients == 1 else f"{board.patients} query patients"
    lines = [f"runs: {runs}; {patients}.", _bold_rule(reported, board)]
    if "relevance-rank" in board.metrics:
        if column.profile == "released-code":
            lines.append("RR is of the absolute importance map.")
        lines += _on_the_maps(reported, column, board)
    lines += scope_lines(board)
    lines += filter(None, [patients_warning(board), runs_warning(board)])
    changed = "; ".join(board.departures)
    lines.append(f"changed from the profile: {changed}." if changed else "nothing is changed from it.")
    return [f"Profile {column.profile}: {line}" for line in lines]


def _on_the_maps(reported: ReportedTable, column: Column, board: Scoreboard) -> list[str]:
    """The chance level of relevance ranks, and the mean reliability of the maps behind each row."""
    # Of the benchmark's own queries; a cohort's chance is with its explanations.
    share = None if reported.external else column.summary["benchmark"].get("mean_query_mask_fraction")
    chance = math.nan if share is None else float(share)
    lines = []
    if board.explanations is not None and not math.isnan(board.explanations.chance):
        chance = board.explanations.chance
    if not math.isnan(chance):
        lines.append(f"a map of random numbers scores an RR of {100 * chance:.1f} % on these queries.")
    names = {row.extractor: row.label for row in reported.rows}
    means = {names[row.extractor]: item.reliability for row in board.rows if (item := board.explained(row))}
    known = [f"{label} {correlation(mean)}" for label, mean in means.items() if not math.isnan(mean)]
    if known:
        lines.append(
            f"mean reliability of the maps (split-half, Spearman-Brown; 1 at most): {', '.join(known)}."
        )
    return lines


def _bold_rule(reported: ReportedTable, board: Scoreboard) -> str:
    missing = missing_rows(reported, board)
    if missing:
        names = ", ".join(row.label for row in missing)
        return f"nothing is bold, since rows are missing: {names}."
    ours = next(row.label for row in reported.rows if row.extractor == OURS)
    return (
        f"bold only where {ours} scores significantly higher than every other row: one-sided permutation "
        "tests (over runs where both sides have two or more, else over patients), "
        f"p < {ALPHA:g} after Holm's correction over the {board.family} tests of this table under "
        "this profile (every pair of its rows on each of its metrics). No other row is ever bold."
    )
