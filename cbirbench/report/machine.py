"""The result of a run for other programs: what ``--json`` prints."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cbirbench.permutation import ALPHA
from cbirbench.report.cautions import cautions, runs_warning
from cbirbench.report.scoreboard import Row, Scoreboard
from cbirbench.statistics import Comparison


def machine_report(summary: Mapping[str, Any], boards: Sequence[Scoreboard]) -> str:
    """The summary, the scores and every comparison as one JSON document.

    Scores are fractions of 1; what is undefined is null. The document ends in a line break.

    Args:
        summary: What was run.
        boards: The table of the benchmark's own queries, then one for each of the summary's cohorts.
    """
    own, *external = boards
    document = {**summary, **_results(own)}
    if external:
        document["cohorts"] = [
            {**entry, **_results(board)} for entry, board in zip(summary["cohorts"], external, strict=True)
        ]
    return json.dumps(_finite(document), indent=2, allow_nan=False, default=str) + "\n"


def _results(board: Scoreboard) -> dict[str, Any]:
    return {
        "scores": [_score_rows(row, board) for row in board.rows],
        "queries": {
            metric: {"defined": scope.defined, "all": scope.queries} for metric, scope in board.scopes.items()
        },
        "query_patients": board.patients,
        "cautions": cautions(board),
        "significance": {
            "alpha": ALPHA,
            "correction": "Holm",
            "family": board.family,
            "warning": runs_warning(board) or None,
            "comparisons": [_comparison(item) for item in board.comparisons],
        },
    }


def _score_rows(row: Row, board: Scoreboard) -> dict[str, Any]:
    return {
        "extractor": row.extractor,
        "plugin": row.plugin or row.extractor,
        "aliases": list(row.aliases),
        "trained": row.trained,
        "floor": row.floor,
        "runs": row.runs,
        "metrics": {
            metric: {
                "mean": score.mean,
                "sd": score.sd,
                "runs": score.runs,
                "undefined": score.undefined,
                "best": score.best,
                **_trust(row, metric, board),
            }
            for metric, score in ((metric, row.scores[metric]) for metric in board.metrics)
        },
    }


def _trust(row: Row, metric: str, board: Scoreboard) -> dict[str, float]:
    """Beside a relevance rank: its chance level, the ratio to it and the maps' mean reliability."""
    maps, found = board.explanations, board.explained(row)
    if maps is None or not board.has_chance(metric):
        return {}
    return {
        "chance": maps.chance_of(row.extractor),
        "over_chance": board.times_chance(row.scores[metric].mean, row.extractor),
        "reliability": found.reliability if found else math.nan,
    }


def _comparison(item: Comparison) -> dict[str, Any]:
    result = item.result
    return {
        "metric": item.metric,
        "a": item.a,
        "b": item.b,
        "difference": result.difference,
        "effect": result.effect,
        "test": result.test,
        "alternative": result.alternative,
        "exact": result.exact,
        "rearrangements": result.rearrangements,
        "n_a": result.n_a,
        "n_b": result.n_b,
        "patients": item.patients,
        "dropped": result.dropped,
        "p": result.p,
        "p_holm": item.p_holm,
        "smallest_p": result.smallest_p,
        "smallest_p_holm": item.smallest_p_holm,
        "significant": item.significant,
        "better": item.better or None,
        "note": result.note,
    }


def _finite(value: Any) -> Any:
    """Put null for NaN and infinities, which JSON cannot hold, and Python's numbers for NumPy's."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, Mapping):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
