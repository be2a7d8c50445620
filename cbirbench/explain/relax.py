"""RELAX: which parts of a slice its embedding rests on (paper, section 4.1 and eq. 4).

A pixel matters when the images that still show it embed close to the whole image. The extractor is a black
box between its prepared images and its embeddings, so handcrafted features are explained by the same code.
The method is that of Wickstrøm et al. 2023, "RELAX: Representation learning explainability".
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch

from cbirbench.errors import PluginError
from cbirbench.explain.masks import draw_masks
from cbirbench.interfaces import Extractor, Options, option

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor


class RelaxOptions(Options):
    """How importance maps are made."""

    masks: int = option(3000, ge=1, description="Number of random masks an image.", source="section 4.1")
    grid: int = option(
        7, ge=2, description="Cells along each side of a mask's grid.", unit="cells", source="released code"
    )
    keep: float = option(
        0.5, gt=0, lt=1, description="Probability that a cell of the grid is kept.", source="released code"
    )
    seed: int = option(0, ge=0, description="Decides the masks; all images and extractors share them.")
    estimator: Literal["ratio", "mean"] = option(
        "ratio",
        description="ratio: the mean similarity of the masks that show a pixel, sum(s*M)/sum(M); "
        "mean: eq. 4 as printed, sum(s*M)/N, which carries the noise of the sampled masks.",
        source="released code; eq. 4",
    )
    batch_size: int = option(
        64, ge=1, description="Masked images a forward pass.", unit="images", protocol=False
    )


def importance_maps(
    extractor: Extractor, images: Tensor, options: RelaxOptions, *, advance: Callable[[int], None]
) -> NDArray[np.float32]:
    """Explain prepared images, all with the same masks.

    The similarity of a masked image is the cosine between its embedding and that of the whole image. Where a
    cosine has no value the map says so:

    - a masked image that embeds to zero has kept nothing of the whole: its similarity is 0;
    - a whole image that embeds to zero has no direction to compare with: its map is NaN throughout;
    - a pixel that no mask shows, possible with few masks, is NaN in a ratio map.

    Each batch of masks is rendered once for all images, so giving several images at a time spreads its cost.
    No mask is rendered to add up the maps (`MaskBank.weighted_sum`).

    Args:
        extractor: Embeds the images.
        images: What `extractor.prepare` returned, float32, shape ``(n, channels, height, width)``.
        options: Masks and estimator.
        advance: Is told how many masked images were just embedded, ``n * options.masks`` in all.

    Returns:
        float32, shape ``(n, height, width)``; with the ratio estimator in -1..1.

    Raises:
        PluginError: The extractor returned embeddings of a wrong shape or that are not finite.
        UsageError: The images are smaller than the grid.
    """
    count, _, height, width = images.shape
    if count == 0:
        return np.empty((0, height, width), dtype=np.float32)
    bank = draw_masks(options.masks, options.grid, options.keep, options.seed)
    shown = bank.weighted_sum(torch.ones(len(bank)), height, width)
    similarities = torch.empty(count, len(bank), dtype=torch.float64, device=images.device)

    with torch.inference_mode():
        starts = range(0, count, options.batch_size)
        whole = torch.cat([_directions(extractor, images[i : i + options.batch_size]) for i in starts])
        if not bool(torch.isfinite(whole).all()):
            raise _unusable(extractor, "NaN or infinity for a whole image")
        for start in range(0, len(bank), options.batch_size):
            chosen = slice(start, min(start + options.batch_size, len(bank)))
            masks = bank.render(chosen, height, width, images.device)
            for position in range(count):
                masked = _directions(extractor, images[position : position + 1] * masks)
                if masked.shape[1] != whole.shape[1]:
                    widths = f"{masked.shape[1]} values for a masked image, {whole.shape[1]} for a whole one"
                    raise _unusable(extractor, widths)
                similarities[position, chosen] = masked @ whole[position]
                advance(len(masks))
            # Looked at once for all images: each look makes the processor wait for a GPU.
            if not bool(torch.isfinite(similarities[:, chosen]).all()):
                raise _unusable(extractor, "NaN or infinity for a masked image")
        undefined = (whole == 0).all(dim=1).cpu()

    maps = np.empty((count, height, width), dtype=np.float32)
    for position in range(count):
        total = bank.weighted_sum(similarities[position], height, width)
        importance = total / (shown if options.estimator == "ratio" else len(bank))
        maps[position] = np.nan if undefined[position] else importance.float().numpy()
    return maps


def _directions(extractor: Extractor, images: Tensor) -> Tensor:
    """Embed images and scale each embedding to length 1, in float64; a zero embedding stays zero."""
    embeddings = extractor.embed(images)
    if embeddings.ndim != 2 or len(embeddings) != len(images):
        raise _unusable(extractor, f"shape {tuple(embeddings.shape)} for {len(images)} images")
    embeddings = embeddings.to(images.device, torch.float64)
    lengths = torch.sqrt((embeddings**2).sum(dim=1, keepdim=True))
    return embeddings / lengths.where(lengths > 0, torch.ones_like(lengths))


def _unusable(extractor: Extractor, received: str) -> PluginError:
    return PluginError(
        f"While RELAX explained it, {type(extractor).__name__}.embed returned {received}.",
        "It must return finite embeddings of shape (images, d) for prepared images times masks in 0..1.",
    )
