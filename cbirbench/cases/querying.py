"""A scan of the user's own against the gallery of a finished run, with an extractor that it evaluated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cbirbench.cases.asking import (
    Answer,
    Asked,
    by_whom,
    captioned,
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
from cbirbench.cases.reopening import ReopenedExtractor
from cbirbench.cases.studies import ScanFile, Study, open_study
from cbirbench.explain.relax import Explanation, RelaxOptions
from cbirbench.figures.explained_retrieval import draw_explained_retrieval
from cbirbench.figures.look import check_format
from cbirbench.interfaces import Progress
from cbirbench.ranking import rank
from cbirbench.results import read_summary
from cbirbench.retrieval_figures import figure_file, map_note
from cbirbench.slices import CTSlice, Slices
from cbirbench.store import Store, as_json

if TYPE_CHECKING:
    from numpy.typing import NDArray

SAMPLED_EVERY = 16
"""Every so many rows and columns of a slice are looked at before a whole slice is compared."""


def query_scan(
    asked: Asked, file: ScanFile, slices: str, out: Path | None, store: Store, progress: Progress
) -> Answer:
    """Find the gallery's nearest slices for slices of a scan, and draw a figure for each.

    Args:
        asked: With what, and what is shown.
        file: The scan.
        slices: Which of its slices, see `cbirbench.cases.studies.Study.numbers`.
        out: The figure; with several slices its name gets their numbers. None for files in the working
            folder.
        store: The cache.
        progress: Where to report.

    Raises:
        UsageError: The run has no such extractor or training run, the scan no such slice, the gallery fewer
            slices than are to be shown, or an option does not fit.
        DataError: The scan or a file of the run is damaged, the run kept no pixels, or the extractor no
            longer embeds as it did.
        MissingError: A plugin, weights or a device is not here, or a file cannot be written.
    """
    if out is not None:
        check_format(out)
    read_summary(asked.folder)  # a folder that is no run is told of before a scan is read
    study = open_study(file)
    numbers = study.numbers(slices)
    reopened, relax = reopened_for(asked)
    run = reopened.run
    top = asked.shown(len(run.gallery), "the gallery")

    of_number = {item.z_index: item for item in study.read(_comparable(study, numbers, run.gallery))}
    notes = _known_notes(study, numbers, known_slices(list(of_number.values()), run.gallery))
    queries = Slices(tuple(of_number[number] for number in numbers))
    title = f"{reopened.contender.name}: embedding {study.name}"
    vectors = reopened.embed(queries, store, progress, title)
    ranking = rank(vectors, reopened.gallery_vectors, run.gallery.ids, top, run.summary["distance"])

    lines: list[str] = []
    answers: list[dict[str, Any]] = []
    for query, places, distances in zip(queries, ranking.neighbours, ranking.distances, strict=True):
        retrieved = [run.gallery[int(place)] for place in places]
        found: dict[str, Explanation] = {}
        if relax is not None:
            found = explain_slices(reopened, [query, *retrieved], relax, store, progress)
        path = _figure_path(out, reopened, study, query.z_index, several=len(numbers) > 1)
        _draw(path, reopened, study, query, retrieved, distances, found, relax, asked.uncertainty)
        if lines:
            lines.append("")
        lines += _lines(reopened, study, query, retrieved, distances, found)
        lines += unreliable(found, relax) if relax is not None else []
        lines.append(f"Wrote {path}")
        answers.append(
            {
                "slice": query.z_index,
                "z_mm": study.z_mm(query.z_index),
                "map": map_facts(found.get(query.slice_id)),
                "retrieved": [
                    _facts(place, item, distance, found.get(item.slice_id))
                    for place, (item, distance) in enumerate(zip(retrieved, distances, strict=True), start=1)
                ],
                "figure": path,
            }
        )
    document = {
        **heading("query", reopened, relax),
        "gallery": {
            "slices": len(run.gallery),
            "patients": len({item.patient_id for item in run.gallery}),
        },
        "scan": study_facts(study),
        "queries": answers,
        "notes": [*study.notes, *notes],
    }
    return Answer(as_json(document), lines, [*study.notes, *notes])


def known_slices(items: Sequence[CTSlice], gallery: Slices) -> dict[int, CTSlice]:
    """The gallery slices with the very pixels of a scan's slices, by the scan's slice number.

    Slices of one value throughout, air for instance, are not counted: they are alike in any scan.
    """

    def sample(item: CTSlice) -> tuple[tuple[int, ...], bytes]:
        return item.hu.shape, item.hu[::SAMPLED_EVERY, ::SAMPLED_EVERY].tobytes()

    alike: dict[tuple[tuple[int, ...], bytes], list[CTSlice]] = {}
    for item in gallery:
        alike.setdefault(sample(item), []).append(item)
    found = {}
    for item in items:
        for other in alike.get(sample(item), ()):
            if item.hu.min() < item.hu.max() and np.array_equal(item.hu, other.hu):
                found[item.z_index] = other
                break
    return found


def _comparable(study: Study, numbers: Sequence[int], gallery: Slices) -> list[int]:
    """The slices asked for, and those that are in the gallery if the scan is one of the gallery's own."""
    alike = {item.z_index for item in gallery if item.hu.shape == study.volume.grid.view_shape[1:]}
    return sorted({*numbers, *(number for number in alike if 0 <= number < study.slice_count)})


def _known_notes(study: Study, numbers: Sequence[int], known: Mapping[int, CTSlice]) -> list[str]:
    notes = [
        f"Slice {number} of {study.name} has the very pixels of {known[number].slice_id}, which is in the "
        "gallery: it finds itself."
        for number in numbers
        if number in known
    ]
    others = [item.slice_id for number, item in sorted(known.items()) if number not in numbers]
    if others:
        more = f" and {len(others) - 3} more" if len(others) > 3 else ""
        notes.append(
            f"{study.name} seems to be one of the gallery's own scans: other slices of it have the very "
            f"pixels of {', '.join(others[:3])}{more}. What is nearest may be the scan itself."
        )
    return notes


def _shows(reopened: ReopenedExtractor, item: CTSlice) -> str:
    organ = captioned(reopened).organ(item.target_values)
    return f"shows {organ}" if item.label else f"no {organ}"


def _facts(place: int, item: CTSlice, distance: float, explanation: Explanation | None) -> dict[str, Any]:
    return {
        "rank": place,
        "slice_id": item.slice_id,
        "patient_id": item.patient_id,
        "volume_id": item.volume_id,
        "z_index": item.z_index,
        "label": item.label,
        "distance": float(distance),
        "map": map_facts(explanation),
    }


def _lines(
    reopened: ReopenedExtractor,
    study: Study,
    query: CTSlice,
    retrieved: Sequence[CTSlice],
    distances: NDArray[np.float64],
    found: Mapping[str, Explanation],
) -> list[str]:
    run = reopened.run
    first = (
        f"{study.name}, slice {query.z_index}: the nearest of {len(run.gallery)} gallery slices "
        f"({run.summary['benchmark']['name']}), by {by_whom(reopened)}"
    )
    if query.slice_id in found:
        first += f"; {map_note(found[query.slice_id])}"
    rows = [["rank", "distance", "slice", "patient", "label", *(["map"] if found else [])]]
    for place, (item, distance) in enumerate(zip(retrieved, distances, strict=True), start=1):
        row = [str(place), four_digits(distance), item.slice_id, item.patient_id, _shows(reopened, item)]
        rows.append(row + ([map_note(found[item.slice_id])] if found else []))
    return [first, *columns(rows)]


def _draw(
    path: Path,
    reopened: ReopenedExtractor,
    study: Study,
    query: CTSlice,
    retrieved: Sequence[CTSlice],
    distances: NDArray[np.float64],
    found: Mapping[str, Explanation],
    relax: RelaxOptions | None,
    uncertainty: bool,
) -> None:
    about = captioned(reopened)
    made_by = "The gallery is synthetic: scans made by a program. " if about.synthetic else ""
    draw_explained_retrieval(
        shown_slice(
            query,
            f"{study.name}, slice {query.z_index}",
            "",
            None,
            found.get(query.slice_id),
            uncertainty,
        ),
        [
            shown_slice(
                item,
                item.slice_id,
                _shows(reopened, item),
                float(distance),
                found.get(item.slice_id),
                uncertainty,
            )
            for item, distance in zip(retrieved, distances, strict=True)
        ],
        path,
        title=f"{study.name}, slice {query.z_index}, in the gallery of {about.benchmark}, "
        f"by {by_whom(reopened)}",
        caption=made_by + map_caption(relax),
        organ=about.organ(reopened.run.gallery[0].target_values),
    )


def _figure_path(
    out: Path | None, reopened: ReopenedExtractor, study: Study, number: int, *, several: bool
) -> Path:
    if out is None:
        name = reopened.contender.name
        return Path(f"{name}-{Path(figure_file(name, f'{study.name}_z{number:04d}')).name}")
    return out.with_name(f"{out.stem}-z{number:04d}{out.suffix}") if several else out
