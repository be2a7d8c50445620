"""RELAX's random masks, drawn once and rendered at any size.

A mask starts as a small grid of cells, each kept or dropped at random. The grid is upsampled bilinearly to
the image's size, padded by reflection with ``grid // 2`` pixels on each side, and cropped back to the
image's size at a random shift. Upsampling, padding and cropping act on rows and on columns separately, so a
mask is ``rows @ grid @ columns.T`` with one small matrix for each shift. Rendering it takes two small matrix
products, and so does a weighted sum of thousands of masks, none of which need be rendered.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn.functional import interpolate, pad

from cbirbench.errors import UsageError

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor


def shift_weights(grid: int, size: int) -> Tensor:
    """How a mask's pixels along one axis weigh the cells of its grid, for each shift of the crop.

    Args:
        grid: Cells along the axis.
        size: Pixels along the axis.

    Returns:
        float64 on the CPU, shape ``(grid, size, grid)``: shift, pixel, cell. A pixel's weights sum to 1.
    """
    if size < grid:
        raise UsageError(
            f"RELAX cannot lay a grid of {grid} cells over images of {size} pixels a side.",
            "Set relax.grid to no more than the image's shorter side.",
        )
    # Upsampling unit vectors gives the weights themselves, by torch's own rule for pixel centres.
    cells = torch.eye(grid, dtype=torch.float64).unsqueeze(0)
    upsampled = interpolate(cells, size=size, mode="linear", align_corners=False)
    padded = pad(upsampled, (grid // 2, grid // 2), mode="reflect")[0]
    return torch.stack([padded[:, shift : shift + size].T for shift in range(grid)])


@dataclass(frozen=True, eq=False)
class MaskBank:
    """Drawn masks, independent of the images' size and of the device.

    Attributes:
        grids: Which cells are kept, bool, shape ``(count, grid, grid)``.
        shifts: Crop shift down and to the right in pixels, in ``0..grid-1``, int64, shape ``(count, 2)``.
    """

    grids: NDArray[np.bool_]
    shifts: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.grids)

    def render(self, chosen: slice, height: int, width: int, device: torch.device | str = "cpu") -> Tensor:
        """Make masks at the size of an image.

        Args:
            chosen: Which masks.
            height: Rows of the image in pixels.
            width: Columns of the image in pixels.
            device: Where to make them.

        Returns:
            float32 in 0..1, shape ``(b, 1, height, width)``.

        Raises:
            UsageError: The image has fewer pixels along an axis than the grid has cells.
        """
        cells = self.grids.shape[1]
        grids = torch.from_numpy(self.grids[chosen]).to(device, torch.float32)
        down, right = torch.from_numpy(self.shifts[chosen]).to(device).unbind(1)
        rows = shift_weights(cells, height).to(device, torch.float32)[down]
        columns = shift_weights(cells, width).to(device, torch.float32)[right]
        # Each pixel is a convex combination of zeros and ones, which rounding can carry past 1 by an ulp.
        return (rows @ grids @ columns.transpose(1, 2)).clamp_(0.0, 1.0).unsqueeze(1)

    def weighted_sum(self, weights: Tensor, height: int, width: int) -> Tensor:
        """Sum masks, each times its weight, without rendering one.

        Weighted grids that share a shift are added first; what is left is one sum of ``grid`` x ``grid``
        shifts, each ``rows @ sum @ columns.T``. On the CPU in float64, in a fixed order of additions, so the
        same weights give the same sum on every device.

        Args:
            weights: One weight a mask, shape ``(count,)``.
            height: Rows of the sum in pixels.
            width: Columns of the sum in pixels.

        Returns:
            float64 on the CPU, shape ``(height, width)``: ``sum_n weights[n] * mask[n]``.

        Raises:
            UsageError: As `render`.
        """
        cells = self.grids.shape[1]
        weighted = weights.to("cpu", torch.float64)[:, None, None] * torch.from_numpy(self.grids)
        down, right = torch.from_numpy(self.shifts).unbind(1)
        by_shift = torch.zeros(cells * cells, cells, cells, dtype=torch.float64)
        by_shift.index_add_(0, down * cells + right, weighted)
        # From (shift down, shift right, row, column) to a matrix between (shift, row) and (shift, column).
        between = by_shift.view(cells, cells, cells, cells).permute(0, 2, 1, 3).reshape(cells**2, cells**2)
        rows = shift_weights(cells, height).permute(1, 0, 2).reshape(height, cells**2)
        columns = shift_weights(cells, width).permute(1, 0, 2).reshape(width, cells**2)
        return rows @ between @ columns.T


def draw_masks(count: int, grid: int, keep: float, seed: int) -> MaskBank:
    """Draw masks: each cell kept with probability `keep`, each shift equally likely.

    Args:
        count: Number of masks.
        grid: Cells along each side of a grid.
        keep: Probability that a cell is kept.
        seed: Decides every draw, whatever the device.
    """
    generator = np.random.default_rng(seed)
    grids = generator.random((count, grid, grid)) < keep
    return MaskBank(grids, generator.integers(0, grid, size=(count, 2)))
