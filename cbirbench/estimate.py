"""What a run will cost, said before it is spent: a few steps are timed where minutes or days lie ahead."""

from __future__ import annotations

import time
from dataclasses import dataclass

from cbirbench import keys
from cbirbench.curves import Curves
from cbirbench.extraction import embedded, prepared
from cbirbench.interfaces import Progress, Trainable
from cbirbench.plan import Contender, Plan, run_seed
from cbirbench.slices import Slices, square_batches
from cbirbench.store import Store

WORTH_SAYING_S = 600.0
"""Work under ten minutes is not announced."""

TRAINING_PASSES = 3.0
"""A view trained costs about three embeddings: forward, and twice that backward."""


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
    _, hu = next(square_batches(slices, 8))
    images = prepared(extractor, hu, device=plan.device, name=contender.name)
    times = []
    for _ in range(3):
        start = time.perf_counter()
        embedded(extractor, images, name=contender.name)
        times.append((time.perf_counter() - start) / len(hu))
    return min(times[1:])


def stages_ahead(
    plan: Plan, gallery: Slices, queries: Slices, store: Store, progress: Progress
) -> list[Stage]:
    """Training and explaining that no cache entry spares, with the seconds each will take."""
    stages = []
    explained = [item for item in queries if keys.explainable(item)] if plan.explains else []
    for contender in plan.contenders:
        extractor = contender.make()
        fresh = keys.untrained(plan, contender, extractor)
        untrained, unexplained, looks, explained_looks = 0, 0, 0, 0
        for run in range(contender.runs):
            shaped_by = fresh
            if isinstance(extractor, Trainable):
                key = keys.weights(fresh, gallery, run_seed(plan.request.seed, run))
                ahead = Curves(plan, contender, extractor, key, gallery, queries, store, progress).ahead
                untrained += bool(ahead) or not store.has("weights", key)
                looks += len(ahead)
                explained_looks += sum(explains for _, explains in ahead)
                shaped_by = keys.trained(key)
            unexplained += sum(
                not store.has("maps", keys.importance_map(plan, shaped_by, item)) for item in explained
            )
        if not untrained and not unexplained:
            continue
        seconds = seconds_per_image(plan, contender, gallery)
        if isinstance(extractor, Trainable) and untrained:
            views = untrained * extractor.training_views(len(gallery))
            what = f"training {contender.name}, {untrained} run{'s' if untrained > 1 else ''}"
            shrink = f"--runs N, or the options of {contender.name}"
            stages.append(Stage(what, views * TRAINING_PASSES * seconds, shrink))
        if looks:
            images = (
                looks * (len(gallery) + len(queries)) + explained_looks * len(explained) * plan.relax.masks
            )
            what = f"evaluating {contender.name} {looks} times while it trains"
            stages.append(Stage(what, images * seconds, "a larger --eval-every and --explain-every"))
        if unexplained:
            what = f"explaining {unexplained} embeddings of {contender.name}, {plan.relax.masks} masks each"
            shrink = "--set relax.masks=N, or --metrics without relevance-rank"
            stages.append(Stage(what, unexplained * plan.relax.masks * seconds, shrink))
    return stages


def announce_long_work(
    plan: Plan, gallery: Slices, queries: Slices, store: Store, progress: Progress
) -> None:
    """Say what each stage will take and which option shrinks it, where all of it takes over ten minutes."""
    stages = stages_ahead(plan, gallery, queries, store, progress)
    total = sum(stage.seconds for stage in stages)
    if total < WORTH_SAYING_S:
        return
    progress.note(f"This run will take about {spoken(total)} on this machine ({plan.device}):")
    for stage in stages:
        progress.note(f"  {stage.what}: about {spoken(stage.seconds)} (less with {stage.shrink})")
    progress.note("  Ctrl-C keeps what is finished; the same command goes on from there.")
