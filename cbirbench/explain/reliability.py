"""How sure an importance map is: the agreement of two maps from independent halves of its masks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


def split_half_reliability(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    """Split-half reliability, corrected to the whole number of masks (Spearman 1910; Brown 1910).

    The rank correlation ``r`` of the two halves' maps, as the relevance rank rests on the order of pixels,
    becomes ``2 r / (1 + r)``: the rank correlation to be expected between the map of all masks and a map
    of as many other masks. 1: another draw of masks gives the same order of pixels; 0: an unrelated one.

    Args:
        first: Importance from one half of the masks.
        second: Importance from the other half, same shape.

    Returns:
        In 0..1 (halves that disagree count as unrelated); NaN where a map has no order: a half without masks,
        NaN, or one value throughout.
    """
    from scipy.stats import rankdata

    ranks = []
    for importance in (first, second):
        flat = importance.ravel()
        if not np.isfinite(flat).all() or np.ptp(flat) == 0:
            return float("nan")
        ranks.append(rankdata(flat))
    agreement = float(np.corrcoef(*ranks)[0, 1])
    return 2 * agreement / (1 + agreement) if agreement > 0 else 0.0
