"""One training from its start, or from the checkpoint it was cut off after, to its end."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from cbirbench_imagenet import Backbone
from torch import Tensor

from cbirbench.errors import CbirbenchError, MissingError, UsageError
from cbirbench.interfaces import Augmentation, Progress, TrainingRecord, Watcher
from cbirbench.slices import Slices, pad_to_square
from cbirbench_simsiam.checkpoints import check_room, epoch_of, kept, latest
from cbirbench_simsiam.collapse import collapsed
from cbirbench_simsiam.training import SimSiam, ignore, train

if TYPE_CHECKING:
    from cbirbench_simsiam.extractor import SimSiamOptions


def check(options: SimSiamOptions, slice_count: int, device: torch.device) -> None:
    """Check what a training needs before it starts.

    Raises:
        UsageError: A batch takes more slices than there are, or cannot be shared by the devices.
        MissingError: There are fewer GPUs than asked for.
    """
    if options.batch_size > slice_count:
        raise UsageError(
            f"One SimSiam batch takes {options.batch_size} slices, and the gallery has {slice_count}.",
            f"Use --set simsiam.batch_size={max(2, slice_count // 2)} or a larger gallery.",
        )
    if options.devices == 1:
        return
    if options.batch_size % options.devices:
        raise UsageError(
            f"{options.devices} devices cannot share a batch of {options.batch_size} slices evenly.",
            "Make simsiam.batch_size a multiple of simsiam.devices.",
        )
    found = torch.cuda.device_count() if device.type == "cuda" else 0
    if found < options.devices:
        raise MissingError(
            f"simsiam.devices={options.devices} needs as many GPUs, and {found} can be used here.",
            "Use --set simsiam.devices=1: batch norm is synchronised between GPUs only, so nothing else can "
            "share a batch.",
        )


def fit(
    backbone: Backbone,
    augmentation: Augmentation,
    slices: Slices,
    options: SimSiamOptions,
    *,
    seed: int,
    workspace: Path,
    progress: Progress,
    watcher: Watcher,
) -> TrainingRecord:
    """Train a backbone in place; see `cbirbench.interfaces.Trainable.fit`.

    Raises:
        MissingError: The disk has no room for checkpoints.
        CbirbenchError: The loss is no longer finite, or the training was ended from outside.
    """
    device, network = backbone.device, backbone.network
    several = options.devices > 1
    after_epoch = _AfterEpoch(backbone, watcher, progress)
    batches = options.epochs * (len(slices) // options.batch_size)
    stage = progress.stage("Training SimSiam (batches)", batches)
    # Whatever draws from torch's global generators (heads, dropout) is seeded here and leaves no trace.
    with torch.random.fork_rng(devices=_gpus(device)), stage as advance:
        torch.manual_seed(seed)
        if backbone.untrained:
            progress.note("SimSiam starts from random weights, not from ImageNet.")
            backbone.randomise(seed)
        module = SimSiam(
            backbone,
            augmentation,
            _on_device(slices, torch.device("cpu") if several else device),
            batch_size=options.batch_size,
            learning_rate=options.learning_rate * options.batch_size / 256,
            momentum=options.momentum,
            weight_decay=options.weight_decay,
            seed=seed,
            # What is called in other processes cannot reach this one's terminal.
            advance=ignore if several else advance,
            after_epoch=ignore if several else after_epoch,
        )
        checkpoint = _usable_checkpoint(workspace, module, watcher, progress)
        check_room(workspace, module)
        resumed = None
        if checkpoint is None:
            after_epoch.look(0)
        else:
            resumed = epoch_of(checkpoint)
            progress.note(f"Training goes on after epoch {resumed} of {options.epochs}.")
            advance(resumed * module.steps)
            module.take_up_rows(checkpoint)
        # Processes of their own stop wherever this one has to look.
        stops = [epoch for epoch in range((resumed or 0) + 1, options.epochs) if watcher.wants(epoch)]
        try:
            for stop in [*stops, options.epochs] if several else [options.epochs]:
                network.requires_grad_(True)
                if several:
                    network.to("cpu")  # from a GPU it would be shared with the processes, not handed over
                train(
                    module,
                    epochs=stop,
                    device=device,
                    devices=options.devices,
                    precision=options.precision,
                    folder=workspace,
                    checkpoint_every=options.checkpoint_every,
                    checkpoint=checkpoint,
                )
                # Lightning moves what it trained to the CPU.
                network.to(device)
                if several:
                    before, checkpoint = len(module.rows), kept(workspace)[-1]
                    module.take_up_rows(checkpoint)
                    advance((len(module.rows) - before) * module.steps)
                    for row in module.rows[before:]:
                        after_epoch(row)
        finally:
            network.requires_grad_(False).eval().to(device)
            module.let_go()
    if len(module.rows) < options.epochs:
        raise CbirbenchError(
            f"The training ended after {len(module.rows)} of {options.epochs} epochs.",
            "Something stopped it from outside: run the same command again.",
        )
    return TrainingRecord(module.rows, resumed)


class _AfterEpoch:
    """What is done between two epochs: warn of collapse, once, and let the watcher look."""

    def __init__(self, backbone: Backbone, watcher: Watcher, progress: Progress) -> None:
        self._backbone, self._watcher, self._progress = backbone, watcher, progress
        self._warned = False

    def __call__(self, row: Mapping[str, float]) -> None:
        epoch = int(row["epoch"])
        deviation, dimension, rank = row["embedding_std"], row["embedding_dim"], row["embedding_rank"]
        if not self._warned and collapsed(deviation, dimension, rank):
            self._warned = True
            self._progress.note(
                f"SimSiam collapses: after epoch {epoch} its normalised embeddings deviate by "
                f"{deviation:.2g} ({1 / math.sqrt(dimension):.2g} when spread evenly), effective rank "
                f"{rank:.1f}. A lower learning rate or a larger batch may help."
            )
        self.look(epoch)

    def look(self, epoch: int) -> None:
        """Let the watcher look, where it wants to."""
        if self._watcher.wants(epoch):
            # The training goes on as if nobody had looked: same mode, same random numbers.
            with torch.random.fork_rng(devices=_gpus(self._backbone.device)):
                self._backbone.network.eval()
                self._watcher.look(epoch)
                self._backbone.network.train()


def _usable_checkpoint(workspace: Path, module: SimSiam, watcher: Watcher, progress: Progress) -> Path | None:
    """The newest sound checkpoint, unless the watcher wants an epoch that it would leave out."""
    found = kept(workspace)
    checkpoint = latest(workspace, module, progress)
    if found and checkpoint is None:
        progress.note("No checkpoint is left: the training starts anew.")
    if checkpoint is None or not any(map(watcher.wants, range(epoch_of(checkpoint) + 1))):
        return checkpoint
    progress.note("Epochs before the checkpoint are to be evaluated: the training starts anew.")
    for path in kept(workspace):
        path.unlink(missing_ok=True)
    return None


def _on_device(slices: Slices, device: torch.device) -> list[Tensor]:
    """Square slices, int16 HU, kept on the training's device where they take under half of what is free."""
    squares = [
        torch.from_numpy(np.require(pad_to_square(item.hu), requirements=["C", "W"])) for item in slices
    ]
    if device.type == "cuda" and sum(s.nbytes for s in squares) < torch.cuda.mem_get_info(device)[0] / 2:
        return [square.to(device) for square in squares]
    return squares


def _gpus(device: torch.device) -> list[torch.device]:
    return [device] if device.type == "cuda" else []
