"""Histograms of oriented gradients (paper, section 8.4): cells of 9 x 9 pixels, 9 orientations.

The paper does not say how cells are normalised. Here it is done as Dalal and Triggs (2005) do: overlapping
blocks of 2 x 2 cells, each divided by its Euclidean norm, clipped at .2 and divided again (L2-Hys).
"""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import torch
from numpy.lib.stride_tricks import sliding_window_view
from torch import Tensor

from cbirbench.errors import UsageError
from cbirbench.interfaces import Context, Json, Options, option
from cbirbench.windows import WIDE_WINDOW, WideHUWindow, wide_window_images

if TYPE_CHECKING:
    from numpy.typing import NDArray

CLIP = 0.2
"""Most that one bin may hold of its block (L2-Hys; Dalal and Triggs 2005, section 6.4)."""

FLAT = 1e-3
"""Keeps flat blocks at zero; relative to the image's mean cell, so that rounding in flat parts is unseen."""


class HogOptions(Options):
    """What can be set with ``--set hog.OPTION=VALUE``."""

    image_size: int = option(224, description="Side of the image.", unit="px", source="protocol", ge=2)
    window: WideHUWindow = option(
        WIDE_WINDOW, description="Window of the image, or an organ's name.", unit="HU", source="section 3.1"
    )
    cell: int = option(9, description="Side of a cell.", unit="px", source="section 8.4", ge=1)
    orientations: int = option(
        9, description="Bins of a cell's histogram over 180 degrees.", source="section 8.4", ge=1
    )
    block: int = option(
        2, description="Side of a block that is normalised together.", unit="cells", source="ours", ge=1
    )


class Hog:
    """Histogram of oriented gradients of the wide-window image: 23 x 23 blocks of 4 x 9 values, 19044 in all.

    What lies right of and below the last whole cell (8 of 224 pixels) is not seen. An image without gradients
    has the zero vector, which is a legitimate embedding: Euclidean distances to it exist, cosines do not.
    """

    interface_version: ClassVar[int] = 1
    options_type: ClassVar[type[Options]] = HogOptions

    def __init__(self, options: HogOptions, context: Context) -> None:
        self.options = options
        self.cells = options.image_size // options.cell
        if self.cells < options.block:
            raise UsageError(
                f"An image of {options.image_size} px holds {self.cells} cells of {options.cell} px a side, "
                f"too few for a block of {options.block}.",
                "Raise hog.image_size, or lower hog.cell or hog.block.",
            )

    def fingerprint(self) -> Mapping[str, Json]:
        """Nothing besides options and versions changes the output."""
        return {}

    def prepare(self, hu: Tensor) -> Tensor:
        """Window and resize: ``(n, side, side)`` HU to ``(n, 1, image_size, image_size)`` in 0..1."""
        return wide_window_images(hu, self.options.image_size, self.options.window)

    def embed(self, images: Tensor) -> Tensor:
        """Descriptors, float32, shape ``(n, d)``, on the device of `images`.

        They are computed on the CPU, in as many threads as torch uses there, which pays because scikit-image
        counts its histograms outside Python's lock. The number of threads does not change them.
        """
        with ThreadPoolExecutor(torch.get_num_threads()) as pool:
            rows = list(pool.map(self._describe, images.squeeze(1).cpu().numpy()))
        return torch.from_numpy(np.stack(rows)).to(images.device)

    def _describe(self, image: NDArray[np.float32]) -> NDArray[np.float32]:
        from skimage.feature import hog

        # scikit-image normalises block after block in Python, two thirds of its time. So it is asked for one
        # block, the whole image (L1: cells become shares of its sum); the real blocks are normalised here,
        # all at once.
        options = self.options
        shares = hog(
            image,
            orientations=options.orientations,
            pixels_per_cell=(options.cell, options.cell),
            cells_per_block=(self.cells, self.cells),
            block_norm="L1",
            feature_vector=False,
        )[0, 0]
        blocks = sliding_window_view(shares * self.cells**2, (options.block, options.block), axis=(0, 1))
        blocks = np.moveaxis(blocks, 2, -1).reshape(-1, options.block**2 * options.orientations)
        return _unit(np.minimum(_unit(blocks), CLIP)).ravel()


def _unit(blocks: NDArray[np.float32]) -> NDArray[np.float32]:
    norms: NDArray[np.float32] = np.sqrt((blocks**2).sum(axis=1, keepdims=True) + FLAT**2)
    return blocks / norms
