"""``report.md``: a run for a reader, from its summary and its scores alone."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from cbirbench.leakage import leakage_findings
from cbirbench.report.cautions import cautions
from cbirbench.report.cohort_sections import cohort_overview, cohort_sections
from cbirbench.report.cohorts import cohorts_of, of_cohort, scores_of
from cbirbench.report.data_section import data_section
from cbirbench.report.explanation_section import explanation_section
from cbirbench.report.markup import inline, pairs, table
from cbirbench.report.score_table import score_table
from cbirbench.report.scoreboard import DASH, Scoreboard, heading, in_percent, plain, scoreboard, value_text
from cbirbench.report.significance import significance_section
from cbirbench.report.training import training_runs, training_warnings
from cbirbench.results import CURVES_FIGURE, CURVES_TABLE, FILES

if TYPE_CHECKING:
    import pandas as pd


def report(
    summary: Mapping[str, Any],
    scores: pd.DataFrame,
    training: pd.DataFrame | None = None,
    *,
    boards: Sequence[Scoreboard] | None = None,
) -> str:
    """Write the report of a run in Markdown. The same input gives the same text, byte for byte.

    Args:
        summary: The content of ``summary.json``.
        scores: The content of ``scores.parquet``.
        training: One row an epoch: extractor, run, epoch, loss and, where watched, embedding_std (mean
            deviation of the L2-normalised embeddings' d coordinates) and embedding_dim (d).
        boards: The `scoreboard` of the benchmark's own queries and of each external cohort's, where they
            were made already.

    Raises:
        DataError: The scores are malformed, or name an extractor or metric that the summary does not.
    """
    boards = boards or [
        scoreboard(of_cohort(summary, cohort), scores_of(scores, summary, cohort))
        for cohort in cohorts_of(summary)
    ]
    board = boards[0]
    explained = explanation_section(summary, board)
    notes = summary.get("notes") or ()
    sections = [
        _opening(summary, board, training),
        ["## Scores", "", *score_table(board)],
        ["## How to read the numbers", "", *_reading(summary, board)],
        ["## Significance", "", *significance_section(board)],
        *([["## Explanations", "", *explained]] if explained else []),
        *([["## All cohorts side by side", "", *cohort_overview(boards)]] if boards[1:] else []),
        *cohort_sections(summary, boards[1:]),
        ["## Departures from the profile", "", *_departures(summary)],
        ["## Undefined values", "", *_undefined(boards)],
        ["## Training", "", *_training(training)],
        *(
            [["## Scores over epochs", "", *_curves(summary)]]
            if CURVES_TABLE in summary.get("files", ())
            else []
        ),
        *([["## Notes", "", *(f"- {inline(note)}" for note in notes)]] if notes else []),
        ["## Data", "", *data_section(summary)],
        ["## Extractors and their options", "", *_extractors(summary)],
        ["## Versions, hardware, command", "", *_circumstances(summary)],
        ["## Files, and how to compute the scores again", "", *_files(summary, board)],
    ]
    return "\n\n".join("\n".join(section) for section in sections) + "\n"


def _opening(summary: Mapping[str, Any], board: Scoreboard, training: pd.DataFrame | None) -> list[str]:
    data = summary["benchmark"]
    names = ", ".join(inline(row.name) for row in board.rows)
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
    warnings = [*data.get("alarms", ()), *cautions(board)]
    warnings += training_warnings(training)
    if data.get("leakage"):
        warnings += leakage_findings(data["leakage"])
    for warning in filter(None, warnings):
        lines += ["", f"> **Mind:** {inline(warning)}"]
    return lines


def _reading(summary: Mapping[str, Any], board: Scoreboard) -> list[str]:
    share = summary["benchmark"].get("mean_query_mask_fraction")
    here = "" if share is None or math.isnan(share) else f", {100 * share:.1f} % here"
    random_map = f"A map of random numbers scores the organ's mean share of the slice{here}."
    lines = []
    for metric in board.metrics:
        family, _, depth = metric.partition("@")
        if family == "map" and depth:
            meaning = (
                f"mean of precision@1 to precision@{inline(depth)}, over queries: the share of the nearest k "
                "slices that have the query's label, averaged over k (the paper's equations 5 and 6). Other "
                "programs give the name MAP to other quantities. " + _chance(board, metric)
            )
        elif family == "knn-accuracy" and depth:
            meaning = (
                f"share of queries whose label is that of the majority of their {inline(depth)} nearest "
                "slices. " + _chance(board, metric)
            )
        elif metric == "relevance-rank":
            meaning = (
                "relevance rank accuracy of RELAX importance maps (equation 7): of a slice's |S| most "
                "important pixels, |S| being the size of the target organ in it, the share inside the organ. "
                + random_map
            )
        elif metric == "pointing-game":
            meaning = (
                "share of queries whose most important pixel lies inside the target organ "
                "(Zhang et al. 2018, without their margin around it). " + random_map
            )
        elif family == "top-k-intersection" and depth:
            meaning = (
                f"of a slice's {inline(depth)} most important pixels, the share inside the target organ "
                "(Theiner et al. 2021); where the organ has fewer pixels it cannot reach 100 %. " + random_map
            )
        elif metric == "attribution-localisation":
            meaning = (
                "share of a map's importance that lies inside the target organ (Kohlbrenner et al. 2020), "
                "counted from the map's lowest value unless its options say otherwise. " + random_map
            )
        else:
            meaning = "see the plugin that brings it."
        lines.append(f"- **{inline(heading(metric))}** ({inline(metric)} in the files): {meaning}")
    return lines


def _chance(board: Scoreboard, metric: str) -> str:
    if metric in board.chance:
        return f"Neighbours drawn at random score {in_percent(board.chance[metric])} here."
    return "Neighbours drawn at random score what follows from the mix of the labels."


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
    return table(["plugin", "option", f"profile {profile}", "this run", "set by"], rows)


def _undefined(boards: Sequence[Scoreboard]) -> list[str]:
    rows = [
        [inline(row.name), inline(heading(metric)), f"{score.undefined} of {score.expected}"]
        + ([inline(board.benchmark)] if len(boards) > 1 else [])
        for board in boards
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
    header = ["extractor", "metric", "undefined", *(["queries"] if len(boards) > 1 else [])]
    return [counted, "", *table(header, rows)]


def _training(training: pd.DataFrame | None) -> list[str]:
    runs = training_runs(training)
    if not runs:
        return ["Nothing was trained, or no training was recorded."]
    rows = []
    for item in runs:
        figures = [item.first_loss, item.last_loss, item.deviation, item.even, item.rank]
        counts = [inline(item.extractor), str(item.run), str(item.epochs)]
        rows.append([*counts, *map(_number, figures), inline(item.warning or DASH)])
    header = ["extractor", "run", "epochs", "first loss", "last loss"]
    header += ["deviation", "1/sqrt(d)", "rank", "warning"]
    return [
        "The deviation is that of the L2-normalised embeddings' coordinates after the last epoch: near "
        "1/sqrt(d) where embeddings spread evenly, 0 where all collapse into one. The rank is their "
        "effective rank: how many directions they really use.",
        "",
        *table(header, rows),
    ]


def _curves(summary: Mapping[str, Any]) -> list[str]:
    several = any(item["trained"] and item["runs"] > 1 for item in summary["extractors"])
    band = "mean, and one sample standard deviation over runs" if several else "a single run"
    return [
        f"![Scores over the epochs of training]({CURVES_FIGURE})",
        "",
        f"Each extractor's scores after so many epochs of training ({band}); epoch 0 is its start. The last "
        "epoch is the result of the run. The curves pick no checkpoint: an epoch chosen by the scores of the "
        "queries would be chosen on the test set.",
    ]


def _number(value: float) -> str:
    return DASH if math.isnan(value) else f"{value + 0.0:.4g}"


def _extractors(summary: Mapping[str, Any]) -> list[str]:
    lines: list[str] = []
    for item in summary["extractors"]:
        origin = " ".join(str(item[key]) for key in ("distribution", "version") if item.get(key))
        plugin = item.get("plugin") or item["name"]
        variant = f"; a variant of {plugin}" if plugin != item["name"] else ""
        trained = "trained here" if item.get("trained") else "not trained here"
        lines += [
            "",
            f"### {inline(item['name'])}",
            "",
            f"{inline((origin or 'origin unknown') + variant)}; {trained}.",
            "",
        ]
        lines += pairs(item.get("options") or {}) or ["No options."]
    return lines[1:]


def _circumstances(summary: Mapping[str, Any]) -> list[str]:
    facts: dict[str, Any] = {
        key: summary[key] for key in ("started", "finished", "seed", "git") if summary.get(key) is not None
    }
    for group in ("versions", "hardware"):
        facts.update({f"{group}: {key}": value for key, value in (summary.get(group) or {}).items()})
    command = plain(summary.get("command", ""))
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", command)), default=0))
    return [*pairs(facts), "", fence, command, fence]


def _files(summary: Mapping[str, Any], board: Scoreboard) -> list[str]:
    files = summary.get("files") or FILES
    cohort = '"cohort", ' if summary.get("cohorts") else ""
    lines = [
        *pairs(files, header=("file", "content")),
        "",
        "Values are fractions of 1. The table's means and deviations:",
        "",
        "```python",
        "import pandas as pd",
        "",
        'scores = pd.read_parquet("scores.parquet")',
        f'by = [{cohort}"metric", "extractor"]',
        'run_means = scores.groupby([*by, "run"])["value"].mean()  # NaN left out',
        'table = 100 * run_means.groupby(level=by).agg(["mean", "std"])',
        "print(table.round(1))",
    ]
    depth = next((m.partition("@")[2] for m in board.metrics if re.fullmatch(r"map@\d+", m)), "")
    if depth:
        lines += [
            "",
            f"# map@{depth} once more, from the neighbours",
            'slices = pd.read_parquet("slices.parquet").drop_duplicates("slice_id")',
            'label = slices.set_index("slice_id")["label"]',
            f'near = pd.read_parquet("neighbours.parquet").query("rank <= {depth}").sort_values("rank")',
            'near["hits"] = near["gallery_id"].map(label) == near["query_id"].map(label)',
            f'near["hits"] = near.groupby([{cohort}"extractor", "run", "query_id"])["hits"].cumsum()',
            'near["precision"] = near["hits"] / near["rank"]',
            f'print(100 * near.groupby([{cohort}"extractor", "run"])["precision"].mean())',
        ]
    return [*lines, "```"]
