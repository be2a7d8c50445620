from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from quiet import Quiet

from cbirbench import explanation_scores, results
from cbirbench.explain.controls import CONTROLS, control_map
from cbirbench.explain.native import to_native
from cbirbench.explain.relax import Explanation
from cbirbench.explanation_scores import attention_rows, control_rows, explained_rows, explanation_summary
from cbirbench.plan import Plan, Request
from cbirbench.planning import build
from cbirbench.query_sets import own_queries
from cbirbench.results import RunOutcome
from cbirbench.runner import execute
from cbirbench.slices import Slices
from cbirbench.store import Store

pytestmark = pytest.mark.usefixtures("fake_plugins")

METRICS = ("purity@1", "relevance-rank", "coverage")


def plan_of(*assignments: str, metrics: tuple[str, ...] = METRICS) -> Plan:
    settings = ("relax.masks=20", "relax.grid=3", "relax.precision=float32", *assignments)
    return build(Request("blobs", ("brightness",), metrics, device="cpu", assignments=settings))


def slices_of(plan: Plan) -> tuple[Slices, Slices]:
    items: dict[str, list[Any]] = {"gallery": [], "query": []}
    for source in plan.sources:
        items[source.split] += plan.benchmark.read(source)
    return Slices(tuple(items["gallery"])), Slices(tuple(items["query"]))


def explanation(importance: Any = None, **changed: Any) -> Explanation:
    given: dict[str, Any] = {
        "importance": np.random.default_rng(0).random((12, 12), dtype=np.float32)
        if importance is None
        else importance,
        "uncertainty": np.zeros((12, 12), np.float32),
        "reliability": 0.75,
        "similarities": np.array([0.5, 0.0, 0.25]),
    }
    return Explanation(**{**given, **changed})


NOTHING = explanation(
    np.full((12, 12), np.nan, np.float32),
    reliability=math.nan,
    similarities=np.empty(0),
    problem="the embedding of the whole image is zero",
)


# Rows ---------------------------------------------------------------------------------------------------


def test_a_row_an_explained_query() -> None:
    _, queries = slices_of(plan_of())
    assert [item.slice_id for item in queries] == ["q0-0", "q0-1", "q1-0", "q1-1"]
    found = {"q0-1": explanation(), "q1-1": NOTHING}
    values = {
        "relevance-rank": np.array([np.nan, 0.5, np.nan, np.nan]),
        "coverage": np.array([np.nan, 0.125, np.nan, np.nan]),
    }
    share = 25 / 120  # of the organ: 5 x 5 of 12 x 10 pixels
    first, second = explained_rows(queries, found, values)
    assert first == {
        "query_id": "q0-1",
        "patient_id": "patient-q0",
        "chance": pytest.approx(share),
        "relevance-rank": 0.5,
        "coverage": 0.125,
        "over_chance": pytest.approx(0.5 / share),
        "reliability": 0.75,
        "masks": 3,
        "zero_masks": 1,
        "problem": "",
    }
    assert second["problem"] == NOTHING.problem and second["masks"] == second["zero_masks"] == 0
    assert all(math.isnan(second[name]) for name in (*values, "over_chance", "reliability"))
    assert second.keys() == first.keys()


def test_no_ratio_to_chance_without_the_relevance_rank() -> None:
    _, queries = slices_of(plan_of())
    (row,) = explained_rows(queries, {"q1-1": explanation()}, {"coverage": np.full(4, 0.5)})
    assert "over_chance" not in row and row["coverage"] == 0.5


# Where the attention goes -------------------------------------------------------------------------------


def attention_of(plan: Plan, found: dict[str, Explanation], store: Store, version: str = "") -> Any:
    _, queries = slices_of(plan)
    return attention_rows(
        own_queries(plan, queries, queries), found, {name: name + version for name in found}, store
    )


def test_attention_is_the_same_from_the_cache(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = plan_of()
    found = {"q0-1": explanation(), "q1-1": NOTHING}
    fresh = attention_of(plan, found, store)
    assert {row["query_id"] for row in fresh} == {"q0-1", "q1-1"}
    assert list(fresh[0]) == ["query_id", "tissue", "target", "area", "importance", "top_tenth"]
    for name in ("area", "importance", "top_tenth"):
        assert sum(row[name] for row in fresh if row["query_id"] == "q0-1") == pytest.approx(1)
    assert [row["tissue"] for row in fresh if row["target"]] == ["label 1", "label 1"]
    undefined = [row["importance"] for row in fresh if row["query_id"] == "q1-1"]
    assert undefined and all(map(math.isnan, undefined))

    monkeypatch.setattr(explanation_scores, "attention_table", lambda *_: pytest.fail("computed again"))
    cached = attention_of(plan, found, store)
    for one, other in zip(fresh, cached, strict=True):
        np.testing.assert_equal(other, one)  # NaN equals NaN
        assert [type(value) for value in other.values()] == [type(value) for value in one.values()]


def test_attention_to_another_map_is_another(store: Store) -> None:
    plan = plan_of()
    first = attention_of(plan, {"q0-1": explanation()}, store)
    turned = explanation(1 - explanation().importance)
    assert attention_of(plan, {"q0-1": turned}, store, version="2") != first


def test_structures_have_their_names(store: Store) -> None:
    plan = plan_of()
    attention_of(plan, {"q0-1": explanation()}, store)
    named = attention_of(replace(plan, structures={1: "blob"}), {"q0-1": explanation()}, store)
    assert [row["tissue"] for row in named if row["target"]] == ["blob"]


# Controls -----------------------------------------------------------------------------------------------


def test_controls_are_scored_on_every_metric_on_explanations(store: Store) -> None:
    plan = plan_of()
    gallery, queries = slices_of(plan)
    rows = control_rows(plan, own_queries(plan, gallery, queries), store, Quiet())
    places = [(row["control"], row["metric"], row["query_id"]) for row in rows]
    assert places == [
        (control, metric, name)
        for control in CONTROLS
        for metric in ("relevance-rank", "coverage")
        for name in queries.ids
    ]
    assert rows[0]["patient_id"] == "patient-q0"
    values = {place: row["value"] for place, row in zip(places, rows, strict=True)}
    for control in CONTROLS:
        assert math.isnan(values[control, "relevance-rank", "q0-0"])  # shows no organ, and is not explained
        item = queries[1]
        native = to_native(control_map(control, item.slice_id, plan.relax), item.hu.shape)
        assert values[control, "coverage", "q0-1"] == pytest.approx(float(native.mean()))
        target = item.target
        assert target is not None
        first = np.argsort(-native.ravel(), kind="stable")[: target.sum()]
        expected = target.ravel()[first].mean()
        assert values[control, "relevance-rank", "q0-1"] == pytest.approx(expected)
    random = [values["random-map", "coverage", name] for name in ("q0-1", "q1-1")]
    assert random[0] != random[1]


def test_controls_come_from_the_cache(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = plan_of()
    gallery, queries = slices_of(plan)
    first = control_rows(plan, own_queries(plan, gallery, queries), store, Quiet())
    monkeypatch.setattr(explanation_scores, "control_map", lambda *_: pytest.fail("made again"))
    np.testing.assert_equal(control_rows(plan, own_queries(plan, gallery, queries), store, Quiet()), first)
    other = plan_of("relax.masks=21")
    with pytest.raises(pytest.fail.Exception, match="made again"):
        control_rows(other, own_queries(other, gallery, queries), store, Quiet())


def test_no_controls_without_a_metric_on_explanations(store: Store) -> None:
    plan = plan_of(metrics=("purity@1",))
    progress = Quiet()
    assert control_rows(plan, own_queries(plan, *slices_of(plan)), store, progress) == []
    assert progress.titles == []


# The summary --------------------------------------------------------------------------------------------


def outcome(extractor: str, run: int, explained: Any, attention: Any = ()) -> RunOutcome:
    none = np.empty((0, 0), np.float32)
    empty: dict[str, Any] = {"values": {}, "maps": {}, "similarities": {}, "weights": {}}
    return RunOutcome(
        extractor, run, None, none, none, np.empty((0, 1), np.int64), np.empty((0, 1)), **empty,
        explained=explained, attention=attention, figures=(), training=(),
    )  # fmt: skip


def row(
    masks: int,
    reliability: float,
    problem: str = "",
    zero_masks: int = 0,
    query: str = "q",
    chance: float = 0.25,
) -> dict[str, Any]:
    return {
        "query_id": query,
        "chance": chance,
        "masks": masks,
        "reliability": reliability,
        "problem": problem,
        "zero_masks": zero_masks,
    }


def tissue(name: str, area: float, importance: float, target: bool = False) -> dict[str, Any]:
    return {
        "tissue": name,
        "target": target,
        "area": area,
        "importance": importance,
        "top_tenth": importance / 2,
    }


def test_the_summary_by_hand() -> None:
    outcomes = [
        outcome(
            "a",
            0,
            [row(100, 0.5), row(0, math.nan, "zero", query="r", chance=0.75)],
            [tissue("fat", 0.5, 0.25), tissue("fat", 0.9, math.nan)],
        ),
        outcome(
            "a",
            1,
            [row(300, 0.75, zero_masks=4), row(300, math.nan, "flat", query="r", chance=0.75)],
            [tissue("fat", 0.5, 0.75)],
        ),
        outcome("b", 0, []),
    ]
    controls = [
        {"control": "center-map", "metric": "relevance-rank", "query_id": query, "value": value}
        for query, value in (("q", 0.5), ("s", math.nan), ("r", 0.25))
    ] + [{"control": "center-map", "metric": "coverage", "query_id": "q", "value": math.nan}]
    assert explanation_summary(outcomes, controls) == {
        "chance": 0.5,
        "extractors": {
            "a": {
                "explained": 4,
                # Of the one query that has a map with an order.
                "chance": 0.25,
                "controls": {
                    "center-map": {
                        "relevance-rank": {"mean": 0.5, "defined": 1},
                        "coverage": {"mean": None, "defined": 0},
                    }
                },
                "masks": {"mean": pytest.approx(700 / 3), "lowest": 100, "highest": 300},
                "reliability": {"mean": 0.625, "lowest": 0.5, "undefined": 2},
                "problems": {"zero": 1, "flat": 1},
                "zero_masks": 4,
                "attention": [
                    # A map without shares is left out, its area as well.
                    {
                        "tissue": "fat",
                        "target": False,
                        "queries": 2,
                        "area": 0.5,
                        "importance": 0.5,
                        "top_tenth": 0.25,
                        "importance_ratio": 1.0,
                        "top_tenth_ratio": 0.5,
                    }
                ],
            }
        },
        "controls": {
            "center-map": {
                "relevance-rank": {"mean": 0.375, "defined": 2},
                "coverage": {"mean": None, "defined": 0},
            }
        },
    }


def test_no_summary_where_nothing_was_explained() -> None:
    assert explanation_summary([outcome("b", 0, [])], []) is None


# Bad input, through a whole run -------------------------------------------------------------------------


def zero(images: torch.Tensor, vectors: torch.Tensor) -> torch.Tensor:
    return torch.zeros_like(vectors)


def strange_where_masked(images: torch.Tensor, vectors: torch.Tensor) -> torch.Tensor:
    """Whole slices have noise everywhere; masks blacken whole pixels."""
    black = (images[:, :, :, :10] == 0).float().mean(dim=(1, 2, 3)) > 0.15
    return torch.where(black[:, None], torch.nan, vectors)


def flat(images: torch.Tensor, vectors: torch.Tensor) -> torch.Tensor:
    return torch.ones_like(vectors)


@pytest.mark.parametrize(
    ("embed", "problem", "masks"),
    [
        (zero, "the embedding of the whole image is zero", 0),
        (strange_where_masked, "the embeddings of masked images are not finite", 20),
        (flat, "all masked images are equally similar to the whole one", 20),
    ],
)
def test_what_cannot_be_explained_is_counted_and_shown(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch, embed: Any, problem: str, masks: int
) -> None:
    import cbirbench_fake

    plain = cbirbench_fake.BrightnessMean.embed
    monkeypatch.setattr(
        cbirbench_fake.BrightnessMean, "embed", lambda self, images: embed(images, plain(self, images))
    )
    assert_counted_and_shown(tmp_path / "out", store, problem, masks)


def test_a_blank_image_is_counted_and_shown(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    import cbirbench_fake

    kind = cbirbench_fake.BrightnessMean
    monkeypatch.setattr(kind, "prepare", lambda self, hu: torch.zeros(len(hu), 1, 12, 12))
    monkeypatch.setattr(kind, "embed", lambda self, images: images.mean(dim=(1, 3)) + 1)
    assert_counted_and_shown(tmp_path / "out", store, "the prepared image is blank", 0)


def assert_counted_and_shown(out: Path, store: Store, problem: str, masks: int) -> None:
    execute(plan_of(), out, store, Quiet(), "cbirbench run blobs")
    table = results.read_table(out, "explanations.parquet")
    assert table["problem"].tolist() == [problem] * 2
    assert table["masks"].tolist() == [masks] * 2
    assert table["reliability"].isna().all() and table["relevance-rank"].isna().all()
    summary = results.read_summary(out)["explanations"]["extractors"]["brightness-mean"]
    assert summary["explained"] == 2
    assert summary["problems"] == {problem: 2}
    assert summary["reliability"] == {"mean": None, "lowest": None, "undefined": 2}
    assert all(row["importance"] is None for row in summary["attention"])
    scores = results.read_table(out, "scores.parquet")
    assert scores.loc[scores["metric"] == "relevance-rank", "value"].isna().all()
    assert scores.loc[scores["metric"] == "purity@1", "value"].notna().all()
    assert problem in (out / "report.md").read_text()
    assert len(list((out / "figures/retrieval/brightness-mean").glob("*.png"))) == 2
