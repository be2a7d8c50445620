"""Re-ranking a study's slices with their neighbours: spatial coherence, future work in section 8.3.

An extractor that saw single slices ranks them as if each stood alone, and so the retrieved slices come in an
order that jumps about the body. But a slice that shows what the query shows lies between slices
that show what the query's neighbours show. With z the height in a study in millimetres and D the distance of
embeddings, the smoothed distance of a candidate slice at height c from a query slice at height q is

    S(q, c) = sum over d of w(d) D(q + d, c + d)  /  sum over d of w(d),      w(d) = exp(-2 (d / R)^2)

where d runs, towards both ends of the body, over the heights of the new study's own slices relative to the
query, as far as the reach R: a Gaussian with a deviation of R / 2, cut at two deviations. The studies may
have different distances between slices: where the previous study has no slice at c + d, D is interpolated
linearly between the two slices around it. A d at which either study has ended is left out of both sums: near
the ends fewer neighbours count, and a new study of a single slice ranks as without smoothing.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from cbirbench.errors import UsageError

if TYPE_CHECKING:
    from numpy.typing import NDArray

DEFAULT_REACH = "20mm"
"""Along 20 mm the section of a liver changes visibly, and still resembles itself."""

_ROUNDING = 1e-6
"""Millimetres by which a height may lie beyond a study's end for rounding."""


@dataclass(frozen=True)
class Reach:
    """How far neighbours count.

    Attributes:
        value: In millimetres, or in slices of the new study.
        in_slices: Which of them.
    """

    value: float
    in_slices: bool

    def mm(self, spacing_mm: float) -> float:
        """In millimetres, where the new study's slices are `spacing_mm` apart."""
        return self.value * spacing_mm if self.in_slices else self.value

    def __str__(self) -> str:
        unit = (" slice" if self.value == 1 else " slices") if self.in_slices else " mm"
        return f"{self.value:g}{unit}"


def parse_reach(text: str) -> Reach:
    """Read ``20mm``, or ``2`` for two slices of the new study on either side.

    Raises:
        UsageError: It is something else.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?|\.\d+)\s*(mm)?", text.strip().lower(), re.ASCII)
    in_slices = found is not None and found[2] is None
    value = float(found[1]) if found else 0.0
    if not 0.0 < value <= 1e4 or (in_slices and value != int(value)):
        raise UsageError(
            f"A reach of neighbours is millimetres or a number of slices, got {text!r}.",
            f"Give {DEFAULT_REACH}, for instance, or 2 for two slices of the new study on either side.",
        )
    return Reach(value, in_slices)


def neighbours(number: int, count: int, spacing_mm: float, reach_mm: float) -> list[int]:
    """The slices of a study within reach of one of them, itself included, in ascending order."""
    steps = int(reach_mm / spacing_mm + _ROUNDING)
    return list(range(max(0, number - steps), min(count - 1, number + steps) + 1))


def smoothed_distances(
    distances: NDArray[np.float64],
    offsets_mm: NDArray[np.float64],
    previous_spacing_mm: float,
    reach_mm: float,
) -> NDArray[np.float64]:
    """S of every slice of the previous study (see the module).

    Args:
        distances: D of the query and its neighbours, a row each, to the n slices of the previous study in
            ascending order, shape ``(m, n)``.
        offsets_mm: Their heights relative to the query, 0 among them, shape ``(m,)``.
        previous_spacing_mm: Distance between the previous study's slices.
        reach_mm: R.

    Returns:
        Shape ``(n,)``.
    """
    heights = np.arange(distances.shape[1]) * previous_spacing_mm
    total, weights = np.zeros(len(heights)), np.zeros(len(heights))
    for row, offset in zip(distances, offsets_mm, strict=True):
        at = heights + offset
        inside = (at >= -_ROUNDING) & (at <= heights[-1] + _ROUNDING)
        weight = np.where(inside, np.exp(-2.0 * (offset / reach_mm) ** 2), 0.0)
        total += weight * np.interp(at, heights, row)
        weights += weight
    found: NDArray[np.float64] = total / weights
    return found
