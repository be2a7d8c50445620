"""From the similarities of masked images to importance and uncertainty (Wickstrøm et al. 2023, RELAX).

Let ``s_n`` be the similarity of the image under mask ``M_n`` to the whole image. All estimators answer one
question: how similar, on average, are the masked images that show a pixel?

- ``ratio``: ``R = sum(s_n M_n) / sum(M_n)``, RELAX as its authors' programs compute it.
- ``mean``: ``R = sum(s_n M_n) / N``, eq. 4 as printed. It is the ratio map times the sampled mean mask, so it
  carries that mask's noise.
- ``regression``: the cells of a grid are kept independently, so for masks of one shift the ratio's limit is
  ``E[s] + (1 - keep) * sum_c w_c b_c``, with ``w_c`` how strongly a pixel is covered by cell ``c`` and
  ``b_c`` the main effect of keeping that cell (the coefficient of a linear regression of ``s`` on the grids).
  Ridge regression estimates effects that all shifts have in common, mapped with ``w_c`` averaged over shifts.
  The ratio map of what they leave unexplained is added: interactions, and what differs between shifts. So the
  estimate has the ratio's scale and, as masks are added, its limit.

Uncertainty is the spread of the similarities of the masked images that show a pixel, about their own mean:
``sum((s_n - r)^2 M_n) / sum(M_n)`` with ``r`` the ratio, whatever the estimator.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Literal

import numpy as np

from cbirbench.explain.masks import MaskDesign, MaskSums, shift_weights

if TYPE_CHECKING:
    from numpy.typing import NDArray

Estimator = Literal["ratio", "mean", "regression"]

SUMMED_AT_ONCE = 4096
"""Masks drawn at a time when maps are added up. Regression holds the cells of all: 400 bytes a mask."""

PENALTIES = 10.0 ** np.arange(-3, 4)
"""Ridge penalties to choose from, relative to the variance that one cell has over all masks."""


@dataclass(frozen=True, eq=False)
class Estimate:
    """Maps of one image, float64, shape ``(height, width)`` each; NaN where no mask shows a pixel.

    Attributes:
        importance: How similar the masked images are that show a pixel.
        uncertainty: The variance of their similarities; its square root is on the scale of importance.
        halves: Importance from either half of the masks alone, ``(2, height, width)``.
    """

    importance: NDArray[np.float64]
    uncertainty: NDArray[np.float64]
    halves: NDArray[np.float64]


def estimate(
    design: MaskDesign, similarities: NDArray[np.float64], height: int, width: int, estimator: Estimator
) -> Estimate:
    """Maps from the similarities of the first masks of a design.

    Args:
        design: The masks' design.
        similarities: One a mask, float64, shape ``(masks,)``, finite.
        height: Rows of the maps in pixels.
        width: Columns of the maps in pixels.
        estimator: How importance is estimated.

    Raises:
        UsageError: The maps have fewer pixels along an axis than the grid has cells.
    """
    half = design.halves(np.arange(len(similarities)))
    # Rows: the first half, the second, all. An empty half's map is NaN.
    members = np.stack([half == 0, half == 1, np.ones_like(half, dtype=bool)])
    base, explained = np.zeros((3, height, width)), np.zeros((3, len(similarities)))
    if estimator == "regression":
        base, explained = _main_effects(design, similarities, members, height, width)
    shown = _shown(design, len(similarities), height, width)
    left = members * (similarities - explained)
    sums = _sums(design, np.concatenate([left, [similarities, similarities**2]]), height, width)
    with np.errstate(invalid="ignore", divide="ignore"):
        if estimator == "mean":
            maps = sums[:3] / members.sum(axis=1)[:, None, None]
        else:
            maps = base + sums[:3] / shown
        first, second = sums[3:] / shown[2]
        spread = np.maximum(second - first**2, 0.0)
    return Estimate(maps[2], spread, maps[:2])


def keep_certain(
    importance: NDArray[np.float64], uncertainty: NDArray[np.float64], threshold: Literal["median", "mean"]
) -> NDArray[np.float64]:
    """U-RELAX: importance where the uncertainty is at most its median or its mean, and 0 elsewhere.

    Args:
        importance: Shape ``(height, width)``.
        uncertainty: The same shape.
        threshold: Taken over the pixels of this map.
    """
    limit = np.median(uncertainty) if threshold == "median" else np.mean(uncertainty)
    kept: NDArray[np.float64] = np.where(uncertainty <= limit, importance, 0.0)
    return np.where(np.isnan(importance), np.nan, kept)


def _sums(design: MaskDesign, weights: NDArray[np.float64], height: int, width: int) -> NDArray[np.float64]:
    sums = MaskSums(design, height, width, len(weights))
    for block in design.blocks(weights.shape[1], SUMMED_AT_ONCE):
        sums.add(block, weights[:, block.start : block.stop])
    return sums.maps()


@lru_cache(maxsize=4)
def _shown(design: MaskDesign, count: int, height: int, width: int) -> NDArray[np.float64]:
    """How much masks show of each pixel: those of either half, and all; shape ``(3, height, width)``."""
    half = design.halves(np.arange(count))
    sums = _sums(design, np.stack([half == 0, half == 1]).astype(np.float64), height, width)
    shown = np.concatenate([sums, sums.sum(axis=0, keepdims=True)])
    shown[shown < 1e-9] = np.nan  # what should be 0 is not after many additions
    shown.setflags(write=False)
    return shown


def _main_effects(
    design: MaskDesign,
    similarities: NDArray[np.float64],
    members: NDArray[np.bool_],
    height: int,
    width: int,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Maps of the cells' main effects on the ratio's scale, and the similarities that they explain.

    Returns:
        Shapes ``(3, height, width)`` and ``(3, masks)``, a row a group of masks.
    """
    grids = np.concatenate([b.grids for b in design.blocks(len(similarities), SUMMED_AT_ONCE)])
    cells = grids.reshape(len(grids), -1).astype(np.float64)
    rows, columns = (
        shift_weights(design.grid, size, design.shifts).mean(dim=0).numpy() for size in (height, width)
    )
    maps, explained = [], []
    for member in members:
        if not member.any():
            maps.append(np.full((height, width), np.nan))
            explained.append(np.zeros(len(similarities)))
            continue
        level, effects = ridge(cells[member] - design.keep, similarities[member])
        field = rows @ effects.reshape(design.grid, design.grid) @ columns.T
        maps.append(level + (1 - design.keep) * field)
        explained.append(level + (cells - design.keep) @ effects)
    return np.stack(maps), np.stack(explained)


def ridge(features: NDArray[np.float64], values: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
    """Ridge regression, its penalty chosen by generalised cross-validation (Golub et al. 1979).

    Args:
        features: Shape ``(n, d)``; fewer rows than columns are allowed.
        values: Shape ``(n,)``.

    Returns:
        The intercept, which is not penalised, and the coefficients, shape ``(d,)``.
    """
    count = len(values)
    centre, level = features.mean(axis=0), float(values.mean())
    spread, rest = features - centre, values - level
    squares, directions = np.linalg.eigh(spread.T @ spread)
    real = squares > 1e-9 * max(float(squares[-1]), 1e-300)
    squares, directions = squares[real], directions[:, real]
    along = (directions.T @ (spread.T @ rest)) / np.sqrt(squares)
    scale = float(squares.mean()) if len(squares) else 1.0
    best, coefficients = np.inf, np.zeros(features.shape[1])
    for penalty in PENALTIES * scale:
        kept = squares / (squares + penalty)
        freedom = 1.0 - (1.0 + kept.sum()) / count  # the intercept takes one
        if freedom <= 0:
            continue
        error = (float(rest @ rest) - float(((2 * kept - kept**2) * along**2).sum())) / freedom**2
        if error < best:
            best, coefficients = error, directions @ (kept * along / np.sqrt(squares))
    return level - float(centre @ coefficients), coefficients
