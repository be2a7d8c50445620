"""The training loop: SimSiam by PyTorch Lightning, quiet, repeatable, and leaving no files."""

from __future__ import annotations

import logging
import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytorch_lightning as pl
import torch
from cbirbench_imagenet import Backbone, deterministic_convolutions
from lightly.loss import NegativeCosineSimilarity
from lightly.models.modules.heads import SimSiamPredictionHead, SimSiamProjectionHead
from pytorch_lightning.plugins.environments import LightningEnvironment
from torch import Tensor
from torch.nn.functional import normalize

from cbirbench.errors import CbirbenchError
from cbirbench.interfaces import Augmentation

PROJECTION = 2048
"""Width of the projector's layers and of its output (protocol: SimSiam as published)."""

BOTTLENECK = 512
"""Width of the predictor's hidden layer."""

PRECISIONS = {"float32": "32-true", "bfloat16": "bf16-mixed"}


class _Spread:
    """Standard deviation of L2-normalised vectors, mean over dimensions: 0 at collapse, at most 1/sqrt(d)."""

    def __init__(self) -> None:
        self._count = 0
        self._sum: Tensor | float = 0.0
        self._squares: Tensor | float = 0.0

    def add(self, vectors: Tensor) -> None:
        unit = normalize(vectors.detach().double(), dim=1)
        self._count += len(unit)
        self._sum = self._sum + unit.sum(dim=0)
        self._squares = self._squares + unit.square().sum(dim=0)

    def value(self) -> float:
        mean = torch.as_tensor(self._sum) / self._count
        variance = torch.as_tensor(self._squares) / self._count - mean.square()
        return float(variance.clamp(min=0).sqrt().mean())


class SimSiam(pl.LightningModule):  # type: ignore[misc]
    """One encoder, a projector and a predictor; two views, each a forward pass of its own.

    Args:
        backbone: The encoder, trained in place.
        augmentation: Makes the views.
        slices: Square slices, int16 HU, on the CPU.
        batch_size: Slices in a step; a last partial batch is dropped.
        learning_rate: Already scaled by the batch.
        momentum: Of SGD.
        weight_decay: On all weights.
        seed: Of the heads, the order of the slices and the views.
        advance: Called with 1 after each step.
    """

    def __init__(
        self,
        backbone: Backbone,
        augmentation: Augmentation,
        slices: Sequence[Tensor],
        *,
        batch_size: int,
        learning_rate: float,
        momentum: float,
        weight_decay: float,
        seed: int,
        advance: Callable[[int], None],
    ) -> None:
        super().__init__()
        self.rows: list[dict[str, float]] = []
        self.network = backbone.network
        self.projector = SimSiamProjectionHead(backbone.feature_count(), PROJECTION, PROJECTION)
        self.predictor = SimSiamPredictionHead(PROJECTION, BOTTLENECK, PROJECTION)
        self.loss = NegativeCosineSimilarity()
        self._backbone, self._augmentation, self._slices = backbone, augmentation, slices
        self._batch_size, self._advance = batch_size, advance
        self._sgd = (learning_rate, momentum, weight_decay)
        order_seed, view_seed = np.random.SeedSequence(seed).generate_state(2)
        self._order_draws = torch.Generator().manual_seed(int(order_seed))
        self._view_draws = torch.Generator().manual_seed(int(view_seed))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """SGD with a constant learning rate."""
        rate, momentum, decay = self._sgd
        return torch.optim.SGD(self.parameters(), lr=rate, momentum=momentum, weight_decay=decay)

    def on_train_epoch_start(self) -> None:
        """Draw the order of the slices."""
        self._order = torch.randperm(len(self._slices), generator=self._order_draws)
        self._loss_sum, self._embeddings, self._projections = 0.0, _Spread(), _Spread()

    def training_step(self, step: int) -> Tensor:
        """Train on one batch: the symmetric loss with the projections detached (equation 3)."""
        chosen = self._order[step * self._batch_size : (step + 1) * self._batch_size].tolist()
        hu = [self._slices[i].to(self.device) for i in chosen]
        parameters = self._augmentation.sample(len(hu), self._view_draws)
        first, second = self._augmentation.apply(hu, parameters, self._backbone.options.image_size)
        # Two passes: batch norm must never see the views together, or another method is trained.
        z1, p1 = self._pass(first)
        z2, p2 = self._pass(second)
        loss: Tensor = 0.5 * self.loss(p1, z2.detach()) + 0.5 * self.loss(p2, z1.detach())
        value = loss.item()
        if not math.isfinite(value):
            raise CbirbenchError(
                f"The SimSiam loss became {value} at step {step + 1} of epoch {self.current_epoch + 1}.",
                "Lower the learning rate, for example --set simsiam.learning_rate=0.01.",
            )
        self._loss_sum += value
        self._advance(1)
        return loss

    def _pass(self, view: Tensor) -> tuple[Tensor, Tensor]:
        embedding = self._backbone.features(view).float()
        projection = self.projector(embedding).float()
        self._embeddings.add(embedding)
        self._projections.add(projection)
        return projection, self.predictor(projection).float()

    def on_train_epoch_end(self) -> None:
        """Note the epoch's mean loss and how far the vectors are from collapse."""
        steps = len(self._slices) // self._batch_size
        self.rows.append(
            {
                "epoch": float(self.current_epoch + 1),
                "loss": self._loss_sum / steps,
                "embedding_std": self._embeddings.value(),
                "embedding_dim": float(self.projector.layers[0].in_features),
                "projection_std": self._projections.value(),
                "projection_dim": float(PROJECTION),
            }
        )


def train(
    module: SimSiam, *, steps: int, epochs: int, device: torch.device, precision: str, folder: Path
) -> None:
    """Run the training.

    Args:
        module: What to train, in place.
        steps: Steps in an epoch.
        epochs: Epochs.
        device: Where to train.
        precision: A key of `PRECISIONS`.
        folder: Where Lightning may write; it is asked to write nothing.

    Raises:
        KeyboardInterrupt: On Ctrl-C, which Lightning would turn into an exit.
    """
    with _quiet(), deterministic_convolutions(device):
        trainer = pl.Trainer(
            accelerator="gpu" if device.type == "cuda" else "cpu",
            devices=[device.index or 0] if device.type == "cuda" else 1,
            plugins=[LightningEnvironment()],  # one process, whatever scheduler this runs under
            precision=PRECISIONS[precision],
            max_epochs=epochs,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            default_root_dir=folder,
        )
        module.train()
        try:
            trainer.fit(module, train_dataloaders=range(steps))
        except SystemExit:
            if not trainer.interrupted:
                raise
        if trainer.interrupted:
            raise KeyboardInterrupt


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep Lightning's banners and hints off the terminal."""
    loggers = [logging.getLogger(name) for name in ("pytorch_lightning", "lightning_fabric")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"(pytorch_lightning|lightning_fabric)\b")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
