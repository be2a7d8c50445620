"""MAP as the paper defines it (equations 5 and 6): precision at 1, 2, ..., k, averaged."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np

from cbirbench.interfaces import ByChance, Evidence, Need, Options, option

if TYPE_CHECKING:
    from numpy.typing import NDArray


class MeanAveragePrecisionOptions(Options):
    """What can be set with ``--set map.OPTION=VALUE``."""

    k: int = option(
        5,
        description="Deepest neighbour looked at.",
        unit="neighbours",
        source="section 8",
        profiles={"released-code": 4},
        ge=1,
    )


class MeanAveragePrecision(ByChance):
    """``map@k``: the mean over k' = 1..k of precision@k'.

    Precision@k' is the share of the k' nearest slices that have the query's label. This is NOT the average
    precision usual in retrieval, which averages the precision only at the ranks of relevant items: here every
    rank up to k counts, and no query is undefined. Every query counts, whatever its label: for one without
    the organ, slices without it are relevant.
    """

    interface_version: ClassVar[int] = 1
    options_type: ClassVar[type[Options]] = MeanAveragePrecisionOptions
    needs: ClassVar[Need] = "ranking"

    def __init__(self, options: MeanAveragePrecisionOptions) -> None:
        self.options = options

    @property
    def name(self) -> str:
        """``map@5``."""
        return f"map@{self.options.k}"

    @property
    def depth(self) -> int:
        """Neighbours looked at."""
        return self.options.k

    def per_query(self, evidence: Evidence) -> NDArray[np.float64]:
        """Mean of precision@1..k of each query, shape ``(q,)``, in 0..1."""
        k = self.options.k
        if evidence.neighbours.shape[1] < k:
            raise ValueError(f"{self.name} needs {k} neighbours, got {evidence.neighbours.shape[1]}")
        labels = evidence.gallery_labels[evidence.neighbours[:, :k]]
        relevant = labels == evidence.query_labels[:, None]
        precision: NDArray[np.float64] = np.cumsum(relevant, axis=1) / np.arange(1, k + 1)
        values: NDArray[np.float64] = precision.mean(axis=1)
        return values

    def by_chance(
        self, query_labels: NDArray[np.int64], gallery_labels: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        """Share of the gallery's slices with the query's label, shape ``(q,)``: at every rank the same."""
        labels, counts = np.unique(gallery_labels, return_counts=True)
        share = dict(zip(labels.tolist(), (counts / counts.sum()).tolist(), strict=True))
        return np.array([share.get(label, 0.0) for label in query_labels.tolist()])
