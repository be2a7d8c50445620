"""One small plugin of every kind but a benchmark, for tests of the core."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from cbirbench.errors import DataError
from cbirbench.interfaces import (
    Context,
    Evidence,
    Json,
    Need,
    Options,
    Progress,
    Trainable,
    TrainingRecord,
    Watcher,
    option,
)
from cbirbench.slices import Slices


class BrightnessOptions(Options):
    window: tuple[float, float] = option((-200.0, 300.0), description="Window.", unit="HU")
    threads: int = option(1, description="Threads.", protocol=False)


class BrightnessMean:
    """Mean brightness of the rows."""

    interface_version: ClassVar[int] = 1
    options_type: ClassVar[type[Options]] = BrightnessOptions

    def __init__(self, options: BrightnessOptions, context: Context) -> None:
        self.options = options

    def fingerprint(self) -> Mapping[str, Json]:
        return {}

    def prepare(self, hu: Tensor) -> Tensor:
        low, high = self.options.window
        return ((hu.float() - low) / (high - low)).clamp(0, 1).unsqueeze(1)

    def embed(self, images: Tensor) -> Tensor:
        return images.mean(dim=(1, 3))


class LearnedOptions(Options):
    family: ClassVar[str] = "learned"
    epochs: int = option(
        250, ge=1, description="Passes over the gallery.", profiles={"released-code": 200}, unit="epochs"
    )
    weights: str = option("random", description="Starting weights.")
    log_every: int = option(1, description="Epochs between lines of a log.", result=False)


class LearnedOffset(BrightnessMean, Trainable):
    """Brightness less what `fit` learned; asks for an augmentation by name."""

    interface_version: ClassVar[int] = 1
    options_type: ClassVar[type[Options]] = LearnedOptions

    def __init__(self, options: LearnedOptions, context: Context) -> None:
        if options.weights == "absent":
            raise DataError("The weights 'absent' are not there.", "Give others.")
        self.learned = options
        self.views = context.augmentation("mirroring")
        self.offset = torch.zeros(())
        super().__init__(BrightnessOptions(), context)

    def fingerprint(self) -> Mapping[str, Json]:
        return {"views": dict(self.views.fingerprint())}

    def embed(self, images: Tensor) -> Tensor:
        return super().embed(images) - self.offset

    @property
    def epochs(self) -> int:
        return self.learned.epochs

    def fit(
        self, slices: Slices, *, seed: int, workspace: Path, progress: Progress, watcher: Watcher
    ) -> TrainingRecord:
        rows = []
        for epoch in range(self.epochs + 1):
            self.offset = torch.tensor(seed % 97 / 97 * epoch / self.epochs)
            if epoch:
                rows.append({"epoch": float(epoch), "loss": 1.0 / epoch})
            if watcher.wants(epoch):
                watcher.look(epoch)
        return TrainingRecord(rows)

    def training_views(self, slice_count: int) -> int:
        return 2 * self.learned.epochs * slice_count

    def weights(self) -> Mapping[str, Tensor]:
        return {"offset": self.offset}

    def load_weights(self, weights: Mapping[str, Tensor]) -> None:
        self.offset = weights["offset"]


class MirroringOptions(Options):
    chance: float = option(0.5, ge=0, le=1, description="Probability that a view is mirrored.")


class Mirroring:
    interface_version: ClassVar[int] = 1
    options_type: ClassVar[type[Options]] = MirroringOptions

    def __init__(self, options: MirroringOptions) -> None:
        self.options = options

    def fingerprint(self) -> Mapping[str, Json]:
        return {"chance": self.options.chance}

    def sample(self, count: int, generator: torch.Generator) -> Mapping[str, Tensor]:
        return {"mirrored": torch.rand(count, 2, generator=generator) < self.options.chance}

    def apply(
        self, hu: Sequence[Tensor], parameters: Mapping[str, Tensor], size: int
    ) -> tuple[Tensor, Tensor]:
        views = torch.zeros(2, len(hu), 1, size, size)
        return views[0], views[1]


class PurityOptions(Options):
    k: int = option(5, ge=1, description="Neighbours looked at.")


class Purity:
    interface_version: ClassVar[int] = 1
    options_type: ClassVar[type[Options]] = PurityOptions
    needs: ClassVar[Need] = "ranking"

    def __init__(self, options: PurityOptions) -> None:
        self.options = options

    @property
    def name(self) -> str:
        return f"purity@{self.options.k}"

    @property
    def depth(self) -> int:
        return self.options.k

    def per_query(self, evidence: Evidence) -> Any:
        nearest = evidence.gallery_labels[evidence.neighbours[:, : self.options.k]]
        return (nearest == evidence.query_labels[:, None]).mean(axis=1)


class CoverageOptions(Options):
    """None."""


class Coverage:
    interface_version: ClassVar[int] = 1
    options_type: ClassVar[type[Options]] = CoverageOptions
    needs: ClassVar[Need] = "explanations"
    name = "coverage"
    depth = 0

    def __init__(self, options: CoverageOptions) -> None:
        self.options = options

    def per_query(self, evidence: Evidence) -> Any:
        return np.array([np.nan if found is None else float(found.mean()) for found in evidence.maps])
