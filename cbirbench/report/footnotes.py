"""What stands beneath a table: what its marks mean, what its numbers rest on, and what they do not allow."""

from __future__ import annotations

import math
from collections.abc import Sequence

from cbirbench.permutation import ALPHA, OVER_RUNS, runs_needed
from cbirbench.report.explanations import AIM, RELEVANCE_RANK, RELIABLE, Explained
from cbirbench.report.scoreboard import (
    BEATEN,
    BEST,
    DASH,
    UNREACHABLE,
    Row,
    Scoreboard,
    correlation,
    heading,
    plain,
)

FEW_PATIENTS = 10
"""Below this many query patients a report warns that they say little."""

OUT_OF_REACH = 20
"""So many times the masks that were made are not advised."""

CONTROL_WORDS = {"random-map": "a map of random numbers", "center-map": "a map of the image's centre"}
"""What each control stands for, in words."""


def patients_warning(board: Scoreboard) -> str:
    """What a small number of query patients does not allow; empty from `FEW_PATIENTS` on."""
    if board.patients >= FEW_PATIENTS:
        return ""
    patients = "1 query patient says" if board.patients == 1 else f"{board.patients} query patients say"
    return f"{patients} little: another draw of patients may turn the order of the rows."


def runs_warning(board: Scoreboard) -> str:
    """Which comparisons over training runs cannot become significant, and how many runs could; else empty."""
    short = [
        item.result
        for item in board.comparisons
        if item.result.test == OVER_RUNS and not item.result.note and not item.reachable
    ]
    if not short:
        return ""
    stops: dict[str, None] = {}  # each once, in order
    for result in short:
        sizes = f"{result.n_a} runs against {result.n_b}"
        if result.alternative == "two-sided":
            sizes += ", two-sided,"
        stops[f"{sizes} stop at p = {result.smallest_p:.4g}"] = None
    family = board.family
    each = []
    for alternative in sorted({result.alternative for result in short}):
        runs = runs_needed(family, alternative=alternative, permutations=board.permutations)
        asked = "one-sided" if alternative == "greater" else "two-sided"
        enough = f"{runs} runs" if runs else f"no number of runs with {board.permutations} permutations"
        each.append(f"{enough} where it is {asked}")
    corrected = f", and Holm's correction multiplies by up to {family}" if family > 1 else ""
    tests = "1 test" if family == 1 else f"{family} tests"
    # Holm's procedure steps down: fewer can do where the other tests find much.
    return (
        f"Too few training runs: {len(short)} of {tests} cannot reach p < {ALPHA:g}, whatever the scores "
        f"({'; '.join(stops)}{corrected}). To be sure to be able to, a test over runs of this family takes, "
        f"of each extractor, {' and '.join(each)}."
    )


def footnotes(board: Scoreboard) -> list[str]:
    """What the table's marks mean and what its numbers rest on, a line each, as plain text."""
    lines = [f"Percent; mean ± sample standard deviation over runs ({DASH}: a single run)."]
    if len(board.rows) > 1:
        first = board.rows[0].title
        marks = {mark for row in board.rows for metric in board.metrics for mark in board.marks(row, metric)}
        correction = f"one-sided p < {ALPHA:g} after Holm's correction over {board.family} comparisons"
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
    lines += [*scope_lines(board), *explanation_lines(board)]
    warnings = [patients_warning(board), runs_warning(board), *explanation_warnings(board)]
    lines += filter(None, warnings)
    if board.departures:
        lines.append(f"Changed from the profile: {'; '.join(board.departures)}.")
    return lines


def scope_lines(board: Scoreboard) -> list[str]:
    """On which queries metrics rest, and which values are undefined."""
    on_maps = board.explanations.metrics if board.explanations else {RELEVANCE_RANK}
    lines = []
    for metric, scope in board.scopes.items():
        if not scope.defined and metric in on_maps and board.masked == 0:
            lines.append(
                f"{heading(metric)} is undefined: it compares importance maps with masks of the target "
                "organ, and these queries have no masks."
            )
        elif not scope.defined:
            lines.append(f"{heading(metric)} is undefined for all {scope.queries} queries.")
        elif scope.defined < scope.queries:
            reason = "queries that show the target organ" if metric in on_maps else "those it is defined for"
            lines.append(f"{heading(metric)} on {scope.defined} of {scope.queries} queries: {reason}.")
        for row in board.rows:
            score = row.scores[metric]
            if score.undefined:
                lines.append(
                    f"{row.title}: {heading(metric)} undefined for {score.undefined} of {score.expected} "
                    "values, left out of its mean."
                )
    return lines


def control_title(name: str) -> str:
    """A control's name in a table, safe to print on one line."""
    return plain(f"control: {name}")


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
                "Chance of RR: a random map scores the target organ's share of the slice, "
                f"{100 * maps.chance:.1f} % here; an RR of 1.0× chance is no better."
            )
        lines.append(
            "Reliability: the rank correlation to expect between a map and another made from as many other "
            "masks (split-half, Spearman-Brown); mean over maps, at most 1."
        )
    low = [
        f"{row.title} {correlation(item.lowest_reliability)}"
        for row, item in found
        if item.lowest_reliability < RELIABLE
    ]
    if low:
        lines.append(
            f"Maps with a reliability below {RELIABLE:g} are among them; the lowest: {', '.join(low)}."
        )
    for row, item in found:
        if item.undefined:
            reasons = "; ".join(f"{count}: {plain(reason)}" for reason, count in item.problems.items())
            lines.append(f"{row.title}: {_counted(item.undefined, 'undefined map')} ({reasons}).")
        further = item.without_reliability - item.undefined  # an undefined map has no reliability either
        if further > 0:
            number = _counted(further, "other map" if item.undefined else "map")
            lines.append(f"{row.title}: reliability undefined for {number}, left out of its mean.")
        if item.zero_masks:
            number = _counted(item.zero_masks, "masked image")
            lines.append(
                f"{row.title}: {number} of similarity 0 to the whole: embedded to zero, or nothing in common."
            )
    return lines


def explanation_warnings(board: Scoreboard) -> list[str]:
    """Which maps are too unreliable to be read, and which find the organ no better than a control."""
    warnings = []
    found = [(row, item) for row in board.rows if (item := board.explained(row)) is not None]
    weak = [(row, item) for row, item in found if item.reliability < RELIABLE]
    if weak:
        each = ", ".join(f"{row.title} {correlation(item.reliability)}" for row, item in weak)
        warnings.append(
            f"Mean reliability of the maps below {RELIABLE:g} ({each}): other masks would give other maps. "
            + _more_masks(weak)
        )
    for row in board.rows:
        as_good = []
        controls = board.explanations.controls_of(row.extractor) if board.explanations else {}
        for control, means in controls.items():
            figures = [
                f"{heading(metric)} {100 * row.scores[metric].mean:.1f} % against {100 * means[metric]:.1f} %"
                for metric in board.metrics
                if metric in means and row.scores[metric].mean <= means[metric]
            ]
            if figures:
                as_good.append(f"{CONTROL_WORDS.get(control, plain(control))} ({', '.join(figures)})")
        if as_good:
            warnings.append(f"{row.title}: its maps find the organ no better than {' or '.join(as_good)}.")
    return warnings


def _more_masks(weak: Sequence[tuple[Row, Explained]]) -> str:
    # Maps of noise would ask for masks without end: a floor must not set what all others are given.
    reachable, beyond = [], []
    for row, item in weak:
        aim = item.masks_for_aim
        if aim is None or aim > OUT_OF_REACH * item.masks:
            beyond.append(row.title)
        else:
            reachable.append(aim)
    number = f"{max(reachable)}, about what a mean of {AIM:g} takes" if reachable else "N"
    return (
        f"More masks make them more reliable: --set relax.masks={number} (with --until-reliable {AIM:g} a "
        "map takes them only as far as it needs them)."
        + (f" {' and '.join(beyond)} would take over {OUT_OF_REACH} times as many." if beyond else "")
    )


def _counted(number: int, thing: str) -> str:
    """``1 map``, ``3 maps``."""
    return f"{number} {thing}{'' if number == 1 else 's'}"
