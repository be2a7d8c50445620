"""One query of a finished run: what it retrieves, and which parts of each slice that rests on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from cbirbench.cases.reopening import FinishedRun, ReopenedExtractor, open_run
from cbirbench.errors import UsageError
from cbirbench.explain.native import to_native
from cbirbench.explain.precision import resolved
from cbirbench.explain.relax import Explanation, RelaxOptions
from cbirbench.explaining import explained
from cbirbench.figures.look import check_format
from cbirbench.interfaces import Options, Progress
from cbirbench.planning import choose_device
from cbirbench.query_sets import QuerySet
from cbirbench.ranking import Ranking, rank
from cbirbench.report.cohorts import cohorts_of
from cbirbench.retrieval_figures import (
    Captioned,
    asked_for,
    draw_retrieval,
    figure_file,
    map_note,
    precision_of_each,
)
from cbirbench.settings import parse_assignments, parse_value, unknown_option, validated
from cbirbench.slices import CTSlice, Slices
from cbirbench.store import Store, write_arrays

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True)
class QueryRequest:
    """What the user asked for.

    Attributes:
        folder: The folder of a finished run.
        query: Id of the query.
        extractor: Its name or alias; empty for the run's first.
        run: Which training run of it.
        top: How many retrieved slices to show.
        until_reliable: See `cbirbench.explain.relax.RelaxOptions`; None for the run's.
        uncertainty: Whether to draw the uncertainty.
        device: ``auto``, ``cpu`` or ``cuda``.
        assignments: ``relax.OPTION=VALUE`` texts that outrank the run's options.
        out: The picture; None for a file in the working folder.
        arrays: A file for the maps; None for none.
    """

    folder: Path
    query: str
    extractor: str = ""
    run: int = 0
    top: int = 5
    until_reliable: float | None = None
    uncertainty: bool = False
    device: Literal["auto", "cpu", "cuda"] = "auto"
    assignments: tuple[str, ...] = ()
    out: Path | None = None
    arrays: Path | None = None


def explain_query(request: QueryRequest, store: Store, progress: Progress) -> list[str]:
    """Draw a query with what it retrieves, and write its maps where asked for.

    Returns:
        What was found, a line each, and the files written.

    Raises:
        UsageError: The run has no such query, extractor or training run, or an option does not fit.
        DataError: The run kept no pixels, a file is damaged, or the extractor no longer embeds as it did.
        MissingError: A plugin, weights or a device is not here, or a file cannot be written.
    """
    if request.out is not None:
        check_format(request.out)
    if request.arrays is not None and request.arrays.suffix != ".safetensors":
        raise UsageError(
            f"--arrays writes a .safetensors file, got {request.arrays}.",
            f"Name it {request.arrays.with_suffix('.safetensors').name}, for example.",
        )
    run = open_run(request.folder)
    one = run.query_set(request.query)
    _check_named_fully(run, one, request.query)
    (chosen,) = asked_for(one.queries, [request.query])
    query = one.queries[chosen.position]
    places = next(among for asked, among in one.parts if chosen.position in asked)
    gallery = Slices(tuple(one.gallery[place] for place in places))
    device = choose_device(request.device)
    relax = relax_options(run.summary, request.assignments, request.until_reliable, device)
    if not 1 <= request.top <= len(gallery):
        raise UsageError(
            f"--top {request.top} slices cannot be shown: the gallery has {len(gallery)}.",
            f"Give a number from 1 to {len(gallery)}.",
        )
    reopened = run.reopened(request.extractor, request.run, device, chosen.position, one)
    name = reopened.contender.name

    ranking = rank(
        reopened.query_vectors[chosen.position : chosen.position + 1],
        reopened.gallery_vectors[places],
        gallery.ids,
        request.top,
        run.summary["distance"],
    )
    retrieved = [gallery[int(place)] for place in ranking.neighbours[0]]
    found = explain_slices(reopened, [query, *retrieved], relax, store, progress)

    precision = 100 * float(precision_of_each(Slices((query,)), gallery, ranking, request.top)[0])
    out = request.out or Path(f"{name}-{Path(figure_file(name, query.slice_id)).name}")
    captioned = Captioned(one.cohort, one.synthetic, name, one.structures)
    draw_retrieval(
        out,
        captioned,
        query,
        retrieved,
        [float(distance) for distance in ranking.distances[0]],
        found,
        relax=relax,
        title=f"{query.slice_id} (MAP@{request.top} {precision:.0f} %)",
        uncertainty=request.uncertainty,
    )
    lines = [*_lines(query, retrieved, ranking, found), *unreliable(found, relax)]
    if request.arrays is not None:
        write_arrays(
            request.arrays, _native_arrays([query, *retrieved], found), {"relax": relax.model_dump()}
        )
        lines.append(f"Wrote {request.arrays}")
    return [*lines, f"Wrote {out}"]


def _check_named_fully(run: FinishedRun, one: QuerySet, query: str) -> None:
    """Check that a query of an external cohort is not named as if it were the benchmark's own.

    Raises:
        UsageError: It is.
    """
    if one.external or query in one.queries.ids:
        return
    for cohort in cohorts_of(run.summary)[1:]:
        full = f"{cohort}/{query}"
        if full in run.query_set(full).queries.ids:
            raise UsageError(
                f"No query of the benchmark is called {query!r}, but one of the cohort {cohort} is.",
                f"Give --query {full}",
            )


def explain_slices(
    reopened: ReopenedExtractor,
    items: Sequence[CTSlice],
    relax: RelaxOptions,
    store: Store,
    progress: Progress,
) -> dict[str, Explanation]:
    """Explain a query, the first of the slices, and what was retrieved for it; by slice id."""
    contender = reopened.contender
    title = f"{contender.name}: explaining the query and {len(items) - 1} retrieved slices"
    return explained(contender, reopened.extractor, reopened.shaped_by, items, relax, store, progress, title)


def unreliable(found: Mapping[str, Explanation], relax: RelaxOptions) -> list[str]:
    """A line that says how many maps are less reliable than was asked for; none where none is."""
    short = [one for one in found.values() if one.reliability < (relax.until_reliable or 0.0)]
    if not short:
        return []
    return [
        f"{len(short)} of {len(found)} maps are below a reliability of {relax.until_reliable:g} with "
        f"{relax.masks} masks: --set relax.masks=N allows more."
    ]


def relax_options(
    summary: Mapping[str, Any], assignments: Sequence[str], until_reliable: float | None, device: str
) -> RelaxOptions:
    """The run's RELAX options with the user's changes, the precision resolved.

    Args:
        summary: The run's summary.
        assignments: ``relax.OPTION=VALUE`` texts that outrank the run's options.
        until_reliable: See `cbirbench.explain.relax.RelaxOptions`; None for the run's.
        device: Where the extractor works.

    Raises:
        UsageError: An assignment is of something else than relax, or does not fit.
    """
    values = dict(summary["relax"])
    if device != summary["device"]:
        values["precision"] = "auto"  # the run's may be slow here
    fields = RelaxOptions.model_fields
    for given in parse_assignments(assignments):
        if given.name != "relax":
            raise UsageError(
                f"--set {given}: this command changes options of relax only, the run has decided all others.",
                "Leave it out, or make another run.",
            )
        if given.option not in fields:
            raise unknown_option(given, RelaxOptions)
        values[given.option] = parse_value(given.value, fields[given.option])
    if until_reliable is not None:
        values["until_reliable"] = until_reliable
    options: Options = validated(RelaxOptions, values, "relax")
    assert isinstance(options, RelaxOptions)
    return options.model_copy(update={"precision": resolved(options.precision, device)})


def _lines(
    query: CTSlice, retrieved: list[CTSlice], ranking: Ranking, found: Mapping[str, Explanation]
) -> list[str]:
    lines = [f"query  {query.slice_id}, label {query.label}: {map_note(found[query.slice_id])}"]
    for place, (item, distance) in enumerate(zip(retrieved, ranking.distances[0], strict=True), start=1):
        verdict = "same label" if item.label == query.label else "OTHER label"
        note = map_note(found[item.slice_id])
        lines.append(f"{place:>5}  {item.slice_id}, distance {distance:.4g}, {verdict}: {note}")
    return lines


def _native_arrays(items: list[CTSlice], found: Mapping[str, Explanation]) -> dict[str, NDArray[np.float32]]:
    arrays = {}
    for item in items:
        explanation = found[item.slice_id]
        arrays[f"importance/{item.slice_id}"] = to_native(explanation.importance, item.hu.shape)
        arrays[f"uncertainty/{item.slice_id}"] = to_native(explanation.uncertainty, item.hu.shape)
    return arrays
