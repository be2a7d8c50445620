"""The check of the level that a metric says it has where neighbours are drawn at random."""

from __future__ import annotations

from functools import partial
from math import sqrt

import numpy as np

from cbirbench.conformance.evidence import evidence
from cbirbench.conformance.metric_evidence import values_of
from cbirbench.conformance.subjects import Subject
from cbirbench.conformance.verdicts import Beside, calling, demand
from cbirbench.interfaces import ByChance

RANKINGS = 1500
"""So many random rankings of each label's query are scored."""

SHARE = 0.3
"""Of the gallery with the label 1: where both labels are as frequent, much is one half by symmetry."""

STANDARD_ERRORS = 5
"""How far the mean over random rankings may lie from what the metric says."""


def by_chance(subject: Subject) -> str:
    """What it says it gives by chance is its mean over random rankings."""
    metric = subject.one
    if not isinstance(metric, ByChance):
        raise Beside("It says nothing of chance (it is not ByChance).")
    size = subject.one.depth + 10
    gallery = (np.arange(size) < round(SHARE * size)).astype(np.int64)
    queries = np.arange(2)
    said = np.asarray(calling(f"{subject.name}.by_chance", partial(metric.by_chance, queries, gallery)))
    demand(
        said.shape == (2,) and said.dtype.kind == "f",
        f"For two queries by_chance gives {said.dtype} of shape {said.shape}.",
        "Give a NumPy array of floats, one value a query, shape (q,).",
    )
    generator = np.random.default_rng(3)
    rows = 2 * RANKINGS
    given = evidence(
        query_labels=np.tile(queries, RANKINGS),
        gallery_labels=gallery,
        neighbours=generator.permuted(np.tile(np.arange(size), (rows, 1)), axis=1),
        distances=np.sort(generator.random((rows, size)), axis=1),
    )
    values = values_of(subject, given).reshape(RANKINGS, 2)
    for label in queries:
        defined = values[~np.isnan(values[:, label]), label]
        if not len(defined) and np.isnan(said[label]):
            continue
        demand(
            len(defined) > 0 and not np.isnan(said[label]),
            f"For a query of label {label} by_chance gives {said[label]:g}, and of {RANKINGS} random "
            f"rankings {len(defined)} have a value.",
            "Give NaN where, and only where, per_query does.",
        )
        found, allowed = defined.mean(), STANDARD_ERRORS * defined.std() / sqrt(len(defined)) + 1e-9
        demand(
            abs(found - said[label]) <= allowed,
            f"By chance, it says, a query of label {label} has {said[label]:.4g}; the mean over "
            f"{len(defined)} random rankings of a gallery with {gallery.mean():.0%} of label 1 is "
            f"{found:.4g}.",
            "Give the exact mean of per_query over all orders of the gallery.",
        )
    return f"{said[0]:.3g} and {said[1]:.3g} for queries of either label, as in {RANKINGS} random rankings"
