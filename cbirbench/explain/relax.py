"""RELAX: which parts of a slice its embedding rests on (paper, section 4.1 and eq. 4).

A pixel matters when the images that still show it embed close to the whole image. The extractor is a black
box between its prepared images and its embeddings, so handcrafted features are explained by the same code.
The method is that of Wickstrøm et al. 2023, "RELAX: Representation learning explainability".
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from pydantic import model_validator

from cbirbench.errors import PluginError
from cbirbench.explain.estimators import Estimator, estimate, keep_certain
from cbirbench.explain.masks import MaskBlock, MaskDesign, Shifts, shift_weights
from cbirbench.explain.reliability import split_half_reliability
from cbirbench.extraction import is_out_of_memory
from cbirbench.interfaces import Options, option

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    Embed = Callable[[Tensor], Tensor]

CHECKED_EVERY = 250
"""Masks between two looks at a map's reliability, where masks are added until it is reached."""

BLOCK_PIXELS = {"cpu": 64 * 224**2, "cuda": 256 * 224**2}
"""Pixels of a batch of masked images, where no batch size is given: what suits a ResNet50."""

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
        7, ge=2, description="Cells along each side of a mask's grid.", unit="cells", source="released code"
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
        fitting = BLOCK_PIXELS[device] // (height * width)
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
        """Masked images that embedded to zero: they have kept nothing, and their similarity is 0."""
        return int((self.similarities == 0).sum())


def explain(
    embed: Embed,
    images: Tensor,
    options: RelaxOptions,
    *,
    name: str,
    known: Sequence[NDArray[np.float64]] = (),
    advance: Callable[[int], None],
    at_once: int | None = None,
    narrowed: Callable[[int], None] = lambda size: None,
) -> list[Explanation]:
    """Explain prepared images, all with the same masks.

    The similarity of a masked image is the cosine between its embedding and that of the whole image. Each
    block of masks is rendered once for all images, so giving several images at a time spreads its cost; no
    mask is rendered to add up the maps.

    Args:
        embed: Embeds prepared images; see `cbirbench.interfaces.Explainable`.
        images: What the extractor's `prepare` returned, float32, shape ``(n, channels, height, width)``.
        options: Masks and estimator.
        name: The extractor's, for messages.
        known: Per image the similarities to the first masks, from an earlier call; whole blocks of them are
            not computed again, and the result is the same.
        advance: Is told how many masks were just dealt with, ``n * options.masks`` in all.
        at_once: Most masked images a forward pass, where memory ran out before; none: as the options say.
        narrowed: Is told the new batch size whenever memory ran out and the batch was halved.

    Raises:
        PluginError: `embed` returned something of a wrong shape.
        UsageError: The images are smaller than the grid.
        torch.OutOfMemoryError: Memory is too small for one image; a CPU's is another error, see
            `cbirbench.extraction.is_out_of_memory`.
    """
    _, _, height, width = images.shape
    for side in (height, width):
        shift_weights(options.grid, side, options.shifts)  # refuses images that are too small
    size = options.block_size(height, width, images.device.type)
    work = _Passes(embed, name, min(size, at_once or size), narrowed)
    rows = [_Row(given, options.masks) for given in (known or [np.empty(0)] * len(images))]
    whole: dict[int, Tensor] = {}
    ahead = CHECKED_EVERY
    with torch.inference_mode():
        for block in options.design.blocks(options.masks, size):
            for i in _missing(rows, block, size):
                if i not in whole:
                    # One by one: a batch's last digits depend on what else is in it.
                    whole[i] = work.whole(images[i : i + 1])
                    rows[i].problem = _problem(whole[i], images[i], options.fill)
            if missing := _missing(rows, block, size):
                masks = block.render(height, width, images.device)
                found = [work.similarities(images[i : i + 1], masks, whole[i], options.fill) for i in missing]
                for i, similarities in zip(missing, torch.stack(found).cpu().numpy(), strict=True):
                    rows[i].values[block.start : block.stop] = similarities
            for row in rows:
                row.count = block.stop if row.open else row.count
                advance(len(block))
            if options.until_reliable is not None and ahead <= block.stop < options.masks:
                ahead = (block.stop // CHECKED_EVERY + 1) * CHECKED_EVERY
                for row in rows:
                    if (
                        row.open
                        and _mapped(row, options, height, width).reliability >= options.until_reliable
                    ):
                        row.reliable = True
    return [_mapped(row, options, height, width) for row in rows]


class _Row:
    """The similarities of one image, as far as they are known."""

    def __init__(self, given: NDArray[np.float64], masks: int) -> None:
        self.given = min(len(given), masks)
        self.values = np.full(masks, np.nan)
        self.values[: self.given] = given[: self.given]
        self._ends = len(given)
        self.count = 0
        self.reliable = False
        self.problem = ""

    @property
    def open(self) -> bool:
        """Whether more masks are to be added."""
        return not self.problem and not self.reliable

    def has(self, block: MaskBlock, size: int) -> bool:
        """Whether a block is known as it would be computed: its last digit depends on the block's length."""
        return block.stop <= self.given and (len(block) == size or block.stop == self._ends)


def _missing(rows: Sequence[_Row], block: MaskBlock, size: int) -> list[int]:
    return [i for i, row in enumerate(rows) if row.open and not row.has(block, size)]


def _problem(whole: Tensor, image: Tensor, fill: float) -> str:
    """Why an image cannot be explained; empty where it can."""
    if not bool(torch.isfinite(whole).all()):
        return "the embedding of the whole image is not finite"
    if not bool(whole.any()):
        return "the embedding of the whole image is zero"
    return "the prepared image is blank" if bool((image == fill).all()) else ""


class _Passes:
    """Forward passes in batches, which are halved for good where memory runs out."""

    def __init__(self, embed: Embed, name: str, size: int, narrowed: Callable[[int], None]) -> None:
        self._embed, self._name, self._size, self._narrowed = embed, name, size, narrowed

    def whole(self, image: Tensor) -> Tensor:
        """The direction of one whole image, shape ``(d,)``."""
        return self._directions(1, lambda _: image)[0]

    def similarities(self, image: Tensor, masks: Tensor, whole: Tensor, fill: float) -> Tensor:
        """Cosines of one image under each mask with its whole; 0 where a masked image embeds to zero."""
        directions = self._directions(len(masks), lambda part: _masked(image, masks[part], fill))
        if directions.shape[1] != len(whole):
            raise self._unusable(
                f"{directions.shape[1]} values for a masked image, {len(whole)} for a whole one"
            )
        return directions @ whole

    def _directions(self, count: int, images: Callable[[slice], Tensor]) -> Tensor:
        """Embeddings of so many images, scaled to length 1, in float64; a zero embedding stays zero."""
        found: list[Tensor] = []
        start = 0
        while start < count:
            try:
                batch = images(slice(start, start + self._size))
                found.append(self._unit(batch))
            except Exception as error:
                if self._size == 1 or not is_out_of_memory(error):
                    raise
                self._size = min(self._size, count - start) // 2 or 1
                error.__traceback__ = None  # it holds the tensors that filled the memory
                if torch.cuda.is_available():
                    torch.cuda.empty_cache()
                self._narrowed(self._size)
            else:
                start += len(batch)
        return torch.cat(found)

    def _unit(self, batch: Tensor) -> Tensor:
        embeddings = self._embed(batch)
        if embeddings.ndim != 2 or len(embeddings) != len(batch):
            raise self._unusable(f"shape {tuple(embeddings.shape)} for {len(batch)} images")
        embeddings = embeddings.to(batch.device, torch.float64)
        lengths = torch.sqrt((embeddings**2).sum(dim=1, keepdim=True))
        return embeddings / lengths.where(lengths > 0, torch.ones_like(lengths))

    def _unusable(self, received: str) -> PluginError:
        return PluginError(
            f"While RELAX explained it, {self._name}.embed returned {received}.",
            "It must return embeddings of shape (images, d) for prepared images times masks in 0..1.",
        )


def _masked(image: Tensor, masks: Tensor, fill: float) -> Tensor:
    return image * masks if fill == 0 else image * masks + fill * (1 - masks)


def _mapped(row: _Row, options: RelaxOptions, height: int, width: int) -> Explanation:
    """Maps from the similarities so far."""
    similarities = row.values[: row.count].copy()
    nothing = np.full((height, width), np.nan, dtype=np.float32)
    strange = int((~np.isfinite(similarities)).sum())
    problem = row.problem
    if not problem and strange:
        problem = "the embeddings of masked images are not finite"
    if problem:
        return Explanation(nothing, nothing, float("nan"), similarities, problem)
    found = estimate(options.design, similarities, height, width, options.estimator)
    importance = found.importance
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
        similarities=similarities,
        problem=problem,
    )
