"""Trainings of plugins that do not keep to the interface, or are made again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from quiet import Quiet

from cbirbench.errors import DataError, MissingError, PluginError
from cbirbench.evaluation import run_once
from cbirbench.interfaces import TrainingRecord
from cbirbench.plan import Request
from cbirbench.planning import build
from cbirbench.query_sets import own_queries
from cbirbench.slices import Slices
from cbirbench.store import Store

pytestmark = pytest.mark.usefixtures("fake_plugins")


def outcome(store: Store, eval_every: int | None = None) -> Any:
    request = Request(
        "blobs",
        ("learned-offset",),
        ("purity",),
        runs=1,
        eval_every=eval_every,
        device="cpu",
        assignments=("learned.epochs=2", "purity.k=1"),
    )
    plan = build(request)
    items: dict[str, list[Any]] = {"gallery": [], "query": []}
    for source in plan.sources:
        items[source.split] += plan.benchmark.read(source)
    slices = [Slices(tuple(items[split])) for split in ("gallery", "query")]
    sets = [own_queries(plan, *slices)]
    return run_once(plan, plan.contenders[0], 0, sets, store.folder.parent / "out", store, Quiet())[0]


def fitting(monkeypatch: pytest.MonkeyPatch, fit: Callable[..., Any]) -> None:
    import cbirbench_fake

    monkeypatch.setattr(cbirbench_fake.LearnedOffset, "fit", fit)


@pytest.mark.parametrize(
    "record",
    [
        [{"epoch": 1.0, "loss": 0.5}],
        None,
        TrainingRecord([{"epoch": 1.0}]),
        TrainingRecord([{"epoch": 1.0, "loss": "low"}]),  # type: ignore[dict-item]
    ],
)
def test_a_training_without_a_proper_record_is_refused_and_not_kept(
    store: Store, monkeypatch: pytest.MonkeyPatch, record: Any
) -> None:
    with monkeypatch.context() as patch:
        fitting(patch, lambda self, slices, **_: record)
        with pytest.raises(PluginError, match=r"learned-offset\.fit must return a TrainingRecord"):
            outcome(store)
    assert outcome(store).training[-1]["loss"] == 0.5


def test_a_training_that_lets_nobody_look_is_refused_where_curves_are_wanted(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    fitting(monkeypatch, lambda self, slices, **_: TrainingRecord([{"epoch": 1.0, "loss": 0.5}]))
    with pytest.raises(PluginError, match=r"did not let its watcher look after the epochs 0, 1\."):
        outcome(store, eval_every=1)
    assert outcome(store).curve == []


@pytest.mark.parametrize(
    ("fault", "error", "says"),
    [
        (ZeroDivisionError("division by zero"), PluginError, r"fit failed: ZeroDivisionError: division"),
        (torch.OutOfMemoryError("CUDA out of memory"), MissingError, r"learned-offset ran out of GPU memory"),
        (DataError("Its list of names is empty.", "Give it some."), DataError, r"list of names is empty"),
    ],
)
def test_a_fault_in_training_is_told_in_words(
    store: Store, monkeypatch: pytest.MonkeyPatch, fault: Exception, error: type[Exception], says: str
) -> None:
    def failing(self: Any, slices: Slices, **_: Any) -> None:
        raise fault

    fitting(monkeypatch, failing)
    with pytest.raises(error, match=says):
        outcome(store)


def test_a_loss_that_is_no_number_comes_back_as_such(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    fitting(monkeypatch, lambda self, slices, **_: TrainingRecord([{"epoch": 1.0, "loss": float("nan")}], 3))
    for found in (outcome(store), outcome(store)):
        assert np.isnan(found.training[0]["loss"])
        assert found.resumed_from_epoch == 3


def test_a_training_repeated_for_its_curves_leaves_the_kept_weights(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Embeddings and maps in the cache came from them, and the repetition may differ in the last digit."""
    first = outcome(store)
    import cbirbench_fake

    real = cbirbench_fake.LearnedOffset.fit

    def elsewhere(self: Any, slices: Slices, **given: Any) -> TrainingRecord:
        record = real(self, slices, **given)
        self.offset = self.offset + 1e-6
        return record

    fitting(monkeypatch, elsewhere)
    again = outcome(store, eval_every=1)
    assert again.weights["offset"] == first.weights["offset"]
    assert [row["epoch"] for row in again.curve] == [0, 1, 2]
    assert outcome(store).weights["offset"] == first.weights["offset"]


def test_a_workspace_left_behind_by_a_finished_training_is_removed(store: Store) -> None:
    outcome(store)
    key = next((store.folder / "weights").rglob("*.safetensors")).stem
    (store.workspace(key) / "epoch-00001.ckpt").write_bytes(b"left by a process that was killed")
    outcome(store)
    assert not list((store.folder / "workspaces").iterdir())
