"""Checks of metrics: one value a query, from that query's evidence and from what it says it needs."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, get_args

import numpy as np

from cbirbench.asked_metrics import is_metric_name
from cbirbench.conformance import declarations, imports
from cbirbench.conformance.declarations import sent
from cbirbench.conformance.metric_chance import by_chance
from cbirbench.conformance.metric_evidence import (
    QUERIES,
    close,
    part_of,
    range_of,
    same,
    shortened,
    told_apart,
    usual_evidence,
    values_of,
)
from cbirbench.conformance.subjects import Subject
from cbirbench.conformance.verdicts import Check, Fault, calling, demand
from cbirbench.interfaces import Evidence, Need

if TYPE_CHECKING:
    from numpy.typing import NDArray


def declared(subject: Subject) -> str:
    """It says its name, with k where it has one, what it needs, and how deep it looks."""
    metric = subject.one
    name, depth, needs = (getattr(metric, part, None) for part in ("name", "depth", "needs"))
    demand(
        is_metric_name(name) and name == subject.make().name,
        f"Its name is {name!r}, and another instance's {subject.make().name!r}.",
        "The name in results says what is computed, map@5, and follows from the options alone: plain text "
        "without '/' and '\\', as it becomes part of files.",
    )
    k = getattr(subject.options, "k", None)
    demand(
        k is None or str(name).endswith(f"@{k}"),
        f"It has the option k={k}, and its name is {name!r}.",
        f"Two k in one table must be told apart: end the name with @{{k}}, {subject.name}@{k}.",
    )
    demand(needs in get_args(Need), f"needs is {needs!r}.", f"It is one of {', '.join(get_args(Need))}.")
    demand(
        type(depth) is int and depth >= 0,
        f"depth is {depth!r}.",
        "It is how many neighbours it looks at, a whole number; 0 for none.",
    )
    demand(
        getattr(metric, "options", None) == subject.options,
        "Its options are not those it was made with.",
        "Keep them: self.options = options.",
    )
    return f"{name}; needs {needs}, looks at {depth} neighbours"


def values(subject: Subject) -> str:
    """It gives one float64 value a query, in 0..1 or NaN."""
    found = calling(f"{subject.name}.per_query", lambda: subject.one.per_query(usual_evidence(subject)))
    remedy = "Return a numpy array of float64, one value a query, never their mean."
    demand(isinstance(found, np.ndarray), f"per_query gives {type(found).__name__}.", remedy)
    demand(
        found.dtype == np.float64 and found.shape == (QUERIES,),
        f"For {QUERIES} queries per_query gives {found.dtype} of shape {found.shape}.",
        remedy,
    )
    defined = found[~np.isnan(found)]
    demand(
        bool(((defined >= 0) & (defined <= 1)).all()),
        f"Its values lie in {range_of(found)}.",
        "Give fractions of 1: tables show them as percent.",
    )
    demand(
        len(defined) > 0,
        f"All {QUERIES} queries are NaN, with labels, neighbours, maps and masks there.",
        "NaN is for a query that cannot have a value.",
    )
    return f"{QUERIES} values in {range_of(found)}, {QUERIES - len(defined)} of them NaN"


def single_query(subject: Subject) -> str:
    """One query, and one neighbour more than it looks at, are enough."""
    given = part_of(usual_evidence(subject), [0])
    deep = subject.one.depth + 1
    given = replace(given, neighbours=given.neighbours[:, :deep], distances=given.distances[:, :deep])
    found = values_of(subject, given)
    return f"one query: {found[0]:.3g}"


def undefined(subject: Subject) -> str:
    """Without a map or a mask, or with an empty one, a query has a value or NaN, and no other is touched."""
    usual = usual_evidence(subject)
    before = values_of(subject, usual)
    empty = [None if mask is None else np.zeros_like(mask) for mask in usual.masks]
    flat = [None if found is None else np.full_like(found, 0.5) for found in usual.maps]
    lacks: dict[str, Evidence] = {
        "no mask": replace(usual, masks=[None, *usual.masks[1:]]),
        "an empty mask": replace(usual, masks=[empty[0], *usual.masks[1:]]),
        "a map of one value": replace(usual, maps=[flat[0], *usual.maps[1:]]),
        "no map": replace(usual, maps=[None, *usual.maps[1:]]),
    }
    told = []
    for what, given in lacks.items():
        try:
            found = values_of(subject, given)
        except Exception as error:
            raise Fault(
                f"A query with {what}: {error.found if isinstance(error, Fault) else error}",
                "Give NaN to that query: it is counted and shown, and the others keep their values.",
            ) from error
        demand(
            close(found[1:], before[1:]),
            f"A query with {what} changes the values of others.",
            "Take each query's evidence by itself.",
        )
        told.append(f"{what}: {found[0]:.3g}")
    if subject.one.needs == "explanations":
        lone = values_of(subject, lacks["no map"])[0]
        demand(
            math.isnan(lone),
            f"It needs explanations and gives {lone:g} to a query that has none.",
            "Give NaN where evidence lacks, not a value.",
        )
    elif math.isnan(values_of(subject, lacks["no map"])[0]) and not math.isnan(before[0]):
        raise Fault(
            "A query without a map is NaN, though it says it needs none.",
            "State needs = 'explanations', or leave maps alone.",
        )
    return "; ".join(told)


def queries_apart(subject: Subject) -> str:
    """A query's value does not depend on the other queries."""
    usual = usual_evidence(subject)
    whole = values_of(subject, usual)
    for chosen in ([5], [3, 1], list(range(QUERIES))[::-1]):
        some = values_of(subject, part_of(usual, chosen))
        alone, among = told_apart(some, whole[chosen])
        demand(
            close(some, whole[chosen]),
            f"Queries {chosen} by themselves have the values {alone}, among {QUERIES} they have {among}.",
            "Scale nothing over all queries: statistics pair the values of single queries.",
        )
    return f"parts of {QUERIES} queries have the same values"


def evidence_unchanged(subject: Subject) -> str:
    """The evidence is not changed in place."""
    given, before = usual_evidence(subject), usual_evidence(subject)
    values_of(subject, given)
    altered = []
    for name in vars(before):
        one, other = getattr(given, name), getattr(before, name)
        pairs = [(one, other)] if isinstance(one, np.ndarray) else list(zip(one, other, strict=True))
        if not all((a is None and b is None) or same(a, b) for a, b in pairs):
            altered.append(name)
    demand(
        not altered,
        f"It changes {', '.join(altered)} of the evidence, which other metrics are computed from.",
        "Copy what is changed.",
    )
    return "as before"


def best_and_worst(subject: Subject) -> str:
    """The best evidence there can be is not scored below the worst."""
    usual = usual_evidence(subject)
    cases = {}
    for what, label, inside in (("best", 1, 1.0), ("worst", 0, 0.0)):
        maps = [None if mask is None else np.where(mask, inside, 1 - inside) for mask in usual.masks]
        given = replace(
            usual,
            query_labels=np.ones_like(usual.query_labels),
            gallery_labels=np.full_like(usual.gallery_labels, label),
            maps=[None if one is None else one.astype(np.float32) for one in maps],
        )
        cases[what] = values_of(subject, given)
    best, worst = cases["best"], cases["worst"]
    other = values_of(subject, usual_evidence(subject, seed=12))
    demand(
        not close(best, worst) or not close(values_of(subject, usual), other),
        f"It gives {shortened(best)} for the best evidence there can be, for the worst, and whatever else it "
        "is shown about the same queries.",
        "Compute it from the evidence: neighbours, distances, embeddings or maps.",
    )
    comparable = ~(np.isnan(best) | np.isnan(worst))
    ordered = bool((best[comparable] >= worst[comparable]).all())
    # How large a map's bright part is, say, is neither good nor bad.
    demand(
        ordered or subject.one.needs == "explanations",
        f"Where all neighbours share the label it gives {shortened(best)}, "
        f"where none does {shortened(worst)}.",
        "Higher is better in every table: give 1 minus the value where it is an error.",
    )
    note = "" if ordered else "; tables take higher for better, and it gives most to a map outside the mask"
    return f"best {range_of(best)}, worst {range_of(worst)}{note}"


def needs(subject: Subject) -> str:
    """It is computed from what it says it needs, and from nothing else."""
    usual, metric = usual_evidence(subject), subject.one
    before = values_of(subject, usual)
    generator = np.random.default_rng(5)
    beside: dict[str, Evidence] = {}
    if metric.needs != "embeddings":
        beside["other embeddings"] = replace(
            usual,
            query_embeddings=generator.normal(size=usual.query_embeddings.shape).astype(np.float32),
            gallery_embeddings=generator.normal(size=usual.gallery_embeddings.shape).astype(np.float32),
        )
    if metric.needs != "explanations":
        beside["no maps"] = replace(usual, maps=[None] * QUERIES)
    for what, given in beside.items():
        remedy = "State what it needs: 'ranking', 'embeddings' or 'explanations'."
        said = f"It needs {metric.needs}, it says, but with {what}"
        _unmoved(subject, given, before, (f"{said}:", remedy), (said, remedy))
    return f"needs {metric.needs}; with {' and with '.join(beside)} the same values"


def _unmoved(
    subject: Subject,
    given: Evidence,
    before: NDArray[np.float64],
    failing: tuple[str, str],
    moving: tuple[str, str],
) -> None:
    """Hold that other evidence gives the values of before; each fault with how it begins and its remedy."""
    try:
        found = values_of(subject, given)
    except Exception as error:
        reason = error.found if isinstance(error, Fault) else error
        raise Fault(f"{failing[0]} {reason}", failing[1]) from error
    usually, now = told_apart(before, found)
    demand(close(found, before), f"{moving[0]} its values change from {usually} to {now}.", moving[1])


def depth(subject: Subject) -> str:
    """It looks no deeper than `depth` neighbours."""
    usual, metric = usual_evidence(subject), subject.one
    before, deep = values_of(subject, usual), metric.depth
    demand(
        type(deep) is int and deep >= 0,
        f"depth is {deep!r}.",
        "It is how many neighbours a run must find for it, a whole number of 0 or more.",
    )
    deeper = usual.neighbours.copy()
    deeper[:, deep:] = deeper[:, deep:][:, ::-1]
    shallow = usual.neighbours[:, : max(deep, 1)]
    cases = {
        f"other neighbours beyond the {deep} it asks for": replace(usual, neighbours=deeper),
        f"no neighbours beyond the {deep} it asks for": replace(
            usual, neighbours=shallow, distances=usual.distances[:, : max(deep, 1)]
        ),
    }
    for what, given in cases.items():
        remedy = "depth is how many neighbours a run must find for it"
        _unmoved(
            subject, given, before, (f"With {what}:", f"{remedy}."), (f"With {what},", f"{remedy}: raise it.")
        )
    return f"{deep} neighbours are enough"


def pickles(subject: Subject) -> str:
    """Another process that it is handed to gives the same values."""
    there = sent(subject.one, "It")
    usual = usual_evidence(subject)
    before = values_of(subject, usual)
    found = calling(f"{subject.name}.per_query", lambda: there.per_query(usual))
    demand(
        there.name == subject.one.name and close(np.asarray(found, np.float64), before),
        "Pickled and unpickled it gives other values, or has another name.",
        "Keep what it needs in plain attributes.",
    )
    return "the same values once pickled and unpickled"


CHECKS: tuple[Check, ...] = (
    *declarations.CHECKS,
    *imports.CHECKS,
    declared,
    values,
    single_query,
    undefined,
    queries_apart,
    evidence_unchanged,
    best_and_worst,
    needs,
    depth,
    by_chance,
    pickles,
)
"""All of them, in the order in which they are told; `hand_cases.hand_worked` takes the author's own cases."""
