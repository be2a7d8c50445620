from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from cbirbench import estimate, keys
from cbirbench.estimate import announce_long_work, seconds_per_image, spoken, stages_ahead
from cbirbench.interfaces import Progress
from cbirbench.plan import Plan, Request, run_seed
from cbirbench.planning import build
from cbirbench.slices import Slices
from cbirbench.store import Store

pytestmark = pytest.mark.usefixtures("fake_plugins")


class Notes:
    """Remembers what was said."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def note(self, text: str) -> None:
        self.texts.append(text)

    stage: Any = None


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
        assignments=("learned.epochs=10", "relax.masks=100"),
    )
    return build(dataclasses.replace(request, **changed))


def slices_of(plan: Plan) -> tuple[Slices, Slices]:
    """Four gallery slices; four queries, of which two show the organ."""
    items: dict[str, list[Any]] = {"gallery": [], "query": []}
    for source in plan.sources:
        items[source.split] += plan.benchmark.read(source)
    return Slices(tuple(items["gallery"])), Slices(tuple(items["query"]))


def announced(plan: Plan, store: Store, monkeypatch: pytest.MonkeyPatch, seconds: float) -> list[str]:
    monkeypatch.setattr(estimate, "seconds_per_image", lambda *arguments: seconds)
    notes = Notes()
    progress: Progress = notes
    announce_long_work(plan, *slices_of(plan), store, progress)
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
    monkeypatch.setattr(estimate, "seconds_per_image", lambda *arguments: 2.0)
    plan = plan_of()
    stages = stages_ahead(plan, *slices_of(plan), store, Notes())
    # 3 runs x 2 views x 10 epochs x 4 slices, 3 passes each; 3 runs x 2 queries x 100 masks; 2 x 100.
    assert [stage.seconds for stage in stages] == [240 * 3 * 2.0, 600 * 2.0, 200 * 2.0]
    assert [stage.what for stage in stages] == [
        "training learned-offset, 3 runs",
        "explaining 6 embeddings of learned-offset, 100 masks each",
        "explaining 2 embeddings of brightness-mean, 100 masks each",
    ]


def test_without_a_metric_on_explanations_only_training_lies_ahead(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(estimate, "seconds_per_image", lambda *arguments: 1.0)
    plan = plan_of(metrics=("purity",), runs=1)
    stages = stages_ahead(plan, *slices_of(plan), store, Notes())
    assert [(stage.what, stage.seconds) for stage in stages] == [("training learned-offset, 1 run", 240.0)]


def test_evaluating_while_training_counts(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(estimate, "seconds_per_image", lambda *arguments: 1.0)
    plan = plan_of(runs=2, eval_every=2, explain_every=5)
    stages = stages_ahead(plan, *slices_of(plan), store, Notes())
    # Epochs 0, 2, 4, 6, 8 and 5, of each run 8 slices; at 0 and 5 two queries under 100 masks as well.
    assert [(stage.what, stage.seconds) for stage in stages[:2]] == [
        ("training learned-offset, 2 runs", 2 * 80 * 3.0),
        ("evaluating learned-offset 12 times while it trains", 2 * (6 * 8 + 2 * 2 * 100.0)),
    ]


def test_only_what_the_cache_lacks_counts(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    timed: list[str] = []

    def timing(plan: Plan, contender: Any, slices: Slices) -> float:
        timed.append(contender.name)
        return 1.0

    monkeypatch.setattr(estimate, "seconds_per_image", timing)
    plan = plan_of()
    gallery, queries = slices_of(plan)
    learned, plain = plan.contenders
    shown = [item for item in queries if keys.explainable(item)]

    def keep_maps(shaped_by: keys.ShapedBy, items: list[Any]) -> None:
        for item in items:
            store.write("maps", keys.importance_map(plan, shaped_by, item), {})

    fresh = keys.untrained(plan, learned, learned.make())
    trainings = [keys.weights(fresh, gallery, run_seed(0, run)) for run in range(3)]
    store.write("weights", trainings[0], {})
    keep_maps(keys.trained(trainings[0]), shown[:1])
    keep_maps(keys.untrained(plan, plain, plain.make()), shown)
    stages = stages_ahead(plan, gallery, queries, store, Notes())
    assert [(stage.what, stage.seconds) for stage in stages] == [
        ("training learned-offset, 2 runs", 2 * 80 * 3.0),
        ("explaining 5 embeddings of learned-offset, 100 masks each", 500.0),
    ]
    assert timed == ["learned-offset"]

    for key in trainings:
        store.write("weights", key, {})
        keep_maps(keys.trained(key), shown)
    assert stages_ahead(plan, gallery, queries, store, Notes()) == []
    assert timed == ["learned-offset"]


def test_over_ten_minutes_are_announced(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    assert announced(plan_of(), store, monkeypatch, 9.0) == [
        "This run will take about 4 hours on this machine (cpu):",
        "  training learned-offset, 3 runs: about 108 minutes "
        "(less with --runs N, or the options of learned-offset)",
        "  explaining 6 embeddings of learned-offset, 100 masks each: about 90 minutes "
        "(less with --set relax.masks=N, or --metrics without relevance-rank)",
        "  explaining 2 embeddings of brightness-mean, 100 masks each: about 30 minutes "
        "(less with --set relax.masks=N, or --metrics without relevance-rank)",
        "  Ctrl-C keeps what is finished; the same command goes on from there.",
    ]


@pytest.mark.parametrize(("seconds", "lines"), [(0.39, 0), (0.4, 5)])
def test_ten_minutes_in_all_are_the_border(
    store: Store, monkeypatch: pytest.MonkeyPatch, seconds: float, lines: int
) -> None:
    # 720 passes of training and 800 of explaining: 1520 x .395 s is ten minutes.
    assert len(announced(plan_of(), store, monkeypatch, seconds)) == lines


def test_times_real_batches() -> None:
    plan = plan_of()
    gallery, _ = slices_of(plan)
    embedded: list[int] = []
    contender = plan.contenders[1]

    class Counting:
        def make(self) -> Any:
            extractor = contender.make()
            plain = extractor.embed

            def embed(images: Any) -> Any:
                embedded.append(len(images))
                return plain(images)

            extractor.embed = embed  # type: ignore[method-assign]
            return extractor

        name = contender.name

    seconds = seconds_per_image(plan, Counting(), gallery)  # type: ignore[arg-type]
    assert 0 < seconds < 1
    assert embedded == [len(gallery)] * 3
