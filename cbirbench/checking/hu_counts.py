"""How often each HU value occurs: exact percentiles and histograms of volumes seen a slice at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from cbirbench.slices import AIR_HU

if TYPE_CHECKING:
    from numpy.typing import NDArray

LEAST_PADDING = 0.01
"""The lowest value, if below air's, is called padding where it fills at least this share of the voxels."""

_LOWEST = int(np.iinfo(np.int16).min)


class HUCounts:
    """Counts of HU values, one for each that int16 can hold."""

    def __init__(self) -> None:
        self._counts = np.zeros(2**16, dtype=np.int64)

    def add(self, hu: NDArray[np.int16]) -> None:
        """Count values, of any shape."""
        if hu.size:
            shifted = hu.ravel().astype(np.int32) - _LOWEST
            found = np.bincount(shifted)
            self._counts[: len(found)] += found

    @property
    def total(self) -> int:
        """How many values were counted."""
        return int(self._counts.sum())

    @property
    def lowest(self) -> int:
        """The lowest value."""
        return int(np.flatnonzero(self._counts)[0]) + _LOWEST

    @property
    def highest(self) -> int:
        """The highest value."""
        return int(np.flatnonzero(self._counts)[-1]) + _LOWEST

    def percentile(self, q: int) -> int:
        """The lowest value that at least `q` percent of the values do not exceed."""
        rank = max(-(-q * self.total // 100), 1)
        return int(np.searchsorted(np.cumsum(self._counts), rank)) + _LOWEST

    def share_below(self, hu: int) -> float:
        """Share of the values that are below `hu`."""
        return float(self._counts[: hu - _LOWEST].sum() / self.total)

    def padding(self) -> tuple[int | None, float]:
        """The value below air's that fills the corners of a scanner's round images, and its share."""
        lowest = self.lowest
        share = float(self._counts[lowest - _LOWEST] / self.total)
        padded = lowest < AIR_HU and LEAST_PADDING <= share < 1.0
        return (lowest, share) if padded else (None, 0.0)

    def without(self, hu: int | None) -> HUCounts:
        """The same counts without those of one value."""
        others = HUCounts()
        others._counts = self._counts.copy()
        if hu is not None:
            others._counts[hu - _LOWEST] = 0
        return others

    def bins(self, low: int, high: int, width: int) -> list[int]:
        """Counts in bins of `width` HU from `low` to below `high`, a multiple of it above `low`."""
        values = np.arange(_LOWEST, _LOWEST + len(self._counts))
        edges = np.arange(low, high + width, width) - 0.5  # between whole numbers: no value lies on an edge
        counts, _ = np.histogram(values, edges, weights=self._counts)
        return [int(count) for count in counts]

    def trimmed(self, width: int) -> tuple[int, list[int]]:
        """Where the bins begin, and the counts of bins of `width` HU that hold all values."""
        if not self.total:
            return 0, []
        low = self.lowest // width * width
        return low, self.bins(low, (self.highest // width + 1) * width, width)
