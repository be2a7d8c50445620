"""The section of ``report.md`` on significance: every comparison, its test, its effect and what it found."""

from __future__ import annotations

import math

from cbirbench.permutation import ALPHA, OVER_PATIENTS, OVER_RUNS
from cbirbench.report.markup import inline, table
from cbirbench.report.scoreboard import DASH, Scoreboard, heading
from cbirbench.statistics import Comparison


def significance_section(board: Scoreboard) -> list[str]:
    """What was tested and how, and a row for each comparison, as lines of Markdown."""
    if not board.comparisons:
        return ["One extractor: nothing to compare."]
    first = inline(board.rows[0].name)
    tests = {item.result.test for item in board.comparisons}
    lines = [
        f"The first-named extractor, {first}, is tested one-sided (better) against each other; every other "
        "pair is two-sided. Holm's correction spans the "
        f"{board.family} tests of this table, all pairs on all metrics; a result is significant where its "
        f"corrected p is below {ALPHA:g}. Where there are at most {board.permutations} rearrangements, all "
        f"are gone through; else {board.permutations} are drawn, and p = (b + 1) / (m + 1)."
    ]
    if OVER_RUNS in tests:
        lines += [
            "",
            f"*{OVER_RUNS.capitalize()}* (the paper's test, both sides with two runs or more) shuffles run "
            "scores between the two: it says whether training again would show the difference, on these same "
            "patients.",
        ]
    if OVER_PATIENTS in tests:
        lines += [
            "",
            f"*{OVER_PATIENTS.capitalize()}* (one side has fewer than two runs) flips the signs of all "
            "per-query differences of a patient together: it says whether other patients would show the "
            "difference, with these very extractors, and nothing about training again.",
        ]
    lines += [
        "",
        "The *effect* is the probability of superiority (Vargha and Delaney's measure): over runs, the share "
        "of pairs, a run of A and a run of B, in which A scores higher; over patients, the share of patients "
        "whose mean difference favours A. Ties count half: .5 is no effect, 1 is always A, 0 always B.",
    ]
    return [*lines, "", *comparison_table(board)]


def comparison_table(board: Scoreboard) -> list[str]:
    """Every comparison of a table, a row each, as lines of Markdown."""
    header = ["metric", "A", "B", "A - B, points", "effect"]
    header += ["test", "alternative", "n", "p", "p, Holm", "finding"]
    return table(header, [_comparison_row(item) for item in board.comparisons])


def _comparison_row(item: Comparison) -> list[str]:
    result = item.result
    over_runs = result.test == OVER_RUNS
    count = f"{result.n_a} and {result.n_b} runs" if over_runs else f"{result.n_a} patients"
    if result.dropped:
        count += f"; undefined and left out: {result.dropped} of the {'runs' if over_runs else 'pairs'}"
    if result.note:
        finding = f"not tested: {result.note}"
    elif item.significant:
        finding = f"{inline(item.better)} higher"
    elif not result.reachable:
        finding = f"cannot reach {ALPHA:g}: this test stops at p = {_p(result.smallest_p)}"
    elif not item.reachable:
        finding = f"cannot reach {ALPHA:g} after correction: stops at {_p(item.smallest_p_holm)}"
    else:
        finding = "not significant"
    difference = DASH if math.isnan(result.difference) else f"{100 * result.difference:+.1f}"
    return [
        inline(heading(item.metric)),
        inline(item.a),
        inline(item.b),
        difference,
        DASH if math.isnan(result.effect) else f"{result.effect:.2f}",
        result.test,
        "A better" if result.alternative == "greater" else "two-sided",
        count,
        _p(result.p),
        _p(item.p_holm),
        finding,
    ]


def _p(value: float) -> str:
    if math.isnan(value):
        return DASH
    return "below 0.0001" if value < 1e-4 else f"{value:.4f}"
