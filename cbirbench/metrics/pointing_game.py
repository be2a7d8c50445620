"""The pointing game: whether the most important pixel of a map lies in the organ."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from cbirbench.interfaces import Evidence, Options
from cbirbench.metrics.localisation import QUIET, MapMetric, quantus_value, score_maps, top_ranks
from cbirbench.metrics.quantus_import import import_quantus

if TYPE_CHECKING:
    from numpy.typing import NDArray


class PointingGameOptions(Options):
    """There is nothing to set."""


class PointingGame(MapMetric[PointingGameOptions]):
    """1 where the single most important pixel lies in the mask, else 0.

    Zhang et al. 2018 (Top-down neural attention by excitation backprop), as computed by Quantus: without the
    tolerance of 15 pixels around the organ that they allow. A map of random numbers hits as often as the
    organ's share of the slice: that is the chance level. One pixel a map is a noisy witness; the mean over
    few queries says little.

    Of several pixels with the highest importance the first counts, row by row from the anterior right of the
    patient; Quantus alone would take any of them that hits. Undefined (NaN): no mask or an empty one, no map,
    a map with NaN or infinity, and a map of one value throughout.
    """

    interface_version: ClassVar[int] = 1
    options_type: ClassVar[type[Options]] = PointingGameOptions

    @property
    def name(self) -> str:
        """The name in results."""
        return "pointing-game"

    def per_query(self, evidence: Evidence) -> NDArray[np.float64]:
        """1.0 for a hit, 0.0 for a miss, shape ``(q,)``.

        Raises:
            DataError: A map's shape differs from its mask's.
            MissingError: Quantus cannot be imported.
        """
        metric = import_quantus(self.name).PointingGame(abs=False, **QUIET)

        def score(importance: NDArray[Any], mask: NDArray[np.bool_]) -> float:
            return quantus_value(metric, top_ranks(importance, 1), mask)

        return score_maps(evidence, score)
