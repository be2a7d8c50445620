"""Checks of what explanations rest on: `embed` goes by the images that it is given, masked ones too."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from cbirbench.conformance.extractor_calls import (
    TOLERANCE,
    difference,
    images_of,
    sees_pixels,
    usual,
    vectors_of,
)
from cbirbench.conformance.making import made_slices
from cbirbench.conformance.subjects import Subject
from cbirbench.conformance.verdicts import Beside, Fault, calling, demand
from cbirbench.extraction import REPORT, embedded
from cbirbench.interfaces import Explainable, Precision

if TYPE_CHECKING:
    from numpy.typing import NDArray

FLOAT32_APART = 1e-3
"""Most that the twin at float32 may be away, as a share of the spread between slices."""

BFLOAT16_COSINE = 0.8
"""Least that the cosine of `_cosine` may be for the twin at bfloat16: three digits that a deep network rounds
in every layer come to about .9 for an EfficientNet-Lite0, and what rounds nothing of the kind to 1."""


def masked_images(subject: Subject) -> str:
    """Images under masks, as an explanation makes them, have finite embeddings."""
    import torch

    slices, _ = usual(subject)
    prepared = images_of(subject, slices.items[:3])
    generator = torch.Generator().manual_seed(0)
    masks = torch.rand(3, 1, *prepared.shape[-2:], generator=generator)
    for what, masked in (
        ("all zero", torch.zeros_like(prepared)),
        ("under random masks", prepared * masks),
        ("all one", torch.ones_like(prepared)),
    ):
        try:
            embedded(subject.one, masked, name=subject.name)
        except Exception as error:
            raise Fault(
                f"Images {what}: {error}".removesuffix(f" {REPORT}"),
                "RELAX multiplies images by masks in 0..1; guard divisions by a norm or a deviation.",
            ) from error
    return "zero, one and randomly masked images: finite"


def embed_alone(subject: Subject) -> str:
    """`embed` goes by the images that it is given, not by what `prepare` saw last."""
    import torch

    _, different = usual(subject)
    images = images_of(subject, made_slices(8).items[:3])
    first = embedded(subject.one, images, name=subject.name)
    images_of(subject, made_slices(8, seed=1).items[3:6])
    apart = difference(first, embedded(subject.one, images, name=subject.name), different)
    remedy = (
        "Explanations embed one prepared image under thousands of masks: take everything from `images`, keep "
        "nothing of `hu`."
    )
    demand(
        apart <= TOLERANCE,
        f"Once other slices were prepared, the same images have other embeddings: they differ by {apart:.2g} "
        "of the spread between slices.",
        remedy,
    )
    told = f"the same images, {apart:.2g} apart once others were prepared"
    try:
        sees_pixels(subject)
    except Beside:
        return f"{told}; it sees no pixels"
    hidden = embedded(subject.one, torch.zeros_like(images), name=subject.name)
    demand(
        difference(first, hidden, different) > TOLERANCE,
        "Images hidden altogether (all zero) have the embeddings of the whole ones.",
        remedy,
    )
    return f"{told}; hidden altogether they have others"


def explanation_twin(subject: Subject) -> str:
    """The twin for explanations gives what `embed` gives, but for rounding."""
    extractor = subject.one
    if not isinstance(extractor, Explainable):
        raise Beside("It has no twin for explanations (it is not Explainable).")
    slices, vectors = usual(subject)
    prepared = images_of(subject, slices.items)
    remedy = "It must have the same weights, and end with .float()."

    def given(precision: Precision) -> NDArray[np.float32]:
        found = calling(
            f"{subject.name}.for_explanation", lambda: extractor.for_explanation(precision)(prepared)
        )
        demand(str(found.dtype) == "torch.float32", f"Its twin at {precision} gives {found.dtype}.", remedy)
        array: NDArray[np.float32] = found.detach().cpu().numpy()
        return array

    apart = difference(vectors, given("float32"))
    demand(
        apart <= FLOAT32_APART,
        f"Its twin at float32 is {apart:.2g} of the spread between slices away from embed "
        f"({FLOAT32_APART:g} at most).",
        remedy,
    )
    alike = _cosine(vectors, given("bfloat16"))
    demand(
        alike >= BFLOAT16_COSINE,
        f"Its twin at bfloat16 points elsewhere than embed: what tells slices apart has a cosine of "
        f"{alike:.3g} ({BFLOAT16_COSINE:g} at least).",
        remedy,
    )
    after = vectors_of(subject, slices)
    demand(
        np.array_equal(vectors, after),
        "Making the twin changed what embed gives.",
        "Copy the network before it is folded or rounded.",
    )
    return f"float32: {apart:.2g} apart; bfloat16: cosine {alike:.3g}"


def _cosine(vectors: NDArray[np.float32], twins: NDArray[np.float32]) -> float:
    """The cosine between all embeddings and all of their twins, both less the embeddings' mean.

    Explanations compare by cosine, so that length does not matter. But a network's embeddings have a large
    part in common, beside which even another slice's has a cosine of .9 to .99: that part is taken off. The
    slices are taken together, lest one whose embedding is near the mean decide by its rounding alone.
    """
    if vectors.shape != twins.shape:
        return -1.0
    middle = vectors.astype(np.float64).mean(axis=0)
    one, other = vectors - middle, twins - middle
    lengths = float(np.linalg.norm(one) * np.linalg.norm(other))
    return float((one * other).sum()) / lengths if lengths else float(np.array_equal(vectors, twins))


CHECKS = (masked_images, embed_alone, explanation_twin)
