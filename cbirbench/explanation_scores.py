"""What is kept and said of a run's explanations: a row a query, where the attention goes, the controls."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from cbirbench import keys
from cbirbench.explain.attention import attention_summary, attention_table
from cbirbench.explain.controls import CONTROLS, control_map
from cbirbench.explain.native import to_native
from cbirbench.explain.relax import Explanation
from cbirbench.interfaces import Progress
from cbirbench.plan import Plan
from cbirbench.query_sets import QuerySet
from cbirbench.ranking import Ranking
from cbirbench.report.explanations import RELEVANCE_RANK
from cbirbench.results import RunOutcome
from cbirbench.scoring import evidence, scored
from cbirbench.slices import Slices
from cbirbench.store import Store

if TYPE_CHECKING:
    from numpy.typing import NDArray


def explained_rows(
    queries: Slices, explanations: Mapping[str, Explanation], values: Mapping[str, NDArray[np.float64]]
) -> list[dict[str, Any]]:
    """A row an explained query: its scores on its map, their chance level, and how sure the map is.

    Args:
        queries: All queries.
        explanations: Those of the explained ones, by slice id.
        values: Per metric on explanations one value a query.
    """
    rows = []
    for position, item in enumerate(queries):
        explanation = explanations.get(item.slice_id)
        if explanation is None:
            continue
        scores = {name: float(found[position]) for name, found in values.items()}
        over = {}
        if RELEVANCE_RANK in scores:
            over["over_chance"] = scores[RELEVANCE_RANK] / item.mask_fraction
        rows.append(
            {
                "query_id": item.slice_id,
                "patient_id": item.patient_id,
                "chance": item.mask_fraction,
                **scores,
                **over,
                "reliability": explanation.reliability,
                "masks": explanation.masks,
                "zero_masks": explanation.zero_masks,
                "problem": explanation.problem,
            }
        )
    return rows


def attention_rows(
    one: QuerySet,
    explanations: Mapping[str, Explanation],
    map_keys: Mapping[str, str],
    store: Store,
) -> list[dict[str, Any]]:
    """Each tissue's shares of every map, from the cache where they are there: they sort every pixel."""
    queries, structures = one.queries, one.structures
    key = keys.attention(map_keys, queries, structures)
    entry = store.read("scores", key)
    if entry is None:
        native = {
            item.slice_id: to_native(explanations[item.slice_id].importance, item.hu.shape)
            for item in queries
            if item.slice_id in explanations
        }
        table: Any = attention_table(queries, native, structures)
        rows: list[dict[str, Any]] = table.to_dict("records")
        shares = {
            name: np.array([row[name] for row in rows], dtype=np.float64)
            for name in ("area", "importance", "top_tenth")
        }
        places = [[row["query_id"], row["tissue"], bool(row["target"])] for row in rows]
        store.write("scores", key, shares, {"places": places})
        return rows
    arrays, metadata = entry
    return [
        {
            "query_id": query_id,
            "tissue": tissue,
            "target": target,
            **{name: float(array[position]) for name, array in arrays.items()},
        }
        for position, (query_id, tissue, target) in enumerate(metadata["places"])
    ]


def control_rows(plan: Plan, one: QuerySet, store: Store, progress: Progress) -> list[dict[str, Any]]:
    """Scores of the controls' maps on every metric that needs explanations, a row a query."""
    queries = one.queries
    due = [
        (metric, plugin)
        for metric, plugin in zip(plan.metrics, plan.metric_plugins, strict=True)
        if metric.needs == "explanations" and not metric.depth  # a control retrieves nothing
    ]
    if not due or not one.explainable:
        return []
    rows: list[dict[str, Any]] = []
    title = "Scoring the controls" + (f", {one.cohort}" if one.external else "")
    with progress.stage(title, len(CONTROLS)) as advance:
        for name in CONTROLS:
            map_keys = {item.slice_id: keys.control_map(plan.relax, name, item) for item in one.explainable}
            found = None
            for metric, plugin in due:
                key = keys.explanation_scores(metric, plugin, map_keys, queries)
                entry = store.read("scores", key)
                if entry is None:
                    found = found or _control_evidence(name, plan, one)
                    entry = {"values": scored(metric, found)}, {}
                    store.write("scores", key, entry[0])
                rows += [
                    {
                        "cohort": one.cohort,
                        "control": name,
                        "metric": metric.name,
                        "query_id": item.slice_id,
                        "patient_id": item.patient_id,
                        "value": float(value),
                    }
                    for item, value in zip(queries, entry[0]["values"], strict=True)
                ]
            advance(1)
    return rows


def _control_evidence(name: str, plan: Plan, one: QuerySet) -> Any:
    maps = {item.slice_id: control_map(name, item.slice_id, plan.relax) for item in one.explainable}
    nothing = np.zeros((len(one.queries), 0))
    ranking = Ranking(neighbours=nothing.astype(np.int64), distances=nothing)
    vectors = [np.zeros((len(slices), 1), dtype=np.float32) for slices in (one.gallery, one.queries)]
    return evidence(one.gallery, one.queries, vectors, ranking, maps)


def explanation_summary(
    outcomes: Sequence[RunOutcome], controls: Sequence[Mapping[str, Any]]
) -> dict[str, Any] | None:
    """What summary.json says of the explanations of one set of queries; None where nothing was explained.

    Args:
        outcomes: The runs on that set.
        controls: What `control_rows` gave for it.
    """
    by_extractor: dict[str, list[RunOutcome]] = {}
    for outcome in outcomes:
        if outcome.explained:
            by_extractor.setdefault(outcome.extractor, []).append(outcome)
    if not by_extractor:
        return None
    first = next(iter(by_extractor.values()))[0]
    return {
        "chance": _mean(row["chance"] for row in first.explained),
        "extractors": {name: _of_extractor(runs, controls) for name, runs in by_extractor.items()},
        "controls": _controls(controls),
    }


def _of_extractor(runs: Sequence[RunOutcome], controls: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    rows = [row for run in runs for row in run.explained]
    masks = [row["masks"] for row in rows if row["masks"]]
    sure = [row["reliability"] for row in rows if math.isfinite(row["reliability"])]
    # What its scores are to be compared with: the same queries, those with a map that has an order.
    sound = [[row for row in run.explained if not row["problem"]] for run in runs]
    return {
        "explained": len(rows),
        "chance": _mean(_mean(row["chance"] for row in of_run) for of_run in sound if of_run),
        "controls": _controls(controls, {row["query_id"] for of_run in sound for row in of_run}),
        "masks": {
            "mean": _mean(masks),
            "lowest": min(masks, default=None),
            "highest": max(masks, default=None),
        },
        "reliability": {
            "mean": _mean(sure),
            "lowest": min(sure, default=None),
            "undefined": len(rows) - len(sure),
        },
        "problems": dict(Counter(row["problem"] for row in rows if row["problem"])),
        "zero_masks": sum(row["zero_masks"] for row in rows),
        "attention": _attention([row for run in runs for row in run.attention]),
    }


def _attention(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Mean shares of each tissue over all maps that have any."""
    import pandas as pd

    found: Any = attention_summary(pd.DataFrame(rows)) if rows else pd.DataFrame()
    kept: list[dict[str, Any]] = found.to_dict("records")
    return kept


def _controls(
    rows: Sequence[Mapping[str, Any]], queries: Collection[str] | None = None
) -> dict[str, dict[str, Any]]:
    """Means over queries of each control on each metric; over some queries only, where they are given."""
    found: dict[str, dict[str, list[float]]] = {}
    for row in rows:
        values = found.setdefault(row["control"], {}).setdefault(row["metric"], [])
        if math.isfinite(row["value"]) and (queries is None or row["query_id"] in queries):
            values.append(row["value"])
    return {
        control: {
            metric: {"mean": _mean(values), "defined": len(values)} for metric, values in metrics.items()
        }
        for control, metrics in found.items()
    }


def _mean(values: Iterable[float | None]) -> float | None:
    found = [float(value) for value in values if value is not None]
    return float(np.mean(found)) if found else None
