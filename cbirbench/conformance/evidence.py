"""Evidence for metrics, made by hand: what is not given has a default."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from cbirbench.interfaces import Evidence

if TYPE_CHECKING:
    from numpy.typing import ArrayLike


def evidence(
    *,
    query_labels: ArrayLike | None = None,
    gallery_labels: ArrayLike | None = None,
    neighbours: ArrayLike | None = None,
    distances: ArrayLike | None = None,
    query_embeddings: ArrayLike | None = None,
    gallery_embeddings: ArrayLike | None = None,
    maps: Sequence[Any] | None = None,
    masks: Sequence[Any] | None = None,
) -> Evidence:
    """Make evidence of q queries in a gallery of g slices; see `cbirbench.interfaces.Evidence`.

    ``evidence(query_labels=[1], gallery_labels=[1, 0, 1])`` is one query whose neighbours, nearest first,
    have the labels 1, 0, 1. ``evidence(maps=[[[0.9, 0.1]]], masks=[[[True, False]]])`` is an explained one.

    Args:
        query_labels: By default 1 for each query.
        gallery_labels: By default a gallery of one slice, labelled 1.
        neighbours: By default the whole gallery, in its order, for every query.
        distances: By default 0, 1, 2, ... along each query's neighbours.
        query_embeddings: By default zeros, of two values.
        gallery_embeddings: Likewise.
        maps: One a query, or None for one that is not explained; by default none is.
        masks: One a query, or None; by default the cohort has none.
    """
    given = (query_labels, neighbours, distances, query_embeddings, maps, masks)
    count = next((len(value) for value in given if value is not None), 1)  # type: ignore[arg-type]
    labels = np.ones(count, np.int64) if query_labels is None else np.asarray(query_labels, np.int64)
    gallery = np.ones(1, np.int64) if gallery_labels is None else np.asarray(gallery_labels, np.int64)
    nearest = (
        np.tile(np.arange(len(gallery)), (count, 1))
        if neighbours is None
        else np.asarray(neighbours, np.int64).reshape(count, -1)
    )
    along = np.tile(np.arange(nearest.shape[1], dtype=np.float64), (count, 1))
    empty = [None] * count
    return Evidence(
        query_labels=labels,
        gallery_labels=gallery,
        neighbours=nearest.astype(np.int64),
        distances=along if distances is None else np.asarray(distances, np.float64),
        query_embeddings=_vectors(query_embeddings, count),
        gallery_embeddings=_vectors(gallery_embeddings, len(gallery)),
        maps=[None if one is None else np.asarray(one, np.float32) for one in maps or empty],
        masks=[None if one is None else np.asarray(one, np.bool_) for one in masks or empty],
    )


def _vectors(given: ArrayLike | None, count: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    return np.zeros((count, 2), np.float32) if given is None else np.asarray(given, np.float32)
