"""How checks pass slices through an extractor, and how far apart embeddings are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from cbirbench.conformance.making import flat_slices, made_slices, placed, tissue_slices
from cbirbench.conformance.subjects import Subject
from cbirbench.conformance.verdicts import Beside, calling
from cbirbench.extraction import embed_slices, prepared
from cbirbench.interfaces import Located
from cbirbench.slices import CTSlice, Slices, stacked_squares

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

TOLERANCE = 1e-4
"""Most that embeddings of one slice may differ, as a share of the spread between slices (see `difference`):
between batches of other sizes libraries add in another order, which moves float32 in the sixth or seventh
digit, and deep networks carry that on. Batch statistics, or dropout left on, differ a hundred times more."""

FLOAT_ROUNDING = 1e-6
"""What of a vector's length is float32's own rounding, whatever the spread."""

GPU_TOLERANCE = 1e-2
"""The same between CPU and GPU, which resize, convolve and round otherwise."""


def images_of(subject: Subject, slices: Sequence[CTSlice], extractor: Any = None) -> Tensor:
    """Prepare slices of one side, checked as a run checks it."""
    return prepared(extractor or subject.one, slices, device="cpu", name=subject.name)


def vectors_of(
    subject: Subject,
    slices: Slices,
    extractor: Any = None,
    *,
    batch_size: int | None = None,
    device: str = "cpu",
) -> NDArray[np.float32]:
    """Embed slices, checked as a run checks it; by default in one batch a size."""
    return embed_slices(
        extractor or subject.one,
        slices,
        batch_size=batch_size or len(slices),
        device=device,
        name=subject.name,
        advance=lambda count: None,
    )


def usual(subject: Subject) -> tuple[Slices, NDArray[np.float32]]:
    """The slices that most checks embed, and their embeddings, found once.

    Raises:
        Beside: They cannot be embedded, which the check `embeddings` tells of.
    """

    def embedded() -> tuple[Slices, NDArray[np.float32]]:
        slices = made_slices(8)
        return slices, vectors_of(subject, slices)

    try:
        return subject.once("usual", embedded)
    except Beside:
        raise
    except Exception as error:
        raise Beside("It does not embed slices.") from error


def raw_prepare(subject: Subject, extractor: Any, hu: Tensor) -> Tensor:
    """Call `prepare`, or `prepare_at` with slices from the middle of their scans, with nothing in between."""
    import torch

    if isinstance(extractor, Located):
        positions = torch.full((len(hu),), 0.5, device=hu.device)
        images: Tensor = calling(f"{subject.name}.prepare_at", lambda: extractor.prepare_at(hu, positions))
        return images
    images = calling(f"{subject.name}.prepare", lambda: extractor.prepare(hu))
    return images


def raw_embed(subject: Subject, extractor: Any, images: Tensor) -> Tensor:
    """Call `embed`, with nothing in between."""
    vectors: Tensor = calling(f"{subject.name}.embed", lambda: extractor.embed(images))
    return vectors


def hu_of(slices: Slices) -> Tensor:
    """The HU of slices of one side as a tensor, int16, shape ``(n, side, side)``."""
    import torch

    return torch.from_numpy(stacked_squares(slices.items))


def sees_pixels(subject: Subject) -> None:
    """Raise `Beside` for an extractor that gives slices of one position one embedding whatever they show."""
    usual(subject)

    def blind() -> bool:
        various = [*flat_slices([-1000, 60, 900]), *tissue_slices([-50, 60, 300])]
        vectors = vectors_of(subject, placed([item.hu for item in various]))
        return bool((vectors == vectors[0]).all())

    if subject.once("blind", blind):
        raise Beside("It sees no pixels: slices of one position have one embedding.")


def difference(
    one: NDArray[np.float32], other: NDArray[np.float32], among: NDArray[np.float32] | None = None
) -> float:
    """How far apart embeddings are, row by row: the most, as a share of the spread between slices.

    A share of their length would let anything pass beside a large part that all slices have in common.

    Args:
        one: Embeddings, shape ``(n, d)``.
        other: What should be the same.
        among: Embeddings of different slices, which say what the spread is: how far the one furthest from
            their mean lies from it. By default `one`.
    """
    if one.shape != other.shape:
        return float("inf")
    slices = (one if among is None else among).astype(np.float64)
    spread = np.linalg.norm(slices - slices.mean(axis=0), axis=1).max()
    lengths = np.linalg.norm(one.astype(np.float64), axis=1)
    away = np.linalg.norm(one.astype(np.float64) - other, axis=1) - FLOAT_ROUNDING * lengths
    most = max(0.0, float(away.max()))
    return 0.0 if most == 0 else most / float(spread) if spread else float("inf")
