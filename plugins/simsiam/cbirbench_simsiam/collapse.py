"""How far SimSiam's vectors are from collapse, watched while it trains."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import normalize

RANKED = 512
"""Vectors of an epoch, the last ones, whose effective rank is taken; more would cost more than a step."""

COLLAPSED_SHARE = 0.3
"""Vectors count as collapsed when their deviation is below this share of ``1/sqrt(d)``."""

COLLAPSED_RANK = 2.0
"""They count as collapsed as well when they lie on little more than a line."""


class Spread:
    """How the L2-normalised vectors of one view spread in an epoch, gathered batch by batch."""

    def __init__(self) -> None:
        self._count = 0
        self._sum: Tensor | float = 0.0
        self._squares: Tensor | float = 0.0
        self._last: list[Tensor] = []

    def add(self, vectors: Tensor) -> None:
        """Take in a batch, shape ``(n, d)``."""
        unit = normalize(vectors.detach().double(), dim=1)
        self._count += len(unit)
        self._sum = self._sum + unit.sum(dim=0)
        self._squares = self._squares + unit.square().sum(dim=0)
        self._last.append(unit)
        while sum(map(len, self._last[1:])) >= RANKED:
            self._last.pop(0)

    def deviation(self) -> float:
        """Standard deviation of a coordinate, mean over all d: 0 at collapse, at most 1/sqrt(d)."""
        mean = torch.as_tensor(self._sum) / self._count
        variance = torch.as_tensor(self._squares) / self._count - mean.square()
        return float(variance.clamp(min=0).sqrt().mean())

    def effective_rank(self) -> float:
        """Effective rank of the last `RANKED` vectors, centred: how many directions they really use.

        The exponential of the entropy of the singular values' shares (Roy and Vetterli, 2007): 1 where all
        lie on a line, at most the smaller of d and the number of vectors, 0 where all are one point.
        """
        vectors = torch.cat(self._last)[-RANKED:]
        centred = vectors - vectors.mean(dim=0)
        narrow = centred if len(centred) <= centred.shape[1] else centred.T
        squares = torch.linalg.eigvalsh((narrow @ narrow.T).cpu()).clamp(min=0)
        # Rounding leaves about 1e-16 of the largest where there is nothing.
        singular = squares[squares > 1e-12 * squares.max()].sqrt()
        if not len(singular) or float(squares.max()) < 1e-20:
            return 0.0
        shares = singular / singular.sum()
        return math.exp(-float((shares * shares.log()).sum()))


def collapsed(deviation: float, dimension: float, rank: float) -> bool:
    """Whether vectors with this deviation and effective rank in d dimensions have collapsed."""
    return deviation < COLLAPSED_SHARE / math.sqrt(dimension) or rank < COLLAPSED_RANK
