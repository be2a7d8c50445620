"""RELAX's random masks: drawn, rendered at any size, and added up without being rendered.

A mask starts as a small grid of cells, each kept or dropped at random. The grid is upsampled bilinearly and
cropped to the image's size at a random shift. Upsampling and cropping act on rows and on columns separately,
so a mask is ``rows @ grid @ columns.T`` with one small matrix for each shift. Rendering it takes two small
matrix products, and so does a weighted sum of thousands of masks, none of which need be rendered.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from torch.nn.functional import interpolate, pad

from cbirbench.errors import UsageError

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

Shifts = Literal["pixels", "cells"]
"""How far masks are shifted: by a few pixels as in RELAX, or by up to a whole cell as in RISE."""


@lru_cache(maxsize=16)
def shift_weights(grid: int, size: int, shifts: Shifts = "pixels") -> Tensor:
    """How a mask's pixels along one axis weigh the cells of its grid, for each shift of the crop.

    ``pixels``: the grid is upsampled to the image's size, padded by reflection with ``grid // 2`` pixels on
    both sides, and cropped at one of `grid` shifts (RELAX's released program). ``cells``: it is upsampled to
    one cell more than the image takes, and cropped at any shift within a cell (Petsiuk et al. 2018, RISE).

    Args:
        grid: Cells along the axis.
        size: Pixels along the axis.
        shifts: How far masks are shifted.

    Returns:
        float64 on the CPU, shape ``(shifts, size, grid)``: shift, pixel, cell. A pixel's weights sum to 1. It
        is kept and given again: not to be changed.

    Raises:
        UsageError: There are fewer pixels than cells.
    """
    if size < grid:
        raise UsageError(
            f"RELAX cannot lay a grid of {grid} cells over images of {size} pixels a side.",
            "Set relax.grid to no more than the image's shorter side.",
        )
    # Upsampling unit vectors gives the weights themselves, by torch's own rule for pixel centres.
    cells = torch.eye(grid, dtype=torch.float64).unsqueeze(0)
    if shifts == "cells":
        side = -(-size // grid)
        wide = interpolate(cells, size=(grid + 1) * side, mode="linear", align_corners=False)[0]
        return torch.stack([wide[:, shift : shift + size].T for shift in range(side)])
    upsampled = interpolate(cells, size=size, mode="linear", align_corners=False)
    padded = pad(upsampled, (grid // 2, grid // 2), mode="reflect")[0]
    return torch.stack([padded[:, shift : shift + size].T for shift in range(grid)])


@dataclass(frozen=True)
class MaskDesign:
    """How masks are drawn. Its masks form one endless row: the first thousand of it are always the same.

    Attributes:
        grid: Cells along each side of a grid.
        keep: Probability that a cell is kept.
        seed: Decides every draw, whatever the device and the images.
        shifts: How far masks are shifted.
        antithetic: Whether every second mask shows exactly what the one before it hides; `keep` is then .5.
    """

    grid: int = 7
    keep: float = 0.5
    seed: int = 0
    shifts: Shifts = "pixels"
    antithetic: bool = False

    def blocks(self, count: int, size: int) -> Iterator[MaskBlock]:
        """Draw the first `count` masks, at most `size` at a time.

        Args:
            count: Number of masks.
            size: Masks in a block; the same masks come whatever it is.
        """
        cells, places = (np.random.default_rng([self.seed, stream]) for stream in (0, 1))
        together = 2 if self.antithetic else 1
        grids = np.empty((0, self.grid, self.grid), dtype=bool)
        positions = np.empty((0, 2))
        for start in range(0, count, size):
            wanted = min(size, count - start)
            drawn = -(-(wanted - len(grids)) // together)
            new_grids = cells.random((drawn, self.grid, self.grid)) < self.keep
            new_positions = places.random((drawn, 2))
            if self.antithetic:
                new_grids = np.stack([new_grids, ~new_grids], axis=1).reshape(-1, self.grid, self.grid)
                new_positions = np.repeat(new_positions, 2, axis=0)
            grids, positions = np.concatenate([grids, new_grids]), np.concatenate([positions, new_positions])
            yield MaskBlock(self, start, grids[:wanted], positions[:wanted])
            grids, positions = grids[wanted:], positions[wanted:]

    def halves(self, masks: NDArray[np.int64]) -> NDArray[np.int64]:
        """Which of two independent halves, 0 or 1, masks belong to; antithetic pairs stay together."""
        return (masks // 2 if self.antithetic else masks) % 2


@dataclass(frozen=True, eq=False)
class MaskBlock:
    """Some masks of a design, independent of the images' size and of the device.

    Attributes:
        design: What they were drawn by.
        start: The number of the first, from 0.
        grids: Which cells are kept, bool, shape ``(count, grid, grid)``.
        positions: Where the crop lies, down and to the right, in 0..1 of the possible shifts, ``(count, 2)``.
    """

    design: MaskDesign
    start: int
    grids: NDArray[np.bool_]
    positions: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.grids)

    @property
    def stop(self) -> int:
        """The number of the mask after its last."""
        return self.start + len(self.grids)

    def shift_numbers(self, axis: int, shifts: int) -> Tensor:
        """Which of so many shifts each mask has along an axis, int64, shape ``(count,)``."""
        return torch.from_numpy((self.positions[:, axis] * shifts).astype(np.int64))

    def render(self, height: int, width: int, device: torch.device | str = "cpu") -> Tensor:
        """Make the masks at the size of an image.

        Args:
            height: Rows of the image in pixels.
            width: Columns of the image in pixels.
            device: Where to make them.

        Returns:
            float32 in 0..1, shape ``(count, 1, height, width)``.

        Raises:
            UsageError: The image has fewer pixels along an axis than the grid has cells.
        """
        weights = []
        for axis, size in enumerate((height, width)):
            every = shift_weights(self.design.grid, size, self.design.shifts)
            chosen = self.shift_numbers(axis, len(every)).to(device)
            weights.append(every.to(device, torch.float32)[chosen])
        grids = torch.from_numpy(self.grids).to(device, torch.float32)
        # Each pixel is a convex combination of zeros and ones, which rounding can carry past 1 by an ulp.
        return (weights[0] @ grids @ weights[1].transpose(1, 2)).clamp_(0.0, 1.0).unsqueeze(1)


class MaskSums:
    """Sums of masks, each times its weight, without rendering one.

    Weighted grids that share a shift are added first; what is left is one sum over the shifts, each
    ``rows @ sum @ columns.T``. On the CPU in float64, in a fixed order of additions, so the same weights give
    the same sums on every device. The memory does not grow with the number of masks.

    Args:
        design: The masks' design.
        height: Rows of the sums in pixels.
        width: Columns of the sums in pixels.
        count: How many sums are taken at once.

    Raises:
        UsageError: As `shift_weights`.
    """

    def __init__(self, design: MaskDesign, height: int, width: int, count: int) -> None:
        self._rows = shift_weights(design.grid, height, design.shifts)
        self._columns = shift_weights(design.grid, width, design.shifts)
        shifts = len(self._rows) * len(self._columns)
        self._by_shift = torch.zeros(count, shifts, design.grid, design.grid, dtype=torch.float64)

    def add(self, block: MaskBlock, weights: NDArray[np.float64]) -> None:
        """Add masks.

        Args:
            block: The masks.
            weights: One weight a sum and mask, shape ``(count, len(block))``.
        """
        down = block.shift_numbers(0, len(self._rows))
        right = block.shift_numbers(1, len(self._columns))
        grids = torch.from_numpy(block.grids)
        for sums, row in zip(self._by_shift, torch.from_numpy(weights), strict=True):
            sums.index_add_(0, down * len(self._columns) + right, row[:, None, None] * grids)

    def maps(self) -> NDArray[np.float64]:
        """The sums so far, shape ``(count, height, width)``: ``sum_n weights[n] * mask[n]``."""
        cells = self._by_shift.shape[-1]
        down, right = len(self._rows), len(self._columns)
        # From (shift down, shift right, row, column) to a matrix between (shift, row) and (shift, column).
        between = self._by_shift.view(-1, down, right, cells, cells).permute(0, 1, 3, 2, 4)
        rows = self._rows.permute(1, 0, 2).reshape(-1, down * cells)
        columns = self._columns.permute(1, 0, 2).reshape(-1, right * cells)
        return (rows @ between.reshape(-1, down * cells, right * cells) @ columns.T).numpy()
