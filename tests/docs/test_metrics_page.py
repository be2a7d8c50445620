"""docs/metrics.md: its examples, computed again by the metrics, and what it says of chance and of tests."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from markdown_it import MarkdownIt
from torchmetrics.functional.retrieval import retrieval_average_precision

from cbirbench import registry
from cbirbench.interfaces import Evidence, Metric
from cbirbench.metrics.attribution_localisation import AttributionLocalisation, AttributionLocalisationOptions
from cbirbench.metrics.knn_accuracy import KnnAccuracy, KnnAccuracyOptions
from cbirbench.metrics.mean_average_precision import MeanAveragePrecision, MeanAveragePrecisionOptions
from cbirbench.metrics.pointing_game import PointingGame, PointingGameOptions
from cbirbench.metrics.relevance_rank import RelevanceRank, RelevanceRankOptions
from cbirbench.metrics.top_k_intersection import TopKIntersection, TopKIntersectionOptions
from cbirbench.permutation import holm, permutation_test, sign_flip_test
from cbirbench.testing import evidence

PAGE = (Path(__file__).parents[2] / "docs" / "metrics.md").read_text(encoding="utf-8")

ON_MAPS: dict[str, Metric] = {
    "relevance-rank": RelevanceRank(RelevanceRankOptions()),
    "pointing-game": PointingGame(PointingGameOptions()),
    "top-k-intersection@5": TopKIntersection(TopKIntersectionOptions(k=5)),
    "attribution-localisation": AttributionLocalisation(AttributionLocalisationOptions()),
}


def table(*header: str) -> list[list[str]]:
    """The rows of the one table whose header begins with these cells; a cell is its Markdown."""
    tables: list[list[list[str]]] = []
    for token in MarkdownIt("commonmark").enable("table").parse(PAGE):
        if token.type == "table_open":
            tables.append([])
        elif token.type == "tr_open":
            tables[-1].append([])
        elif token.type == "inline" and token.level == 4:  # table, section, row, cell
            tables[-1][-1].append(token.content)
    (found,) = [rows[1:] for rows in tables if tuple(rows[0][: len(header)]) == header]
    return found


def ranked(label: int, neighbours: Sequence[int], gallery: Sequence[int] = (0, 1)) -> Evidence:
    """The evidence of one query with neighbours of these labels; the gallery ends in these further slices."""
    labels = [*neighbours, *gallery]
    return evidence(query_labels=[label], gallery_labels=labels, neighbours=[list(range(len(neighbours)))])


def only(values: np.ndarray) -> float:
    (value,) = values.tolist()
    return value


def map_at(k: int) -> MeanAveragePrecision:
    return MeanAveragePrecision(MeanAveragePrecisionOptions(k=k))


def test_map_by_hand() -> None:
    labels, precisions = (row[1:] for row in table("k"))
    hits = [int(label) for label in labels]
    assert [Fraction(text) for text in precisions] == [Fraction(sum(hits[:k]), k) for k in range(1, 6)]
    mean = sum(map(Fraction, precisions)) / 5
    assert f"is {mean}, so `map@5` is **.{round(1000 * mean)}**" in PAGE
    assert only(map_at(5).per_query(ranked(1, hits))) == pytest.approx(float(mean), abs=1e-12)
    assert only(map_at(5).per_query(ranked(0, [1 - hit for hit in hits]))) == pytest.approx(float(mean))


def test_the_namesakes_of_map() -> None:
    hits = [int(label) for label in table("k")[0][1:]]
    relevant = int(re.search(r"a gallery with (\d+)\s+relevant", PAGE)[1])
    at_hits = sum(Fraction(sum(hits[:k]), k) for k in range(1, 6) if hits[k - 1])
    library = retrieval_average_precision(
        torch.tensor([0.9, 0.8, 0.7, 0.6, 0.5, 0.4]), torch.tensor([*hits, 1]).bool(), top_k=5
    )
    assert float(library) == pytest.approx(float(at_hits / sum(hits)))
    expected = [
        only(map_at(5).per_query(ranked(1, hits))),
        sum(hits) / 5,
        float(library),
        at_hits / min(5, relevant),
        at_hits / relevant,
    ]
    assert [row[2] for row in table("what is computed")] == [f"{float(v):.3f}"[1:] for v in expected]


def test_knn_accuracy_by_hand() -> None:
    values = []
    for query, labels, votes, predicted, value in table("query's label"):
        near = [int(label) for label in labels.split()]
        metric = KnnAccuracy(KnnAccuracyOptions(k=len(near)))
        assert [int(count) for count in votes.split(",")] == [near.count(0), near.count(1)]
        assert only(metric.per_query(ranked(int(query), near))) == float(value)
        assert (query == predicted) == (value == "1")
        values.append(int(value))
    assert (
        f"The mean over the first three, `knn-accuracy@5`, is **.{round(1000 * sum(values[:3]) / 3)}**"
        in PAGE
    )


@pytest.mark.parametrize(("share", "percent"), [(0.5, 50), (0.8, 94), (0.2, 6)])
def test_knn_accuracys_chance(share: float, percent: int) -> None:
    metric = KnnAccuracy(KnnAccuracyOptions(k=5))
    drawn = sum(
        only(metric.per_query(ranked(1, near))) * math.prod(share if one else 1 - share for one in near)
        for near in itertools.product((0, 1), repeat=5)
    )
    formula = sum(math.comb(5, j) * share**j * (1 - share) ** (5 - j) for j in range(6) if j > 5 / 2)
    assert drawn == pytest.approx(formula)
    assert round(100 * formula) == percent
    assert "It is .5 at p = .5" in PAGE and "94 times in 100" in PAGE and "six times in 100" in PAGE


def test_maps_chance_is_the_share_of_the_label() -> None:
    gallery = [1, 1, 0, 0, 0]
    metric = map_at(3)
    values = [only(metric.per_query(ranked(1, order))) for order in itertools.permutations(gallery)]
    assert np.mean(values) == pytest.approx(2 / 5)


def test_the_metrics_on_maps_by_hand() -> None:
    cells = table("column 1")
    importance = np.array([[float(cell.strip("*")) for cell in row] for row in cells], dtype=np.float32)
    organ = np.array([[cell.startswith("**") for cell in row] for row in cells])
    found = {
        name: only(metric.per_query(evidence(maps=[importance], masks=[organ])))
        for name, metric in ON_MAPS.items()
    }
    found["chance of each"] = organ.mean()
    stated = {row[0].strip("`"): float(row[2]) for row in table("metric", "what is looked at")}
    assert stated == pytest.approx(found, abs=5e-4)


def test_chance_of_the_metrics_on_maps_is_the_organs_share() -> None:
    organ = np.array([[True, False], [False, False]])
    metrics = {**ON_MAPS, "top-k-intersection@5": TopKIntersection(TopKIntersectionOptions(k=2))}
    orders = list(itertools.permutations([0.1, 0.2, 0.5, 0.9]))
    maps = [np.array(order, dtype=np.float32).reshape(2, 2) for order in orders]
    for name, metric in metrics.items():
        values = metric.per_query(evidence(maps=maps, masks=[organ] * len(maps)))
        assert values.mean() == pytest.approx(1 / 4), name


@pytest.mark.parametrize("name", ON_MAPS)
def test_what_is_undefined(name: str) -> None:
    good, organ = np.arange(16, dtype=np.float32).reshape(4, 4), np.eye(4, dtype=bool)
    damaged = good.copy()
    damaged[0, 0] = np.nan
    maps = [good, None, good, good, damaged, np.ones_like(good)]
    masks = [organ, organ, None, np.zeros_like(organ), organ, organ]
    values = ON_MAPS[name].per_query(evidence(maps=maps, masks=masks))
    assert np.isnan(values).tolist() == [False] + [True] * 5


def smallest(test: Callable[..., object], *arguments: object) -> Fraction:
    result = test(*arguments, alternative="greater")
    return Fraction(result.smallest_p).limit_denominator(10_000)


def test_the_smallest_p_values() -> None:
    runs = {n: smallest(permutation_test, np.arange(n, 2 * n), np.arange(n)) for n in (3, 5)}
    patients = {n: smallest(sign_flip_test, np.ones(n), [str(i) for i in range(n)]) for n in (5, 12)}
    assert f"3 runs against 3: {runs[3]}; 5 against 5: {runs[5]}" in PAGE
    assert f"5 patients: {patients[5]}; 12 patients: {patients[12]}" in PAGE


def test_holms_correction_as_it_is_told() -> None:
    assert holm([0.03, 0.01, 0.02]) == pytest.approx([0.04, 0.03, 0.04])


def test_every_metric_of_ours_is_here_with_its_options() -> None:
    metrics = [plugin for plugin in registry.installed("metric") if plugin.distribution == "cbirbench"]
    assert len(metrics) >= 6
    for plugin in metrics:
        assert f"\n### {plugin.name}\n" in PAGE
        for option in registry.load(plugin).options_type.model_fields:
            assert f"`{plugin.name}.{option}`" in PAGE
