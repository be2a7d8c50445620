"""Relevance rank accuracy: how much of the organ the most important pixels cover (paper, eq. 7)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from cbirbench.errors import DataError, MissingError
from cbirbench.interfaces import Evidence, Need, Options, option

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


class RelevanceRank:
    """The share of the mask's pixels among the |S| most important ones, |S| being the mask's size.

    Arras et al. 2022, as computed by Quantus. Its chance level is the organ's share of the slice.

    Pixels of equal importance are ordered by position, row by row from the anterior right of the patient, so
    that a map has one value. Undefined (NaN): no mask or an empty one, no map, a map with NaN or infinity,
    and a map without any order (one value throughout).
    """

    options_type: ClassVar[type[Options]] = RelevanceRankOptions
    needs: ClassVar[Need] = "explanations"

    def __init__(self, options: RelevanceRankOptions) -> None:
        """Raise MissingError where Quantus cannot be imported: before hours of training, not after."""
        check_quantus()
        self.options = options

    @property
    def name(self) -> str:
        """The name in results."""
        return "relevance-rank"

    @property
    def depth(self) -> int:
        """No neighbour is looked at."""
        return 0

    def per_query(self, evidence: Evidence) -> NDArray[np.float64]:
        """Relevance rank accuracy of each query, in 0..1.

        Raises:
            DataError: A map's shape differs from its mask's.
            MissingError: Quantus cannot be imported.
        """
        accuracy = _import_quantus().RelevanceRankAccuracy(
            abs=False, normalise=False, disable_warnings=True, display_progressbar=False
        )
        values = np.full(len(evidence.maps), np.nan)
        for query, (importance, mask) in enumerate(zip(evidence.maps, evidence.masks, strict=True)):
            if importance is None or mask is None or not mask.any():
                continue
            if importance.shape != mask.shape:
                raise DataError(
                    f"Query {query} has a map of shape {importance.shape} but a mask of shape {mask.shape}.",
                    "Bring maps to the slice's native size before scoring them.",
                )
            ranks = _ranks(np.abs(importance) if self.options.absolute else importance)
            if ranks is not None:
                values[query] = _accuracy(accuracy, ranks, mask)
        return values


def _ranks(importance: NDArray[np.float32]) -> NDArray[np.float64] | None:
    """Rank pixels: the most important gets the highest number, no two the same; None where undefined.

    Quantus sorts by value with no rule for ties; given ranks it has none to break.
    """
    flat = importance.ravel()
    if not np.isfinite(flat).all() or (flat == flat[0]).all():
        return None
    ranks = np.empty(flat.size)
    ranks[np.argsort(-flat, kind="stable")] = np.arange(flat.size, 0, -1)
    return ranks


def _accuracy(accuracy: Any, ranks: NDArray[np.float64], mask: NDArray[np.bool_]) -> float:
    # As one row of pixels: the metric has no use for the layout, and Quantus misreads images one pixel wide.
    row = ranks.reshape(1, 1, 1, -1)
    segmentation = mask.reshape(1, 1, 1, -1).astype(np.uint8)
    (value,) = accuracy(
        model=None, x_batch=row, y_batch=np.zeros(1), a_batch=row, s_batch=segmentation, channel_first=True
    )
    return float(value)


def check_quantus() -> None:
    """Import Quantus, to know before hours of training that relevance ranks can be computed.

    Raises:
        MissingError: It cannot be imported; on a bare server OpenCV lacks libraries of the system.
    """
    _import_quantus()


def _import_quantus() -> Any:
    try:
        import quantus
    except (ImportError, OSError) as error:
        raise MissingError(
            f"The metric relevance-rank needs Quantus, whose import failed: {error}.",
            "If a library such as libGL.so.1 is named, install the system packages that OpenCV needs "
            "(Debian, Ubuntu: apt-get install libgl1 libglib2.0-0); otherwise pip install quantus. "
            "Or leave the metric out with --metrics map,knn-accuracy.",
        ) from error
    return quantus
