"""RELAX: which parts of a slice its embedding rests on (paper, section 4.1 and eq. 4).

A pixel matters when the images that still show it embed close to the whole image. The extractor is a black
box between its prepared images and its embeddings, so handcrafted features are explained by the same code.
The method is that of Wickstrøm et al. 2023, "RELAX: Representation learning explainability".
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from pydantic import model_validator

from cbirbench.explain.estimators import Estimator, estimate, keep_certain
from cbirbench.explain.masks import MaskDesign, Shifts, shift_weights
from cbirbench.explain.passes import Passes
from cbirbench.explain.reliability import split_half_reliability
from cbirbench.interfaces import Options, option

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

CHECKED_EVERY = 250
"""Masks between two looks at a map's reliability, where masks are added until it is reached."""

THREAD_PIXELS, GPU_PIXELS = 4 * 224**2, 256 * 224**2
"""Pixels of a batch of masked images, where no batch size is given: for each thread of a CPU, and for a GPU.

Larger batches leave a CPU's caches: in batches of 64 a ResNet50 is a fifth slower, an EfficientNet-Lite0 a
third to a half.
"""

LARGEST_BLOCK = 256


class RelaxOptions(Options):
    """How importance maps are made."""

    masks: int = option(3000, ge=1, description="Number of random masks an image.", source="section 4.1")
    until_reliable: float | None = option(
        None,
        gt=0,
        lt=1,
        description="Add masks only until a map's split-half reliability reaches this, `masks` at most; "
        "none: always use all.",
    )
    grid: int = option(
        7,
        ge=2,
        le=32,
        description="Cells along each side of a mask's grid.",
        unit="cells",
        source="released code",
    )
    keep: float = option(
        0.5, gt=0, lt=1, description="Probability that a cell of the grid is kept.", source="released code"
    )
    shifts: Shifts = option(
        "pixels",
        description="How far masks are shifted: pixels, by less than `grid` pixels; cells, by up to a cell, "
        "as in RISE (Petsiuk et al. 2018).",
        source="released code",
    )
    antithetic: bool = option(
        False, description="Follow every mask by its complement; takes keep=0.5.", source="ours"
    )
    fill: float = option(
        0.0,
        ge=0,
        le=1,
        description="What a masked pixel shows, in 0..1 of the prepared image.",
        source="eq. 3",
    )
    seed: int = option(0, ge=0, description="Decides the masks; all images and extractors share them.")
    estimator: Estimator = option(
        "ratio",
        description="ratio: the mean similarity of the masks that show a pixel, sum(s*M)/sum(M); "
        "mean: eq. 4 as printed, sum(s*M)/N, which carries the noise of the sampled masks; "
        "regression: the ratio with the noise of other cells regressed out, more reliable at as many masks.",
        source="released code; eq. 4; ours",
    )
    uncertainty_filter: Literal["none", "median", "mean"] = option(
        "none",
        description="U-RELAX: set importance to 0 where the uncertainty is above its median or mean.",
        source="Wickstrøm et al. 2023, RELAX",
    )
    precision: Literal["auto", "float32", "bfloat16"] = option(
        "auto",
        description="Arithmetic of networks on masked images; auto: bfloat16 where the hardware has it.",
        protocol=False,
    )
    batch_size: int | None = option(
        None,
        ge=1,
        le=4096,
        description="Masked images a forward pass, halved where memory runs out; none: by the images' size.",
        unit="images",
        protocol=False,
    )

    @model_validator(mode="after")
    def _complements(self) -> RelaxOptions:
        if self.antithetic and self.keep != 0.5:
            raise ValueError(f"antithetic masks keep half of the cells, and keep is {self.keep:g}")
        return self

    @property
    def design(self) -> MaskDesign:
        """How its masks are drawn."""
        return MaskDesign(self.grid, self.keep, self.seed, self.shifts, self.antithetic)

    def block_size(self, height: int, width: int, device: str) -> int:
        """Masked images a forward pass, before memory runs out: a power of two where none is given."""
        if self.batch_size is not None:
            return self.batch_size
        most = GPU_PIXELS if device == "cuda" else THREAD_PIXELS * torch.get_num_threads()
        fitting = most // (height * width)
        return 1 << max(0, min(fitting, LARGEST_BLOCK).bit_length() - 1)


@dataclass(frozen=True, eq=False)
class Explanation:
    """What RELAX finds of one image.

    Attributes:
        importance: float32, shape ``(height, width)``; with the ratio in -1..1. NaN throughout where there is
            a `problem` that leaves it undefined.
        uncertainty: Spread of the similarities about the importance, float32, same shape.
        reliability: See `cbirbench.explain.reliability`; NaN where undefined.
        similarities: Of each masked image to the whole one, float64, shape ``(masks,)``: the raw result.
        problem: Why the map is undefined or has no order; empty where it is sound.
    """

    importance: NDArray[np.float32]
    uncertainty: NDArray[np.float32]
    reliability: float
    similarities: NDArray[np.float64]
    problem: str = ""

    @property
    def masks(self) -> int:
        """How many masks it took."""
        return len(self.similarities)

    @property
    def zero_masks(self) -> int:
        """Masked images of similarity 0: they embed to zero, or share nothing with the whole image."""
        return int((self.similarities == 0).sum())


def explain(
    passes: Passes,
    image: Tensor,
    options: RelaxOptions,
    *,
    known: NDArray[np.float64] | None = None,
    advance: Callable[[int], None] = lambda masks: None,
) -> Explanation:
    """Explain one prepared image.

    The similarity of a masked image is the cosine between its embedding and that of the whole image. No mask
    is rendered to add up the maps.

    Args:
        passes: Embeds images; to be shared by all images of an extractor.
        image: What the extractor's `prepare` returned, float32, shape ``(1, channels, height, width)``.
        options: Masks and estimator.
        known: Similarities to the first masks, from an earlier call. Whole blocks of them are not computed
            again, and the result is the same to the last digit.
        advance: Is told how many masks were just dealt with, `options.masks` in all.

    Raises:
        PluginError: The embeddings have a wrong shape.
        UsageError: The image is smaller than the grid.
        torch.OutOfMemoryError: Memory is too small for a single masked image; a CPU's is another error, see
            `cbirbench.extraction.is_out_of_memory`.
    """
    height, width = image.shape[-2:]
    for side in (height, width):
        shift_weights(options.grid, side, options.shifts)  # refuses images that are too small
    size = options.block_size(height, width, image.device.type)
    given = np.empty(0) if known is None else known
    similarities = np.empty(options.masks)
    whole: Tensor | None = None
    ahead = CHECKED_EVERY
    with torch.inference_mode():
        for block in options.design.blocks(options.masks, size):
            # A block's last digits depend on how many masks are in it.
            if block.stop <= len(given) and (len(block) == size or block.stop == len(given)):
                similarities[block.start : block.stop] = given[block.start : block.stop]
            else:
                if whole is None:
                    whole = passes.direction(image)
                    problem = _unexplainable(whole, image, options.fill)
                    if problem:
                        advance(options.masks - block.start)
                        return _undefined(problem, similarities[:0], height, width)
                masks = block.render(height, width, image.device)
                found = passes.similarities(image, masks, whole, options.fill)
                similarities[block.start : block.stop] = found.cpu().numpy()
            advance(len(block))
            if options.until_reliable is not None and ahead <= block.stop < options.masks:
                ahead = (block.stop // CHECKED_EVERY + 1) * CHECKED_EVERY
                so_far = mapped(similarities[: block.stop], options, height, width)
                if so_far.reliability >= options.until_reliable:
                    advance(options.masks - block.stop)
                    return so_far
    return mapped(similarities, options, height, width)


def _unexplainable(whole: Tensor, image: Tensor, fill: float) -> str:
    """Why an image cannot be explained; empty where it can."""
    if not bool(torch.isfinite(whole).all()):
        return "the embedding of the whole image is not finite"
    if not bool(whole.any()):
        return "the embedding of the whole image is zero"
    return "the prepared image is blank" if bool((image == fill).all()) else ""


def _undefined(problem: str, similarities: NDArray[np.float64], height: int, width: int) -> Explanation:
    nothing = np.full((height, width), np.nan, dtype=np.float32)
    return Explanation(nothing, nothing, float("nan"), similarities.copy(), problem)


def mapped(similarities: NDArray[np.float64], options: RelaxOptions, height: int, width: int) -> Explanation:
    """The maps that similarities to the first masks give.

    Args:
        similarities: One a mask, shape ``(masks,)``.
        options: Masks and estimator.
        height: Rows of the maps in pixels.
        width: Columns of the maps in pixels.
    """
    if not np.isfinite(similarities).all():
        problem = "the embeddings of masked images are not finite"
        return _undefined(problem, similarities, height, width)
    found = estimate(options.design, similarities, height, width, options.estimator)
    importance, problem = found.importance, ""
    if np.ptp(similarities) < 1e-12:
        # Sums would leave a pattern of rounding errors, which has an order.
        problem = "all masked images are equally similar to the whole one"
        importance = np.full((height, width), similarities[0])
    elif np.isnan(importance).any():
        problem = "no mask shows some of the pixels"
    if options.uncertainty_filter != "none":
        importance = keep_certain(importance, found.uncertainty, options.uncertainty_filter)
    return Explanation(
        importance=importance.astype(np.float32),
        uncertainty=found.uncertainty.astype(np.float32),
        reliability=float("nan") if problem else split_half_reliability(*found.halves),
        similarities=similarities.copy(),
        problem=problem,
    )
