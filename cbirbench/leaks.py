"""What a run finds of its gallery's patients among its queries: before training, and by embeddings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cbirbench import registry
from cbirbench.duplicates import DuplicatePair, duplicates_by_embedding, duplicates_by_hash
from cbirbench.interfaces import Located
from cbirbench.leakage import known_overlaps, leakage_findings, leakage_report
from cbirbench.plan import Contender, Plan
from cbirbench.query_sets import QuerySet
from cbirbench.results import RunOutcome
from cbirbench.slices import Slices

PLACES = ("data", "images", "manifest")
"""Options of benchmarks that say where the scans are."""


class Leaks:
    """What one set of queries shares with its gallery, as far as it was found.

    Args:
        one: The queries and their gallery.
        trained_on: The gallery that the extractors are trained on.
        overlaps: What is known of the collections by their names.
    """

    def __init__(self, one: QuerySet, trained_on: Slices, overlaps: Sequence[str] = ()) -> None:
        self._one, self._overlaps = one, tuple(overlaps)
        # A cohort that is its own gallery must not hold what was trained on either.
        self._gallery = Slices((*trained_on, *one.gallery)) if one.among_themselves else one.gallery
        self._by_hash = duplicates_by_hash(self._gallery, one.queries)
        self._by_embedding: dict[str, list[DuplicatePair] | None] = {}

    def look_at(self, contender: Contender, outcome: RunOutcome) -> None:
        """Look for copies by an extractor's embeddings; not by one that goes by the slices' positions.

        Slices of two patients at one position are near to such an extractor, and no copies.
        """
        found = None
        if not issubclass(registry.load(contender.plugin), Located):
            found = duplicates_by_embedding(
                outcome.gallery_embeddings, outcome.query_embeddings, self._one.gallery, self._one.queries
            )
        self._by_embedding[contender.name] = found

    @property
    def report(self) -> dict[str, Any]:
        """What summary.json holds of it."""
        return leakage_report(
            self._gallery,
            self._one.queries,
            by_hash=self._by_hash,
            by_embedding=self._by_embedding,
            overlaps=self._overlaps,
            among_themselves=self._one.among_themselves,
        )

    @property
    def warnings(self) -> list[str]:
        """A sentence for each thing that was found."""
        return leakage_findings(self.report)


def find_leaks(plan: Plan, sets: Sequence[QuerySet]) -> dict[str, Leaks]:
    """Compare the queries of every cohort with their gallery, by the images and by the collections' names."""
    own, *external = sets
    patients = sorted({item.patient_id for item in own.gallery})
    place = next(
        (str(value) for name in PLACES if (value := getattr(plan.benchmark_options, name, None))), ""
    )
    found = {own.cohort: Leaks(own, own.gallery)}
    for one, text in zip(external, plan.request.queries, strict=True):
        overlaps = known_overlaps(own.cohort, patients, [one.cohort], [text], data=place)
        found[one.cohort] = Leaks(one, own.gallery, overlaps)
    return found
