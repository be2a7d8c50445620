"""Queries and what they are ranked against: the benchmark's own, and those of external cohorts.

The paper's second test set (UNN, tables 3 and 5) is such a cohort: its slices are looked up in the
Decathlon's training gallery, by the extractors that were trained there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

from cbirbench.plan import Plan
from cbirbench.slices import CTSlice, Slices


@dataclass(frozen=True, eq=False)
class QuerySet:
    """Queries, and the gallery that they are ranked against.

    Attributes:
        cohort: Its name; the benchmark's for its own queries.
        gallery: The gallery's slices.
        queries: The queries.
        external: Whether it is a cohort beside the benchmark's own queries.
        among_themselves: Whether the gallery is the cohort itself; a query then never sees its own patient.
        synthetic: Whether the scans were made by a program.
        structures: Names of the masks' values.
        warnings: What was doubtful about its scans.
        alarms: Why its scores may mean nothing; told first.
    """

    cohort: str
    gallery: Slices
    queries: Slices
    external: bool = False
    among_themselves: bool = False
    synthetic: bool = False
    structures: Mapping[int, str] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    alarms: tuple[str, ...] = ()

    @cached_property
    def explainable(self) -> list[CTSlice]:
        """The queries that are explained: relevance ranks are of slices that show the organ (eq. 7)."""
        return [item for item in self.queries if item.shows_target]

    @property
    def masked(self) -> int:
        """How many queries have a mask."""
        return sum(item.mask is not None for item in self.queries)

    @cached_property
    def parts(self) -> list[tuple[list[int], list[int]]]:
        """Positions of queries and of the gallery slices that they may retrieve.

        One part, but for a cohort that is its own gallery: there one a patient, who is left out of it.
        """
        everything = list(range(len(self.gallery)))
        if not self.among_themselves:
            return [(list(range(len(self.queries))), everything)]
        return [
            (
                [place for place, item in enumerate(self.queries) if item.patient_id == patient],
                [place for place in everything if self.gallery[place].patient_id != patient],
            )
            for patient in dict.fromkeys(item.patient_id for item in self.queries)
        ]

    @property
    def smallest_gallery(self) -> int:
        """How many slices a query may retrieve, at least."""
        return min((len(gallery) for _, gallery in self.parts), default=0)


def own_queries(plan: Plan, gallery: Slices, queries: Slices, warnings: tuple[str, ...] = ()) -> QuerySet:
    """The benchmark's own queries, looked up in its gallery."""
    return QuerySet(
        cohort=plan.benchmark_plugin.name,
        gallery=gallery,
        queries=queries,
        synthetic=plan.benchmark.synthetic,
        structures=plan.structures,
        warnings=warnings,
    )


def named_after(cohort: str, slices: Slices) -> Slices:
    """Slices whose ids say their cohort, as the ids of two cohorts may be the same: ``unn/liver_3_z0041``."""

    def renamed(items: Slices) -> Iterator[CTSlice]:
        for item in items:
            yield replace(item, slice_id=f"{cohort}/{item.slice_id}", volume_id=f"{cohort}/{item.volume_id}")

    return Slices(tuple(renamed(slices)))
