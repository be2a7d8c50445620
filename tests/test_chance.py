from __future__ import annotations

from collections.abc import Sequence
from itertools import permutations, product
from math import comb
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from cbirbench.chance import _distinct, chance_levels
from cbirbench.errors import PluginError
from cbirbench.interfaces import Evidence
from cbirbench.metrics.knn_accuracy import KnnAccuracy, KnnAccuracyOptions
from cbirbench.metrics.mean_average_precision import MeanAveragePrecision, MeanAveragePrecisionOptions
from cbirbench.query_sets import QuerySet
from cbirbench.slices import CTSlice, Slices

MAP = MeanAveragePrecision(MeanAveragePrecisionOptions(k=3))
ACC = KnnAccuracy(KnnAccuracyOptions(k=3))
FIVE = KnnAccuracy(KnnAccuracyOptions(k=5))


def slices(labels: Sequence[int], patients: Sequence[int] | None = None) -> Slices:
    pixels = np.zeros((2, 2), np.int16)
    owners = patients or range(len(labels))
    return Slices(
        tuple(
            CTSlice(pixels, None, f"z{place}", f"p{owner}", f"s{owner}", f"v{owner}", place, label)
            for place, (label, owner) in enumerate(zip(labels, owners, strict=True))
        )
    )


def cohort(gallery: Sequence[int], queries: Sequence[int]) -> QuerySet:
    return QuerySet("cohort", slices(gallery), slices(queries))


def by_all_orders(metric: Any, gallery: Sequence[int], label: int) -> float:
    """The mean over every ordered choice of neighbours, by the metric itself."""
    rows = np.array(list(permutations(range(len(gallery)), metric.depth)))
    shown = SimpleNamespace(
        neighbours=rows, gallery_labels=np.array(gallery), query_labels=np.full(len(rows), label)
    )
    return float(metric.per_query(shown).mean())


@pytest.mark.parametrize("metric", [MAP, ACC, FIVE])
@pytest.mark.parametrize("gallery", [[1, 0, 0, 0, 1, 0], [1, 1, 1, 0, 1, 1, 0], [1, 0, 1, 0, 1, 0]])
@pytest.mark.parametrize("label", [0, 1])
def test_chance_is_the_mean_over_all_rankings(metric: Any, gallery: list[int], label: int) -> None:
    found = chance_levels([metric], cohort(gallery, [label]))
    assert found == {metric.name: pytest.approx(by_all_orders(metric, gallery, label), abs=0.006)}


def test_of_a_share_by_hand() -> None:
    """MAP: the share of the label. ACC: the hypergeometric chance that two or three of three have it."""
    one = cohort([1] * 30 + [0] * 70, [1])
    majority = sum(comb(30, n) * comb(70, 3 - n) for n in (2, 3)) / comb(100, 3)
    found = chance_levels([MAP, ACC], one)
    assert found["map@3"] == pytest.approx(0.3, abs=0.006)
    assert found["knn-accuracy@3"] == pytest.approx(majority, abs=0.006)


def test_each_query_counts_alike() -> None:
    one = cohort([1] * 8 + [0] * 2, [1, 0, 0])
    assert chance_levels([MAP], one)["map@3"] == pytest.approx((0.8 + 0.2 + 0.2) / 3, abs=0.006)


def test_a_query_draws_from_what_it_may_retrieve() -> None:
    """Three patients in their own gallery: without one's slices, the others are of one label."""
    labels, owners = [1, 1, 0, 0, 0, 0], [0, 0, 1, 1, 2, 2]
    held = slices(labels, owners)
    one = QuerySet("own", held, held, external=True, among_themselves=True)
    # The first patient sees none of its label; each of the others sees two slices of its label among four.
    metric = MeanAveragePrecision(MeanAveragePrecisionOptions(k=4))
    assert chance_levels([metric], one)["map@4"] == pytest.approx(4 * 0.5 / 6, abs=0.006)


def test_the_same_every_time() -> None:
    one = cohort([1, 0, 0, 1, 1, 0, 0], [1, 0])
    assert chance_levels([MAP, ACC], one) == chance_levels([MAP, ACC], one)
    assert chance_levels([MAP], one, seed=1) != chance_levels([MAP], one)
    assert chance_levels([ACC], one) | chance_levels([MAP], one) == chance_levels([MAP, ACC], one)


class Seen:
    """A metric that keeps what it is shown."""

    name, depth, needs = "seen", 2, "ranking"

    def __init__(self, value: float = 0.25) -> None:
        self.value, self.shown = value, list[Evidence]()

    def per_query(self, evidence: Evidence) -> Any:
        self.shown.append(evidence)
        return np.full(len(evidence.query_labels), self.value)


def test_a_metric_sees_whole_evidence() -> None:
    metric: Any = Seen()
    one = cohort([1, 0, 1], [1, 0])
    assert chance_levels([metric], one) == {"seen": 0.25}
    for shown in metric.shown[:5]:
        count = len(shown.query_labels)
        assert shown.neighbours.shape == shown.distances.shape == (count, 2)
        assert (np.diff(shown.distances, axis=1) >= 0).all() and (shown.distances >= 0).all()
        assert len(shown.maps) == len(shown.masks) == len(shown.query_embeddings) == count
        assert shown.query_labels.tolist() == [1, 0] * (count // 2)
        assert set(map(tuple, shown.neighbours.tolist())) == set(permutations(range(3), 2))


@pytest.mark.parametrize(("needs", "depth"), [("embeddings", 2), ("explanations", 0), ("ranking", 0)])
def test_what_looks_at_no_neighbours_has_no_chance(needs: str, depth: int) -> None:
    metric: Any = Seen()
    metric.needs, metric.depth = needs, depth
    assert chance_levels([metric], cohort([1, 0, 1], [1])) == {}
    assert metric.shown == []


def test_what_is_undefined_throughout_has_no_chance() -> None:
    metric: Any = Seen(value=float("nan"))
    assert chance_levels([metric], cohort([1, 0], [1])) == {}


def test_a_metric_that_fails_is_named() -> None:
    metric: Any = Seen()
    metric.per_query = lambda evidence: 1 / 0
    with pytest.raises(PluginError, match="seen"):
        chance_levels([metric], cohort([1, 0], [1]))


@pytest.mark.parametrize(("held", "depth"), [*product([5, 40], [1, 3, 5])])
def test_draws_are_distinct_and_even(held: int, depth: int) -> None:
    rows = _distinct(20_000, held, depth, np.random.default_rng(0))
    assert rows.shape == (20_000, depth)
    assert all(len(set(row)) == depth for row in rows[:500].tolist())
    for column in rows.T:
        counts = np.bincount(column, minlength=held)
        expected = 20_000 / held
        assert (np.abs(counts - expected) < 5 * np.sqrt(expected)).all()
