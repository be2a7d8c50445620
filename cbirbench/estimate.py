"""What a run will cost, said before it is spent: a few steps are timed where minutes or days lie ahead."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from cbirbench import keys
from cbirbench.curves import Curves
from cbirbench.extraction import embedded, is_out_of_memory, prepared
from cbirbench.interfaces import Progress, Trainable
from cbirbench.plan import RETRIEVED_SHOWN, Contender, Plan, run_seed
from cbirbench.query_sets import QuerySet
from cbirbench.scoring import guarded_explaining, masked_embed
from cbirbench.slices import CTSlice, Slices, batches_of_one_side
from cbirbench.store import Store

WORTH_SAYING_S = 600.0
"""Work under ten minutes is not announced."""

TRAINING_PASSES = 3.0
"""A view trained costs about three embeddings: forward, and twice that backward."""

FIGURES = 3
"""Queries whose retrieval is drawn where none is asked for: the best, the median and the worst."""

MASKED_AT_ONCE = 32
"""Most masked images in a batch that is timed: a larger one takes longer to time, and is hardly faster."""


@dataclass(frozen=True)
class Stage:
    """One stage that lies ahead."""

    what: str
    seconds: float
    shrink: str


def spoken(seconds: float) -> str:
    """A duration as a person says it."""
    for size, unit in ((86400, "days"), (3600, "hours"), (60, "minutes")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} seconds"


def seconds_per_image(plan: Plan, contender: Contender, slices: Slices) -> float:
    """Seconds an image takes to embed, the faster of two batches after one to warm up."""
    extractor = contender.make()
    some = [slices[position] for position in next(batches_of_one_side(slices, 8))]
    images = prepared(extractor, some, device=plan.device, name=contender.name)
    return _fastest(lambda: embedded(extractor, images, name=contender.name)) / len(some)


def seconds_per_masked_image(plan: Plan, contender: Contender, slices: Slices) -> float:
    """The same through what embeds masked images, in a batch as explanations make them."""
    import torch

    extractor = contender.make()
    image = prepared(extractor, slices[:1], device=plan.device, name=contender.name)
    embed = masked_embed(extractor, plan.relax)
    height, width = image.shape[2:]
    largest = min(plan.relax.block_size(height, width, image.device.type), MASKED_AT_ONCE)

    def measured(count: int) -> float:
        batch = image.repeat(count, 1, 1, 1)
        try:
            # Copied to the CPU, since a GPU's work is done when its result is there.
            return _fastest(lambda: embed(batch).cpu()) / count
        except Exception as error:
            if count == 1 or not is_out_of_memory(error):
                raise
        return measured(count // 2)

    with torch.inference_mode():
        return guarded_explaining(contender.name, lambda: measured(largest))


def _fastest(work: Callable[[], object]) -> float:
    """Seconds that work takes, the faster of two times after one to warm up."""
    times = []
    for _ in range(3):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times[1:])


def stages_ahead(plan: Plan, sets: Sequence[QuerySet], store: Store, progress: Progress) -> list[Stage]:
    """Training and explaining that no cache entry spares, with the seconds each will take."""
    stages = []
    gallery = sets[0].gallery
    explained = [item for one in sets for item in one.explainable] if plan.explains else []
    watched = len(gallery) + sum(len(one.queries) for one in sets)
    for contender in plan.contenders:
        extractor = contender.make()
        fresh = keys.untrained(plan.device, contender, extractor)
        untrained, looks, explained_looks = 0, 0, 0
        masks: list[int] = []
        for run in range(contender.runs):
            shaped_by = fresh
            if isinstance(extractor, Trainable):
                key = keys.weights(fresh, gallery, run_seed(plan.request.seed, run))
                ahead = Curves(plan, contender, extractor, key, sets, store, progress).ahead
                untrained += bool(ahead) or not store.has("weights", key)
                looks += len(ahead)
                explained_looks += sum(explains for _, explains in ahead)
                shaped_by = keys.trained(key)
            masks += [_masks_ahead(plan, shaped_by, item, store) for item in explained]
            if run == 0 and plan.draws_retrievals:
                for one in sets:
                    masks += _masks_of_figures(plan, shaped_by, one, explained, store)
        unexplained = sum(count > 0 for count in masks)
        if not untrained and not unexplained:
            continue
        seconds = seconds_per_image(plan, contender, gallery) if untrained else 0.0
        masked = seconds_per_masked_image(plan, contender, gallery) if unexplained or explained_looks else 0.0
        if isinstance(extractor, Trainable) and untrained:
            views = untrained * extractor.training_views(len(gallery))
            what = f"training {contender.name}, {untrained} run{'s' if untrained > 1 else ''}"
            shrink = f"--runs N, or the options of {contender.name}"
            stages.append(Stage(what, views * TRAINING_PASSES * seconds, shrink))
        if looks:
            embedding = looks * watched * seconds
            explaining = explained_looks * len(explained) * plan.relax.masks * masked
            what = f"evaluating {contender.name} {looks} times while it trains"
            shrink = "a larger --eval-every and --explain-every"
            stages.append(Stage(what, embedding + explaining, shrink))
        if unexplained:
            many = f"{unexplained} embedding{'s' if unexplained > 1 else ''}"
            what = f"explaining {many} of {contender.name}, {plan.relax.masks} masks each"
            without = "--metrics without those on explanations" if explained else "--explain-queries none"
            shrink = f"--set relax.masks=N, --until-reliable R, or {without}"
            stages.append(Stage(what, sum(masks) * masked, shrink))
    return stages


def _masks_ahead(plan: Plan, shaped_by: keys.ShapedBy, item: CTSlice, store: Store) -> int:
    """Masks that a slice's explanation still takes, at most."""
    entry = store.read("similarities", keys.similarities(plan.relax, shaped_by, item))
    if entry is None:
        return plan.relax.masks
    if plan.relax.until_reliable is not None:
        return 0  # maybe some; most likely it had reached the same before
    return max(0, plan.relax.masks - len(entry[0]["similarities"]))


def _masks_of_figures(
    plan: Plan,
    shaped_by: keys.ShapedBy,
    one: QuerySet,
    explained: Sequence[CTSlice],
    store: Store,
) -> list[int]:
    """The same for each slice that only the figures of queries explain.

    Which slices will be retrieved is not known yet: they are counted at their most. Where the gallery has
    explanations in the cache, they are taken to be those.
    """
    counted = {item.slice_id for item in explained}
    asked = plan.request.explain_queries
    gallery = one.gallery
    here = len(one.explainable) if plan.explains else 0
    drawn = min(FIGURES, here) if asked is None else len(set(asked) & set(one.queries.ids))
    own = [item for item in one.queries if item.slice_id in (asked or ()) and item.slice_id not in counted]
    masks = [_masks_ahead(plan, shaped_by, item, store) for item in own]
    if not any(store.has("similarities", keys.similarities(plan.relax, shaped_by, item)) for item in gallery):
        masks += [plan.relax.masks] * min(drawn * RETRIEVED_SHOWN, len(gallery))
    return masks


def announce_long_work(plan: Plan, sets: Sequence[QuerySet], store: Store, progress: Progress) -> None:
    """Say what each stage will take and which option shrinks it, where all of it takes over ten minutes."""
    stages = stages_ahead(plan, sets, store, progress)
    total = sum(stage.seconds for stage in stages)
    if total < WORTH_SAYING_S:
        return
    progress.note(f"This run will take about {spoken(total)} on this machine ({plan.device}):")
    for stage in stages:
        progress.note(f"  {stage.what}: about {spoken(stage.seconds)} (less with {stage.shrink})")
    progress.note("  Ctrl-C keeps what is finished; the same command goes on from there.")
