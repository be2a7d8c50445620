"""One query of a finished run: what it retrieves, and which parts of each slice that rests on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from cbirbench import keys, results
from cbirbench.errors import DataError, UsageError
from cbirbench.explain.native import to_native
from cbirbench.explain.precision import resolved
from cbirbench.explain.relax import Explanation, RelaxOptions
from cbirbench.explaining import explained
from cbirbench.extraction import embed_slices
from cbirbench.figures.look import check_format
from cbirbench.interfaces import Extractor, Options, Progress, Trainable
from cbirbench.plan import Contender
from cbirbench.planning import choose_device
from cbirbench.ranking import Ranking, rank
from cbirbench.reopening import FinishedRun, open_run
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
from cbirbench.store import Store, arrays_digest, write_arrays

if TYPE_CHECKING:
    from numpy.typing import NDArray

SAME_EMBEDDING = 1e-3
"""Largest distance, relative to its length, of a query's embedding from the one that the run recorded."""


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
    (chosen,) = asked_for(run.queries, [request.query])
    query = run.queries[chosen.position]
    name = str(
        run.entry(request.extractor)["name"] if request.extractor else run.summary["extractors"][0]["name"]
    )
    device = choose_device(request.device)
    relax = relax_options(run.summary, request, device)
    if not 1 <= request.top <= len(run.gallery):
        raise UsageError(
            f"--top {request.top} slices cannot be shown: the gallery has {len(run.gallery)}.",
            f"Give a number from 1 to {len(run.gallery)}.",
        )
    contender = run.contender(name, device)
    extractor = contender.make()
    run.load_weights(extractor, name, request.run)
    vectors, _ = results.read_run_arrays(run.folder, results.array_file("embeddings", name, request.run))
    _check_embedding(extractor, contender, query, vectors["query"][chosen.position], run)

    ranking = rank(
        vectors["query"][chosen.position : chosen.position + 1],
        vectors["gallery"],
        run.gallery.ids,
        request.top,
        run.summary["distance"],
    )
    retrieved = [run.gallery[int(place)] for place in ranking.neighbours[0]]
    shaped_by = _shaped_by(run, contender, extractor, request.run)
    title = f"{name}: explaining the query and {len(retrieved)} retrieved slices"
    found = explained(contender, extractor, shaped_by, [query, *retrieved], relax, store, progress, title)

    precision = 100 * float(precision_of_each(Slices((query,)), run.gallery, ranking, request.top)[0])
    out = request.out or Path(f"{name}-{Path(figure_file(name, query.slice_id)).name}")
    benchmark: Mapping[str, Any] = run.summary["benchmark"]
    structures = {int(value): str(text) for value, text in benchmark.get("structures", {}).items()}
    captioned = Captioned(benchmark["name"], benchmark["synthetic"], name, structures)
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
    lines = _lines(query, retrieved, ranking, found)
    short = [one for one in found.values() if one.reliability < (relax.until_reliable or 0.0)]
    if short:
        lines.append(
            f"{len(short)} of {len(found)} maps are below a reliability of {relax.until_reliable:g} with "
            f"{relax.masks} masks: --set relax.masks=N allows more."
        )
    if request.arrays is not None:
        write_arrays(
            request.arrays, _native_arrays([query, *retrieved], found), {"relax": relax.model_dump()}
        )
        lines.append(f"Wrote {request.arrays}")
    return [*lines, f"Wrote {out}"]


def relax_options(summary: Mapping[str, Any], request: QueryRequest, device: str) -> RelaxOptions:
    """The run's RELAX options with the user's changes, the precision resolved.

    Raises:
        UsageError: An assignment is of something else than relax, or does not fit.
    """
    values = dict(summary["relax"])
    if device != summary["device"]:
        values["precision"] = "auto"  # the run's may be slow here
    fields = RelaxOptions.model_fields
    for given in parse_assignments(request.assignments):
        if given.name != "relax":
            raise UsageError(
                f"--set {given}: explain changes options of relax only, the run has decided all others.",
                "Leave it out, or make another run.",
            )
        if given.option not in fields:
            raise unknown_option(given, RelaxOptions)
        values[given.option] = parse_value(given.value, fields[given.option])
    if request.until_reliable is not None:
        values["until_reliable"] = request.until_reliable
    options: Options = validated(RelaxOptions, values, "relax")
    assert isinstance(options, RelaxOptions)
    return options.model_copy(update={"precision": resolved(options.precision, device)})


def _check_embedding(
    extractor: Extractor,
    contender: Contender,
    query: CTSlice,
    recorded: NDArray[np.float32],
    run: FinishedRun,
) -> None:
    """Check that the extractor is what it was: its maps would explain another retrieval."""
    (now,) = embed_slices(
        extractor,
        Slices((query,)),
        batch_size=1,
        device=contender.context.device,
        name=contender.name,
        advance=lambda done: None,
    )
    apart = np.inf
    if now.shape == recorded.shape:
        length = max(float(np.linalg.norm(recorded)), 1e-12)
        apart = float(np.linalg.norm(now.astype(np.float64) - recorded)) / length
    if apart > SAME_EMBEDDING:
        then = {str(key): value for key, value in (run.summary.get("versions") or {}).items()}
        raise DataError(
            f"{contender.name} no longer embeds {query.slice_id} as it did in {run.folder}: its weights, its "
            f"program or a library is another (relative distance {apart:.2g}).",
            f"Install what the run was made with ({', '.join(f'{k} {v}' for k, v in then.items())}), or make "
            "the run anew.",
        )


def _shaped_by(run: FinishedRun, contender: Contender, extractor: Extractor, number: int) -> keys.ShapedBy:
    """What shaped the extractor's output; a training that would be made alike now shares the run's cache."""
    untrained = keys.untrained(contender.context.device, contender, extractor)
    if not isinstance(extractor, Trainable):
        return untrained
    record = next(found for found in run.entry(contender.name)["training"] if found["run"] == number)
    key = keys.weights(untrained, run.gallery, record["seed"])
    if key == record.get("weights_key"):
        return keys.trained(key)
    weights = {name: tensor.numpy() for name, tensor in extractor.weights().items()}
    return {**untrained, "weights": arrays_digest(weights)}


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
