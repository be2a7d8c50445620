"""The evidence that metrics are checked with, and what they give for it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from cbirbench.conformance.evidence import evidence
from cbirbench.conformance.subjects import Subject
from cbirbench.conformance.verdicts import Beside, calling
from cbirbench.interfaces import Evidence

if TYPE_CHECKING:
    from numpy.typing import NDArray

QUERIES = 8

BEYOND = 20
"""Slices in the gallery besides those a metric looks at."""

MOST_PIXELS = 512 * 512


def usual_evidence(subject: Subject, *, seed: int = 11) -> Evidence:
    """Evidence of some queries in a gallery deep enough, made anew each time.

    Another seed has another gallery, and other neighbours, embeddings and maps of the same queries.
    """
    metric = subject.one
    asked = getattr(metric, "depth", 0)
    size = (asked if type(asked) is int and 0 <= asked <= 10**6 else 0) + BEYOND
    k = getattr(subject.options, "k", 0)
    # A metric may look at so many pixels as it does at neighbours.
    pixels = min(MOST_PIXELS, max(48 * 40, 4 * k if isinstance(k, int) else 0))
    rows = math.ceil(math.sqrt(pixels))
    generator = np.random.default_rng(seed)
    masks = []
    for query in range(QUERIES):
        mask = np.zeros((rows, rows - query % 3), np.bool_)
        mask[rows // 4 : rows // 4 + rows // 3, 3 + query : 3 + query + rows // 4] = True
        masks.append(mask)
    gallery = generator.integers(0, 2, size)
    return evidence(
        query_labels=np.arange(QUERIES) % 2,
        gallery_labels=gallery,
        neighbours=np.stack([generator.permutation(size) for _ in range(QUERIES)]),
        distances=np.sort(generator.random((QUERIES, size)), axis=1),
        query_embeddings=generator.normal(size=(QUERIES, 6)),
        gallery_embeddings=generator.normal(size=(size, 6)),
        maps=[generator.random(mask.shape) + 0.3 * mask for mask in masks],
        masks=masks,
    )


def part_of(whole: Evidence, chosen: Sequence[int]) -> Evidence:
    """The evidence of some queries."""
    return replace(
        whole,
        query_labels=whole.query_labels[list(chosen)],
        neighbours=whole.neighbours[list(chosen)],
        distances=whole.distances[list(chosen)],
        query_embeddings=whole.query_embeddings[list(chosen)],
        maps=[whole.maps[i] for i in chosen],
        masks=[whole.masks[i] for i in chosen],
    )


def values_of(subject: Subject, given: Evidence) -> NDArray[np.float64]:
    """What it gives, as far as that can be compared."""
    found = np.asarray(calling(f"{subject.name}.per_query", partial(subject.one.per_query, given)))
    if found.shape != (len(given.query_labels),) or found.dtype.kind not in "fiub":
        raise Beside("It does not give one value a query: see values.")
    return found.astype(np.float64)


def same(one: Any, other: Any) -> bool:
    """Whether they hold the same values, NaN being the same as NaN."""
    return bool(
        np.array_equal(np.asarray(one), np.asarray(other), equal_nan=np.asarray(one).dtype.kind == "f")
    )


def close(one: NDArray[np.float64], other: NDArray[np.float64]) -> bool:
    """Whether values are the same but for rounding: a sum over a matrix has another order than over a row."""
    return bool(np.allclose(one, other, rtol=1e-5, atol=1e-7, equal_nan=True))


def range_of(found: NDArray[np.float64]) -> str:
    """The lowest and highest value that is defined, for a verdict."""
    defined = found[~np.isnan(found)]
    return f"{defined.min():.3g}..{defined.max():.3g}" if len(defined) else "NaN"


def shortened(found: NDArray[np.float64]) -> str:
    """The first few values, for a verdict."""
    return _shortened(found, 3)


def _shortened(found: NDArray[np.float64], digits: int) -> str:
    shown = ", ".join(f"{value:.{digits}g}" for value in np.asarray(found, np.float64).ravel()[:4])
    return f"{shown}, ..." if np.size(found) > 4 else shown


def told_apart(one: NDArray[np.float64], other: NDArray[np.float64]) -> tuple[str, str]:
    """The first few of two series of values, from the first that differ, with digits enough to differ."""
    differing = np.flatnonzero(~np.isclose(one, other, rtol=1e-5, atol=1e-7, equal_nan=True))
    start = int(differing[0]) if len(differing) and differing[0] >= 4 else 0
    texts = ("", "")
    for digits in (3, 6, 9, 17):
        texts = (_shortened(one[start:], digits), _shortened(other[start:], digits))
        if texts[0] != texts[1]:
            break
    return texts
