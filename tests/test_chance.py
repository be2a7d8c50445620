from __future__ import annotations

from collections.abc import Sequence
from itertools import permutations
from math import comb
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cbirbench.chance import chance_levels
from cbirbench.errors import PluginError
from cbirbench.interfaces import ByChance
from cbirbench.metrics.knn_accuracy import KnnAccuracy, KnnAccuracyOptions
from cbirbench.metrics.mean_average_precision import MeanAveragePrecision, MeanAveragePrecisionOptions
from cbirbench.query_sets import QuerySet
from cbirbench.slices import CTSlice, Slices


def map_at(k: int) -> MeanAveragePrecision:
    return MeanAveragePrecision(MeanAveragePrecisionOptions(k=k))


def acc_at(k: int) -> KnnAccuracy:
    return KnnAccuracy(KnnAccuracyOptions(k=k))


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


@given(
    gallery=st.lists(st.integers(0, 2), min_size=4, max_size=6),
    label=st.integers(0, 2),
    k=st.integers(1, 4),
    metric_at=st.sampled_from([map_at, acc_at]),
)
def test_chance_is_the_mean_over_all_rankings(gallery: list[int], label: int, k: int, metric_at: Any) -> None:
    metric = metric_at(k)
    found = chance_levels([metric], cohort(gallery, [label]))
    assert found == {metric.name: pytest.approx(by_all_orders(metric, gallery, label), abs=1e-12)}


def test_of_a_share_by_hand() -> None:
    """MAP: the share of the label. ACC: the hypergeometric chance that two or three of three have it."""
    one = cohort([1] * 30 + [0] * 70, [1])
    majority = sum(comb(30, n) * comb(70, 3 - n) for n in (2, 3)) / comb(100, 3)
    assert chance_levels([map_at(3), acc_at(3)], one) == {
        "map@3": pytest.approx(0.3, abs=1e-12),
        "knn-accuracy@3": pytest.approx(majority, abs=1e-12),
    }


def test_as_many_of_either_label_are_one_half_whatever_the_depth() -> None:
    one = cohort([0, 1] * 500, [1, 0])
    found = chance_levels([map_at(200), acc_at(5), acc_at(201)], one)
    assert list(found.values()) == pytest.approx([0.5] * 3, abs=1e-12)


def test_of_as_many_votes_the_smaller_label_wins_by_chance_too() -> None:
    assert chance_levels([acc_at(2)], cohort([0, 1] * 2, [0]))["knn-accuracy@2"] == pytest.approx(5 / 6)
    assert chance_levels([acc_at(2)], cohort([0, 1] * 2, [1]))["knn-accuracy@2"] == pytest.approx(1 / 6)


def test_each_query_counts_alike() -> None:
    one = cohort([1] * 8 + [0] * 2, [1, 0, 0])
    assert chance_levels([map_at(3)], one)["map@3"] == pytest.approx((0.8 + 0.2 + 0.2) / 3)


def test_a_query_draws_from_what_it_may_retrieve() -> None:
    """Three patients in their own gallery: the first sees none of its label, the others two of four."""
    held = slices([1, 1, 0, 0, 0, 0], [0, 0, 1, 1, 2, 2])
    one = QuerySet("own", held, held, external=True, among_themselves=True)
    assert chance_levels([map_at(4)], one)["map@4"] == pytest.approx(4 * 0.5 / 6)


class Stated(ByChance):
    """A metric of somebody else's."""

    name, depth, needs = "stated", 2, "ranking"

    def __init__(self, *values: float) -> None:
        self.values = np.array(values)

    def by_chance(self, query_labels: Any, gallery_labels: Any) -> Any:
        return self.values


def test_a_metric_that_says_nothing_of_chance_is_left_out() -> None:
    metric: Any = SimpleNamespace(name="mute", depth=2, needs="ranking")
    assert chance_levels([metric, map_at(1)], cohort([1, 0], [1])) == {"map@1": 0.5}


def test_undefined_queries_are_left_out_and_so_is_a_metric_without_any() -> None:
    one = cohort([1, 0, 1], [1, 0])
    metrics: list[Any] = [Stated(0.25, np.nan)]
    assert chance_levels(metrics, one) == {"stated": 0.25}
    metrics = [Stated(np.nan, np.nan)]
    assert chance_levels(metrics, one) == {}


def test_a_metric_that_fails_or_gives_something_else_is_named() -> None:
    metrics: list[Any] = [Stated(0.5)]
    with pytest.raises(PluginError, match="'stated' must give one finite or NaN value for each of 2"):
        chance_levels(metrics, cohort([1, 0], [1, 0]))
    del metrics[0].values
    with pytest.raises(PluginError, match=r"stated\.by_chance failed: AttributeError"):
        chance_levels(metrics, cohort([1, 0], [1]))


@pytest.mark.parametrize("level", [-0.1, 1.5, 50.0])
def test_a_level_is_a_fraction(level: float) -> None:
    metrics: list[Any] = [Stated(0.5, level)]
    with pytest.raises(PluginError, match="fraction of 1"):
        chance_levels(metrics, cohort([1, 0], [1, 0]))


@pytest.mark.parametrize(
    "given",
    [["a", "b"], {"a": 1}, (n for n in (1, 2)), [[1], [1, 2]], [10**400, 1], [1j, 2], [None, 1]],
    ids=["text", "mapping", "generator", "ragged", "huge", "complex", "none"],
)
def test_what_are_no_numbers(given: Any) -> None:
    metric: Any = Stated()
    metric.values = given
    with pytest.raises(PluginError, match="'stated' must give one number for each of 2 queries"):
        chance_levels([metric], cohort([1, 0], [1, 0]))
