"""What a run's summary says of its explanations, read once for every table: chance, reliability, controls."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

RELEVANCE_RANK = "relevance-rank"
"""The metric beside which the chance level and the reliability of the maps are shown."""

RELIABLE = 0.8
"""A map below this reliability is pointed out."""

AIM = 0.9
"""The reliability that advice on more masks aims at."""


@dataclass(frozen=True)
class Attention:
    """How much of one tissue a slice shows, and how much of the map lies on it: shares, means over maps.

    Attributes:
        tissue: Its name.
        target: Whether it is the organ that relevance ranks are about.
        area: Share of the slice.
        importance: Share of the map's importance, counted from its lowest value.
        top_tenth: Share of the map's most important tenth of pixels.
    """

    tissue: str
    target: bool
    area: float
    importance: float
    top_tenth: float

    def times_area(self, share: float) -> float:
        """A share over the area: 1 is what a map of random numbers gives; NaN where there is no area."""
        return share / self.area if self.area > 0 else math.nan


@dataclass(frozen=True)
class Explained:
    """The maps of one extractor, over all its runs. What is not known is NaN.

    Attributes:
        maps: How many were made.
        masks: Mean number of masks a map.
        fewest_masks: The lowest number.
        most_masks: The highest.
        reliability: Mean split-half reliability over maps, Spearman-Brown corrected.
        lowest_reliability: That of the least reliable map.
        without_reliability: Maps whose reliability is undefined, undefined maps included.
        problems: Why maps are undefined, and how many for that reason.
        zero_masks: Masked images that embedded to zero, their similarity counted as 0.
        attention: By tissue.
        chance: The target organ's mean share of the slices whose map has an order: what its relevance rank is
            to be compared with.
        controls: What the controls score on the same slices, by control and metric.
    """

    maps: int
    masks: float
    fewest_masks: float
    most_masks: float
    reliability: float
    lowest_reliability: float
    without_reliability: int
    problems: Mapping[str, int]
    zero_masks: int
    attention: tuple[Attention, ...]
    chance: float = math.nan
    controls: Mapping[str, Mapping[str, float]] = field(default_factory=dict)

    @property
    def undefined(self) -> int:
        """Maps that are undefined, for whatever reason."""
        return sum(self.problems.values())

    @property
    def masks_for_aim(self) -> int | None:
        """About how many masks bring the mean reliability to `AIM`, by Spearman and Brown's formula.

        Rounded up to two digits; None where the reliability is not positive or there already.
        """
        if not 0 < self.reliability < AIM or not self.masks > 0:
            return None
        needed = self.masks * AIM * (1 - self.reliability) / (self.reliability * (1 - AIM))
        unit = 10.0 ** max(math.floor(math.log10(needed)) - 1, 0)
        return int(math.ceil(needed / unit - 1e-9) * unit)


@dataclass(frozen=True)
class Explanations:
    """All that a summary says of explanations.

    Attributes:
        chance: What a map of random numbers scores in relevance rank: the target organ's mean share of the
            explained slices; NaN where unknown.
        extractors: By canonical name.
        controls: Mean of each metric on explanations, by control and then metric; fractions of 1.
    """

    chance: float
    extractors: Mapping[str, Explained]
    controls: Mapping[str, Mapping[str, float]]

    @property
    def metrics(self) -> frozenset[str]:
        """The metrics on explanations: relevance rank, and whatever controls were scored by."""
        return frozenset([RELEVANCE_RANK, *(name for means in self.controls.values() for name in means)])

    def chance_of(self, extractor: str) -> float:
        """The chance level of an extractor's relevance rank, on its own queries where these are known."""
        found = self.extractors.get(extractor)
        return self.chance if found is None or math.isnan(found.chance) else found.chance

    def controls_of(self, extractor: str) -> Mapping[str, Mapping[str, float]]:
        """What the controls score on an extractor's own queries where these are known."""
        found = self.extractors.get(extractor)
        return (found.controls if found else None) or self.controls


def explanations(summary: Mapping[str, Any]) -> Explanations | None:
    """Read ``summary["explanations"]``; None where the run explained nothing, or is older than that entry."""
    entry = summary.get("explanations")
    if not entry:
        return None
    return Explanations(
        chance=_number(entry.get("chance")),
        extractors={str(name): _explained(item) for name, item in (entry.get("extractors") or {}).items()},
        controls=_controls(entry),
    )


def _controls(entry: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    return {
        str(control): {str(metric): _number((found or {}).get("mean")) for metric, found in scored.items()}
        for control, scored in (entry.get("controls") or {}).items()
    }


def _explained(item: Mapping[str, Any]) -> Explained:
    masks, reliability = item.get("masks") or {}, item.get("reliability") or {}
    return Explained(
        maps=int(item.get("explained") or 0),
        masks=_number(masks.get("mean")),
        fewest_masks=_number(masks.get("lowest")),
        most_masks=_number(masks.get("highest")),
        reliability=_number(reliability.get("mean")),
        lowest_reliability=_number(reliability.get("lowest")),
        without_reliability=int(reliability.get("undefined") or 0),
        problems={str(reason): int(count) for reason, count in (item.get("problems") or {}).items()},
        zero_masks=int(item.get("zero_masks") or 0),
        attention=tuple(
            Attention(
                str(part["tissue"]),
                bool(part.get("target")),
                *(_number(part.get(key)) for key in ("area", "importance", "top_tenth")),
            )
            for part in item.get("attention") or ()
        ),
        chance=_number(item.get("chance")),
        controls=_controls(item),
    )


def _number(value: Any) -> float:
    return math.nan if value is None else float(value)
