"""Cross-examination as a benchmark: many pairs of studies, scored by experts, masks or paired heights."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cbirbench import results
from cbirbench.atomic import write_text
from cbirbench.cases.asking import Answer, Asked, by_whom, columns, heading, reopened_for
from cbirbench.cases.pair_list import Pair, read_pairs
from cbirbench.cases.reopening import ReopenedExtractor
from cbirbench.cases.spatial_coherence import Reach, neighbours
from cbirbench.cases.studies import Study
from cbirbench.cases.study_orders import (
    Order,
    agreement,
    distances_between,
    in_order,
    smoothed_order,
)
from cbirbench.errors import UsageError
from cbirbench.interfaces import Progress
from cbirbench.ranking import Ranking
from cbirbench.retrieval_figures import precision_of_each
from cbirbench.slices import CTSlice, Slices, target_pixels
from cbirbench.store import Store, as_json

if TYPE_CHECKING:
    from numpy.typing import NDArray

ROWS_FILE = "queries.parquet"

ORDERS = ("plain", "smoothed")

TOLERANCE_MM = 10.0
"""How near to the paired height is a hit, if nothing else is said."""

FORMULAS = {
    "overlap": "share of the expert's picks among the K nearest slices, of the smaller of K and their number",
    "tau": "Kendall's tau-b between the expert's order of the picks and their order by rank",
    "map": "mean over k = 1..K of precision@k (eq. 5 and 6): the share of the k nearest that show the organ "
    "if the query does, and that do not if it does not",
    "z_error_mm": "distance along the body between the nearest slice and the paired one, in millimetres",
    "hit": "whether that distance is within the tolerance",
}
"""What each score of a query slice is; all but the last but one lie in -1..1, and more is better."""


@dataclass(frozen=True)
class PairsRequest:
    """What the user asked for.

    Attributes:
        asked: With what; `top` is the K of the scores (None: 5, and for experts the number of picks).
        pairs: A CSV file, see `cbirbench.cases.pair_list`.
        out: A folder for the results.
        reach: How far neighbours count in the re-ranking.
        tolerance_mm: Within how many millimetres of the paired height a slice is a hit.
        unstated: Where axes point in files that do not say it.
    """

    asked: Asked
    pairs: Path
    out: Path
    reach: Reach
    tolerance_mm: float = TOLERANCE_MM
    unstated: str = ""


def examine_pairs(request: PairsRequest, store: Store, progress: Progress) -> Answer:
    """Rank the previous study's slices for the query slices of every pair, with and without smoothing.

    Returns:
        Means over all query slices; a row each query slice and order is in `ROWS_FILE` of the folder.

    Raises:
        UsageError: The file's columns or cells do not fit, a slice is out of range, or an option does not
            fit.
        DataError: A scan, a mask or a file of the run is damaged, the run kept no pixels, or the extractor no
            longer embeds as it did.
        MissingError: A plugin, weights or a device is not here, or a file cannot be written.
    """
    if not 0.0 <= request.tolerance_mm < np.inf:
        raise UsageError(f"--tolerance takes millimetres from 0, got {request.tolerance_mm:g}.", "Give 10.")
    if request.asked.top is not None and request.asked.top < 1:
        raise UsageError(f"--top takes a number from 1, got {request.asked.top}.", "Give 5.")
    if request.out.exists() and not request.out.is_dir():
        raise UsageError(f"--out {request.out} is a file.", "With --pairs, name a folder.")
    pairs, studies, notes = read_pairs(request.pairs, request.asked.top, request.unstated)
    reopened, _ = reopened_for(request.asked)
    vectors = _embedded(reopened, pairs, studies, request.reach, store, progress)
    targets = reopened.run.gallery[0].target_values
    shows = _presence(pairs, studies, targets)

    rows: list[dict[str, Any]] = []
    with progress.stage("scoring pairs", len(pairs)) as advance:
        for pair in pairs:
            rows += _scored(request, pair, studies, vectors, shows, reopened.run.summary["distance"])
            advance(1)
    summary = _summary(request, reopened, pairs, rows)
    notes += list(dict.fromkeys(note for study in studies.values() for note in study.notes))
    document = as_json({**summary, "notes": notes})
    import pandas as pd

    results.write_table(request.out / ROWS_FILE, pd.DataFrame(rows))
    write_text(request.out / results.SUMMARY_FILE, json.dumps(document, indent=1, allow_nan=False) + "\n")
    lines = [*_lines(summary, reopened), f"Wrote {request.out / ROWS_FILE} and {results.SUMMARY_FILE}"]
    return Answer(document, lines, notes)


def _embedded(
    reopened: ReopenedExtractor,
    pairs: Sequence[Pair],
    studies: Mapping[Path, Study],
    reach: Reach,
    store: Store,
    progress: Progress,
) -> dict[Path, dict[int, NDArray[np.float32]]]:
    """Embeddings of every slice that a pair needs, by study and number; a study is read once."""
    wanted: dict[Path, set[int]] = {path: set() for path in studies}
    for pair in pairs:
        new = studies[pair.query]
        reach_mm = reach.mm(new.spacing_mm)
        for number in pair.numbers:
            wanted[pair.query] |= set(neighbours(number, new.slice_count, new.spacing_mm, reach_mm))
        wanted[pair.previous] |= set(range(studies[pair.previous].slice_count))
    found = {}
    for path, numbers in wanted.items():
        study, order = studies[path], sorted(numbers)
        title = f"{reopened.contender.name}: embedding {study.name}"
        vectors = reopened.embed(study.read(order, "study"), store, progress, title)
        found[path] = dict(zip(order, vectors, strict=True))
    return found


def _presence(
    pairs: Sequence[Pair], studies: Mapping[Path, Study], targets: tuple[int, ...]
) -> dict[tuple[Path, Path], NDArray[np.int64]]:
    """Which slices show the organ, 1 or 0, by scan and mask."""
    found: dict[tuple[Path, Path], NDArray[np.int64]] = {}
    for pair in pairs:
        for scan, mask in zip((pair.query, pair.previous), pair.masks or (), strict=False):
            if (scan, mask) not in found:
                planes = studies[scan].read_mask(mask)
                found[scan, mask] = np.array([int(target_pixels(p, targets).any()) for p in planes])
    return found


def _scored(
    request: PairsRequest,
    pair: Pair,
    studies: Mapping[Path, Study],
    vectors: Mapping[Path, Mapping[int, NDArray[np.float32]]],
    shows: Mapping[tuple[Path, Path], NDArray[np.int64]],
    distance: Any,
) -> list[dict[str, Any]]:
    """A row for each query slice and order; NaN where a score cannot be computed."""
    new, previous = studies[pair.query], studies[pair.previous]
    of_new, of_previous = vectors[pair.query], vectors[pair.previous]
    numbers = sorted(of_new)
    everything = np.stack([of_previous[number] for number in range(previous.slice_count)])
    distances = distances_between(np.stack([of_new[number] for number in numbers]), everything, distance)
    row_of = {number: row for row, number in enumerate(numbers)}
    labels = None
    if pair.masks is not None:
        labels = shows[pair.query, pair.masks[0]], shows[pair.previous, pair.masks[1]]
    rows = []
    for number in pair.numbers:
        orders = {
            "plain": in_order(distances[row_of[number]]),
            "smoothed": smoothed_order(distances, numbers, number, new, previous, request.reach),
        }
        for kind, order in orders.items():
            nearest = int(order.numbers[0])
            k = request.asked.top or len(pair.picks)
            expert = agreement(order, pair.picks, k) if pair.picks else None
            error = np.nan if pair.paired is None else abs(nearest - pair.paired) * previous.spacing_mm
            rows.append(
                {
                    "line": pair.line,
                    "query": new.name,
                    "slice": number,
                    "previous": previous.name,
                    "order": kind,
                    "nearest_slice": nearest,
                    "overlap": expert.overlap if expert else np.nan,
                    "overlap_k": expert.k if expert else None,
                    "overlap_by_chance": expert.chance if expert else np.nan,
                    "tau": expert.tau if expert else np.nan,
                    "map": np.nan
                    if labels is None
                    else _precision(order, int(labels[0][number]), labels[1], request.asked.top or 5),
                    "z_error_mm": float(error),
                    "hit": np.nan if np.isnan(error) else float(error <= request.tolerance_mm + 1e-6),
                }
            )
    return rows


def _precision(order: Order, label: int, labels: NDArray[np.int64], k: int) -> float:
    """Mean of precision@1..k (`cbirbench.metrics.mean_average_precision`)."""
    blank = CTSlice(np.zeros((1, 1), np.int16), None, "query", "", "", "", 0, label)
    gallery = Slices(
        tuple(replace(blank, slice_id=str(z), label=int(shown)) for z, shown in enumerate(labels))
    )
    ranking = Ranking(order.numbers[None], order.distances[None])
    return float(precision_of_each(Slices((blank,)), gallery, ranking, k)[0])


def _why_not(score: str, pairs: Sequence[Pair]) -> str:
    """Why some query slices have no value of a score; empty where all have one."""
    without = {
        "overlap": [not pair.picks for pair in pairs],
        "tau": [len(pair.picks) < 2 for pair in pairs],
        "map": [pair.masks is None for pair in pairs],
        "z_error_mm": [pair.paired is None for pair in pairs],
        "hit": [pair.paired is None for pair in pairs],
    }[score]
    reason = {
        "overlap": "no expert's picks given",
        "tau": "fewer than two expert's picks given",
        "map": "no masks given",
        "z_error_mm": "no previous_slice given",
        "hit": "no previous_slice given",
    }[score]
    left = sum(len(pair.numbers) for pair, lacks in zip(pairs, without, strict=True) if lacks)
    return f"{reason} for {left} query slices" if left else ""


def _summary(
    request: PairsRequest,
    reopened: ReopenedExtractor,
    pairs: Sequence[Pair],
    rows: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    top = request.asked.top
    names = {
        "overlap": f"overlap@{top or 'picks'}",
        "tau": "kendall-tau",
        "map": f"map@{top or 5}",
        "z_error_mm": "z-error-mm",
        "hit": f"hit@{request.tolerance_mm:g}mm",
    }
    scores = []
    for score, name in names.items():
        of_order = {
            kind: np.array([row[score] for row in rows if row["order"] == kind], dtype=np.float64)
            for kind in ORDERS
        }
        defined = ~np.isnan(of_order["plain"])
        means = {kind: float(v[defined].mean()) if defined.any() else None for kind, v in of_order.items()}
        entry = {
            "name": name,
            "formula": FORMULAS[score],
            "queries": int(defined.sum()),
            **means,
            "why_not": _why_not(score, pairs),
        }
        if score == "overlap":
            chance = np.array([row["overlap_by_chance"] for row in rows if row["order"] == "plain"])
            entry["by_chance"] = float(chance[defined].mean()) if defined.any() else None
        scores.append(entry)
    return {
        **heading("cross-exam --pairs", reopened, None),
        "pairs_file": request.pairs,
        "pairs": len(pairs),
        "query_slices": sum(len(pair.numbers) for pair in pairs),
        "reach": str(request.reach),
        "tolerance_mm": request.tolerance_mm,
        "mean_over": "query slices",
        "scores": scores,
        "files": [ROWS_FILE, results.SUMMARY_FILE],
    }


def _lines(summary: Mapping[str, Any], reopened: ReopenedExtractor) -> list[str]:
    first = (
        f"{summary['query_slices']} query slices of {summary['pairs']} pairs, by {by_whom(reopened)}; "
        f"smoothed: with neighbours within {summary['reach']}"
    )
    rows = [["score", "plain", "smoothed", "query slices"]]
    notes = []
    for score in summary["scores"]:
        means = ["-" if score[kind] is None else f"{score[kind]:.3f}" for kind in ORDERS]
        rows.append([score["name"], *means, str(score["queries"])])
        if score["why_not"]:
            notes.append(f"  {score['name']}: {score['why_not']}.")
    return [first, *columns(rows), *notes]
