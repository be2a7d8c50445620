"""What the metrics that set an importance map against the organ's mask share.

They differ in the question; in common they have which maps can be scored, how pixels of equal importance are
ordered, and how Quantus is handed one map at a time.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

import numpy as np

from cbirbench.errors import DataError
from cbirbench.interfaces import Evidence, Need, Options
from cbirbench.metrics.quantus_import import import_quantus

if TYPE_CHECKING:
    from numpy.typing import NDArray

QUIET = {"normalise": False, "disable_warnings": True, "display_progressbar": False}
"""How Quantus's metrics are made here: they take a map as it is handed to them, and print nothing."""

OptionsT = TypeVar("OptionsT", bound=Options)


class MapMetric(ABC, Generic[OptionsT]):
    """What all of them are as metrics: made with options, in need of explanations, blind to neighbours.

    Attributes:
        options: The options it was made with.
    """

    needs: ClassVar[Need] = "explanations"

    def __init__(self, options: OptionsT) -> None:
        """Raise MissingError where Quantus cannot be imported: before hours of training, not after."""
        self.options = options
        import_quantus(self.name)

    @property
    @abstractmethod
    def name(self) -> str:
        """The name in results."""

    @property
    def depth(self) -> int:
        """No neighbour is looked at."""
        return 0


def score_maps(
    evidence: Evidence,
    score: Callable[[NDArray[Any], NDArray[np.bool_]], float],
    prepare: Callable[[NDArray[np.float32]], NDArray[Any]] | None = None,
) -> NDArray[np.float64]:
    """Score each query that has a map and a mask.

    Args:
        evidence: The maps and masks.
        score: Gives the value of one prepared map with its mask.
        prepare: What becomes of a map first, its absolute values for example; by default it stays as it is.

    Returns:
        One value a query, shape ``(q,)``. NaN: no mask or an empty one, no map, a map with NaN or infinity,
        and a prepared map that is one value throughout, for it singles out no pixel.

    Raises:
        DataError: A map's shape differs from its mask's.
    """
    values = np.full(len(evidence.maps), np.nan)
    for query, (importance, mask) in enumerate(zip(evidence.maps, evidence.masks, strict=True)):
        if importance is None or mask is None or not mask.any():
            continue
        if importance.shape != mask.shape:
            raise DataError(
                f"Query {query} has a map of shape {importance.shape} but a mask of shape {mask.shape}.",
                "Bring maps to the slice's native size before scoring them.",
            )
        if not np.isfinite(importance).all():
            continue
        prepared = importance if prepare is None else prepare(importance)
        if (prepared == prepared.flat[0]).all():
            continue
        values[query] = score(prepared, mask)
    return values


def top_ranks(importance: NDArray[Any], count: int) -> NDArray[np.float64]:
    """Rank the most important pixels: the first gets `count`, the last of them 1, all other pixels 0.

    Quantus orders pixels by value with no rule for ties; given ranks it has none to break. Here the ties are
    ordered by position, row by row from the anterior right of the patient, so that a map has one value.

    Args:
        importance: One finite map.
        count: How many pixels to rank, 1 to all of the map's.

    Returns:
        The ranks, in the shape of the map.
    """
    flat = importance.ravel()
    # Sorting the whole map would take most of the time that scoring it takes.
    lowest = np.partition(flat, flat.size - count)[flat.size - count]
    above = np.flatnonzero(flat > lowest)
    chosen = np.concatenate([above, np.flatnonzero(flat == lowest)[: count - above.size]])
    ranks = np.zeros(flat.size)
    ranks[chosen[np.argsort(-flat[chosen], kind="stable")]] = np.arange(count, 0, -1)
    return ranks.reshape(importance.shape)


def quantus_value(metric: Any, importance: NDArray[Any], mask: NDArray[np.bool_]) -> float:
    """What a metric of Quantus gives for one map.

    Args:
        metric: An instance of one of its localisation metrics.
        importance: One map, finite, of more than one value, not negative throughout: what Quantus asserts.
        mask: The organ, not empty.
    """
    # As one row of pixels: the metrics ignore the layout, and Quantus misreads images one pixel wide.
    row = importance.reshape(1, 1, 1, -1)
    segmentation = mask.reshape(1, 1, 1, -1).astype(np.uint8)
    (value,) = metric(
        model=None, x_batch=row, y_batch=np.zeros(1), a_batch=row, s_batch=segmentation, channel_first=True
    )
    return float(value)
