"""Every pair of extractors on every metric, compared by permutation tests as one family.

Which of the two tests of `cbirbench.permutation` a pair gets follows from its runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Any

from cbirbench.errors import DataError
from cbirbench.permutation import (
    ALPHA,
    PERMUTATIONS,
    Alternative,
    TestResult,
    holm,
    permutation_test,
    sign_flip_test,
)

if TYPE_CHECKING:
    import pandas as pd

SCORE_COLUMNS = ("benchmark", "extractor", "run", "metric", "query_id", "patient_id", "value")
"""Columns of ``scores.parquet``."""


@dataclass(frozen=True)
class Comparison:
    """One pair of extractors on one metric.

    Attributes:
        metric: The metric's name.
        a: The extractor named earlier.
        b: The extractor named later.
        result: What the test of this pair alone found.
        p_holm: p after Holm's correction over the family: every pair on every metric compared together.
        smallest_p_holm: The smallest corrected p that the family's runs and patients could have given.
        patients: Patients with a query that is defined on either side.
    """

    metric: str
    a: str
    b: str
    result: TestResult
    p_holm: float
    smallest_p_holm: float
    patients: int

    @property
    def significant(self) -> bool:
        """Whether the corrected p is below `ALPHA`."""
        return self.p_holm < ALPHA

    @property
    def reachable(self) -> bool:
        """Whether the corrected p can fall below `ALPHA` at all."""
        return self.smallest_p_holm < ALPHA

    @property
    def better(self) -> str:
        """The extractor that scores significantly higher; empty where neither does."""
        if not self.significant:
            return ""
        return self.a if self.result.difference > 0 else self.b


def compare(
    scores: pd.DataFrame,
    extractors: Sequence[str],
    metrics: Sequence[str],
    *,
    permutations: int = PERMUTATIONS,
    seed: int = 0,
) -> list[Comparison]:
    """Compare every pair of extractors on every metric.

    The first-named extractor is tested one-sided (better) against each other; other pairs are two-sided. Two
    extractors with at least two runs each are compared by `permutation_test` on run scores, each the mean
    over the queries defined in that run; any other pair by `sign_flip_test` on per-query values averaged over
    runs, on the queries defined on both sides. All of it is one family for Holm's correction.

    Args:
        scores: Table with `SCORE_COLUMNS`, of one benchmark.
        extractors: Canonical names in the user's order.
        metrics: Metric names in the order to show.
        permutations: See the tests.
        seed: See the tests; each draws from this seed, so a result depends on no other comparison.

    Returns:
        Metric by metric, pairs in the extractors' order.

    Raises:
        DataError: The table lacks a column, mixes benchmarks, or scores a query twice.
    """
    check_scores(scores)
    found: list[tuple[str, str, str, TestResult, int]] = []
    for metric in metrics:
        tables = {name: query_table(scores, name, metric) for name in extractors}
        patients = _patients(scores, metric)
        for a, b in combinations(extractors, 2):
            alternative: Alternative = "greater" if a == extractors[0] else "two-sided"
            first, second = tables[a], tables[b]
            means_a, means_b = first.mean(axis=0), second.mean(axis=0)
            on_a, on_b = first.mean(axis=1), second.mean(axis=1)
            either = on_a.dropna().index.union(on_b.dropna().index)
            of_query = [patients[query] for query in either]
            if min(means_a.count(), means_b.count()) >= 2:
                result = permutation_test(
                    means_a, means_b, alternative=alternative, permutations=permutations, seed=seed
                )
            else:
                paired = on_a.reindex(either) - on_b.reindex(either)
                result = sign_flip_test(
                    paired, of_query, alternative=alternative, permutations=permutations, seed=seed
                )
            found.append((metric, a, b, result, len(set(of_query))))
    corrected = holm([result.p for *_, result, _ in found])
    smallest = holm([result.smallest_p for *_, result, _ in found])
    return [
        Comparison(metric, a, b, result, p_holm, smallest_p_holm, count)
        for (metric, a, b, result, count), p_holm, smallest_p_holm in zip(
            found, corrected, smallest, strict=True
        )
    ]


def check_scores(scores: pd.DataFrame) -> None:
    """Raise DataError unless the table has its columns, one benchmark and one value a query and run."""
    missing = [column for column in SCORE_COLUMNS if column not in scores.columns]
    if missing:
        raise DataError(
            f"The table of scores lacks the columns {', '.join(missing)}.",
            "Give the scores.parquet of a finished run, unchanged.",
        )
    benchmarks = sorted(set(scores["benchmark"]))
    if len(benchmarks) > 1:
        raise DataError(
            f"The table of scores mixes {len(benchmarks)} benchmarks: {', '.join(benchmarks)}.",
            "Compare extractors on one benchmark at a time.",
        )
    twice = scores.duplicated(["extractor", "run", "metric", "query_id"])
    if twice.any():
        row = scores[twice].iloc[0]
        raise DataError(
            f"The table of scores has query {row['query_id']!r} twice for {row['extractor']}, "
            f"run {row['run']}, {row['metric']}.",
            "Give the scores.parquet of a finished run, unchanged.",
        )


def query_table(scores: pd.DataFrame, extractor: str, metric: str) -> pd.DataFrame:
    """One extractor's values of one metric: a row a query, a column a run, both in order, NaN undefined."""
    chosen = scores[(scores["extractor"] == extractor) & (scores["metric"] == metric)]
    return chosen.pivot(index="query_id", columns="run", values="value").astype(float)


def _patients(scores: pd.DataFrame, metric: str) -> dict[Any, str]:
    """The patient of each query of a metric."""
    chosen = scores.loc[scores["metric"] == metric, ["query_id", "patient_id"]].drop_duplicates()
    if chosen["query_id"].duplicated().any():
        raise DataError(
            "The table of scores gives one query to two patients.",
            "Give the scores.parquet of a finished run, unchanged.",
        )
    return dict(zip(chosen["query_id"], chosen["patient_id"].astype(str), strict=True))
