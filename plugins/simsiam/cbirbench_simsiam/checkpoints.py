"""Checkpoints of a training under way: written whole, never unpickled, checked before they are taken up."""

from __future__ import annotations

import os
import re
import shutil
import zipfile
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import Checkpoint
from pytorch_lightning.plugins.io import TorchCheckpointIO

from cbirbench.errors import MissingError
from cbirbench.interfaces import Progress

REMEDY = (
    "Make room there (`cbirbench cache` shows what the cache holds), or set CBIRBENCH_CACHE to a folder on a "
    "larger disk; the same command then goes on from the last checkpoint."
)


class WholeCheckpoints(TorchCheckpointIO):  # type: ignore[misc]
    """Writes a checkpoint to a temporary name and renames it; reads tensors and plain values only."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Write a checkpoint whole or not at all.

        Raises:
            MissingError: The disk does not take it.
        """
        target = Path(path)
        temporary = target.with_name(target.name + ".part")
        try:
            with temporary.open("wb") as file:
                torch.save(checkpoint, file)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(target)
        except (OSError, RuntimeError) as error:
            temporary.unlink(missing_ok=True)
            # torch reports a full disk as a RuntimeError; those of a GPU are another matter.
            if isinstance(error, torch.OutOfMemoryError) or "CUDA" in str(error):
                raise
            raise MissingError(f"A checkpoint cannot be written to {target}: {error}", REMEDY) from error

    def load_checkpoint(
        self, path: Any, map_location: Any = None, weights_only: Any = None
    ) -> dict[str, Any]:
        """Read a checkpoint; whatever would run code is refused."""
        content: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        return content


class EveryFewEpochs(Checkpoint):  # type: ignore[misc]
    """Keeps the checkpoints of the last two epochs that were kept: every so many, and the last.

    Args:
        folder: Where they go.
        every: Epochs from one to the next.
    """

    def __init__(self, folder: Path, every: int) -> None:
        self._folder, self._every = folder, every

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write one where it is due; Lightning calls this after the module's own end of the epoch."""
        epoch = trainer.current_epoch + 1
        if epoch % self._every and epoch != trainer.max_epochs:
            return
        trainer.save_checkpoint(self._folder / f"epoch-{epoch:05d}.ckpt")
        for old in kept(self._folder)[:-2]:
            old.unlink(missing_ok=True)


def kept(folder: Path) -> list[Path]:
    """The checkpoints in a folder, oldest first."""
    return sorted(path for path in folder.glob("epoch-*.ckpt") if re.fullmatch(r"epoch-\d{5}", path.stem))


def epoch_of(path: Path) -> int:
    """The epoch after which a checkpoint was written."""
    return int(path.stem.partition("-")[2])


def latest(folder: Path, module: LightningModule, progress: Progress) -> Path | None:
    """The newest checkpoint that fits the module; those that cannot be used are named and deleted.

    Raises:
        MissingError: One cannot be read at the moment, whatever it holds.
    """
    for path in reversed(kept(folder)):
        fault = _fault(path, module)
        if not fault:
            return path
        progress.note(f"The checkpoint {path.name} cannot be used and is deleted: {fault}.")
        path.unlink(missing_ok=True)
    return None


def _fault(path: Path, module: LightningModule) -> str:
    """What is wrong with a checkpoint; empty where it fits the module."""
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()  # torch checks no checksum
        if damaged:
            return f"it is damaged ({damaged})"
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        found = {name: tuple(tensor.shape) for name, tensor in content["state_dict"].items()}
        epoch = len(content["simsiam"]["rows"])
    except (OSError, MemoryError) as error:
        raise MissingError(
            f"The checkpoint {path} cannot be read: {error}.",
            "Mend that and run the same command again: it goes on from there. Nothing was deleted.",
        ) from error
    except Exception as error:  # a damaged file fails in many ways, all of which mean the same
        return f"it is damaged ({type(error).__name__})"
    expected = {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}
    if found != expected:
        odd = sorted(found.items() ^ expected.items())[0][0]
        return f"it belongs to another architecture ({odd} differs)"
    return "" if epoch == epoch_of(path) else f"it was written after epoch {epoch}, not {epoch_of(path)}"


def check_room(folder: Path, module: LightningModule) -> None:
    """Check that the disk takes a checkpoint beside the two that are kept.

    Raises:
        MissingError: It does not.
    """
    tensors = sum(tensor.nbytes for tensor in module.state_dict().values())
    momentum = sum(parameter.nbytes for parameter in module.parameters())
    needed = 3 * (tensors + momentum) - sum(path.stat().st_size for path in kept(folder))
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise MissingError(
            f"Checkpoints of this training need {needed / 1e6:.0f} MB, and {folder} has {free / 1e6:.0f} MB.",
            REMEDY,
        )
