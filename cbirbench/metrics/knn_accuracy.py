"""Accuracy of a k-nearest-neighbours classifier on the embeddings (paper, section 5.2)."""

from __future__ import annotations

from collections.abc import Iterator
from math import comb, prod
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from cbirbench.interfaces import ByChance, Evidence, Need, Options, option

if TYPE_CHECKING:
    from numpy.typing import NDArray


class KnnAccuracyOptions(Options):
    """What can be set with ``--set knn-accuracy.OPTION=VALUE``."""

    k: int = option(5, description="Neighbours that vote.", unit="neighbours", source="section 8", ge=1)


class KnnAccuracy(ByChance):
    """``knn-accuracy@k``: 1 where most of the k nearest slices have the query's label, else 0.

    Every neighbour has one vote. Labels with equally many votes: the smallest wins, as in scikit-learn.
    """

    interface_version: ClassVar[int] = 1
    options_type: ClassVar[type[Options]] = KnnAccuracyOptions
    needs: ClassVar[Need] = "ranking"

    def __init__(self, options: KnnAccuracyOptions) -> None:
        self.options = options

    @property
    def name(self) -> str:
        """``knn-accuracy@5``."""
        return f"knn-accuracy@{self.options.k}"

    @property
    def depth(self) -> int:
        """Neighbours that vote."""
        return self.options.k

    def per_query(self, evidence: Evidence) -> NDArray[np.float64]:
        """1.0 for a query classified rightly, 0.0 for one that is not, shape ``(q,)``."""
        k = self.options.k
        if evidence.neighbours.shape[1] < k:
            raise ValueError(f"{self.name} needs {k} neighbours, got {evidence.neighbours.shape[1]}")
        votes = evidence.gallery_labels[evidence.neighbours[:, :k]]
        classes = np.unique(evidence.gallery_labels)  # ascending, and argmax takes the first of equal counts
        counts = (votes[:, :, None] == classes).sum(axis=1)
        predicted = classes[counts.argmax(axis=1)]
        right: NDArray[np.bool_] = predicted == evidence.query_labels
        return right.astype(np.float64)

    def by_chance(
        self, query_labels: NDArray[np.int64], gallery_labels: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        """Probability that k slices drawn without replacement vote for the query's label, shape ``(q,)``."""
        labels, held = np.unique(gallery_labels, return_counts=True)
        draws = comb(int(held.sum()), self.options.k)
        chosen = dict.fromkeys(labels.tolist(), 0)  # ways to draw k slices that vote for each label
        for votes in _votes(self.options.k, len(labels)):
            ways = prod(comb(count, n) for count, n in zip(held.tolist(), votes, strict=True))
            chosen[int(labels[votes.index(max(votes))])] += ways
        return np.array([chosen.get(label, 0) / draws for label in query_labels.tolist()])


def _votes(k: int, labels: int) -> Iterator[tuple[int, ...]]:
    """All ways to deal k votes to so many labels."""
    if labels == 1:
        yield (k,)
        return
    for first in range(k + 1):
        for others in _votes(k - first, labels - 1):
            yield (first, *others)
