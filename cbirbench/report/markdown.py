"""``report.md``: a run for a reader, from its summary and its scores alone."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from cbirbench.report.scoreboard import (
    DASH,
    Scoreboard,
    footnotes,
    heading,
    patients_warning,
    percent,
    plain,
    scoreboard,
    value_text,
)
from cbirbench.report.training import training_runs, training_warnings
from cbirbench.results import FILES
from cbirbench.statistics import ALPHA, OVER_PATIENTS, OVER_RUNS, Comparison

if TYPE_CHECKING:
    import pandas as pd


def report(
    summary: Mapping[str, Any],
    scores: pd.DataFrame,
    training: pd.DataFrame | None = None,
    *,
    board: Scoreboard | None = None,
) -> str:
    """Write the report of a run in Markdown. The same input gives the same text, byte for byte.

    Args:
        summary: The content of ``summary.json``.
        scores: The content of ``scores.parquet``.
        training: One row an epoch: extractor, run, epoch, loss and, where watched, embedding_std (mean
            deviation of the L2-normalised embeddings' d coordinates) and embedding_dim (d).
        board: The run's `scoreboard`, where it was made already.

    Raises:
        DataError: The scores are malformed, or name an extractor or metric that the summary does not.
    """
    board = board or scoreboard(summary, scores)
    sections = [
        _opening(summary, board, training),
        ["## Scores", "", *_scores(board)],
        ["## How to read the numbers", "", *_reading(summary, board)],
        ["## Significance", "", *_significance(board)],
        ["## Departures from the profile", "", *_departures(summary)],
        ["## Undefined values", "", *_undefined(board)],
        ["## Training", "", *_training(training)],
        ["## Data", "", *_pairs(summary["benchmark"])],
        ["## Extractors and their options", "", *_extractors(summary)],
        ["## Versions, hardware, command", "", *_circumstances(summary)],
        ["## Files, and how to compute the scores again", "", *_files(summary, board)],
    ]
    return "\n\n".join("\n".join(section) for section in sections) + "\n"


def inline(text: object) -> str:
    """Text as Markdown shows it literally, on one line: names and values come from plugins and data."""
    return re.sub(r"([\\`*_{}\[\]<>#|~&!$])", r"\\\1", plain(text))


def _opening(summary: Mapping[str, Any], board: Scoreboard, training: pd.DataFrame | None) -> list[str]:
    data = summary["benchmark"]
    names = ", ".join(inline(row.title) for row in board.rows)
    lines = [f"# {inline(board.title)}", ""]
    if board.synthetic:
        lines += [
            "> **Synthetic data.** The scans of this benchmark were made by a program. Its scores show that "
            "the program runs and how extractors fare on phantoms; they say nothing about patients.",
            "",
        ]
    lines.append(
        f"{data['query_slices']} query slices ({data['query_volumes']} scans, {board.patients} patients) "
        f"were each looked up among {data['gallery_slices']} gallery slices "
        f"({data['gallery_volumes']} scans), nearest first by {inline(summary['distance'])} distance, "
        f"by the features of: {names}."
    )
    warnings = [*filter(None, [patients_warning(board)]), *training_warnings(training)]
    for warning in warnings:
        lines += ["", f"> **Mind:** {inline(warning)}"]
    return lines


def _scores(board: Scoreboard) -> list[str]:
    rows = []
    for row in board.rows:
        cells = [inline(row.title), str(row.runs)]
        for metric in board.metrics:
            score = row.scores[metric]
            figures = f"**{percent(score)}**" if score.best else percent(score)
            cells.append(f"{figures} {board.marks(row, metric)}".rstrip())
        rows.append(cells)
    header = ["extractor", "runs", *(inline(heading(metric)) for metric in board.metrics)]
    notes = [f"- {inline(line)}" for line in footnotes(board)]
    return [*_table(header, rows), "", *notes]


def _reading(summary: Mapping[str, Any], board: Scoreboard) -> list[str]:
    lines = []
    for metric in board.metrics:
        family, _, depth = metric.partition("@")
        if family == "map" and depth:
            meaning = (
                f"mean of precision@1 to precision@{inline(depth)}, over queries: the share of the nearest k "
                "slices that have the query's label, averaged over k (the paper's equations 5 and 6). Other "
                "programs give the name MAP to other quantities. " + _CHANCE
            )
        elif family == "knn-accuracy" and depth:
            meaning = (
                f"share of queries whose label is that of the majority of their {inline(depth)} nearest "
                "slices. " + _CHANCE
            )
        elif metric == "relevance-rank":
            share = summary["benchmark"].get("mean_query_mask_fraction")
            here = "" if share is None or math.isnan(share) else f", {100 * share:.1f} % here"
            meaning = (
                "relevance rank accuracy of RELAX importance maps (equation 7): of a slice's |S| most "
                "important pixels, |S| being the size of the target organ in it, the share inside the organ. "
                f"A map of random numbers scores the organ's mean share of the slice{here}."
            )
        else:
            meaning = "see the plugin that brings it."
        lines.append(f"- **{inline(heading(metric))}** ({inline(metric)} in the files): {meaning}")
    return lines


_CHANCE = (
    "With as many slices of the one label as of the other, neighbours drawn at random score 50 %; else "
    "chance follows from the mix of the labels."
)


def _significance(board: Scoreboard) -> list[str]:
    if not board.comparisons:
        return ["One extractor: nothing to compare."]
    first = inline(board.rows[0].title)
    tests = {item.result.test for item in board.comparisons}
    family = sum(not item.result.note for item in board.comparisons)
    lines = [
        f"The first-named extractor, {first}, is tested one-sided (better) against each other; every other "
        "pair is two-sided. Holm's correction spans the "
        f"{family} tests of this table, all pairs on all metrics; a result is significant where its "
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
    header = ["metric", "A", "B", "A - B, points", "test", "alternative", "n", "p", "p, Holm", "finding"]
    return [*lines, "", *_table(header, [_comparison_row(item) for item in board.comparisons])]


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


def _departures(summary: Mapping[str, Any]) -> list[str]:
    departures = summary.get("departures", ())
    profile = inline(summary["profile"])
    if not departures:
        return [f"None: every option is as in the profile {profile}."]
    rows = [
        [
            inline(item["plugin"]),
            inline(item["option"]),
            inline(value_text(item["profile_value"])),
            inline(value_text(item["value"])),
            inline(item["set_by"]),
        ]
        for item in departures
    ]
    return _table(["plugin", "option", f"profile {profile}", "this run", "set by"], rows)


def _undefined(board: Scoreboard) -> list[str]:
    rows = [
        [inline(row.title), inline(heading(metric)), f"{score.undefined} of {score.expected}"]
        for row in board.rows
        for metric, score in row.scores.items()
        if score.undefined
    ]
    counted = (
        "Values (queries times runs) that are undefined for an extractor though the query has a value for "
        "some extractor or run; means leave them out."
    )
    if not rows:
        return [f"{counted} There are none."]
    return [counted, "", *_table(["extractor", "metric", "undefined"], rows)]


def _training(training: pd.DataFrame | None) -> list[str]:
    runs = training_runs(training)
    if not runs:
        return ["Nothing was trained, or no training was recorded."]
    rows = []
    for item in runs:
        figures = [item.first_loss, item.last_loss, item.deviation, item.even]
        counts = [inline(item.extractor), str(item.run), str(item.epochs)]
        rows.append([*counts, *map(_number, figures), inline(item.warning or DASH)])
    header = ["extractor", "run", "epochs", "first loss", "last loss", "deviation", "1/sqrt(d)", "warning"]
    return [
        "The deviation is that of the L2-normalised embeddings' coordinates after the last epoch: near "
        "1/sqrt(d) where embeddings spread evenly, 0 where all collapse into one.",
        "",
        *_table(header, rows),
    ]


def _number(value: float) -> str:
    return DASH if math.isnan(value) else f"{value + 0.0:.4g}"


def _extractors(summary: Mapping[str, Any]) -> list[str]:
    lines: list[str] = []
    for item in summary["extractors"]:
        origin = " ".join(str(item[key]) for key in ("distribution", "version") if item.get(key))
        trained = "trained here" if item.get("trained") else "not trained here"
        lines += [
            "",
            f"### {inline(item['name'])}",
            "",
            f"{inline(origin or 'origin unknown')}; {trained}.",
            "",
        ]
        lines += _pairs(item.get("options") or {}) or ["No options."]
    return lines[1:]


def _circumstances(summary: Mapping[str, Any]) -> list[str]:
    facts: dict[str, Any] = {
        key: summary[key] for key in ("started", "finished", "seed", "git") if summary.get(key) is not None
    }
    for group in ("versions", "hardware"):
        facts.update({f"{group}: {key}": value for key, value in (summary.get(group) or {}).items()})
    command = plain(summary.get("command", ""))
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", command)), default=0))
    return [*_pairs(facts), "", fence, command, fence]


def _files(summary: Mapping[str, Any], board: Scoreboard) -> list[str]:
    files = summary.get("files") or FILES
    lines = [
        *_pairs(files, header=("file", "content")),
        "",
        "Values are fractions of 1. The table's means and deviations:",
        "",
        "```python",
        "import pandas as pd",
        "",
        'scores = pd.read_parquet("scores.parquet")',
        'run_means = scores.groupby(["metric", "extractor", "run"])["value"].mean()  # NaN left out',
        'table = 100 * run_means.groupby(level=["metric", "extractor"]).agg(["mean", "std"])',
        "print(table.round(1))",
    ]
    depth = next((m.partition("@")[2] for m in board.metrics if re.fullmatch(r"map@\d+", m)), "")
    if depth:
        lines += [
            "",
            f"# map@{depth} once more, from the neighbours",
            'label = pd.read_parquet("slices.parquet").set_index("slice_id")["label"]',
            f'near = pd.read_parquet("neighbours.parquet").query("rank <= {depth}").sort_values("rank")',
            'near["hits"] = near["gallery_id"].map(label) == near["query_id"].map(label)',
            'near["hits"] = near.groupby(["extractor", "run", "query_id"])["hits"].cumsum()',
            'near["precision"] = near["hits"] / near["rank"]',
            'print(100 * near.groupby(["extractor", "run"])["precision"].mean())',
        ]
    return [*lines, "```"]


def _pairs(facts: Mapping[str, Any], header: tuple[str, str] = ("", "")) -> list[str]:
    """A table of names and values; nothing where there are none."""
    rows = [[inline(key), inline(value_text(value))] for key, value in facts.items()]
    return _table(header, rows) if rows else []


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """A table whose cells are Markdown already."""
    lines = [header, ["---"] * len(header), *rows]
    return [f"| {' | '.join(cells)} |" for cells in lines]
