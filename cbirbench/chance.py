"""What metrics on neighbours give by chance: where the gallery's slices come in a random order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from cbirbench.interfaces import Evidence, Metric
from cbirbench.query_sets import QuerySet
from cbirbench.scoring import scored

if TYPE_CHECKING:
    from numpy.typing import NDArray

VALUES = 100_000
"""So many values of a metric are averaged, or some more: the standard error is .0016 at most."""

AT_ONCE = 2000
"""So many rankings, or some more, are shown to a metric at once; few queries are shown several times."""


def chance_levels(metrics: Sequence[Metric], one: QuerySet, *, seed: int = 0) -> dict[str, float]:
    """About the mean of each metric on neighbours, by its name, where neighbours are drawn at random.

    Each metric is shown random rankings and scores them, so that any plugin's metric has its level. With as
    many slices of one label as of the other, MAP and accuracy are near one half; with other mixes they are
    not, and a score means little without this level beside it. Metrics on embeddings or maps are left out,
    as are undefined values.

    Args:
        metrics: The run's.
        one: Queries and gallery; a query draws from the slices it may retrieve.
        seed: Of the draws.

    Raises:
        PluginError: A metric failed.
    """
    levels = {}
    for metric in metrics:
        if metric.needs != "ranking" or not metric.depth or not len(one.queries):
            continue
        generator = np.random.default_rng(seed)  # a metric's level depends on no other metric
        copies = -(-AT_ONCE // len(one.queries))
        shown = _evidence(one, copies)
        values = np.concatenate(
            [
                scored(metric, replace(shown, neighbours=neighbours, distances=distances))
                for _ in range(-(-VALUES // (copies * len(one.queries))))
                for neighbours, distances in [_drawn(one, copies, metric.depth, generator)]
            ]
        )
        if not np.isnan(values).all():
            levels[metric.name] = float(np.nanmean(values))
    return levels


def _evidence(one: QuerySet, copies: int) -> Evidence:
    """All queries, several times over, as a metric sees them that looks at neighbours only."""
    labels = np.tile(one.queries.labels, copies)
    return Evidence(
        query_labels=labels,
        gallery_labels=one.gallery.labels,
        neighbours=np.empty((len(labels), 0), dtype=np.int64),
        distances=np.empty((len(labels), 0)),
        query_embeddings=np.zeros((len(labels), 1), dtype=np.float32),
        gallery_embeddings=np.zeros((len(one.gallery), 1), dtype=np.float32),
        maps=[None] * len(labels),
        masks=[None] * len(labels),
    )


def _drawn(
    one: QuerySet, copies: int, depth: int, generator: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Neighbours at random for all queries, several times over, and distances that ascend."""
    neighbours = np.empty((copies, len(one.queries), depth), dtype=np.int64)
    for queries, gallery in one.parts:
        places = _distinct(copies * len(queries), len(gallery), depth, generator)
        neighbours[:, queries] = np.asarray(gallery)[places].reshape(copies, len(queries), depth)
    rows = neighbours.reshape(-1, depth)
    return rows, np.sort(generator.random(rows.shape), axis=1)


def _distinct(rows: int, held: int, depth: int, generator: np.random.Generator) -> NDArray[np.int64]:
    """Rows of numbers below `held`, none twice in a row, every such row as likely as any other."""
    found = np.empty((depth, rows), dtype=np.int64)
    for place in range(depth):
        missing = np.arange(rows)
        while len(missing):
            found[place, missing] = generator.integers(held, size=len(missing))
            seen = (found[:place, missing] == found[place, missing]).any(axis=0)
            missing = missing[seen]
    return found.T
