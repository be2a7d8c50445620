"""Whether one extractor scores better than another: permutation tests and their correction.

The paper (section 5.4) shuffles the scores of training runs between two extractors. That needs several runs
on both sides; wherever one side has a single run, the signs of the per-query differences are flipped instead,
all of a patient's at once, because slices of one patient are no independent observations. Both count the
rearrangements whose statistic is at least the observed one, the observed one included, so that p is never 0.

The two answer different questions. Over runs: would training again, on the same patients, show the
difference? Over patients: would other patients, with these very extractors, show it?
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from cbirbench.errors import DataError

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import ArrayLike, NDArray

Alternative = Literal["greater", "two-sided"]
"""``greater``: the first of the two scores higher; ``two-sided``: they differ."""

ALPHA = 0.05
"""Level of significance (paper, tables 2 to 5). A result is significant where p is below it, not at it."""

PERMUTATIONS = 10_000
"""Rearrangements drawn at random where there are too many to go through (paper, section 5.4)."""

OVER_RUNS = "permutation over runs"
"""Name of the paper's test, on the scores of training runs."""

OVER_PATIENTS = "sign-flip over patients"
"""Name of the test on per-query differences, used where one side has fewer than two runs."""

SCORE_COLUMNS = ("benchmark", "extractor", "run", "metric", "query_id", "patient_id", "value")
"""Columns of ``scores.parquet``."""


@dataclass(frozen=True)
class TestResult:
    """What a permutation test found.

    Attributes:
        test: `OVER_RUNS` or `OVER_PATIENTS`.
        alternative: What was tested for.
        difference: Observed statistic: the first side's mean less the second's. NaN where nothing is defined.
        p: The p-value, in (0, 1]; NaN where the test cannot be made.
        smallest_p: The smallest p that so many runs or patients could have given; NaN with `p`.
        exact: Whether all rearrangements were gone through, not a random sample of them.
        rearrangements: How many were counted, the observed one included.
        n_a: Runs on the first side, or patients.
        n_b: Runs on the second side, or patients.
        dropped: Undefined (NaN) runs, or differences, that were left out.
        note: Why `p` is NaN; empty otherwise.
    """

    test: str
    alternative: Alternative
    difference: float
    p: float
    smallest_p: float
    exact: bool
    rearrangements: int
    n_a: int
    n_b: int
    dropped: int
    note: str = ""

    @property
    def reachable(self) -> bool:
        """Whether p can fall below `ALPHA` at all with so many runs or patients."""
        return self.smallest_p < ALPHA


def permutation_test(
    a: ArrayLike,
    b: ArrayLike,
    *,
    alternative: Alternative,
    permutations: int = PERMUTATIONS,
    seed: int = 0,
) -> TestResult:
    """Two-sample permutation test on the scores of training runs (paper, section 5.4; Welch, 1990).

    The statistic is the difference of means. All ways of dealing the scores to two sides of the same sizes
    are gone through where there are at most `permutations`; else so many are drawn: p = (b + 1) / (m + 1).

    Args:
        a: One score a run of the first extractor; NaN runs are dropped and counted.
        b: One score a run of the second.
        alternative: `greater` asks whether `a` is higher.
        permutations: Most rearrangements to go through or draw.
        seed: Of the random draw; without effect where the test is exact.
    """
    first, dropped_a = _defined(a)
    second, dropped_b = _defined(b)
    n_a, n_b, dropped = len(first), len(second), dropped_a + dropped_b
    if not n_a or not n_b:
        note = "no run on one side has a defined score"
        return _untestable(OVER_RUNS, alternative, (n_a, n_b), dropped, note)
    pooled = np.concatenate([first, second])
    total = pooled.sum()
    splits = math.comb(n_a + n_b, n_a)
    exact = splits <= permutations
    if exact:
        dealt = np.array(list(combinations(range(n_a + n_b), n_a)))
        sums = pooled[dealt].sum(axis=1)
    else:
        generator = np.random.default_rng(seed)
        sums = generator.permuted(np.tile(pooled, (permutations, 1)), axis=1)[:, :n_a].sum(axis=1)
    statistics = sums / n_a - (total - sums) / n_b
    observed = float(first.mean() - second.mean())
    p = _share_at_least(statistics, observed, alternative, exact, float(np.abs(pooled).max()))
    # Swapping two sides of one size turns the statistic's sign, so two-sided splits come in pairs.
    paired = alternative == "two-sided" and n_a == n_b
    smallest = (2 if paired else 1) / splits if exact else 1 / (permutations + 1)
    counted = splits if exact else permutations + 1
    return TestResult(OVER_RUNS, alternative, observed, p, smallest, exact, counted, n_a, n_b, dropped)


def sign_flip_test(
    differences: ArrayLike,
    patients: Sequence[str],
    *,
    alternative: Alternative,
    permutations: int = PERMUTATIONS,
    seed: int = 0,
) -> TestResult:
    """Sign-flip permutation test over patients of paired per-query differences.

    The statistic is the mean over queries. Under the null hypothesis a patient's differences are as likely to
    have the other sign, all together. All 2^patients sign patterns are gone through where there are at most
    `permutations`; else so many are drawn, and p = (b + 1) / (m + 1).

    Args:
        differences: One a query, first extractor less second; NaN ones are dropped and counted.
        patients: The patient of each query.
        alternative: `greater` asks whether the differences lie above 0.
        permutations: Most sign patterns to go through or draw.
        seed: Of the random draw; without effect where the test is exact.
    """
    values = np.asarray(differences, dtype=np.float64)
    if values.shape != (len(patients),):
        raise ValueError(f"need one patient a difference, got {values.shape} and {len(patients)}")
    kept = np.isfinite(values)
    dropped = int(np.count_nonzero(~kept))
    _, of_patient = np.unique(np.asarray(patients, dtype=str)[kept], return_inverse=True)
    if not len(of_patient):
        note = "no query is defined on both sides"
        return _untestable(OVER_PATIENTS, alternative, (0, 0), dropped, note)
    sums = np.bincount(of_patient, weights=values[kept])
    count, queries = len(sums), len(of_patient)
    exact = 2**count <= permutations
    if exact:
        bits = np.arange(2**count)[:, None] >> np.arange(count) & 1
    else:
        bits = np.random.default_rng(seed).integers(0, 2, size=(permutations, count), dtype=np.int8)
    statistics = (1.0 - 2.0 * bits) @ sums / queries
    observed = float(sums.sum() / queries)
    p = _share_at_least(statistics, observed, alternative, exact, float(np.abs(sums).sum() / queries))
    # Turning all signs turns the statistic's sign, so two-sided patterns come in pairs.
    smallest = (2 if alternative == "two-sided" else 1) / 2**count if exact else 1 / (permutations + 1)
    counted = 2**count if exact else permutations + 1
    return TestResult(
        OVER_PATIENTS, alternative, observed, p, smallest, exact, counted, count, count, dropped
    )


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down correction for several comparisons (Holm, 1979).

    Args:
        p_values: The family. A NaN was no test: it stays NaN and does not count.

    Returns:
        Adjusted p-values in the order given: below `ALPHA` exactly where Holm's procedure rejects.
    """
    tested = sorted((p, place) for place, p in enumerate(p_values) if not math.isnan(p))
    adjusted = [math.nan] * len(p_values)
    reached = 0.0
    for rank, (p, place) in enumerate(tested):
        reached = max(reached, min(1.0, (len(tested) - rank) * p))
        adjusted[place] = reached
    return adjusted


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


def _defined(values: ArrayLike) -> tuple[NDArray[np.float64], int]:
    """The finite values, and how many others there were."""
    array = np.asarray(values, dtype=np.float64).ravel()
    kept = array[np.isfinite(array)]
    return kept, len(array) - len(kept)


def _share_at_least(
    statistics: NDArray[np.float64], observed: float, alternative: Alternative, exact: bool, scale: float
) -> float:
    """Share of rearrangements at least as extreme as the observed one, which itself is among them."""
    if alternative == "two-sided":
        statistics, observed = np.abs(statistics), abs(observed)
    # Equal statistics summed in another order differ by rounding, and must still count as equal.
    count = int(np.count_nonzero(statistics >= observed - 1e-12 * scale))
    return count / len(statistics) if exact else (count + 1) / (len(statistics) + 1)


def _untestable(
    test: str, alternative: Alternative, sizes: tuple[int, int], dropped: int, note: str
) -> TestResult:
    nan = math.nan
    return TestResult(test, alternative, nan, nan, nan, False, 0, *sizes, dropped, note)
