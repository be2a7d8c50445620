"""Attribution localisation: how much of a map's importance lies in the organ."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from cbirbench.interfaces import Evidence, Options, option
from cbirbench.metrics.localisation import QUIET, MapMetric, quantus_value, score_maps
from cbirbench.metrics.quantus_import import import_quantus

if TYPE_CHECKING:
    from numpy.typing import NDArray


class AttributionLocalisationOptions(Options):
    """What can be set with ``--set attribution-localisation.OPTION=VALUE``."""

    offset: Literal["minimum", "none"] = option(
        "minimum",
        description="What counts as no importance: the map's minimum, which is taken off everywhere, or zero "
        "(none), below which importance is left out.",
        source="ours: RELAX maps are similarities, far from 0 everywhere",
    )


class AttributionLocalisation(MapMetric[AttributionLocalisationOptions]):
    """The importance within the mask divided by all of the map's.

    Kohlbrenner et al. 2020 (Towards best practice in explaining neural network decisions with LRP), as
    computed by Quantus, on the positive importance. Its chance level is the organ's share of the slice.

    They had relevances around 0 in mind. A RELAX map holds mean cosine similarities: nearly one value
    everywhere, with small differences, so that any map would score close to the organ's share. What is
    everywhere says nothing about where, hence the option `offset`, whose default takes the minimum off first.
    That is a convention: the lowest pixel sets the scale, so a single outlier there brings the value back to
    the organ's share. Read it beside metrics that use the order of the pixels alone.

    Undefined (NaN): no mask or an empty one, no map, a map with NaN or infinity, a map of one value
    throughout, and without offset a map without positive importance.
    """

    interface_version: ClassVar[int] = 1
    options_type: ClassVar[type[Options]] = AttributionLocalisationOptions

    @property
    def name(self) -> str:
        """The name in results."""
        return "attribution-localisation"

    def per_query(self, evidence: Evidence) -> NDArray[np.float64]:
        """The organ's share of each map's importance, in 0..1, shape ``(q,)``.

        Raises:
            DataError: A map's shape differs from its mask's.
            MissingError: Quantus cannot be imported.
        """
        # What is handed over is not negative: `abs` changes nothing, and Quantus prints where it is off.
        # It also takes its number of images for that of pixels, divides by 0 and warns about the result;
        # only the weighted variant would use it.
        metric = import_quantus(self.name).AttributionLocalisation(abs=True, max_size=np.inf, **QUIET)

        def score(importance: NDArray[np.float64], mask: NDArray[np.bool_]) -> float:
            with np.errstate(divide="ignore"):
                # At most 1 first: Quantus adds 1e-9 to the sum, which is to be small beside it.
                return quantus_value(metric, importance / importance.max(), mask)

        return score_maps(evidence, score, prepare=self._positive)

    def _positive(self, importance: NDArray[np.float32]) -> NDArray[Any]:
        wide = importance.astype(np.float64)
        return wide - wide.min() if self.options.offset == "minimum" else np.maximum(wide, 0)
