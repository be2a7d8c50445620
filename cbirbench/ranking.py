"""Exact nearest neighbours: FAISS searches, float64 decides.

FAISS answers batches through ``|q|^2 + |g|^2 - 2 q.g`` in float32, which loses digits where vectors lie close
together. It is therefore asked for `SPARE` more neighbours than needed, their distances are computed anew in
float64, and where FAISS's rounding error could have kept a true neighbour out of them, that query is compared
with the whole gallery.

The rule of order: by float64 distance; equal distances by ``slice_id``, ascending as Python compares strings.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from cbirbench.errors import PluginError, UsageError

if TYPE_CHECKING:
    from numpy.typing import NDArray

Distance = Literal["euclidean", "cosine"]

SPARE = 32
"""Neighbours asked of FAISS beyond the depth that is needed."""

VALUES_AT_ONCE = 2**22
"""Most float64 values of the gallery held at once when a query is compared with all of it (32 MB)."""


@dataclass(frozen=True, eq=False)
class Ranking:
    """The nearest gallery slices of each query, nearest first.

    Attributes:
        neighbours: Positions in the gallery, int64, shape ``(q, depth)``.
        distances: Euclidean distances (not squared), or cosine distances (1 - cosine), float64, same shape.
    """

    neighbours: NDArray[np.int64]
    distances: NDArray[np.float64]


def rank(
    queries: NDArray[np.float32],
    gallery: NDArray[np.float32],
    gallery_ids: Sequence[str],
    depth: int,
    distance: Distance = "euclidean",
) -> Ranking:
    """Rank the gallery for each query (paper, section 5.1), exactly.

    Args:
        queries: Shape ``(q, d)``.
        gallery: Shape ``(g, d)``.
        gallery_ids: The gallery's g slice ids; equal distances are ordered by them.
        depth: How many neighbours to give, 1..g.
        distance: ``euclidean`` or ``cosine``.

    Raises:
        UsageError: `depth` is not in 1..g.
        PluginError: The embeddings cannot be compared: widths differ, a value is not finite, or, for the
            cosine distance, a vector is zero.
    """
    import faiss

    _check(queries, gallery, gallery_ids, depth, distance)
    id_order = np.empty(len(gallery), dtype=np.int64)
    id_order[sorted(range(len(gallery)), key=gallery_ids.__getitem__)] = np.arange(len(gallery))

    # Distances do not change when both sides move together, and the rounding error shrinks with the norms.
    near_queries, near_gallery = _directions(queries, distance), _directions(gallery, distance)
    centre = near_gallery.mean(axis=0, dtype=np.float64).astype(np.float32)
    near_queries, near_gallery = near_queries - centre, near_gallery - centre
    index = faiss.IndexFlatL2(gallery.shape[1])
    index.add(near_gallery)
    squared, candidates = index.search(near_queries, min(depth + SPARE, len(gallery)))
    largest_norm = float(_norms(near_gallery).max())
    query_norms = _norms(near_queries)

    everything = np.arange(len(gallery))
    neighbours = np.empty((len(queries), depth), dtype=np.int64)
    distances = np.empty((len(queries), depth), dtype=np.float64)
    for row, query in enumerate(queries):
        chosen, found = _nearest(query, gallery, candidates[row], id_order, depth, distance)
        if candidates.shape[1] < len(gallery):
            # On the scale of FAISS's search: unit vectors at cosine distance c are sqrt(2c) apart.
            last = found[-1] if distance == "euclidean" else np.sqrt(2.0 * found[-1])
            # A vector of a norm beyond |q| + last is farther than last by the triangle inequality.
            norm = min(largest_norm, query_norms[row] + last)
            error = _rounding_error(query_norms[row], norm, gallery.shape[1])
            if not last**2 < squared[row, -1] - 2.0 * error:  # so written, it is also true of NaN
                chosen, found = _nearest(query, gallery, everything, id_order, depth, distance)
        neighbours[row], distances[row] = chosen, found
    return Ranking(neighbours, distances)


def rank_within(
    parts: Sequence[tuple[Sequence[int], Sequence[int]]],
    queries: NDArray[np.float32],
    gallery: NDArray[np.float32],
    gallery_ids: Sequence[str],
    depth: int,
    distance: Distance = "euclidean",
) -> Ranking:
    """Rank for each query a part of the gallery; see `rank`.

    Args:
        parts: Positions of queries, each query once, and of the gallery slices that they may retrieve.
        queries: Shape ``(q, d)``.
        gallery: Shape ``(g, d)``.
        gallery_ids: The gallery's g slice ids.
        depth: How many neighbours to give, at most as many as the smallest part has.
        distance: ``euclidean`` or ``cosine``.

    Returns:
        Neighbours as positions in the whole gallery.

    Raises:
        UsageError: See `rank`.
        PluginError: Likewise.
    """
    neighbours = np.empty((len(queries), depth), dtype=np.int64)
    distances = np.empty((len(queries), depth), dtype=np.float64)
    for asked, among in parts:
        places = np.asarray(among, dtype=np.int64)
        ids = [gallery_ids[place] for place in among]
        found = rank(queries[list(asked)], gallery[places], ids, depth, distance)
        neighbours[list(asked)] = places[found.neighbours]
        distances[list(asked)] = found.distances
    return Ranking(neighbours, distances)


def _nearest(
    query: NDArray[np.float32],
    gallery: NDArray[np.float32],
    candidates: NDArray[np.int64],
    id_order: NDArray[np.int64],
    depth: int,
    distance: Distance,
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The nearest of `candidates` in order, with their float64 distances."""
    target = _unit(query[None], distance)[0]
    found = np.empty(len(candidates), dtype=np.float64)
    step = max(1, VALUES_AT_ONCE // gallery.shape[1])
    for start in range(0, len(candidates), step):
        part = slice(start, start + step)
        squared = ((_unit(gallery[candidates[part]], distance) - target) ** 2).sum(axis=1)
        # For unit vectors 1 - cosine is half the squared distance, and loses no digits near 0.
        found[part] = np.sqrt(squared) if distance == "euclidean" else squared / 2.0
    order = np.lexsort((id_order[candidates], found))[:depth]
    return candidates[order], found[order]


def _unit(vectors: NDArray[np.float32], distance: Distance) -> NDArray[np.float64]:
    """float64 vectors, scaled to length 1 for the cosine distance."""
    wide = vectors.astype(np.float64)
    return wide if distance == "euclidean" else wide / _norms(wide)[:, None]


def _directions(vectors: NDArray[np.float32], distance: Distance) -> NDArray[np.float32]:
    """What FAISS searches: the vectors themselves, or for the cosine distance their unit vectors."""
    if distance == "euclidean":
        return np.ascontiguousarray(vectors)
    return (vectors / _norms(vectors)[:, None]).astype(np.float32)


def _norms(vectors: NDArray[np.float32] | NDArray[np.float64]) -> NDArray[np.float64]:
    """Lengths in float64, shape ``(n,)``, without a float64 copy of the vectors."""
    squared: NDArray[np.float64] = np.einsum("ij,ij->i", vectors, vectors, dtype=np.float64)
    return np.sqrt(squared)


def _rounding_error(query_norm: float, gallery_norm: float, width: int) -> float:
    """Bound on the error of FAISS's squared distance (Higham 2002, section 3.1, for sums in any order).

    Each of the three sums of `width` products errs by at most ``gamma`` times the sum of its absolute terms,
    which add up to no more than ``(|q| + |g|)^2``. Eight more roundings pay for adding the sums, for
    normalising and for centring. Infinite where float32 could overflow.
    """
    float32 = np.finfo(np.float32)
    steps = (width + 8) * float(float32.eps) / 2.0
    total = (query_norm + gallery_norm) ** 2
    if steps >= 1.0 or not total < float(float32.max) / 4.0:
        return float("inf")
    return steps / (1.0 - steps) * total + 4.0 * width * float(float32.tiny)


def _check(
    queries: NDArray[np.float32],
    gallery: NDArray[np.float32],
    gallery_ids: Sequence[str],
    depth: int,
    distance: Distance,
) -> None:
    if not 1 <= depth <= len(gallery):
        raise UsageError(
            f"{depth} neighbours a query were asked for, but the gallery holds {len(gallery)} slices.",
            "Lower the k of the metrics (--set map.k=K, --set knn-accuracy.k=K), or use a larger gallery.",
        )
    if len(gallery_ids) != len(gallery):
        raise ValueError(f"{len(gallery)} gallery vectors came with {len(gallery_ids)} slice ids")
    if queries.ndim != 2 or gallery.ndim != 2 or queries.shape[1] != gallery.shape[1]:
        raise PluginError(
            f"Embeddings must be (n, d) with one d, got queries of shape {queries.shape} "
            f"and a gallery of shape {gallery.shape}.",
            "The extractor's embed() must return vectors of the same width for every slice.",
        )
    for name, vectors in (("query", queries), ("gallery", gallery)):
        if vectors.dtype != np.float32 or not np.isfinite(vectors).all():
            raise PluginError(
                f"The {name} embeddings must be finite float32, got {vectors.dtype} with "
                f"{np.count_nonzero(~np.isfinite(vectors))} values that are NaN or infinite.",
                "The extractor's embed() must return finite float32 vectors.",
            )
        zeros = np.count_nonzero(~vectors.any(axis=1))
        if distance == "cosine" and zeros:
            raise PluginError(
                f"The cosine distance is undefined for zero vectors: {zeros} of {len(vectors)} {name} "
                "embeddings are zero.",
                "Rank by the Euclidean distance, or use another extractor.",
            )
