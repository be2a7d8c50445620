"""Cross-examination (section 8.3): the slices of a previous study, ranked for one slice of a new study."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cbirbench.cases.asking import (
    Answer,
    Asked,
    by_whom,
    columns,
    four_digits,
    heading,
    map_caption,
    map_facts,
    reopened_for,
    shown_slice,
    study_facts,
)
from cbirbench.cases.query_explaining import explain_slices, unreliable
from cbirbench.cases.querying import known_slices
from cbirbench.cases.reopening import ReopenedExtractor
from cbirbench.cases.spatial_coherence import Reach, neighbours
from cbirbench.cases.studies import ScanFile, Study, open_study
from cbirbench.cases.study_orders import (
    Agreement,
    Order,
    agreement,
    distances_between,
    expert_picks,
    in_order,
    smoothed_order,
)
from cbirbench.errors import UsageError
from cbirbench.explain.relax import Explanation, RelaxOptions
from cbirbench.figures.cross_examination import ExamRow, ExamSlice, draw_cross_examination
from cbirbench.figures.explained_retrieval import ShownSlice, draw_explained_retrieval
from cbirbench.figures.look import check_format
from cbirbench.interfaces import Progress
from cbirbench.results import read_summary
from cbirbench.retrieval_figures import figure_file
from cbirbench.slices import CTSlice, Slices
from cbirbench.store import Store, as_json


@dataclass(frozen=True)
class ExamRequest:
    """What the user asked for.

    Attributes:
        asked: With what, and what is shown.
        query: The new study.
        slice: Which of its slices; may be empty where it has only one.
        previous: The previous study.
        expert: Slice numbers of the previous study in the expert's order; None for none.
        reach: How far neighbours count in the re-ranking; None for no re-ranking.
        out: The figure; None for a file in the working folder.
    """

    asked: Asked
    query: ScanFile
    slice: str
    previous: ScanFile
    expert: str | None = None
    reach: Reach | None = None
    out: Path | None = None


@dataclass(frozen=True, eq=False)
class _Found:
    """A cross-examination that is done."""

    reopened: ReopenedExtractor
    new: Study
    previous: Study
    query: CTSlice
    items: Sequence[CTSlice]  # the previous study's, by number
    orders: Mapping[str, Order]  # plain, and smoothed where it was asked for
    picks: Sequence[int]
    top: int
    reach: Reach | None

    @property
    def agreements(self) -> dict[str, Agreement]:
        if not self.picks:
            return {}
        return {name: agreement(order, self.picks, self.top) for name, order in self.orders.items()}


def cross_examine(request: ExamRequest, store: Store, progress: Progress) -> Answer:
    """Rank the previous study's slices for one slice of the new study, and draw figure 12.

    Raises:
        UsageError: There is no such slice, extractor or training run, an expert's pick is none, or an option
            does not fit.
        DataError: A scan or a file of the run is damaged, the run kept no pixels, or the extractor no longer
            embeds as it did.
        MissingError: A plugin, weights or a device is not here, or a file cannot be written.
    """
    if request.out is not None:
        check_format(request.out)
    read_summary(request.asked.folder)  # a folder that is no run is told of before a scan is read
    new, previous = open_study(request.query), open_study(request.previous)
    numbers = new.numbers(request.slice)
    if len(numbers) != 1:
        raise UsageError(
            f"--slice {request.slice} names {len(numbers)} slices; one is examined at a time.",
            "Give one, or a list of pairs with --pairs.",
        )
    picks = expert_picks(previous, request.expert) if request.expert is not None else []
    top = request.asked.shown(previous.slice_count, f"the previous study {previous.name}")
    if picks and request.asked.top is None:
        top = len(picks)
    reopened, relax = reopened_for(request.asked)

    (number,), reach = numbers, request.reach
    near = [number]
    notes: list[str] = []
    if reach is not None:
        near = neighbours(number, new.slice_count, new.spacing_mm, reach.mm(new.spacing_mm))
        if near == [number]:
            notes.append(
                f"No slice of {new.name} lies within {reach} of slice {number} (they are "
                f"{new.spacing_mm:.3g} mm apart): nothing is smoothed."
            )
    queries, items = new.read(near, "new"), previous.read(range(previous.slice_count), "previous")
    name = reopened.contender.name
    distances = distances_between(
        reopened.embed(queries, store, progress, f"{name}: embedding {new.name}"),
        reopened.embed(items, store, progress, f"{name}: embedding {previous.name}"),
        reopened.run.summary["distance"],
    )
    orders = {"plain": in_order(distances[near.index(number)])}
    if reach is not None:
        orders["smoothed"] = smoothed_order(distances, near, number, new, previous, reach)
    found = _Found(
        reopened, new, previous, queries[near.index(number)], list(items), orders, picks, top, reach
    )

    out = request.out
    if out is None:
        file = figure_file(name, f"{new.name}_z{number:04d}-in-{previous.name}")
        out = Path(f"{name}-{Path(file).name}")
    _draw_exam(found, out)
    written = [out]
    maps: dict[str, Explanation] = {}
    last = list(orders.values())[-1]  # smoothed, where there is one
    if relax is not None:
        retrieved = [items[int(place)] for place in last.numbers[:top]]
        maps = explain_slices(reopened, [found.query, *retrieved], relax, store, progress)
        written.append(out.with_name(f"{out.stem}-explained{out.suffix}"))
        _draw_maps(found, last, maps, relax, request.asked.uncertainty, written[-1])

    notes += [
        f"Slice {same} of {previous.name} has the query's very pixels: is it the same scan?"
        for same in [item.z_index for item in items if known_slices([item], Slices((found.query,)))]
    ]
    notes = [*dict.fromkeys((*new.notes, *previous.notes)), *notes]
    lines = _lines(found) + (unreliable(maps, relax) if relax is not None else [])
    lines += [f"Wrote {path}" for path in written]
    document = {**heading("cross-exam", reopened, relax), **_document(found, maps)}
    return Answer(as_json({**document, "figures": written, "notes": notes}), lines, notes)


def _draw_exam(found: _Found, path: Path) -> None:
    """Draw the query, the expert's picks where there are any, and the nearest slices in each order."""
    previous, picks = found.previous, list(found.picks)
    name = by_whom(found.reopened)
    names = {"plain": f"Retrieved by {name}"}
    if found.reach is not None:
        names["smoothed"] = f"Retrieved by {name}, with neighbours within {found.reach}"
    rows = []
    if picks:
        ranks = found.orders["plain"].ranks
        rows.append(
            ExamRow(
                "Chosen by the expert",
                [
                    ExamSlice(
                        found.items[pick].hu,
                        str(place),
                        (_at(previous, pick), f"rank {ranks[pick]} by {found.reopened.contender.name}"),
                        f"rank {ranks[pick]}" if ranks[pick] <= found.top else "",
                    )
                    for place, pick in enumerate(picks, start=1)
                ],
            )
        )
    rows += [
        ExamRow(
            names[kind],
            [
                ExamSlice(
                    found.items[number].hu,
                    str(place),
                    (_at(previous, number), f"distance {four_digits(order.distances[place - 1])}"),
                    f"expert's {picks.index(number) + 1}" if number in picks else "",
                )
                for place, number in enumerate(order.numbers[: found.top].tolist(), start=1)
            ],
        )
        for kind, order in found.orders.items()
    ]
    query = found.query.z_index
    draw_cross_examination(
        ExamSlice(found.query.hu, "Query", (found.new.name, _at(found.new, query))),
        rows,
        path,
        title=f"{found.new.name}, slice {query}, in the previous study {previous.name}",
        caption=" ".join(_scores(found)),
    )


def _at(study: Study, number: int) -> str:
    return f"slice {number}, {study.z_mm(number):.1f} mm"


def _draw_maps(
    found: _Found,
    order: Order,
    maps: Mapping[str, Explanation],
    relax: RelaxOptions,
    uncertainty: bool,
    path: Path,
) -> None:
    def shown(item: CTSlice, study: Study, distance: float | None) -> ShownSlice:
        where = _at(study, item.z_index)
        return shown_slice(item, study.name, where, distance, maps[item.slice_id], uncertainty)

    nearest = zip(order.numbers[: found.top].tolist(), order.distances.tolist(), strict=False)
    draw_explained_retrieval(
        shown(found.query, found.new, None),
        [shown(found.items[number], found.previous, distance) for number, distance in nearest],
        path,
        title=f"{found.new.name}, slice {found.query.z_index}, in the previous study {found.previous.name}\n"
        + by_whom(found.reopened)
        + (f", with neighbours within {found.reach}" if found.reach is not None else ""),
        caption=map_caption(relax),
    )


def _scores(found: _Found) -> list[str]:
    """A sentence an order on how it agrees with the expert."""
    texts = []
    for kind, one in found.agreements.items():
        tau = "undefined for one pick" if np.isnan(one.tau) else f"{one.tau:.2f}"
        name = "Smoothed" if kind == "smoothed" else "Expert's picks"
        texts.append(
            f"{name}: overlap@{one.k} {one.overlap:.2f} (a random order: {one.chance:.2f}), "
            f"Kendall's tau {tau}."
        )
    return texts


def _lines(found: _Found) -> list[str]:
    smooth = f"; smoothed: with neighbours within {found.reach}" if found.reach is not None else ""
    first = (
        f"{found.new.name}, {_at(found.new, found.query.z_index)}: the nearest {found.top} of "
        f"{found.previous.slice_count} slices of {found.previous.name}, by {by_whom(found.reopened)}{smooth}"
    )
    head = ["rank"]
    for kind in found.orders:
        head += ["slice", "z mm", "distance"] if kind == "plain" else ["|", "smoothed", "z mm", "distance"]
        head += ["expert's"] if found.picks else []
    rows = [head]
    for place in range(found.top):
        row = [str(place + 1)]
        for kind, order in found.orders.items():
            number = int(order.numbers[place])
            row += ["|"] if kind == "smoothed" else []
            row += [str(number), f"{found.previous.z_mm(number):.1f}", four_digits(order.distances[place])]
            if found.picks:
                row.append(str(found.picks.index(number) + 1) if number in found.picks else "")
        rows.append(row)
    lines = [first, *columns(rows)]
    for kind, one in found.agreements.items():
        beyond = [
            f"{pick} at {rank_}"
            for pick, rank_ in zip(found.picks, one.ranks, strict=True)
            if rank_ > found.top
        ]
        if beyond:
            name = "ranks" if kind == "plain" else "smoothed ranks"
            lines.append(f"Picks beyond the nearest {found.top}, with their {name}: {', '.join(beyond)}.")
    return [*lines, *_scores(found)]


def _document(found: _Found, maps: Mapping[str, Explanation]) -> dict[str, Any]:
    smoothed = found.orders.get("smoothed")
    plain, picks = found.orders["plain"], list(found.picks)
    smooth_of = {}
    if smoothed is not None:
        smooth_of = dict(zip(smoothed.numbers.tolist(), smoothed.distances.tolist(), strict=True))
    rows = []
    for number, distance in zip(plain.numbers.tolist(), plain.distances.tolist(), strict=True):
        row: dict[str, Any] = {
            "rank": int(plain.ranks[number]),
            "slice": number,
            "z_mm": found.previous.z_mm(number),
            "distance": distance,
        }
        if smoothed is not None:
            row |= {
                "smoothed_rank": int(smoothed.ranks[number]),
                "smoothed_distance": smooth_of[number],
            }
        if picks:
            row["expert_place"] = picks.index(number) + 1 if number in picks else None
        row["map"] = map_facts(maps.get(found.items[number].slice_id))
        rows.append(row)
    return {
        "query": {
            **study_facts(found.new),
            "slice": found.query.z_index,
            "z_mm": found.new.z_mm(found.query.z_index),
            "map": map_facts(maps.get(found.query.slice_id)),
        },
        "previous": study_facts(found.previous),
        "reach_mm": None if found.reach is None else found.reach.mm(found.new.spacing_mm),
        "top": found.top,
        "ranking": rows,
        "expert": {"picks": picks, **found.agreements} if picks else None,
    }
