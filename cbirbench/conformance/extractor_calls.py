"""How checks pass slices through an extractor, and how far apart embeddings are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from cbirbench.conformance.making import flat_slices, made_slices, tissue_slices
from cbirbench.conformance.subjects import Subject
from cbirbench.conformance.verdicts import Beside, calling
from cbirbench.extraction import embed_slices, prepared
from cbirbench.interfaces import Located
from cbirbench.slices import CTSlice, Slices, stacked_squares

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

TOLERANCE = 1e-4
"""Most that embeddings of one slice may differ, as a share of the longest embedding: between batches of
other sizes libraries add in another order, which moves float32 in the sixth or seventh digit, and deep
networks carry that on. Batch statistics, or dropout left on, differ by a hundred times more."""

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
    if "usual" not in subject.kept:
        slices = made_slices(8)
        extractor = subject.one
        try:
            subject.kept["usual"] = (slices, vectors_of(subject, slices, extractor))
        except Exception:
            subject.kept["usual"] = None
    found: tuple[Slices, NDArray[np.float32]] | None = subject.kept["usual"]
    if found is None:
        raise Beside("It does not embed slices.")
    return found


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
    if "blind" not in subject.kept:
        various = Slices(
            tuple(
                item
                for number, slices in enumerate(
                    (flat_slices([-1000, 60, 900]), tissue_slices([-50, 60, 300]))
                )
                for item in (_renamed(one, number) for one in slices)
            )
        )
        usual(subject)
        vectors = vectors_of(subject, various)
        subject.kept["blind"] = bool((vectors == vectors[0]).all())
    if subject.kept["blind"]:
        raise Beside("It sees no pixels: slices of one position have one embedding.")


def _renamed(item: CTSlice, number: int) -> CTSlice:
    from dataclasses import replace

    return replace(item, slice_id=f"{number}_{item.slice_id}")


def difference(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    """How far apart embeddings are, row by row: the most, as a share of the longest of them."""
    if one.shape != other.shape:
        return float("inf")
    away = np.linalg.norm(one.astype(np.float64) - other, axis=1).max()
    longest = np.linalg.norm(one.astype(np.float64), axis=1).max()
    return 0.0 if away == 0 else float(away / longest) if longest else float("inf")
