"""One run of one extractor: train, embed, rank, explain, score."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cbirbench import keys
from cbirbench.curves import Curves
from cbirbench.embedding import embedded_slices
from cbirbench.errors import MissingError, PluginError
from cbirbench.explain.relax import Explanation
from cbirbench.explaining import explained
from cbirbench.explanation_scores import attention_rows, explained_rows
from cbirbench.extraction import REPORT, guarded
from cbirbench.interfaces import Evidence, Extractor, Progress, Trainable, TrainingRecord
from cbirbench.plan import RETRIEVED_SHOWN, Contender, Plan, run_seed
from cbirbench.query_sets import QuerySet
from cbirbench.ranking import Ranking
from cbirbench.results import RunOutcome
from cbirbench.retrieval_figures import (
    Captioned,
    asked_for,
    choose,
    draw_retrieval,
    figure_file,
    neighbours_of,
    precision_of_each,
)
from cbirbench.scoring import evidence, ranked, scored
from cbirbench.slices import Slices
from cbirbench.store import Store, as_json

if TYPE_CHECKING:
    from numpy.typing import NDArray


def run_once(
    plan: Plan,
    contender: Contender,
    run: int,
    sets: Sequence[QuerySet],
    out: Path,
    store: Store,
    progress: Progress,
) -> list[RunOutcome]:
    """One run of one extractor: trained if it is trainable, then evaluated; its figures go into `out`.

    Args:
        plan: What to do.
        contender: The extractor.
        run: Which training run of it, from 0.
        sets: The benchmark's own queries, in whose gallery it trains, then those of external cohorts.
        out: The run's folder.
        store: The cache.
        progress: Where to report.

    Returns:
        What it gave on each set of queries, in order; the training is told of with the first.
    """
    title = contender.name + (f", run {run + 1} of {contender.runs}" if contender.runs > 1 else "")
    extractor = contender.make()
    shaped_by = keys.untrained(plan.device, contender, extractor)
    training: _Training | None = None
    if isinstance(extractor, Trainable):
        training = _trained(plan, contender, extractor, shaped_by, run, sets, store, progress, title)
        shaped_by = keys.trained(training.key)
    job = _Evaluation(plan, contender, run, extractor, shaped_by, out, store, progress)
    outcomes = [job.outcome(one, title if len(sets) == 1 else f"{title}, {one.cohort}") for one in sets]
    if training:
        curve = training.curves.rows({outcome.cohort: outcome.values for outcome in outcomes})
        outcomes = [
            replace(
                outcome,
                seed=training.seed,
                curve=[row for row in curve if row["cohort"] == outcome.cohort],
            )
            for outcome in outcomes
        ]
        outcomes[0] = replace(
            outcomes[0],
            weights=training.weights,
            weights_key=training.key,
            training=training.record.epochs,
            resumed_from_epoch=training.record.resumed_from_epoch,
        )
    return outcomes


@dataclass(frozen=True)
class _Evaluation:
    """An extractor as it is after its training, and where to look things up."""

    plan: Plan
    contender: Contender
    run: int
    extractor: Extractor
    shaped_by: keys.ShapedBy
    out: Path
    store: Store
    progress: Progress

    def outcome(self, one: QuerySet, title: str) -> RunOutcome:
        """Embed, rank, explain and score one set of queries."""
        plan, contender, extractor, shaped_by = self.plan, self.contender, self.extractor, self.shaped_by
        vectors = [
            embedded_slices(
                contender,
                extractor,
                shaped_by,
                slices,
                plan.run_options.batch_size,
                self.store,
                self.progress,
                f"{title}: embedding {split}",
            )
            for split, slices in (("gallery", one.gallery), ("queries", one.queries))
        ]
        ranking = ranked(plan, one, vectors)
        found: dict[str, Explanation] = {}
        map_keys: dict[str, str] = {}
        if plan.explains and one.explainable:
            shown = one.explainable
            map_keys = {item.slice_id: keys.importance_map(plan.relax, shaped_by, item) for item in shown}
            step = f"{title}: explaining"
            found = explained(
                contender, extractor, shaped_by, shown, plan.relax, self.store, self.progress, step
            )
        maps = {slice_id: explanation.importance for slice_id, explanation in found.items()}
        values = _scored(plan, one, vectors, ranking, maps, map_keys, self.store, self.progress, title)
        on_maps = {m.name: values[m.name] for m in plan.metrics if m.needs == "explanations"}
        return RunOutcome(
            extractor=contender.name,
            run=self.run,
            seed=None,
            gallery_embeddings=vectors[0],
            query_embeddings=vectors[1],
            neighbours=ranking.neighbours,
            distances=ranking.distances,
            values=values,
            maps=maps,
            similarities={slice_id: explanation.similarities for slice_id, explanation in found.items()},
            explained=explained_rows(one.queries, found, on_maps),
            attention=attention_rows(one, found, map_keys, self.store) if found else (),
            figures=self._retrievals(one, ranking) if self.run == 0 and plan.draws_retrievals else (),
            weights={},
            training=(),
            cohort=one.cohort,
            external=one.external,
        )

    def _retrievals(self, one: QuerySet, ranking: Ranking) -> list[dict[str, Any]]:
        """Draw some queries with what they retrieve, explained; a row a figure."""
        plan, name = self.plan, self.contender.name
        shown = min(RETRIEVED_SHOWN, ranking.neighbours.shape[1])
        precision = precision_of_each(one.queries, one.gallery, ranking, shown)
        asked = plan.request.explain_queries
        if asked is None:
            chosen = choose(one.queries, precision)
        else:
            here = set(one.queries.ids)
            chosen = asked_for(one.queries, [slice_id for slice_id in asked if slice_id in here])
        items = [one.queries[place.position] for place in chosen]
        items += neighbours_of(chosen, one.gallery, ranking, shown)
        # A cohort that is its own gallery may retrieve what is a query as well.
        items = list({item.slice_id: item for item in items}.values())
        title = f"{name}: explaining retrieved slices" + (f" of {one.cohort}" if one.external else "")
        found = explained(
            self.contender,
            self.extractor,
            self.shaped_by,
            items,
            plan.relax,
            self.store,
            self.progress,
            title,
        )
        captioned = Captioned(one.cohort, one.synthetic, name, one.structures)
        rows = []
        for place in chosen:
            query, value = one.queries[place.position], float(precision[place.position])
            file = figure_file(name, query.slice_id)
            why = (
                "as asked for"
                if place.why == "asked for"
                else f"the {place.why} of the queries that show the organ"
            )
            draw_retrieval(
                self.out / file,
                captioned,
                query,
                [one.gallery[int(position)] for position in ranking.neighbours[place.position, :shown]],
                [float(distance) for distance in ranking.distances[place.position, :shown]],
                found,
                relax=plan.relax,
                title=f"{query.slice_id}, {why} (MAP@{shown} {100 * value:.0f} %)",
            )
            rows.append(
                {"file": file, "query_id": query.slice_id, "why": place.why, "map": value, "shown": shown}
            )
        return rows


@dataclass(frozen=True)
class _Training:
    """What a training leaves for the rest of its run."""

    key: str
    seed: int
    weights: dict[str, NDArray[Any]]
    record: TrainingRecord
    curves: Curves


def _trained(
    plan: Plan,
    contender: Contender,
    extractor: Trainable,
    shaped_by: keys.ShapedBy,
    run: int,
    sets: Sequence[QuerySet],
    store: Store,
    progress: Progress,
    title: str,
) -> _Training:
    """Train, or take the weights of an equal training from the cache."""
    import torch

    gallery = sets[0].gallery
    seed = run_seed(plan.request.seed, run)
    key = keys.weights(shaped_by, gallery, seed)

    def waits() -> None:
        progress.note(f"{title}: another process is at this very training; waiting for it.")

    with store.training_alone(key, waits):
        curves = Curves(plan, contender, extractor, key, sets, store, progress)
        entry = store.read("weights", key)
        if entry is None or curves.ahead:
            again = "" if entry is None else " once more, for its curves"
            progress.note(f"{title}: training on {len(gallery)} slices{again}")
            record = _fitted(contender, extractor, gallery, seed, store.workspace(key), progress, curves)
            if entry is None:
                weights = {
                    name: tensor.detach().cpu().numpy() for name, tensor in extractor.weights().items()
                }
                store.write("weights", key, weights, as_json(record))
                store.forget_workspace(key)
                return _Training(key, seed, weights, record, curves)
        # Embeddings and maps in the cache go with these weights, should another training differ in a digit.
        weights, metadata = entry
        extractor.load_weights({name: torch.from_numpy(array) for name, array in weights.items()})
        store.forget_workspace(key)
    return _Training(key, seed, weights, _record(metadata), curves)


def _fitted(
    contender: Contender,
    extractor: Trainable,
    gallery: Slices,
    seed: int,
    workspace: Path,
    progress: Progress,
    curves: Curves,
) -> TrainingRecord:
    """Train, and check what comes back.

    Raises:
        PluginError: `fit` failed, or does not keep to its interface.
        MissingError: The GPU's memory is too small.
    """
    record: Any = guarded(
        f"{contender.name}.fit",
        lambda: extractor.fit(gallery, seed=seed, workspace=workspace, progress=progress, watcher=curves),
        out_of_memory=MissingError(
            f"{contender.name} ran out of GPU memory while it was trained.",
            "Use a GPU with more memory, a smaller batch or image, or --device cpu.",
        ),
    )
    rows = record.epochs if isinstance(record, TrainingRecord) else None
    if rows is None or not all(
        isinstance(row, Mapping)
        and {"epoch", "loss"} <= row.keys()
        and all(isinstance(value, int | float) for value in row.values())
        for row in rows
    ):
        raise PluginError(
            f"{contender.name}.fit must return a TrainingRecord whose rows hold epoch, loss and other "
            f"numbers, got {record!r:.200}.",
            REPORT,
        )
    if curves.ahead:
        missed = ", ".join(str(epoch) for epoch, _ in curves.ahead[:5])
        raise PluginError(
            f"{contender.name}.fit did not let its watcher look after the epochs {missed}.",
            f"{REPORT} Without --eval-every and --explain-every it can be run.",
        )
    found: TrainingRecord = record
    return found


def _record(metadata: Mapping[str, Any]) -> TrainingRecord:
    """A record from the cache, where JSON has null for what is not a number."""
    rows = [
        {name: float("nan") if value is None else value for name, value in row.items()}
        for row in metadata["epochs"]
    ]
    return TrainingRecord(rows, metadata["resumed_from_epoch"])


def _scored(
    plan: Plan,
    one: QuerySet,
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
    found: Evidence | None = None
    for metric, plugin in zip(plan.metrics, plan.metric_plugins, strict=True):
        key = ""
        if metric.needs == "explanations":
            key = keys.explanation_scores(metric, plugin, map_keys, one.queries)
            entry = store.read("scores", key)
            if entry is not None:
                values[metric.name] = entry[0]["values"]
                continue
        if found is None:
            found = evidence(one.gallery, one.queries, vectors, ranking, maps)
        with progress.stage(f"{title}: {metric.name}", 1) as advance:
            values[metric.name] = scored(metric, found)
            advance(1)
        if key:
            store.write("scores", key, {"values": values[metric.name]})
    return values
