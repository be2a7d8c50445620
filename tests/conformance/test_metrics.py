"""Every check of metrics catches one that is wrong in just that way."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from cbirbench.conformance.hand_cases import hand_worked
from cbirbench.conformance.verdicts import judged
from cbirbench.interfaces import ByChance, Evidence, Options, Plugin, option
from cbirbench.testing import evidence


class SoundOptions(Options):
    k: int = option(4, description="Neighbours looked at.", ge=1)


class Sound(Plugin):
    """Precision among the nearest k."""

    interface_version = 1
    options_type = SoundOptions
    needs = "ranking"

    @property
    def name(self) -> str:
        return f"precision@{self.options.k}"

    @property
    def depth(self) -> int:
        return self.options.k

    def per_query(self, evidence: Evidence) -> Any:
        labels = evidence.gallery_labels[evidence.neighbours[:, : self.options.k]]
        return (labels == evidence.query_labels[:, None]).mean(axis=1)


class OnMaps(Plugin):
    """Mean importance in the mask."""

    interface_version = 1
    needs = "explanations"
    name = "inside"
    depth = 0

    def per_query(self, evidence: Evidence) -> Any:
        values = np.full(len(evidence.maps), np.nan)
        for i, (found, mask) in enumerate(zip(evidence.maps, evidence.masks, strict=True)):
            if found is not None and mask is not None and mask.any():
                values[i] = found[mask].mean() / 1.3
        return values


class KnowsChance(Sound, ByChance):
    def by_chance(self, query_labels: Any, gallery_labels: Any) -> Any:
        return np.array([(gallery_labels == label).mean() for label in query_labels])


class TakesHalfForChance(KnowsChance):
    def by_chance(self, query_labels: Any, gallery_labels: Any) -> Any:
        return np.full(len(query_labels), 0.5)


class NoChance(KnowsChance):
    def by_chance(self, query_labels: Any, gallery_labels: Any) -> Any:
        return np.full(len(query_labels), np.nan)


class OneChance(KnowsChance):
    def by_chance(self, query_labels: Any, gallery_labels: Any) -> Any:
        return 0.5


class HidesK(Sound):
    name = "precision"  # type: ignore[assignment]


class PathForAName(Sound):
    options_type = Options
    name = "../precision"  # type: ignore[assignment]
    depth = 4  # type: ignore[assignment]

    def per_query(self, evidence: Evidence) -> Any:
        return (evidence.gallery_labels[evidence.neighbours[:, :4]] == 1).mean(axis=1)


class Numbered(Sound):
    numbers = itertools.count()

    @property
    def name(self) -> str:
        return f"precision-{next(self.numbers)}@{self.options.k}"


class NeedsLuck(Sound):
    needs = "luck"


class EndlessDepth(Sound):
    depth = -1  # type: ignore[assignment]


class ForgetsOptions(Sound):
    @property
    def options(self) -> Options:
        return SoundOptions(k=9)

    @options.setter
    def options(self, value: Options) -> None: ...

    name = "precision@4"  # type: ignore[assignment]


class Mean(Sound):
    def per_query(self, evidence: Evidence) -> Any:
        return super().per_query(evidence).mean()


class Lists(Sound):
    def per_query(self, evidence: Evidence) -> Any:
        return super().per_query(evidence).tolist()


class Singles(Sound):
    def per_query(self, evidence: Evidence) -> Any:
        return super().per_query(evidence).astype(np.float32)


class Percent(Sound):
    def per_query(self, evidence: Evidence) -> Any:
        return super().per_query(evidence) * 100


class AllNaN(Sound):
    def per_query(self, evidence: Evidence) -> Any:
        return np.full(len(evidence.query_labels), np.nan)


class Raises(Sound):
    def per_query(self, evidence: Evidence) -> Any:
        raise FloatingPointError("underflow")


class NeedsTwoQueries(Sound):
    def per_query(self, evidence: Evidence) -> Any:
        assert len(evidence.query_labels) > 1
        return super().per_query(evidence)


class NeedsEveryMask(OnMaps):
    def per_query(self, evidence: Evidence) -> Any:
        pairs = zip(evidence.maps, evidence.masks, strict=True)
        return np.array([float((found * mask).mean()) for found, mask in pairs])


class ZeroForNoMap(OnMaps):
    def per_query(self, evidence: Evidence) -> Any:
        return np.nan_to_num(super().per_query(evidence))


class SpoilsOthers(OnMaps):
    def per_query(self, evidence: Evidence) -> Any:
        values = super().per_query(evidence)
        return values if not np.isnan(values).any() else np.full(len(values), np.nan)


class SecretlyOnMaps(Sound):
    def per_query(self, evidence: Evidence) -> Any:
        missing = np.array([found is None for found in evidence.maps])
        return np.where(missing, np.nan, super().per_query(evidence))


class ScalesOverAll(Sound):
    def per_query(self, evidence: Evidence) -> Any:
        values = super().per_query(evidence)
        return values / max(values.max(), 0.1)


class Sorts(Sound):
    def per_query(self, evidence: Evidence) -> Any:
        values = super().per_query(evidence)
        evidence.neighbours.sort(axis=1)
        return values


class Error(Sound):
    def per_query(self, evidence: Evidence) -> Any:
        return 1 - super().per_query(evidence)


class SecretlyOnEmbeddings(Sound):
    def per_query(self, evidence: Evidence) -> Any:
        return super().per_query(evidence) * (evidence.query_embeddings[:, 0] > 0)


class LooksDeeper(Sound):
    @property
    def depth(self) -> int:
        return 2


class TakesExactlyDeeper(Sound):
    def per_query(self, evidence: Evidence) -> Any:
        evidence.neighbours[:, self.options.k]  # one more than it asks for
        return super().per_query(evidence)


class HoldsALambda(Sound):
    def __init__(self, options: Any) -> None:
        super().__init__(options)
        self.relevant = lambda a, b: a == b


class OnMatrices(Plugin):
    """Mean cosine to the gallery by a product of whole matrices, whose last digits depend on their size."""

    interface_version = 1
    needs = "embeddings"
    name = "cosine"
    depth = 0

    def per_query(self, evidence: Evidence) -> Any:
        query, gallery = evidence.query_embeddings, evidence.gallery_embeddings
        cosines = (query @ gallery.T) / np.linalg.norm(query, axis=1)[:, None]
        values = (cosines.mean(axis=1) / 10 + 0.5).astype(np.float64)
        return values * (1 + 1e-7 * len(values))


class BrightShare(OnMaps):
    """How large a map's bright part is: neither good nor bad."""

    def per_query(self, evidence: Evidence) -> Any:
        return np.array([np.nan if m is None else float((m > 0.5 * m.max()).mean()) for m in evidence.maps])


class LooksAtNothing(Sound):
    def per_query(self, evidence: Evidence) -> Any:
        return np.full(len(evidence.query_labels), 0.5)


class LooksAtQueriesAlone(Sound):
    def per_query(self, evidence: Evidence) -> Any:
        return evidence.query_labels * 1.0


class NearlyApart(Sound):
    def per_query(self, evidence: Evidence) -> Any:
        return super().per_query(evidence) * (1 - 1e-4 * len(evidence.query_labels) / 8)


FAULTS: list[tuple[str, type[Any], str]] = [
    ("declared", HidesK, "It has the option k=4, and its name is 'precision'"),
    ("declared", PathForAName, "Its name is '../precision'"),
    ("declared", Numbered, "Its name is 'precision-"),
    ("declared", NeedsLuck, "needs is 'luck'"),
    ("declared", EndlessDepth, "depth is -1"),
    ("declared", ForgetsOptions, "options are not those"),
    ("values", Mean, "per_query gives float64"),
    ("values", Lists, "per_query gives list"),
    ("values", Singles, "per_query gives float32 of shape (8,)"),
    ("values", Percent, "Its values lie in "),
    ("values", AllNaN, "All 8 queries are NaN"),
    ("values", Raises, "subject.per_query raised FloatingPointError: underflow (at test_metrics.py:"),
    ("single_query", NeedsTwoQueries, "AssertionError"),
    ("undefined", NeedsEveryMask, "A query with no mask: "),
    ("undefined", ZeroForNoMap, "gives 0 to a query that has none"),
    ("undefined", SpoilsOthers, "changes the values of others"),
    ("undefined", SecretlyOnMaps, "says it needs none"),
    ("queries_apart", ScalesOverAll, "by themselves have the values"),
    ("queries_apart", NearlyApart, "have the values 0.999988, among 8 they have 0.9999."),
    ("best_and_worst", LooksAtNothing, "whatever else it is shown about the same queries"),
    ("best_and_worst", LooksAtQueriesAlone, "whatever else it is shown about the same queries"),
    ("evidence_unchanged", Sorts, "It changes neighbours"),
    ("best_and_worst", Error, "Where all neighbours share the label"),
    ("needs", SecretlyOnEmbeddings, "with other embeddings its values change"),
    ("needs", SecretlyOnMaps, "with no maps its values change"),
    ("depth", LooksDeeper, "beyond the 2 it asks for, its values change"),
    ("depth", EndlessDepth, "depth is -1."),
    ("depth", TakesExactlyDeeper, "With no neighbours beyond the 4 it asks for: "),
    ("by_chance", TakesHalfForChance, "a query of label 0 has 0.5; the mean over 1500 random rankings"),
    ("by_chance", NoChance, "gives nan, and of 1500 random rankings 1500 have a value"),
    ("by_chance", OneChance, "gives float64 of shape ()"),
    ("pickles", HoldsALambda, "It cannot be handed to another process"),
]


@pytest.mark.parametrize(
    ("check", "faulty", "found"), FAULTS, ids=lambda value: getattr(value, "__name__", "")
)
def test_a_fault_is_found(caught: Any, check: str, faulty: type[Any], found: str) -> None:
    caught("metric", check, faulty, found)


@pytest.mark.parametrize("sound", [Sound, KnowsChance, OnMaps, OnMatrices, BrightShare])
def test_a_sound_metric_passes(every_verdict: Any, sound: type[Any]) -> None:
    verdicts = every_verdict("metric", sound)
    beside = {"by_chance"} if sound is not KnowsChance else set()
    assert {name for name, verdict in verdicts.items() if verdict.outcome != "passed"} == beside


def test_a_metric_of_maps_that_orders_nothing_is_told_so(judge: Any) -> None:
    found = judge("metric", "best_and_worst", BrightShare).found
    assert found.endswith("tables take higher for better, and it gives most to a map outside the mask")
    assert "tables" not in judge("metric", "best_and_worst", OnMaps).found


def test_a_case_by_hand_is_held_to(subject: Any) -> None:
    case = evidence(query_labels=[1, 0], gallery_labels=[1, 0, 1, 1])
    metric = subject("metric", Sound)
    assert judged(hand_worked([(case, [0.75, 0.25])]), metric).outcome == "passed"
    wrong = judged(hand_worked([(case, [0.75, 0.25]), (case, [0.75, 0.5])]), metric)
    assert wrong.found == "Case 2 gives 0.75, 0.25, by hand it is 0.75, 0.5."
    assert judged(hand_worked([]), metric).found == "There is no case worked out by hand."
    undefined = replace(case, maps=[None, None])
    assert judged(hand_worked([(undefined, [np.nan, np.nan])]), subject("metric", OnMaps)).outcome == "passed"
