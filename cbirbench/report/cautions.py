"""What is to be minded in a table: few patients or runs, scores no better than a floor, unreliable maps."""

from __future__ import annotations

import math
from collections.abc import Sequence

from cbirbench.permutation import ALPHA, OVER_RUNS, runs_needed
from cbirbench.report.explanations import AIM, RELIABLE, Explained
from cbirbench.report.scoreboard import Row, Scoreboard, correlation, heading, in_percent, not_above, plain

FEW_PATIENTS = 10
"""Below this many query patients a report warns that they say little."""

OUT_OF_REACH = 20
"""So many times the masks that were made are not advised."""

CONTROL_WORDS = {"random-map": "a map of random similarities", "center-map": "a map of the image's centre"}
"""What each control stands for, in words."""


def cautions(board: Scoreboard) -> list[str]:
    """All that is to be minded before a table is believed, a line each, as plain text."""
    single = [patients_warning(board), runs_warning(board), chance_warning(board), floor_warning(board)]
    return [*filter(None, single), *explanation_warnings(board)]


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


def chance_warning(board: Scoreboard) -> str:
    """Which extractors, floors aside, retrieve no better than chance; empty where none."""
    found = []
    for row in board.rows:
        means = {metric: row.scores[metric].mean for metric in board.metrics if metric in board.chance}
        metrics = [
            f"{heading(metric)} {in_percent(mean)} against {in_percent(board.chance[metric])}"
            for metric, mean in means.items()
            if not_above(mean, board.chance[metric])
        ]
        if metrics and not row.floor:
            found.append(f"{row.name} ({', '.join(metrics)})")
    return f"No better than chance: {'; '.join(found)}." if found else ""


def floor_warning(board: Scoreboard) -> str:
    """Which extractors do not rise above a floor of the table; empty where all do, or there is none."""
    floors = [row for row in board.rows if row.floor]
    found: dict[str, list[str]] = {}
    for metric in board.metrics:
        defined = [row for row in floors if not math.isnan(row.scores[metric].mean)]
        # Where a floor's maps are, is not what it is a floor of: the controls stand beside such a metric.
        if metric in board.on_maps or not defined:
            continue
        highest = max(defined, key=lambda row: row.scores[metric].mean)
        level = highest.scores[metric].mean
        below = [
            row.name for row in board.rows if not row.floor and not_above(row.scores[metric].mean, level)
        ]
        if below:
            line = f"{heading(metric)} ({highest.name} {in_percent(level)})"
            found.setdefault(" and ".join(below), []).append(line)
    each = "; ".join(f"{names} in {' and '.join(lines)}" for names, lines in found.items())
    return f"Not above a floor, which looks at no anatomy: {each}." if found else ""


def explanation_warnings(board: Scoreboard) -> list[str]:
    """Which maps are too unreliable to be read, and which find the organ no better than a control."""
    warnings = []
    found = [(row, item) for row in board.rows if (item := board.explained(row)) is not None]
    weak = [(row, item) for row, item in found if item.reliability < RELIABLE]
    if weak:
        each = ", ".join(f"{row.name} {correlation(item.reliability)}" for row, item in weak)
        warnings.append(
            f"Mean reliability of the maps below {RELIABLE:g} ({each}): other masks would give other maps. "
            + _more_masks(weak)
        )
    for row in board.rows:
        as_good = []
        controls = board.explanations.controls_of(row.extractor) if board.explanations else {}
        for control, means in controls.items():
            figures = [
                f"{heading(metric)} {in_percent(row.scores[metric].mean)} against {in_percent(means[metric])}"
                for metric in board.metrics
                if metric in means and not_above(row.scores[metric].mean, means[metric])
            ]
            if figures:
                as_good.append(f"{CONTROL_WORDS.get(control, plain(control))} ({', '.join(figures)})")
        if as_good:
            warnings.append(f"{row.name}: its maps find the organ no better than {' or '.join(as_good)}.")
    return warnings


def _more_masks(weak: Sequence[tuple[Row, Explained]]) -> str:
    # Maps of noise would ask for masks without end: a floor must not set what all others are given.
    reachable, beyond = [], []
    for row, item in weak:
        aim = item.masks_for_aim
        if aim is None or aim > OUT_OF_REACH * item.masks:
            beyond.append(row.name)
        else:
            reachable.append(aim)
    number = f"{max(reachable)}, about what a mean of {AIM:g} takes" if reachable else "N"
    return (
        f"More masks make them more reliable: --set relax.masks={number} (with --until-reliable {AIM:g} a "
        "map takes them only as far as it needs them)."
        + (f" {' and '.join(beyond)} would take over {OUT_OF_REACH} times as many." if beyond else "")
    )
