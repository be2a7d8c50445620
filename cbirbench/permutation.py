"""Permutation tests between two extractors, the size of what they find, and Holm's correction.

The paper (section 5.4) shuffles the scores of training runs between two extractors. That needs several runs
on both sides; wherever one side has a single run, the signs of the per-query differences are flipped instead,
all of a patient's at once, because slices of one patient are no independent observations. Both count the
rearrangements whose statistic is at least the observed one, the observed one included, so that p is never 0.

The two answer different questions. Over runs: would training again, on the same patients, show the
difference? Over patients: would other patients, with these very extractors, show it?

A p-value says nothing of a difference's size. The effect beside it is the probability of superiority
(Vargha & Delaney 2000, doi:10.3102/10769986025002101): how often one side scores higher than the other.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Literal

import numpy as np

if TYPE_CHECKING:
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


@dataclass(frozen=True)
class TestResult:
    """What a permutation test found.

    Attributes:
        test: `OVER_RUNS` or `OVER_PATIENTS`.
        alternative: What was tested for.
        difference: Observed statistic: the first side's mean less the second's. NaN where nothing is defined.
        effect: Probability of superiority of the first side, in 0..1; .5 is no effect, 1 always higher. Over
            runs: the share of pairs, a run of either side, in which the first side's scores higher. Over
            patients: the share of patients whose mean difference favours the first side. Ties count half.
            NaN with `p`.
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
    effect: float
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
    scale = float(np.abs(pooled).max())
    p = _share_at_least(statistics, observed, alternative, exact, scale)
    # Swapping two sides of one size turns the statistic's sign, so two-sided splits come in pairs.
    paired = alternative == "two-sided" and n_a == n_b
    smallest = (2 if paired else 1) / splits if exact else 1 / (permutations + 1)
    counted = splits if exact else permutations + 1
    effect = _superiority(np.subtract.outer(first, second), scale)
    return TestResult(
        OVER_RUNS, alternative, observed, effect, p, smallest, exact, counted, n_a, n_b, dropped
    )


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
    sums = np.bincount(of_patient, weights=values[kept]).astype(np.float64)
    effect = _superiority(sums, float(np.abs(values[kept]).max()))
    count, queries = len(sums), len(of_patient)
    exact = 2**count <= permutations
    if exact:
        bits = np.arange(2**count)[:, None] >> np.arange(count) & 1
    else:
        bits = np.random.default_rng(seed).integers(0, 2, size=(permutations, count), dtype=np.int8)
    statistics = (1.0 - 2.0 * bits) @ sums / queries
    observed = float(sums.sum() / queries)
    # Of the differences, not of their sums: where these cancel, nothing but rounding is left of them.
    scale = float(np.abs(values[kept]).sum() / queries)
    p = _share_at_least(statistics, observed, alternative, exact, scale)
    # Turning all signs turns the statistic's sign, so two-sided patterns come in pairs.
    smallest = (2 if alternative == "two-sided" else 1) / 2**count if exact else 1 / (permutations + 1)
    counted = 2**count if exact else permutations + 1
    return TestResult(
        OVER_PATIENTS, alternative, observed, effect, p, smallest, exact, counted, count, count, dropped
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


def runs_needed(family: int, *, alternative: Alternative, permutations: int = PERMUTATIONS) -> int | None:
    """The smallest number of runs on either side with which `permutation_test` can reach `ALPHA` at all.

    With n runs against n its smallest p is 1 in the number of ways to deal 2n runs to two equal sides, 2 in
    it where two-sided, and 1 in permutations + 1 where there are more ways than that. Holm's correction
    multiplies the smallest p of a family by the number of its tests.

    Args:
        family: Tests that Holm's correction spans.
        alternative: Of the test.
        permutations: Most rearrangements that the test goes through or draws.

    Returns:
        n; None where no number of runs is enough, since so many permutations cannot give so small a p.
    """
    runs = 2  # of one run the test over runs cannot be made
    while (ways := math.comb(2 * runs, runs)) <= permutations:
        if (2 if alternative == "two-sided" else 1) / ways * family < ALPHA:
            return runs
        runs += 1
    return runs if family / (permutations + 1) < ALPHA else None


def _defined(values: ArrayLike) -> tuple[NDArray[np.float64], int]:
    """The finite values, and how many others there were."""
    array = np.asarray(values, dtype=np.float64).ravel()
    kept = array[np.isfinite(array)]
    return kept, len(array) - len(kept)


def _superiority(differences: NDArray[np.float64], scale: float) -> float:
    """Share of differences above 0, those at 0 counting half (Vargha & Delaney 2000, the measure A)."""
    # As in the p-value, differences that only rounding keeps from 0 are ties.
    above, below = (int(np.count_nonzero(side > 1e-12 * scale)) for side in (differences, -differences))
    return 0.5 + (above - below) / (2 * differences.size)


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
    return TestResult(test, alternative, nan, nan, nan, nan, False, 0, *sizes, dropped, note)
