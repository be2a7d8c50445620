"""Slices through an extractor, with everything that it hands over checked."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from cbirbench.errors import CbirbenchError, DataError, MissingError, PluginError
from cbirbench.interfaces import Located
from cbirbench.slices import CTSlice, Slices, batches_of_one_side, stacked_squares

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from cbirbench.interfaces import Extractor

Result = TypeVar("Result")

REPORT = (
    "Report it to the plugin's authors (`cbirbench plugins check` says more of it); until it is mended, "
    "leave the plugin out."
)
"""What to do about a plugin that hands over something else than it should."""


def prepared(extractor: Extractor, items: Sequence[CTSlice], *, device: str, name: str) -> Tensor:
    """Prepare a batch of slices, padded to squares, and check what comes back.

    Args:
        extractor: The contestant.
        items: n slices of one side.
        device: Where the extractor works.
        name: Its name, for messages.

    Returns:
        Images in 0..1, shape ``(n, channels, height, width)``.

    Raises:
        PluginError: The images have another count, type or range, or the extractor failed.
        DataError: The extractor goes by where in their scans the slices lie, and one does not say.
    """
    import torch

    hu = torch.from_numpy(stacked_squares(items)).to(device)
    step, call = f"{name}.prepare", lambda: extractor.prepare(hu)
    if isinstance(extractor, Located):
        located, positions = extractor, _positions(items, name).to(device)
        step, call = f"{name}.prepare_at", lambda: located.prepare_at(hu, positions)
    images = guarded(step, call, out_of_memory=_embedding_out_of_memory(name, "prepare"))
    if not _is_whole(images, 4, len(items)):
        raise PluginError(
            f"{step} must return a tensor of shape ({len(items)}, channels, height, width), "
            f"got {_described(images)}.",
            REPORT,
        )
    low, high = float(images.min()), float(images.max())
    if not (images.is_floating_point() and low >= 0.0 and high <= 1.0):
        raise PluginError(
            f"{step} must return float images in 0..1, got {images.dtype} in {low:g}..{high:g}.",
            "It windows and scales only; normalisation by mean and deviation belongs in embed.",
        )
    return images


def _positions(items: Sequence[CTSlice], name: str) -> Tensor:
    import torch

    positions = [item.relative_z for item in items]
    if None in positions:
        unplaced = items[positions.index(None)].slice_id
        raise DataError(
            f"{name} goes by where in its scan a slice lies, which slice {unplaced!r} does not say.",
            "Give whole scans instead of single slices, or leave the extractor out. A benchmark plugin says "
            "it by CTSlice's volume_slices.",
        )
    return torch.tensor(positions, dtype=torch.float32)


def embedded(extractor: Extractor, images: Tensor, *, name: str) -> NDArray[np.float32]:
    """Embed a batch of images and check what comes back.

    Returns:
        float32, shape ``(n, d)``.

    Raises:
        PluginError: The embeddings have another shape, or are not finite, or the extractor failed.
    """
    import torch

    with torch.inference_mode():
        vectors = guarded(
            f"{name}.embed",
            lambda: extractor.embed(images),
            out_of_memory=_embedding_out_of_memory(name, "embed"),
        )
    if not _is_whole(vectors, 2, len(images)):
        raise PluginError(
            f"{name}.embed must return a tensor of shape ({len(images)}, d), one row an image, "
            f"got {_described(vectors)}.",
            REPORT,
        )
    array = vectors.detach().to("cpu", torch.float32).numpy()
    if not np.isfinite(array).all():
        rows = int((~np.isfinite(array)).any(axis=1).sum())
        raise PluginError(
            f"{name}.embed returned NaN or infinite values in {rows} of {len(array)} rows.", REPORT
        )
    return array


def embed_slices(
    extractor: Extractor,
    slices: Slices,
    *,
    batch_size: int,
    device: str,
    name: str,
    advance: Callable[[int], None],
) -> NDArray[np.float32]:
    """Embed slices of any sizes.

    Returns:
        float32, shape ``(n, d)``, in the order of the slices.

    Raises:
        PluginError: The extractor hands over something its interface forbids.
    """
    vectors: NDArray[np.float32] | None = None
    for positions in batches_of_one_side(slices, batch_size):
        images = prepared(extractor, [slices[i] for i in positions], device=device, name=name)
        batch = embedded(extractor, images, name=name)
        if vectors is None:
            vectors = np.empty((len(slices), batch.shape[1]), dtype=np.float32)
        if batch.shape[1] != vectors.shape[1]:
            raise PluginError(
                f"{name}.embed returned vectors of {batch.shape[1]} values, before of {vectors.shape[1]}.",
                REPORT,
            )
        vectors[positions] = batch
        advance(len(positions))
    if vectors is None:
        raise ValueError("there are no slices to embed")
    return vectors


def guarded(step: str, call: Callable[[], Result], *, out_of_memory: MissingError) -> Result:
    """Call into a plugin; what it raises is told in words.

    Args:
        step: What is called, ``NAME.embed``.
        call: The call.
        out_of_memory: What to raise where memory is too small.

    Raises:
        PluginError: It raised anything but an error of our own.
    """
    try:
        return call()
    except CbirbenchError:
        raise
    except (Exception, SystemExit) as error:  # a plugin that ends Python would end the run without a word
        if is_out_of_memory(error):
            raise out_of_memory from error
        place = f" (at {raised_at(error)})" if raised_at(error) else ""
        raise PluginError(f"{step} failed: {type(error).__name__}: {error}{place}", REPORT) from error


def raised_at(error: BaseException) -> str:
    """File and line that raised it, for whoever wrote the plugin; nothing where the error says so itself."""
    if isinstance(error, SyntaxError):
        return ""
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if "importlib" not in frame.filename  # which looked for it
    ]
    return f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory was too small; torch has no error of its own for a CPU's, and libraries have theirs."""
    import torch

    says = ("can't allocate memory", "CUBLAS_STATUS_ALLOC_FAILED", "CUDNN_STATUS_ALLOC_FAILED")
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or (
        isinstance(error, RuntimeError) and any(text in str(error) for text in says)
    )


def _embedding_out_of_memory(name: str, step: str) -> MissingError:
    return MissingError(
        f"{name}.{step} ran out of memory.",
        "Give it less at once: --set run.batch_size=N, or use --device cpu.",
    )


def _is_whole(value: object, dimensions: int, count: int) -> bool:
    """Whether it is a tensor of so many dimensions and rows, with something in it."""
    import torch

    return (
        isinstance(value, torch.Tensor)
        and value.ndim == dimensions
        and len(value) == count
        and value.numel() > 0
    )


def _described(value: object) -> str:
    shape = getattr(value, "shape", None)
    return f"{type(value).__name__} of shape {tuple(shape)}" if shape is not None else type(value).__name__
