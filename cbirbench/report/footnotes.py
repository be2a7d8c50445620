"""What stands beneath a table: what its marks mean, what its numbers rest on, and what they do not allow."""

from __future__ import annotations

from cbirbench.permutation import ALPHA, OVER_RUNS, runs_needed
from cbirbench.report.scoreboard import BEATEN, BEST, DASH, UNREACHABLE, Scoreboard, heading

FEW_PATIENTS = 10
"""Below this many query patients a report warns that they say little."""


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
    lines += scope_lines(board)
    lines += filter(None, [patients_warning(board), runs_warning(board)])
    if board.departures:
        lines.append(f"Changed from the profile: {'; '.join(board.departures)}.")
    return lines


def scope_lines(board: Scoreboard) -> list[str]:
    """On which queries metrics rest, and which values are undefined."""
    lines = []
    for metric, scope in board.scopes.items():
        if scope.defined < scope.queries:
            reason = (
                "queries that show the target organ"
                if metric == "relevance-rank"
                else "those it is defined for"
            )
            lines.append(f"{heading(metric)} on {scope.defined} of {scope.queries} queries: {reason}.")
        for row in board.rows:
            score = row.scores[metric]
            if score.undefined:
                lines.append(
                    f"{row.title}: {heading(metric)} undefined for {score.undefined} of {score.expected} "
                    "values, left out of its mean."
                )
    return lines
