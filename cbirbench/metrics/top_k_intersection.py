"""Top-k intersection: how many of the k most important pixels of a map lie in the organ."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from cbirbench.errors import DataError
from cbirbench.interfaces import Evidence, Options, option
from cbirbench.metrics.localisation import QUIET, MapMetric, quantus_value, score_maps, top_ranks
from cbirbench.metrics.quantus_import import import_quantus

if TYPE_CHECKING:
    from numpy.typing import NDArray


class TopKIntersectionOptions(Options):
    """What can be set with ``--set top-k-intersection.OPTION=VALUE``, or ``top-k-intersection@K``."""

    k: int = option(
        1000,
        description="How many of the most important pixels are looked at, at the slice's native size.",
        unit="px",
        source="Theiner et al. 2021; Quantus's default",
        protocol=False,  # the paper has no such metric, and the name in results says k
        ge=1,
    )


class TopKIntersection(MapMetric[TopKIntersectionOptions]):
    """``top-k-intersection@k``: the share of the k most important pixels that lie in the mask.

    Theiner et al. 2021 (Interpretable semantic photo geolocalization), as computed by Quantus. Its chance
    level is the organ's share of the slice. Unlike the relevance rank, which looks at as many pixels as the
    organ has, k is the same for every slice, so small organs are at a disadvantage: one of |S| < k pixels
    cannot score more than |S| / k.

    k counts pixels of the slice as scanned: on 512 x 512 pixels the default 1000 are the top 0.4 %. k has to
    be smaller than the slice, or the map has no say; where it is not, that is an error and no value.

    Pixels of equal importance are ordered by position, row by row from the anterior right of the patient, so
    that a map has one value. Undefined (NaN): no mask or an empty one, no map, a map with NaN or infinity,
    and a map of one value throughout.
    """

    interface_version: ClassVar[int] = 1
    options_type: ClassVar[type[Options]] = TopKIntersectionOptions

    @property
    def name(self) -> str:
        """``top-k-intersection@1000``."""
        return f"top-k-intersection@{self.options.k}"

    def per_query(self, evidence: Evidence) -> NDArray[np.float64]:
        """The share of the k most important pixels in the organ, in 0..1, shape ``(q,)``.

        Raises:
            DataError: A map's shape differs from its mask's, or a map has no more than k pixels.
            MissingError: Quantus cannot be imported.
        """
        k = self.options.k
        metric = import_quantus(self.name).TopKIntersection(k=k, abs=False, **QUIET)

        def score(importance: NDArray[Any], mask: NDArray[np.bool_]) -> float:
            if importance.size <= k:
                raise DataError(
                    f"{self.name} looks at the {k} most important pixels, but a query's slice has "
                    f"{importance.size} in all, {importance.shape[0]} x {importance.shape[1]}.",
                    f"Take fewer, --metrics top-k-intersection@{max(1, importance.size // 100)} for example, "
                    "or leave the metric out.",
                )
            return quantus_value(metric, top_ranks(importance, k), mask)

        return score_maps(evidence, score)
