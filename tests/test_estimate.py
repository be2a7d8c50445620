from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cbirbench import estimate, keys
from cbirbench.errors import MissingError, PluginError
from cbirbench.estimate import (
    MASKED_AT_ONCE,
    announce_long_work,
    seconds_per_image,
    seconds_per_masked_image,
    spoken,
    stages_ahead,
)
from cbirbench.interfaces import Explainable, Progress
from cbirbench.plan import Plan, Request, run_seed
from cbirbench.planning import build
from cbirbench.query_sets import QuerySet, own_queries
from cbirbench.runner import execute
from cbirbench.slices import CTSlice, Slices
from cbirbench.store import Store

pytestmark = pytest.mark.usefixtures("fake_plugins")


class Notes:
    """Remembers what was said."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def note(self, text: str) -> None:
        self.texts.append(text)

    stage: Any = None


class Loud(Notes):
    """Does what a whole run asks of a progress."""

    @contextmanager
    def stage(self, title: str, total: int) -> Iterator[Callable[[int], None]]:  # type: ignore[override]
        yield lambda done: None


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "cache")


def plan_of(**changed: Any) -> Plan:
    request = Request(
        "blobs",
        ("learned-offset", "brightness"),
        ("purity", "coverage"),
        runs=3,
        device="cpu",
        assignments=("learned.epochs=10", "relax.masks=100", "relax.grid=3"),
    )
    return build(dataclasses.replace(request, **changed))


def slices_of(plan: Plan) -> tuple[Slices, Slices]:
    """Four gallery slices; four queries, of which two show the organ."""
    items: dict[str, list[Any]] = {"gallery": [], "query": []}
    for source in plan.sources:
        items[source.split] += plan.benchmark.read(source)
    return Slices(tuple(items["gallery"])), Slices(tuple(items["query"]))


def sets_of(plan: Plan) -> list[QuerySet]:
    return [own_queries(plan, *slices_of(plan))]


def timed(monkeypatch: pytest.MonkeyPatch, seconds: float, masked: float | None = None) -> list[str]:
    """Have an image take so long, and a masked one; and say which extractors were timed how."""
    asked: list[str] = []

    def timing(kind: str, took: float) -> Any:
        def time(plan: Plan, contender: Any, slices: Slices) -> float:
            asked.append(f"{kind} {contender.name}")
            return took

        return time

    monkeypatch.setattr(estimate, "seconds_per_image", timing("whole", seconds))
    took = seconds if masked is None else masked
    monkeypatch.setattr(estimate, "seconds_per_masked_image", timing("masked", took))
    return asked


def ahead(plan: Plan, store: Store) -> list[tuple[str, float]]:
    return [(stage.what, stage.seconds) for stage in stages_ahead(plan, sets_of(plan), store, Notes())]


def announced(plan: Plan, store: Store, monkeypatch: pytest.MonkeyPatch, seconds: float) -> list[str]:
    timed(monkeypatch, seconds)
    notes = Notes()
    progress: Progress = notes
    announce_long_work(plan, sets_of(plan), store, progress)
    return notes.texts


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.4, "0 seconds"),
        (119, "119 seconds"),
        (120, "2 minutes"),
        (600, "10 minutes"),
        (7199, "120 minutes"),
        (7200, "2 hours"),
        (2 * 86400, "2 days"),
    ],
)
def test_durations_as_a_person_says_them(seconds: float, words: str) -> None:
    assert spoken(seconds) == words


def test_an_empty_cache_spares_nothing(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = timed(monkeypatch, 2.0, masked=0.5)
    # 3 runs x 2 views x 10 epochs x 4 slices, 3 passes each. 3 runs x 2 queries, and the 4 gallery slices
    # that figures of the first run may show; then 2 queries and as many gallery slices.
    assert ahead(plan_of(), store) == [
        ("training learned-offset, 3 runs", 240 * 3 * 2.0),
        ("explaining 10 embeddings of learned-offset, 100 masks each", 1000 * 0.5),
        ("explaining 6 embeddings of brightness-mean, 100 masks each", 600 * 0.5),
    ]
    assert asked == ["whole learned-offset", "masked learned-offset", "masked brightness-mean"]


@pytest.mark.parametrize(
    ("scans", "asked", "embeddings"),
    [
        # Three figures with five slices each, of 20 gallery slices; ten queries show the organ.
        (10, None, 10 + 15),
        (10, (), 10),
        (10, ("q0-1",), 10 + 5),
        (10, ("q0-1", "q0-1", "q1-1"), 10 + 10),
        # A query that does not show the organ is explained for its figure alone.
        (10, ("q0-0",), 10 + 1 + 5),
        (1, None, 1 + 2),
    ],
)
def test_slices_that_figures_explain_count(
    store: Store,
    monkeypatch: pytest.MonkeyPatch,
    scans: int,
    asked: tuple[str, ...] | None,
    embeddings: int,
) -> None:
    timed(monkeypatch, 1.0)
    plan = plan_of(
        extractors=("brightness",),
        metrics=("coverage",),
        explain_queries=asked,
        assignments=(f"blobs.scans={scans}", "relax.masks=100"),
    )
    what = f"explaining {embeddings} embeddings of brightness-mean, 100 masks each"
    assert ahead(plan, store) == [(what, 100.0 * embeddings)]


def test_figures_without_a_metric_on_explanations(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = timed(monkeypatch, 1.0)
    plan = plan_of(
        extractors=("brightness",),
        metrics=("purity",),
        explain_queries=("q0-1",),
        assignments=("relax.masks=100",),
    )
    (stage,) = stages_ahead(plan, sets_of(plan), store, Notes())
    assert stage.seconds == (1 + 4) * 100.0
    assert stage.shrink == "--set relax.masks=N, --until-reliable R, or --explain-queries none"
    assert asked == ["masked brightness-mean"]


def test_without_a_metric_on_explanations_only_training_lies_ahead(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = timed(monkeypatch, 1.0)
    assert ahead(plan_of(metrics=("purity",), runs=1), store) == [("training learned-offset, 1 run", 240.0)]
    assert asked == ["whole learned-offset"]


def test_evaluating_while_training_counts(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    timed(monkeypatch, 1.0, masked=0.25)
    # Epochs 0, 2, 4, 6, 8 and 5, of each run 8 slices; at 0 and 5 two queries under 100 masks as well.
    assert ahead(plan_of(runs=2, eval_every=2, explain_every=5), store)[:2] == [
        ("training learned-offset, 2 runs", 2 * 80 * 3.0),
        ("evaluating learned-offset 12 times while it trains", 2 * (6 * 8 + 2 * 2 * 100 * 0.25)),
    ]


def keep(
    store: Store, plan: Plan, shaped_by: keys.ShapedBy, items: Sequence[CTSlice], masks: int = 100
) -> None:
    for item in items:
        arrays = {"similarities": np.zeros(masks)}
        store.write("similarities", keys.similarities(plan.relax, shaped_by, item), arrays)


def test_only_what_the_cache_lacks_counts(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = timed(monkeypatch, 1.0)
    plan = plan_of()
    gallery, queries = slices_of(plan)
    learned, plain = plan.contenders
    shown = [item for item in queries if item.shows_target]
    fresh = keys.untrained("cpu", learned, learned.make())
    trainings = [keys.weights(fresh, gallery, run_seed(0, run)) for run in range(3)]
    store.write("weights", trainings[0], {})
    keep(store, plan, keys.trained(trainings[0]), [*shown[:1], gallery[2]])
    keep(store, plan, keys.untrained("cpu", plain, plain.make()), [*shown, gallery[0]])
    assert ahead(plan, store) == [
        ("training learned-offset, 2 runs", 2 * 80 * 3.0),
        ("explaining 5 embeddings of learned-offset, 100 masks each", 500.0),
    ]
    assert asked == ["whole learned-offset", "masked learned-offset"]

    for key in trainings:
        store.write("weights", key, {})
        keep(store, plan, keys.trained(key), shown)
    assert ahead(plan, store) == []
    assert len(asked) == 2


def test_masks_that_are_added_to_cached_ones_count(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    timed(monkeypatch, 1.0)
    plan = plan_of(extractors=("brightness",), explain_queries=(), assignments=("relax.masks=100",))
    _, queries = slices_of(plan)
    shown = [item for item in queries if item.shows_target]
    (plain,) = plan.contenders
    keep(store, plan, keys.untrained("cpu", plain, plain.make()), shown[:1], masks=70)
    keep(store, plan, keys.untrained("cpu", plain, plain.make()), shown[1:], masks=300)
    assert ahead(plan, store) == [("explaining 1 embedding of brightness-mean, 100 masks each", 30.0)]
    # How many masks a map takes until it is reliable is not known; those in the cache most likely suffice.
    sparing = dataclasses.replace(plan, relax=plan.relax.model_copy(update={"until_reliable": 0.9}))
    assert ahead(sparing, store) == []


def test_after_the_run_nothing_lies_ahead(store: Store, tmp_path: Path) -> None:
    plan = plan_of(runs=1, metrics=("purity@1", "coverage"))
    execute(plan, tmp_path / "out", store, Loud(), "cbirbench run blobs")
    assert ahead(plan, store) == []
    assert (
        ahead(
            dataclasses.replace(plan, request=dataclasses.replace(plan.request, explain_queries=("q0-1",))),
            store,
        )
        == []
    )


def test_over_ten_minutes_are_announced(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    assert announced(plan_of(), store, monkeypatch, 9.0) == [
        "This run will take about 6 hours on this machine (cpu):",
        "  training learned-offset, 3 runs: about 108 minutes "
        "(less with --runs N, or the options of learned-offset)",
        "  explaining 10 embeddings of learned-offset, 100 masks each: about 2 hours (less with "
        "--set relax.masks=N, --until-reliable R, or --metrics without those on explanations)",
        "  explaining 6 embeddings of brightness-mean, 100 masks each: about 90 minutes (less with "
        "--set relax.masks=N, --until-reliable R, or --metrics without those on explanations)",
        "  Ctrl-C keeps what is finished; the same command goes on from there.",
    ]


@pytest.mark.parametrize(("seconds", "lines"), [(0.258, 0), (0.259, 5)])
def test_ten_minutes_in_all_are_the_border(
    store: Store, monkeypatch: pytest.MonkeyPatch, seconds: float, lines: int
) -> None:
    # 720 passes of training and 1600 of explaining: 2320 x .2586 s is ten minutes.
    assert len(announced(plan_of(), store, monkeypatch, seconds)) == lines


class Counted:
    """A contender whose extractor tells how many images it embeds at once, and takes no more than so many."""

    def __init__(self, plan: Plan, most: int = 1000) -> None:
        self.name = plan.contenders[1].name
        self.sizes: list[int] = []
        self._plain, self._most = plan.contenders[1], most

    def make(self) -> Any:
        extractor: Any = self._plain.make()
        plain = extractor.embed

        def embed(images: Any) -> Any:
            if len(images) > self._most:
                raise RuntimeError(
                    "DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes."
                )
            self.sizes.append(len(images))
            return plain(images)

        extractor.embed = embed
        return extractor


def test_times_real_batches() -> None:
    plan = plan_of()
    gallery, _ = slices_of(plan)
    contender = Counted(plan)
    seconds = seconds_per_image(plan, contender, gallery)  # type: ignore[arg-type]
    assert 0 < seconds < 1
    assert contender.sizes == [len(gallery)] * 3


@pytest.mark.parametrize(
    ("assignments", "most", "size"),
    [
        ((), 1000, MASKED_AT_ONCE),
        (("relax.batch_size=5",), 1000, 5),
        (("relax.batch_size=500",), 1000, MASKED_AT_ONCE),
        # Where explaining would halve its batches and go on, so does timing it.
        ((), 11, 8),
        ((), 1, 1),
    ],
)
def test_times_masked_images_in_batches_as_explanations_make_them(
    assignments: tuple[str, ...], most: int, size: int
) -> None:
    plan = plan_of(assignments=assignments)
    contender = Counted(plan, most)
    seconds = seconds_per_masked_image(plan, contender, slices_of(plan)[0])  # type: ignore[arg-type]
    assert 0 < seconds < 1
    assert contender.sizes == [size] * 3


def test_times_the_twin_that_embeds_masked_images() -> None:
    plan = plan_of(assignments=("relax.precision=bfloat16",))
    kind: Any = type(plan.contenders[1].make())
    seen: list[Any] = []

    class Twinned(kind, Explainable):  # type: ignore[misc]
        def embed(self, images: Any) -> Any:
            pytest.fail("not what embeds masked images")

        def for_explanation(self, precision: str) -> Any:
            seen.append(precision)
            return lambda images: seen.append(tuple(images.shape)) or images[:, 0, 0]

    contender = dataclasses.replace(plan.contenders[1])
    extractor = Twinned(contender.options, contender.context)
    object.__setattr__(contender, "make", lambda: extractor)
    assert 0 < seconds_per_masked_image(plan, contender, slices_of(plan)[0]) < 1
    assert seen == ["bfloat16", *[(MASKED_AT_ONCE, 1, 12, 12)] * 3]


def test_an_extractor_that_fails_while_it_is_timed_is_told_in_words() -> None:
    plan = plan_of()
    gallery, _ = slices_of(plan)
    contender: Any = Counted(plan, most=0)
    with pytest.raises(MissingError, match=r"brightness-mean ran out of memory while it was explained"):
        seconds_per_masked_image(plan, contender, gallery)

    class Broken(Counted):
        def make(self) -> Any:
            extractor = super().make()
            extractor.embed = lambda images: 1 / 0
            return extractor

    broken: Any = Broken(plan)
    with pytest.raises(PluginError, match=r"brightness-mean\.embed, of masked images, failed: ZeroDivision"):
        seconds_per_masked_image(plan, broken, gallery)
