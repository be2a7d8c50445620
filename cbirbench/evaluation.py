"""One run of one extractor: train, embed, rank, explain, score."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from cbirbench import keys
from cbirbench.errors import CbirbenchError, MissingError, PluginError
from cbirbench.explain.native import to_native
from cbirbench.explain.relax import importance_maps
from cbirbench.extraction import embed_slices, prepared
from cbirbench.interfaces import Evidence, Extractor, Metric, Progress, Trainable
from cbirbench.plan import Contender, Plan, run_seed
from cbirbench.ranking import Ranking, rank
from cbirbench.results import RunOutcome
from cbirbench.slices import CTSlice, Slices, square_batches
from cbirbench.store import Store

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

EXPLAINED_TOGETHER = 8
"""Images that share one rendering of the masks; their maps are kept in the cache as soon as they are made."""


def run_once(
    plan: Plan,
    contender: Contender,
    run: int,
    gallery: Slices,
    queries: Slices,
    store: Store,
    progress: Progress,
) -> RunOutcome:
    """One run of one extractor: trained if it is trainable, then evaluated."""
    title = contender.name + (f", run {run + 1} of {contender.runs}" if contender.runs > 1 else "")
    extractor = contender.make()
    shaped_by = keys.untrained(plan, contender, extractor)
    weights: dict[str, NDArray[Any]] = {}
    history: list[dict[str, float]] = []
    seed = None
    if isinstance(extractor, Trainable):
        seed = run_seed(plan.request.seed, run)
        key = keys.weights(shaped_by, gallery, seed)
        weights, history = _trained(extractor, key, gallery, seed, store, progress, title)
        shaped_by = keys.trained(key)
    vectors = [
        _embedded(
            plan, contender, extractor, shaped_by, slices, store, progress, f"{title}: embedding {split}"
        )
        for split, slices in (("gallery", gallery), ("queries", queries))
    ]
    ranking = rank(vectors[1], vectors[0], gallery.ids, plan.depth, plan.run_options.distance)
    maps, map_keys = _explained(plan, contender, extractor, shaped_by, queries, store, progress, title)
    values = _scored(plan, gallery, queries, vectors, ranking, maps, map_keys, store, progress, title)
    return RunOutcome(
        extractor=contender.name,
        run=run,
        seed=seed,
        gallery_embeddings=vectors[0],
        query_embeddings=vectors[1],
        neighbours=ranking.neighbours,
        distances=ranking.distances,
        values=values,
        maps=maps,
        weights=weights,
        training=history,
    )


def _trained(
    extractor: Trainable,
    key: str,
    gallery: Slices,
    seed: int,
    store: Store,
    progress: Progress,
    title: str,
) -> tuple[dict[str, NDArray[Any]], list[dict[str, float]]]:
    """Train, or take the weights of an equal training from the cache."""
    import torch

    entry = store.read("weights", key)
    if entry is None:
        progress.note(f"{title}: training on {len(gallery)} slices")
        history = extractor.fit(gallery, seed=seed, workspace=store.workspace(key), progress=progress)
        weights = {name: tensor.detach().cpu().numpy() for name, tensor in extractor.weights().items()}
        store.write("weights", key, weights, {"history": history})
        store.forget_workspace(key)
        return weights, history
    weights, metadata = entry
    extractor.load_weights({name: torch.from_numpy(array) for name, array in weights.items()})
    return weights, metadata["history"]


def _embedded(
    plan: Plan,
    contender: Contender,
    extractor: Extractor,
    shaped_by: keys.ShapedBy,
    slices: Slices,
    store: Store,
    progress: Progress,
    title: str,
) -> NDArray[np.float32]:
    """Embed slices, or take equal embeddings from the cache."""
    batch_size = plan.run_options.batch_size
    key = keys.embeddings(shaped_by, slices, batch_size)
    entry = store.read("embeddings", key)
    if entry is not None:
        return entry[0]["embeddings"]
    with progress.stage(title, len(slices)) as advance:
        vectors = embed_slices(
            extractor,
            slices,
            batch_size=batch_size,
            device=plan.device,
            name=contender.name,
            advance=advance,
        )
    store.write("embeddings", key, {"embeddings": vectors})
    return vectors


def _explained(
    plan: Plan,
    contender: Contender,
    extractor: Extractor,
    shaped_by: keys.ShapedBy,
    queries: Slices,
    store: Store,
    progress: Progress,
    title: str,
) -> tuple[dict[str, NDArray[np.float32]], dict[str, str]]:
    """Importance maps of the explainable queries and their cache keys, both by slice id."""
    if not plan.explains:
        return {}, {}
    map_keys = {
        item.slice_id: keys.importance_map(plan, shaped_by, item)
        for item in queries
        if keys.explainable(item)
    }
    maps: dict[str, NDArray[np.float32]] = {}
    todo: list[CTSlice] = []
    for item in queries:
        if item.slice_id in map_keys:
            entry = store.read("maps", map_keys[item.slice_id])
            if entry is None:
                todo.append(item)
            else:
                maps[item.slice_id] = entry[0]["map"]
    if todo:
        with progress.stage(f"{title}: explaining", len(todo) * plan.relax.masks) as advance:
            for positions, hu in square_batches(Slices(tuple(todo)), EXPLAINED_TOGETHER):
                images = prepared(extractor, hu, device=plan.device, name=contender.name)
                made = _importance(contender, extractor, images, plan, advance)
                for position, importance in zip(positions, made, strict=True):
                    item = todo[position]
                    store.write("maps", map_keys[item.slice_id], {"map": importance})
                    maps[item.slice_id] = importance
    return {slice_id: maps[slice_id] for slice_id in map_keys}, map_keys


def _importance(
    contender: Contender, extractor: Extractor, images: Tensor, plan: Plan, advance: Callable[[int], None]
) -> NDArray[np.float32]:
    import torch

    try:
        return importance_maps(extractor, images, plan.relax, advance=advance)
    except CbirbenchError as error:
        raise type(error)(f"{contender.name}: {error.problem}", error.remedy) from error
    except torch.OutOfMemoryError as error:
        raise MissingError(
            f"{contender.name} ran out of GPU memory while it was explained.",
            "Give it less at once: --set relax.batch_size=N, or use --device cpu.",
        ) from error
    except Exception as error:
        raise PluginError(
            f"{contender.name} failed on masked images: {type(error).__name__}: {error}",
            "An extractor must embed any image in 0..1; leave it out, or run without relevance-rank.",
        ) from error


def _scored(
    plan: Plan,
    gallery: Slices,
    queries: Slices,
    vectors: Sequence[NDArray[np.float32]],
    ranking: Ranking,
    maps: dict[str, NDArray[np.float32]],
    map_keys: dict[str, str],
    store: Store,
    progress: Progress,
    title: str,
) -> dict[str, NDArray[np.float64]]:
    """One value a query for every metric; those on explanations are cached, since they sort every pixel."""
    values: dict[str, NDArray[np.float64]] = {}
    evidence: Evidence | None = None
    for metric, plugin in zip(plan.metrics, plan.metric_plugins, strict=True):
        key = ""
        if metric.needs == "explanations":
            key = keys.explanation_scores(metric, plugin, map_keys, queries)
            entry = store.read("scores", key)
            if entry is not None:
                values[metric.name] = entry[0]["values"]
                continue
        if evidence is None:
            evidence = _evidence(plan, gallery, queries, vectors, ranking, maps)
        with progress.stage(f"{title}: {metric.name}", 1) as advance:
            values[metric.name] = _checked_values(metric, metric.per_query(evidence), len(queries))
            advance(1)
        if key:
            store.write("scores", key, {"values": values[metric.name]})
    return values


def _evidence(
    plan: Plan,
    gallery: Slices,
    queries: Slices,
    vectors: Sequence[NDArray[np.float32]],
    ranking: Ranking,
    maps: dict[str, NDArray[np.float32]],
) -> Evidence:
    return Evidence(
        query_labels=queries.labels,
        gallery_labels=gallery.labels,
        neighbours=ranking.neighbours,
        distances=ranking.distances,
        query_embeddings=vectors[1],
        gallery_embeddings=vectors[0],
        maps=[
            to_native(maps[item.slice_id], item.hu.shape) if item.slice_id in maps else None
            for item in queries
        ],
        masks=[None if item.mask is None else item.mask > 0 for item in queries],
    )


def _checked_values(metric: Metric, values: Any, count: int) -> NDArray[np.float64]:
    array = np.asarray(values, dtype=np.float64)
    if array.shape != (count,) or np.isinf(array).any():
        raise PluginError(
            f"The metric {metric.name!r} must give one finite or NaN value for each of {count} queries, "
            f"got shape {array.shape}" + (" with infinite values." if np.isinf(array).any() else "."),
            "Report it to the plugin's authors.",
        )
    return array
