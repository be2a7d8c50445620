"""The training loop: SimSiam by PyTorch Lightning, quiet, repeatable, going on where it was stopped."""

from __future__ import annotations

import logging
import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from cbirbench_imagenet import Backbone, deterministic_convolutions
from lightly.loss import NegativeCosineSimilarity
from lightly.models.modules.heads import SimSiamPredictionHead, SimSiamProjectionHead
from pytorch_lightning.plugins.environments import LightningEnvironment
from pytorch_lightning.plugins.layer_sync import TorchSyncBatchNorm
from timm.layers import convert_sync_batchnorm
from torch import Tensor, nn
from torch.multiprocessing.spawn import ProcessException

from cbirbench.errors import CbirbenchError
from cbirbench.interfaces import Augmentation
from cbirbench_simsiam.checkpoints import EveryFewEpochs, WholeCheckpoints
from cbirbench_simsiam.collapse import Spread

PROJECTION = 2048
"""Width of the projector's layers and of its output (protocol: SimSiam as published)."""

BOTTLENECK = 512
"""Width of the predictor's hidden layer."""

PRECISIONS = {"float32": "32-true", "bfloat16": "bf16-mixed"}


class _SyncBatchNorm(TorchSyncBatchNorm):  # type: ignore[misc]
    """Synchronised batch norm that keeps the activation which timm's own layers hold; torch's drops it."""

    def apply(self, model: nn.Module) -> nn.Module:
        """Convert every batch norm of a model."""
        converted: nn.Module = convert_sync_batchnorm(model)
        return converted


def ignore(done: object) -> None:
    """Report nothing."""


class SimSiam(pl.LightningModule):  # type: ignore[misc]
    """One encoder, a projector and a predictor; two views, each a forward pass of its own.

    Args:
        backbone: The encoder, trained in place.
        augmentation: Makes the views.
        slices: Square slices, int16 HU, best on the device of the training.
        batch_size: Slices in a step; a last partial batch is dropped.
        learning_rate: Already scaled by the batch.
        momentum: Of SGD.
        weight_decay: On all weights.
        seed: Of the heads, the order of the slices and the views.
        advance: Called with 1 after each step.
        after_epoch: Called after each epoch with its row; the checkpoint is written after that.
    """

    trainer: Any

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
        after_epoch: Callable[[dict[str, float]], None],
    ) -> None:
        super().__init__()
        self.rows: list[dict[str, float]] = []
        self.network = backbone.network
        self.projector = SimSiamProjectionHead(backbone.feature_count(), PROJECTION, PROJECTION)
        self.predictor = SimSiamPredictionHead(PROJECTION, BOTTLENECK, PROJECTION)
        self.loss = NegativeCosineSimilarity()
        self._backbone, self._augmentation, self._slices = backbone, augmentation, slices
        self._batch_size, self._advance, self._after_epoch = batch_size, advance, after_epoch
        self._sgd = (learning_rate, momentum, weight_decay)
        order_seed, view_seed = np.random.SeedSequence(seed).generate_state(2)
        self._order_draws = torch.Generator().manual_seed(int(order_seed))
        self._view_draws = torch.Generator().manual_seed(int(view_seed))

    @property
    def steps(self) -> int:
        """Steps in an epoch."""
        return len(self._slices) // self._batch_size

    def on_fit_start(self) -> None:
        """Bring what `deterministic_convolutions` sets into a process that Lightning started."""
        if self.trainer.world_size > 1 and self.device.type == "cuda":
            torch.backends.cudnn.benchmark = False
            torch.backends.cudnn.deterministic = True
            torch.backends.cudnn.allow_tf32 = False

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """SGD with a constant learning rate."""
        rate, momentum, decay = self._sgd
        return torch.optim.SGD(self.parameters(), lr=rate, momentum=momentum, weight_decay=decay)

    def on_train_epoch_start(self) -> None:
        """Draw the order of the slices."""
        self._order = torch.randperm(len(self._slices), generator=self._order_draws)
        # One for each view: two windows lie apart, and would hide that all slices of one of them are alike.
        self._embeddings, self._projections = (Spread(), Spread()), (Spread(), Spread())
        self._losses: list[Tensor] = []

    def training_step(self, step: int) -> Tensor:
        """Train on one batch: the symmetric loss with the projections detached (equation 3)."""
        chosen = self._order[step * self._batch_size : (step + 1) * self._batch_size].tolist()
        parameters = self._augmentation.sample(len(chosen), self._view_draws)
        # Several devices draw alike, and each takes its share of the batch.
        rank, devices = self.trainer.global_rank, self.trainer.world_size
        hu = [self._slices[i].to(self.device, non_blocking=True) for i in chosen[rank::devices]]
        parameters = {name: rows[rank::devices] for name, rows in parameters.items()}
        first, second = self._augmentation.apply(hu, parameters, self._backbone.options.image_size)
        # Two passes: batch norm must never see the views together, or another method is trained.
        z1, p1 = self._pass(0, first)
        z2, p2 = self._pass(1, second)
        loss: Tensor = 0.5 * self.loss(p1, z2.detach()) + 0.5 * self.loss(p2, z1.detach())
        self._losses.append(loss.detach())
        # Reading a loss makes a GPU wait for it: there, an epoch's are read together at its end.
        if self.device.type == "cpu":
            self._check(len(self._losses) - 1, loss.item())
        self._advance(1)
        return loss

    def _pass(self, view: int, images: Tensor) -> tuple[Tensor, Tensor]:
        embedding = self._backbone.features(images).float()
        projection = self.projector(embedding).float()
        self._embeddings[view].add(embedding)
        self._projections[view].add(projection)
        return projection, self.predictor(projection).float()

    def _check(self, step: int, loss: float) -> None:
        if not math.isfinite(loss):
            kept = f"What was kept after epoch {self.current_epoch} or before stays. " if self.rows else ""
            raise CbirbenchError(
                f"The SimSiam loss became {loss} at step {step + 1} of epoch {self.current_epoch + 1}.",
                f"{kept}Lower the learning rate, for example --set simsiam.learning_rate=0.01.",
            )

    def on_train_epoch_end(self) -> None:
        """Note the epoch's mean loss and how far the vectors are from collapse, in the view nearer to it."""
        losses = torch.stack(self._losses).double().tolist()
        for step, loss in enumerate(losses):
            self._check(step, loss)
        row = {
            "epoch": float(self.current_epoch + 1),
            "loss": sum(losses) / len(losses),
            "embedding_std": min(spread.deviation() for spread in self._embeddings),
            "embedding_dim": float(self.projector.layers[0].in_features),
            "embedding_rank": min(spread.effective_rank() for spread in self._embeddings),
            "projection_std": min(spread.deviation() for spread in self._projections),
            "projection_dim": float(PROJECTION),
        }
        self.rows.append(row)
        self._after_epoch(row)

    def let_go(self) -> None:
        """Drop slices, gradients and callbacks: module and trainer hold each other, and stay a while."""
        self._slices = ()
        self._advance = self._after_epoch = ignore
        self.zero_grad(set_to_none=True)
        self.trainer = None

    def take_up_rows(self, checkpoint: Path) -> None:
        """Take the rows from a checkpoint: training in other processes brings only the weights back."""
        content = torch.load(checkpoint, map_location="cpu", weights_only=True, mmap=True)
        self.rows = list(content["simsiam"]["rows"])

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add what Lightning does not know of: the rows, and the state of every source of randomness."""
        cuda = self.device.type == "cuda"
        checkpoint["simsiam"] = {
            "rows": self.rows,
            "order": self._order_draws.get_state(),
            "views": self._view_draws.get_state(),
            "torch": torch.get_rng_state(),
            "cuda": torch.cuda.get_rng_state(self.device) if cuda else None,
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take all of it up again."""
        state = checkpoint["simsiam"]
        self.rows = list(state["rows"])
        self._order_draws.set_state(state["order"])
        self._view_draws.set_state(state["views"])
        torch.set_rng_state(state["torch"])
        if state["cuda"] is not None and self._backbone.device.type == "cuda":
            torch.cuda.set_rng_state(state["cuda"], self._backbone.device)


def train(
    module: SimSiam,
    *,
    epochs: int,
    device: torch.device,
    devices: int,
    precision: str,
    folder: Path,
    checkpoint_every: int,
    checkpoint: Path | None,
) -> None:
    """Run the training, or go on with one.

    Args:
        module: What to train, in place.
        epochs: Epochs, those before the checkpoint included.
        device: Where to train.
        devices: How many of its kind share each batch. Several train in processes of their own (Lightning's
            ``ddp_spawn``), so that the module has to pickle; batch norm is synchronised between GPUs.
        precision: A key of `PRECISIONS`.
        folder: Where checkpoints go.
        checkpoint_every: Epochs from one checkpoint to the next; the last epoch has one in any case.
        checkpoint: The checkpoint to go on from.

    Raises:
        KeyboardInterrupt: On Ctrl-C, which Lightning would turn into an exit.
        MissingError: A checkpoint cannot be written.
        CbirbenchError: One of several processes failed.

    With several devices, the rows are those of the first one's share of each batch.
    """
    cuda, several = device.type == "cuda", devices > 1
    with _quiet(), deterministic_convolutions(device), _sharing_by_file(several):
        # Whatever scheduler this runs under, it starts its processes itself.
        trainer = pl.Trainer(
            accelerator="gpu" if cuda else "cpu",
            devices=devices if several or not cuda else [device.index or 0],
            strategy="ddp_spawn" if several else "auto",
            plugins=[
                LightningEnvironment(),
                WholeCheckpoints(),
                *([_SyncBatchNorm()] if several and cuda else []),
            ],
            callbacks=[EveryFewEpochs(folder, checkpoint_every)],
            precision=PRECISIONS[precision],
            max_epochs=epochs,
            logger=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            default_root_dir=folder,
        )
        module.train()
        try:
            trainer.fit(module, train_dataloaders=list(range(module.steps)), ckpt_path=checkpoint)
        except SystemExit:
            if not trainer.interrupted:
                raise
        except ProcessException as error:
            raise CbirbenchError(
                f"One of {devices} training processes failed: {str(error).strip().splitlines()[-1]}",
                "If nothing above says how to mend it, train on one device: --set simsiam.devices=1.",
            ) from error
        if trainer.interrupted:
            raise KeyboardInterrupt


@contextmanager
def _sharing_by_file(several: bool) -> Iterator[None]:
    """Hand tensors to other processes by file: by descriptor, one that occurs twice cannot be handed over."""
    before = torch.multiprocessing.get_sharing_strategy()  # type: ignore[no-untyped-call]
    if several:
        torch.multiprocessing.set_sharing_strategy("file_system")  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        torch.multiprocessing.set_sharing_strategy(before)  # type: ignore[no-untyped-call]


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
