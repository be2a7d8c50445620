"""`simsiam-baseline` and `simsiam-hu-clip`: one trained extractor, two ways of making its views."""

from __future__ import annotations

import gc
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import ClassVar, Literal

from cbirbench_imagenet import Backbone, BackboneOptions
from torch import Tensor

from cbirbench.interfaces import (
    Context,
    Explainable,
    Json,
    Options,
    Precision,
    Progress,
    Trainable,
    TrainingRecord,
    Watcher,
    option,
)
from cbirbench.slices import Slices


class SimSiamOptions(BackboneOptions):
    """Options of both extractors; ``--set simsiam.OPTION=VALUE`` sets them for both."""

    family = "simsiam"

    epochs: int = option(250, description="Passes over the gallery.", unit="epochs", source="section 8", ge=1)
    batch_size: int = option(
        32,
        description="Slices in a training step; a last partial batch is dropped.",
        unit="slices",
        source="section 8",
        ge=2,
    )
    learning_rate: float = option(
        0.05,
        description="Base learning rate, constant; SGD takes it times batch_size/256.",
        source="section 8",
        gt=0,
    )
    momentum: float = option(0.9, description="Momentum of SGD.", source="section 8", ge=0, lt=1)
    weight_decay: float = option(1e-4, description="Weight decay of SGD.", source="section 8", ge=0)
    precision: Literal["float32", "bfloat16"] = option(
        "float32",
        description="Arithmetic of the training, bfloat16 being mixed; embeddings are float32 either way.",
    )
    devices: int = option(
        1,
        description="GPUs that share each batch, batch norm synchronised; a batch of 32 gains little by it.",
        protocol=False,
        ge=1,
    )
    checkpoint_every: int = option(
        5,
        description="Epochs between checkpoints, from which an interrupted training goes on.",
        unit="epochs",
        result=False,
        ge=1,
    )


class SimSiamExtractor(Trainable, Explainable):
    """A backbone that SimSiam trains on the gallery; the heads are dropped and the backbone is evaluated.

    A subclass names its augmentation; that is all in which two such extractors differ.
    """

    interface_version: ClassVar[int] = 1
    options_type: ClassVar[type[Options]] = SimSiamOptions
    augmentation_name: ClassVar[str]

    def __init__(self, options: SimSiamOptions, context: Context) -> None:
        self._options = options
        self._augmentation = context.augmentation(self.augmentation_name)
        self._backbone = Backbone(options, context.device, SimSiamOptions.family)
        self._start = self._backbone.state()

    def fingerprint(self) -> Mapping[str, Json]:
        """The weights that training starts from, the normalisation, and the views."""
        return {
            **self._backbone.fingerprint(),
            "augmentation": self.augmentation_name,
            "views": self._augmentation.fingerprint(),
        }

    def prepare(self, hu: Tensor) -> Tensor:
        """Window and resize: one channel in 0..1."""
        return self._backbone.prepare(hu)

    def embed(self, images: Tensor) -> Tensor:
        """Pooled features of the backbone: trained ones after `fit` or `load_weights`."""
        return self._backbone.embed(images)

    def for_explanation(self, precision: Precision) -> Callable[[Tensor], Tensor]:
        """The same from a copy of the backbone as it is now, with its batch norms folded."""
        return self._backbone.for_explanation(precision)

    @property
    def epochs(self) -> int:
        """Passes over the gallery."""
        return self._options.epochs

    def fit(
        self, slices: Slices, *, seed: int, workspace: Path, progress: Progress, watcher: Watcher
    ) -> TrainingRecord:
        """Train from the starting weights, whatever was trained before, or from a checkpoint in `workspace`.

        With ``weights=random`` the start itself is drawn from `seed`.

        Returns:
            One row an epoch: ``epoch`` (from 1), the mean ``loss``, and ``embedding_std``: the standard
            deviation of the L2-normalised embeddings in training, averaged over their ``embedding_dim``
            dimensions, near 0 when they collapse to one vector and at most ``1/sqrt(embedding_dim)``;
            ``embedding_rank`` is their effective rank. ``projection_std`` and ``projection_dim`` say the same
            of the projector's output. All of these are those of the view nearer to collapse.

        Raises:
            UsageError: A batch takes more slices than there are.
            MissingError: The disk has no room for checkpoints, or there are fewer GPUs than asked for.
            CbirbenchError: The loss is no longer finite.
        """
        from cbirbench_simsiam import fitting

        fitting.check(self._options, len(slices), self._backbone.device)
        self._reset()
        try:
            return fitting.fit(
                self._backbone,
                self._augmentation,
                slices,
                self._options,
                seed=seed,
                workspace=workspace,
                progress=progress,
                watcher=watcher,
            )
        except BaseException:
            self._reset()
            raise
        finally:
            gc.collect()  # Lightning's trainer holds itself, and the momentum of every weight with it

    def training_views(self, slice_count: int) -> int:
        """Two views of each slice in each whole batch of each epoch.

        Raises:
            UsageError: A batch takes more slices than there are.
            MissingError: There are fewer GPUs than asked for.
        """
        from cbirbench_simsiam import fitting

        fitting.check(self._options, slice_count, self._backbone.device)
        batch = self._options.batch_size
        return 2 * self._options.epochs * (slice_count // batch) * batch

    def weights(self) -> Mapping[str, Tensor]:
        """The backbone's weights, on the CPU; the heads are not evaluated and not kept."""
        return self._backbone.state()

    def load_weights(self, weights: Mapping[str, Tensor]) -> None:
        """Take up a backbone's weights, all of them.

        Raises:
            UsageError: They belong to another backbone.
        """
        self._backbone.load_state(weights, origin="the trained checkpoint")

    def _reset(self) -> None:
        self._backbone.load_state(self._start, origin="the start")


class SimSiamBaseline(SimSiamExtractor):
    """Standard SimSiam: both views show the wide window."""

    augmentation_name = "wide-window"


class SimSiamHUClip(SimSiamExtractor):
    """The paper's method: one view shows the wide window, the other the narrow one (section 3.1)."""

    augmentation_name = "hu-clip"
