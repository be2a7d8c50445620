"""Queries beside what was retrieved for them, with explanations (paper, figures 8 to 11)."""

from __future__ import annotations

import difflib
import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cbirbench.errors import UsageError
from cbirbench.explain.native import to_native
from cbirbench.explain.relax import Explanation, RelaxOptions
from cbirbench.figures.explained_retrieval import ShownSlice, draw_explained_retrieval
from cbirbench.ranking import Ranking
from cbirbench.results import RETRIEVALS
from cbirbench.slices import CTSlice, Slices

if TYPE_CHECKING:
    from numpy.typing import NDArray


LONGEST_NAME = 100
"""Characters of an id that a file's name takes; systems allow 255 bytes, and fewer of a whole path."""

RESERVED = {"con", "prn", "aux", "nul", *(f"{port}{n}" for port in ("com", "lpt") for n in range(10))}
"""Names that Windows keeps for devices, whatever their ending."""


@dataclass(frozen=True)
class Chosen:
    """A query that is drawn, and why: best, median, worst, or asked for."""

    position: int
    why: str


@dataclass(frozen=True)
class Captioned:
    """What a figure says of itself.

    Attributes:
        benchmark: Its name.
        synthetic: Whether its scans were made by a program.
        extractor: Whose retrieval it is.
        structures: Names of the masks' values, as far as they are known.
    """

    benchmark: str
    synthetic: bool
    extractor: str
    structures: Mapping[int, str]

    def organ(self, target_values: tuple[int, ...]) -> str:
        """What the target organ is called."""
        named = [self.structures[value] for value in target_values or (1,) if value in self.structures]
        return named[0] if named else "target organ"


def precision_of_each(queries: Slices, gallery: Slices, ranking: Ranking, shown: int) -> NDArray[np.float64]:
    """Mean of precision@1 to precision@`shown` of each query (paper, eq. 5), shape ``(q,)``."""
    hits = gallery.labels[ranking.neighbours[:, :shown]] == queries.labels[:, None]
    found: NDArray[np.float64] = (hits.cumsum(axis=1) / np.arange(1, hits.shape[1] + 1)).mean(axis=1)
    return found


def choose(queries: Slices, precision: NDArray[np.float64]) -> list[Chosen]:
    """The best, the median and the worst of the queries that show the organ; of equals, the first by id.

    Args:
        queries: All queries.
        precision: What `precision_of_each` gave.
    """
    order = sorted(
        (
            position
            for position, item in enumerate(queries)
            if item.shows_target or (item.mask is None and item.label == 1)
        ),
        key=lambda position: (-precision[position], queries[position].slice_id),
    )
    places = {"best": 0, "worst": len(order) - 1, "median": len(order) // 2}
    found: dict[int, str] = {}
    for why, place in places.items():
        if order and order[place] not in found:
            found[order[place]] = why
    return [Chosen(position, found[position]) for position in order if position in found]


def asked_for(queries: Slices, ids: Sequence[str]) -> list[Chosen]:
    """The queries of these ids, each once.

    Raises:
        UsageError: There is no such query.
    """
    known = {slice_id: position for position, slice_id in enumerate(queries.ids)}
    for slice_id in ids:
        if slice_id not in known:
            near = difflib.get_close_matches(slice_id, known, n=3, cutoff=0.4) or queries.ids[:3]
            raise UsageError(
                f"No query is called {slice_id!r}.",
                f"Queries are slices such as {', '.join(near)}; the slices.parquet of a run lists all ids.",
            )
    return [Chosen(known[slice_id], "asked for") for slice_id in dict.fromkeys(ids)]


def neighbours_of(chosen: Sequence[Chosen], gallery: Slices, ranking: Ranking, shown: int) -> list[CTSlice]:
    """The gallery slices that figures of these queries show, each once."""
    places = {int(place) for one in chosen for place in ranking.neighbours[one.position, :shown]}
    return [gallery[place] for place in sorted(places)]


def draw_retrieval(
    path: Path,
    captioned: Captioned,
    query: CTSlice,
    retrieved: Sequence[CTSlice],
    distances: Sequence[float],
    explanations: Mapping[str, Explanation],
    *,
    relax: RelaxOptions,
    title: str,
    uncertainty: bool = False,
) -> None:
    """Draw one query, what was retrieved for it, and the importance maps of all.

    Args:
        path: Where to write.
        captioned: What the figure says of itself.
        query: The query.
        retrieved: Its neighbours, nearest first.
        distances: Theirs from the query.
        explanations: Of the query and the retrieved, by slice id.
        relax: How the maps were made.
        title: Stands first above the figure.
        uncertainty: Whether to draw the maps' uncertainty as well.

    Raises:
        UsageError: The path has another ending than a figure's.
        MissingError: The file cannot be written.
    """
    organ = captioned.organ(query.target_values)

    def shown(item: CTSlice, distance: float | None) -> ShownSlice:
        explanation = explanations[item.slice_id]
        return ShownSlice(
            hu=item.hu,
            outline=item.target,
            importance=to_native(explanation.importance, item.hu.shape),
            title=item.slice_id,
            label=organ if item.label else f"no {organ}",
            distance=distance,
            right=None if distance is None else item.label == query.label,
            note=map_note(explanation),
            uncertainty=to_native(explanation.uncertainty, item.hu.shape) if uncertainty else None,
        )

    made_by = "Synthetic data: scans made by a program. " if captioned.synthetic else ""
    draw_explained_retrieval(
        shown(query, None),
        [shown(item, distance) for item, distance in zip(retrieved, distances, strict=True)],
        path,
        title=f"{title}\n{captioned.benchmark}, {captioned.extractor}",
        caption=f"{made_by}Importance by RELAX ({how_made(relax)}): how similar the masked images that show "
        "a pixel embed to the whole slice. Reliability: the agreement to be expected with a map from other "
        "masks.",
        organ=organ,
    )


def how_made(relax: RelaxOptions) -> str:
    """What tells maps of one slice and extractor from each other, besides the number of masks."""
    parts: list[str] = [relax.estimator]
    if relax.antithetic:
        parts.append("antithetic masks")
    if relax.uncertainty_filter != "none":
        parts.append(f"U-RELAX by the {relax.uncertainty_filter}")
    return ", ".join(parts)


def map_note(explanation: Explanation) -> str:
    """How sure a map is, on one line, or why there is none."""
    if explanation.problem:
        return explanation.problem
    return f"reliability {explanation.reliability:.2f}, {explanation.masks} masks"


def figure_file(extractor: str, slice_id: str) -> str:
    """Where the figure of a query is, relative to the run's folder; an id may hold any character."""
    name = re.sub(r"[^A-Za-z0-9._-]", "_", slice_id)
    reserved = name.partition(".")[0].lower() in RESERVED
    if name != slice_id or name[:1] in ("", ".") or len(name) > LONGEST_NAME or reserved:
        digest = hashlib.sha256(slice_id.encode()).hexdigest()[:8]
        name = f"slice_{name[:LONGEST_NAME]}_{digest}"
    return f"{RETRIEVALS}/{extractor}/{name}.png"
