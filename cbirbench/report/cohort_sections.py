"""The sections of ``report.md`` on external cohorts (the paper's tables 3 and 5): one or more each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from cbirbench.leakage import leakage_findings
from cbirbench.report.cautions import cautions
from cbirbench.report.cohorts import cohorts_of, of_cohort
from cbirbench.report.explanation_section import explanation_section
from cbirbench.report.markup import inline, table
from cbirbench.report.score_table import row_title, score_table
from cbirbench.report.scoreboard import DASH, Scoreboard, heading, in_percent, percent
from cbirbench.report.significance import significance_section
from cbirbench.results import curves_figure


def cohort_overview(boards: Sequence[Scoreboard]) -> list[str]:
    """Each extractor's mean on every set of queries, side by side, as lines of Markdown.

    Args:
        boards: The table of the benchmark's own queries, then of each external cohort.
    """
    rows = []
    for board in boards:
        for metric in board.metrics:
            scores = [row.scores[metric] for row in board.rows]
            chance = board.chance.get(metric)
            rows.append(
                [
                    inline(board.benchmark),
                    str(board.patients),
                    inline(heading(metric)),
                    DASH if chance is None else in_percent(chance),
                    *(f"**{percent(score)}**" if score.best else percent(score) for score in scores),
                ]
            )
    names = map(row_title, boards[0].rows)
    return table(["queries", "patients", "metric", "chance", *names], rows)


def cohort_sections(summary: Mapping[str, Any], boards: Sequence[Scoreboard]) -> list[list[str]]:
    """The lines of each section, its title included.

    Args:
        summary: The content of ``summary.json``.
        boards: The table of each external cohort, in the summary's order.
    """
    sections = []
    for cohort, board in zip(cohorts_of(summary)[1:], boards, strict=True):
        seen = of_cohort(summary, cohort)
        name = f"Cohort {inline(cohort)}"
        sections.append(
            [f"## {name}", "", *_opening(seen, board), "", *score_table(board), *_curves(summary, cohort)]
        )
        sections.append([f"## {name}: significance", "", *significance_section(board)])
        explained = explanation_section(seen, board)
        if explained:
            sections.append([f"## {name}: explanations", "", *explained])
    return sections


def _opening(seen: Mapping[str, Any], board: Scoreboard) -> list[str]:
    data = seen["benchmark"]
    where = (
        f"{data['gallery_slices']} slices of the benchmark's gallery, by the same extractors, trained there"
        if data["own_gallery"] is False
        else "the cohort's own slices of other patients; the extractors were trained on the benchmark's"
    )
    lines = [
        f"{data['query_slices']} query slices ({data['query_volumes']} scans, {board.patients} patients) of "
        f"an external cohort, each looked up among {where}."
    ]
    warnings = [*data.get("alarms", ()), *cautions(board)]
    if data.get("leakage"):
        warnings += leakage_findings(data["leakage"])
    for warning in warnings:
        lines += ["", f"> **Mind:** {inline(warning)}"]
    return lines


def _curves(summary: Mapping[str, Any], cohort: str) -> list[str]:
    figure = curves_figure(cohort)
    if figure not in summary.get("curve_figures", ()):
        return []
    return ["", f"![Scores over the epochs of training]({figure})"]
