"""What stands beneath a table: what its marks mean and what its numbers rest on."""

from __future__ import annotations

import math

from cbirbench.permutation import ALPHA
from cbirbench.plain_text import many
from cbirbench.report.explanations import RELEVANCE_RANK, RELIABLE
from cbirbench.report.scoreboard import (
    BEATEN,
    BEST,
    DASH,
    UNREACHABLE,
    Scoreboard,
    correlation,
    heading,
    in_percent,
    plain,
)


def footnotes(board: Scoreboard) -> list[str]:
    """What the table's marks mean and what its numbers rest on, a line each, as plain text."""
    lines = [f"Percent; mean ± sample standard deviation over runs ({DASH}: a single run)."]
    if len(board.rows) > 1:
        first = board.rows[0].name
        marks = {mark for row in board.rows for metric in board.metrics for mark in board.marks(row, metric)}
        over = f" after Holm's correction over {board.family} comparisons" if board.family > 1 else ""
        correction = f"one-sided p < {ALPHA:g}{over}"
        if BEST in marks:
            lines.append(f"{BEST} highest mean of its column.")
        if BEATEN in marks:
            lines.append(f"{BEATEN} {first} scores significantly higher than this extractor ({correction}).")
        else:
            lines.append(f"{first} is significantly better than none of the others ({correction}).")
        if UNREACHABLE in marks:
            lines.append(
                f"{UNREACHABLE} the comparison with {first} cannot reach this level, whatever the scores: "
                "too few runs or patients for so many comparisons."
            )
    lines += [*scope_lines(board), *baseline_lines(board), *explanation_lines(board)]
    if board.departures:
        lines.append(f"Changed from the profile: {'; '.join(board.departures)}.")
    return lines


def scope_lines(board: Scoreboard) -> list[str]:
    """On which queries metrics rest, and which values are undefined."""
    lines = []
    for metric, scope in board.scopes.items():
        if not scope.defined and metric in board.on_maps and board.masked == 0:
            lines.append(
                f"{heading(metric)} is undefined: it compares importance maps with masks of the target "
                "organ, and these queries have no masks."
            )
        elif not scope.defined:
            lines.append(f"{heading(metric)} is undefined for all {scope.queries} queries.")
        elif scope.defined < scope.queries:
            reason = (
                "queries that show the target organ" if metric in board.on_maps else "those it is defined for"
            )
            lines.append(f"{heading(metric)} on {scope.defined} of {scope.queries} queries: {reason}.")
        for row in board.rows:
            score = row.scores[metric]
            if score.undefined:
                lines.append(
                    f"{row.name}: {heading(metric)} undefined for {score.undefined} of {score.expected} "
                    "values, left out of its mean."
                )
    return lines


def control_title(name: str) -> str:
    """A control's name in a table, safe to print on one line."""
    return plain(f"control: {name}")


def baseline_lines(board: Scoreboard) -> list[str]:
    """What the metrics on neighbours give by chance, and which extractors are floors."""
    lines = []
    known = {metric: board.chance[metric] for metric in board.metrics if metric in board.chance}
    if known:
        each = ", ".join(f"{heading(metric)} {in_percent(value)}" for metric, value in known.items())
        lines.append(f"Chance, neighbours drawn at random: {each}.")
    for metric in known:
        queries = board.scopes[metric].queries
        if metric.startswith("knn-accuracy@") and 2 * board.commonest > queries:
            lines.append(
                f"{board.commonest} of {queries} queries have one label: to answer it of every slice has an "
                f"{heading(metric)} of {in_percent(board.commonest / queries)}."
            )
    if len(board.rows) > 1 and board.floors_known and not any(row.floor for row in board.rows):
        lines.append(
            "No floor is among the extractors. `random`, `intensity-histogram` and `z-position` show what is "
            "reached without any look at anatomy."
        )
    return lines


def explanation_lines(board: Scoreboard) -> list[str]:
    """What chance and reliability are, and which maps are undefined and why; nothing without explanations."""
    maps = board.explanations
    if maps is None:
        return []
    found = [(row, item) for row in board.rows if (item := board.explained(row)) is not None]
    lines = []
    if RELEVANCE_RANK in board.metrics:
        if not math.isnan(maps.chance):
            lines.append(
                "Chance of RR: pixels drawn at random score the target organ's share of the slice, "
                f"{in_percent(maps.chance)} here; an RR of 1.0× chance is no better."
            )
        if board.controls:
            lines.append(
                "Controls know nothing of any extractor: random-map is made by RELAX of random similarities, "
                "center-map is bright in the image's centre."
            )
        lines.append(
            "Reliability: the rank correlation to expect between a map and another made from as many other "
            "masks (split-half, Spearman-Brown); mean over maps, at most 1."
        )
    low = [
        f"{row.name} {correlation(item.lowest_reliability)}"
        for row, item in found
        # Whose mean is below it is warned of.
        if item.lowest_reliability < RELIABLE and not item.reliability < RELIABLE
    ]
    if low:
        lines.append(
            f"Maps with a reliability below {RELIABLE:g} are among them; the lowest: {', '.join(low)}."
        )
    for row, item in found:
        if item.undefined:
            reasons = "; ".join(f"{count}: {plain(reason)}" for reason, count in item.problems.items())
            lines.append(f"{row.name}: {many(item.undefined, 'undefined map')} ({reasons}).")
        further = item.without_reliability - item.undefined  # an undefined map has no reliability either
        if further > 0:
            number = many(further, "other map" if item.undefined else "map")
            lines.append(f"{row.name}: reliability undefined for {number}, left out of its mean.")
        if item.zero_masks:
            number = many(item.zero_masks, "masked image")
            lines.append(
                f"{row.name}: {number} of similarity 0 to the whole: embedded to zero, or nothing in common."
            )
    return lines
