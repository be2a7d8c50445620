"""Every check of trainings catches a training that is wrong in just that way."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from cbirbench.errors import UsageError
from cbirbench.interfaces import Options, Plugin, Progress, Trainable, TrainingRecord, Watcher, option
from cbirbench.slices import Slices
from cbirbench.windows import wide_window_images


class LearnerOptions(Options):
    batch: int = option(10, description="Slices a step.", ge=1)


class Learner(Plugin, Trainable):
    """Pooled means times a vector, which takes a step towards the batch's mean, with noise from the seed."""

    interface_version = 1
    options_type = LearnerOptions
    epochs = 3

    def __init__(self, options: Any, context: Any) -> None:
        super().__init__(options, context)
        self.factors = torch.ones(16)

    def fingerprint(self) -> Mapping[str, Any]:
        return {"weights": "ones"}

    def prepare(self, hu: Tensor) -> Tensor:
        return wide_window_images(hu, 16)

    def embed(self, images: Tensor) -> Tensor:
        return torch.nn.functional.adaptive_avg_pool2d(images, 4).flatten(1) * self.factors

    def training_views(self, slice_count: int) -> int:
        if slice_count < self.options.batch:
            raise UsageError(f"A batch takes {self.options.batch} slices.", "Take fewer.")
        return 2 * self.epochs * slice_count

    def fit(
        self, slices: Slices, *, seed: int, workspace: Path, progress: Progress, watcher: Watcher
    ) -> TrainingRecord:
        generator = self.generator(seed)
        rows = []
        for epoch in range(self.epochs + 1):
            if epoch:
                self.step(slices, generator)
                rows.append({"epoch": epoch, "loss": 1 / epoch})
            if watcher.wants(epoch):
                watcher.look(epoch)
        return self.record(rows)

    def generator(self, seed: int) -> torch.Generator:
        return torch.Generator().manual_seed(seed)

    def step(self, slices: Slices, generator: torch.Generator) -> None:
        hu = torch.stack([torch.from_numpy(item.hu) for item in slices])
        pooled = torch.nn.functional.adaptive_avg_pool2d(self.prepare(hu), 4).flatten(1).mean(0)
        self.factors = self.factors + 0.1 * pooled + 0.01 * torch.rand(16, generator=generator)

    def record(self, rows: list[dict[str, float]]) -> Any:
        return TrainingRecord(rows)

    def weights(self) -> Mapping[str, Tensor]:
        return {"factors": self.factors.clone()}

    def load_weights(self, weights: Mapping[str, Tensor]) -> None:
        self.factors = weights["factors"].clone()


class NoEpochs(Learner):
    epochs = 0


class NoViews(Learner):
    def training_views(self, slice_count: int) -> int:
        return 0


class TakesNoGallery(Learner):
    def training_views(self, slice_count: int) -> int:
        raise UsageError("A batch takes 1000 slices.", "Take fewer.")


class FitRaises(Learner):
    def step(self, slices: Slices, generator: torch.Generator) -> None:
        raise ZeroDivisionError("no batch")


class NoRecord(Learner):
    def record(self, rows: list[dict[str, float]]) -> Any:
        return rows


class LosesAnEpoch(Learner):
    def record(self, rows: list[dict[str, float]]) -> Any:
        return TrainingRecord(rows[1:])


class LossIsNaN(Learner):
    def record(self, rows: list[dict[str, float]]) -> Any:
        return TrainingRecord([{**row, "loss": float("nan")} for row in rows])


class GlobalRandomness(Learner):
    def generator(self, seed: int) -> Any:
        return None  # torch's own


class LooksAtLabels(Learner):
    def step(self, slices: Slices, generator: torch.Generator) -> None:
        super().step(Slices(tuple(item for item in slices if item.label)), generator)


class NeedsMasks(Learner):
    def step(self, slices: Slices, generator: torch.Generator) -> None:
        assert all(item.mask is not None for item in slices)
        super().step(slices, generator)


class NeverLooks(Learner):
    def fit(self, slices: Slices, **given: Any) -> TrainingRecord:
        given["watcher"] = Unasked()
        return super().fit(slices, **given)


class Unasked:
    def wants(self, epoch: int) -> bool:
        return False

    def look(self, epoch: int) -> None: ...


class LooksMoveIt(Learner):
    def embed(self, images: Tensor) -> Tensor:
        found = super().embed(images)
        self.factors = self.factors * 1.001
        return found


class ForgetsHalf(Learner):
    def __init__(self, options: Any, context: Any) -> None:
        super().__init__(options, context)
        self.seen = 0.0

    def step(self, slices: Slices, generator: torch.Generator) -> None:
        super().step(slices, generator)
        self.seen += 1

    def embed(self, images: Tensor) -> Tensor:
        return super().embed(images) + self.seen


class NumpyWeights(Learner):
    def weights(self) -> Any:
        return {"factors": self.factors.numpy()}


FAULTS: list[tuple[str, type[Any], str]] = [
    ("training_cost", NoEpochs, "epochs is 0"),
    ("training_cost", NoViews, "training_views(8) gives 0"),
    ("training_cost", TakesNoGallery, "A batch takes 1000 slices"),
    ("training", FitRaises, "subject.fit raised ZeroDivisionError: no batch (at test_training.py:"),
    ("training", NoRecord, "fit gives list"),
    ("training", LosesAnEpoch, "has the epochs [2, 3], and epochs is 3"),
    ("training", LossIsNaN, "losses [nan, nan, nan]"),
    ("training", NumpyWeights, "something else than named tensors"),
    ("training_repeats", GlobalRandomness, "in 1 of 1 tensors (factors)"),
    ("training_watched", NeverLooks, "wants the epochs 0 to 3 and looked at []"),
    ("training_watched", LooksMoveIt, "Watched, a training ends with other weights"),
    ("training_blind", LooksAtLabels, "With other labels and no masks"),
    ("training_blind", NeedsMasks, "Without masks and with other labels its training fails"),
    ("training_weights", ForgetsHalf, "embeds otherwise than the trained one"),
]


@pytest.mark.parametrize(
    ("check", "faulty", "found"), FAULTS, ids=lambda value: getattr(value, "__name__", "")
)
def test_a_fault_is_found(caught: Any, check: str, faulty: type[Any], found: str) -> None:
    caught("extractor", check, faulty, found)


def test_a_sound_training_passes_on_as_many_slices_as_it_takes(every_verdict: Any) -> None:
    verdicts = every_verdict("extractor", Learner)
    assert [str(verdict) for verdict in verdicts.values() if verdict.outcome == "failed"] == []
    assert verdicts["training_cost"].found == "3 epochs, 96 views of 16 slices"
    assert verdicts["training"].found == "3 epochs on 16 slices, loss 1 to 0.333"
    assert verdicts["training_weights"].outcome == "passed"


def test_a_training_that_fails_is_told_once(every_verdict: Any) -> None:
    verdicts = every_verdict("extractor", FitRaises)
    assert [name for name, verdict in verdicts.items() if verdict.outcome == "failed"] == ["training"]
    assert verdicts["training_repeats"].found == "Its training fails: see training."
