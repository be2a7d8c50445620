"""A previous study's slices in order for a slice of a new one, and how that agrees with an expert's order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from cbirbench.cases.spatial_coherence import Reach, neighbours, smoothed_distances
from cbirbench.cases.studies import Study
from cbirbench.errors import UsageError
from cbirbench.ranking import Distance, rank

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Order:
    """All slices of the previous study, the most similar first; equal distances by slice number.

    Attributes:
        numbers: Slice numbers, shape ``(n,)``.
        distances: Of each from the query, plain or smoothed, same order.
    """

    numbers: NDArray[np.int64]
    distances: NDArray[np.float64]

    @cached_property
    def ranks(self) -> NDArray[np.int64]:
        """The rank of each slice, from 1, by slice number."""
        found = np.empty(len(self.numbers), dtype=np.int64)
        found[self.numbers] = np.arange(1, len(self.numbers) + 1)
        return found


@dataclass(frozen=True)
class Agreement:
    """How an order agrees with an expert's picks.

    Attributes:
        k: How many of the nearest slices are looked at.
        overlap: ``overlap@K``: of the picks, those among the k nearest slices, as a share of the smaller of k
            and the number of picks, so that 1 can be reached.
        chance: The overlap to be expected of a random order.
        tau: Kendall's tau between the expert's order of the picks and theirs by rank; NaN with fewer than two
            picks.
        ranks: The rank of each pick, in the expert's order.
    """

    k: int
    overlap: float
    chance: float
    tau: float
    ranks: tuple[int, ...]


def in_order(distances: NDArray[np.float64]) -> Order:
    """The order of slices by their distances, shape ``(n,)``."""
    numbers = np.argsort(distances, kind="stable")
    return Order(numbers, distances[numbers])


def distances_between(
    new: NDArray[np.float32], previous: NDArray[np.float32], distance: Distance
) -> NDArray[np.float64]:
    """Distances of every slice of one study to every slice of another, shape ``(m, n)``.

    Args:
        new: Embeddings, shape ``(m, d)``.
        previous: Shape ``(n, d)``.
        distance: ``euclidean`` or ``cosine``.

    Raises:
        PluginError: The embeddings cannot be compared.
    """
    ids = [f"{number:09d}" for number in range(len(previous))]
    ranking = rank(new, previous, ids, len(previous), distance)
    found = np.empty((len(new), len(previous)))
    np.put_along_axis(found, ranking.neighbours, ranking.distances, axis=1)
    return found


def smoothed_order(
    distances: NDArray[np.float64],
    numbers: Sequence[int],
    query: int,
    new: Study,
    previous: Study,
    reach: Reach,
) -> Order:
    """The order with neighbouring slices, see `cbirbench.cases.spatial_coherence`.

    Args:
        distances: Of slices of the new study to all of the previous one, shape ``(m, n)``.
        numbers: Which slices of the new study: at least all within reach of the query.
        query: Number of the query slice.
        new: The new study.
        previous: The previous study.
        reach: How far neighbours count.
    """
    reach_mm = reach.mm(new.spacing_mm)
    near = neighbours(query, new.slice_count, new.spacing_mm, reach_mm)
    row_of = {number: row for row, number in enumerate(numbers)}
    rows = distances[[row_of[number] for number in near]]
    offsets = (np.array(near, dtype=np.float64) - query) * new.spacing_mm
    return in_order(smoothed_distances(rows, offsets, previous.spacing_mm, reach_mm))


def agreement(order: Order, picks: Sequence[int], k: int) -> Agreement:
    """Score an order by an expert's picks.

    Every slice of the previous study has a rank, so a pick beyond the k nearest enters Kendall's tau with the
    rank that it has; only the overlap looks at the k nearest.

    Args:
        order: All slices of the previous study.
        picks: Slice numbers in the expert's order, the best first, each once.
        k: How many of the nearest slices are looked at, for the overlap.
    """
    from scipy.stats import kendalltau

    ranks = [int(order.ranks[pick]) for pick in picks]
    reachable = min(k, len(picks))
    tau = float("nan")
    if len(picks) > 1:
        tau = float(kendalltau(np.arange(len(picks)), ranks).statistic)
    return Agreement(
        k=k,
        overlap=sum(found <= k for found in ranks) / reachable,
        chance=k * len(picks) / len(order.numbers) / reachable,
        tau=tau,
        ranks=tuple(ranks),
    )


def expert_picks(study: Study, text: str, where: str = "--expert") -> list[int]:
    """An expert's picks among a study's slices, the best first.

    Raises:
        UsageError: One is no slice number, is out of range, or is given twice.
    """
    parts = text.replace(",", " ").replace(";", " ").split()
    picks: list[int] = []
    for part in parts:
        if not (part.isascii() and part.isdigit() and len(part) < 10):
            raise UsageError(
                f"{where} takes slice numbers of the previous study, got {part!r}.",
                "Give them in the expert's order, the best first: 41,42,43.",
            )
        pick = study.check(int(part), "slice for the expert's pick")
        if pick in picks:
            raise UsageError(f"{where} names slice {pick} twice.", "Name each slice once, the best first.")
        picks.append(pick)
    if not picks:
        raise UsageError(f"{where} names no slice.", "Give at least one, the best first: 41,42,43.")
    return picks
