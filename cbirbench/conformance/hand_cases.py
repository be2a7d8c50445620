"""The check of a metric against cases that its author worked out by hand."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np

from cbirbench.conformance.metric_evidence import told_apart
from cbirbench.conformance.subjects import Subject
from cbirbench.conformance.verdicts import Check, calling, demand
from cbirbench.interfaces import Evidence


def hand_worked(cases: Sequence[tuple[Evidence, Sequence[float]]]) -> Check:
    """The check of what was worked out by hand.

    Args:
        cases: Evidence and the values it gives, one a query.
    """

    def hand_cases(subject: Subject) -> str:
        metric = subject.one
        demand(
            len(cases) > 0,
            "There is no case worked out by hand.",
            "Give at least one: hand_cases = [(evidence(query_labels=[1], gallery_labels=[1, 0]), [0.5])].",
        )
        for number, (given, expected) in enumerate(cases, start=1):
            found = np.asarray(
                calling(f"{subject.name}.per_query", partial(metric.per_query, given)), np.float64
            )
            wanted = np.asarray(expected, np.float64)
            shown = told_apart(found, wanted) if found.shape == wanted.shape else (f"{found}", f"{wanted}")
            demand(
                found.shape == wanted.shape and bool(np.allclose(found, wanted, atol=1e-9, equal_nan=True)),
                f"Case {number} gives {shown[0]}, by hand it is {shown[1]}.",
                "Find out which of them is wrong.",
            )
        return f"{len(cases)} cases"

    return hand_cases
