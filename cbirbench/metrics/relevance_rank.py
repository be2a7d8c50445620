"""Relevance rank accuracy: how much of the organ the most important pixels cover (paper, eq. 7)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from cbirbench.interfaces import Evidence, Options, option
from cbirbench.metrics.localisation import QUIET, MapMetric, quantus_value, score_maps, top_ranks
from cbirbench.metrics.quantus_import import import_quantus

if TYPE_CHECKING:
    from numpy.typing import NDArray


class RelevanceRankOptions(Options):
    """How importance is ranked."""

    absolute: bool = option(
        False,
        description="Rank pixels by the size of their importance, whatever its sign.",
        source="eq. 7; the released program takes absolute values",
        profiles={"released-code": True},
    )


class RelevanceRank(MapMetric[RelevanceRankOptions]):
    """The share of the mask's pixels among the |S| most important ones, |S| being the mask's size.

    Arras et al. 2022, as computed by Quantus. Its chance level is the organ's share of the slice.

    Pixels of equal importance are ordered by position, row by row from the anterior right of the patient, so
    that a map has one value. Undefined (NaN): no mask or an empty one, no map, a map with NaN or infinity,
    and a map without any order (one value throughout).
    """

    interface_version: ClassVar[int] = 1
    options_type: ClassVar[type[Options]] = RelevanceRankOptions

    @property
    def name(self) -> str:
        """The name in results."""
        return "relevance-rank"

    def per_query(self, evidence: Evidence) -> NDArray[np.float64]:
        """Relevance rank accuracy of each query, in 0..1.

        Raises:
            DataError: A map's shape differs from its mask's.
            MissingError: Quantus cannot be imported.
        """
        metric = import_quantus(self.name).RelevanceRankAccuracy(abs=False, **QUIET)

        def score(importance: NDArray[Any], mask: NDArray[np.bool_]) -> float:
            return quantus_value(metric, top_ranks(importance, int(mask.sum())), mask)

        return score_maps(evidence, score, prepare=np.abs if self.options.absolute else None)
