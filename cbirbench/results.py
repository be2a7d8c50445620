"""The folder of a run: what was computed, in files that anyone can read and recompute every score from."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cbirbench.atomic import replacing, write_text
from cbirbench.errors import DataError, UsageError
from cbirbench.store import read_arrays, slices_to_arrays, write_arrays

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    from cbirbench.query_sets import QuerySet

STATE_FILE = "run.json"
SUMMARY_FILE = "summary.json"
REPORT_FILE = "report.md"
CURVES_TABLE = "curves.parquet"
EXPLANATIONS_TABLE = "explanations.parquet"
ATTENTION_TABLE = "attention.parquet"
CONTROLS_TABLE = "controls.parquet"
CURVES_FIGURE = "figures/curves.png"
RETRIEVALS = "figures/retrieval"
COHORTS = "cohorts"

FILES = {
    REPORT_FILE: "the table and what it means, for people",
    SUMMARY_FILE: "what was run: scores, options, profile, seeds, versions, hardware, data fingerprint",
    "scores.parquet": "a row a score: benchmark, cohort, extractor, run, metric, query_id, patient_id, value",
    "neighbours.parquet": "cohort, extractor, run, query_id, rank from 1, gallery_id, distance",
    "slices.parquet": "cohort, slice_id, split, patient_id, volume_id, z_index, label, mask_fraction",
    "training.parquet": "extractor, run, epoch, loss and what else was watched",
    CURVES_TABLE: "cohort, extractor, run, epoch, metric, mean over the queries it is defined for, how many",
    EXPLANATIONS_TABLE: "a row an explained query: its scores, their chance level, its map's reliability",
    ATTENTION_TABLE: "cohort, extractor, run, query_id, tissue: its shares of area, importance, top tenth",
    CONTROLS_TABLE: "scores of maps that know no extractor: cohort, control, metric, query_id, value",
    "figures": "curves.png: scores over epochs; retrieval/EXTRACTOR/: queries, what they retrieve, why",
    "embeddings": "EXTRACTOR/run-NNN.safetensors: gallery and query, float32, rows as in slices.parquet",
    "maps": "EXTRACTOR/run-NNN.safetensors: importance maps by slice_id, at the extractor's image size",
    "similarities": "EXTRACTOR/run-NNN.safetensors: masked images to the whole, by slice_id",
    "weights": "EXTRACTOR/run-NNN.safetensors: trained weights",
    "slices": "gallery.safetensors, query.safetensors: native-size masks and HU, by slice_id",
    COHORTS: "NAME/: embeddings, maps, similarities and slices of an external cohort, and curves.png",
}
"""What a run's folder may hold; `present` says what one does hold."""

SLICE_COLUMNS = (
    "cohort",
    "slice_id",
    "split",
    "patient_id",
    "volume_id",
    "z_index",
    "label",
    "mask_fraction",
)


@dataclass(frozen=True, eq=False)
class RunOutcome:
    """What one run of one extractor gave on one set of queries.

    Attributes:
        extractor: Canonical name.
        run: From 0.
        seed: The seed it was trained with; None for a deterministic extractor.
        gallery_embeddings: float32, shape ``(g, d)``; of the queries' own cohort where that is the gallery.
        query_embeddings: float32, shape ``(q, d)``.
        neighbours: Positions in the gallery, nearest first, shape ``(q, depth)``.
        distances: float64, same shape.
        values: Per metric one value a query, shape ``(q,)``.
        maps: Importance maps of the explained queries at the extractor's resolution, by slice id.
        similarities: What they were made from, float64, one a mask, by slice id.
        explained: One row an explained query: how its map was made, and what it scores.
        attention: One row an explained query and tissue: its shares.
        figures: What was drawn of single queries: file, query_id, why, map.
        weights: Trained weights; empty for a deterministic extractor, and for external cohorts.
        weights_key: Their key in the cache; empty likewise.
        training: One row an epoch; empty for a deterministic extractor.
        resumed_from_epoch: See `cbirbench.interfaces.TrainingRecord`.
        curve: Scores after some epochs: epoch, metric, value, defined; empty where none were asked for.
        cohort: Whose queries: the benchmark's name, or that of an external cohort.
        external: Whether it is an external cohort.
    """

    extractor: str
    run: int
    seed: int | None
    gallery_embeddings: NDArray[np.float32]
    query_embeddings: NDArray[np.float32]
    neighbours: NDArray[np.int64]
    distances: NDArray[np.float64]
    values: Mapping[str, NDArray[np.float64]]
    maps: Mapping[str, NDArray[np.float32]]
    similarities: Mapping[str, NDArray[np.float64]]
    explained: Sequence[Mapping[str, Any]]
    attention: Sequence[Mapping[str, Any]]
    figures: Sequence[Mapping[str, Any]]
    weights: Mapping[str, NDArray[Any]]
    training: Sequence[Mapping[str, float]]
    weights_key: str = ""
    resumed_from_epoch: int | None = None
    curve: Sequence[Mapping[str, Any]] = ()
    cohort: str = ""
    external: bool = False

    def file(self, folder: str) -> str:
        """Where this run's arrays of a kind are, relative to the run's folder."""
        inside = f"{cohort_folder(self.cohort)}/" if self.external else ""
        return inside + array_file(folder, self.extractor, self.run)

    def without_arrays(self) -> RunOutcome:
        """The same without what `write_outcome_arrays` has written: that fills the memory over many runs."""
        nothing = np.empty((0, 0), dtype=np.float32)
        return replace(
            self, gallery_embeddings=nothing, query_embeddings=nothing, maps={}, similarities={}, weights={}
        )


def array_file(folder: str, extractor: str, run: int) -> str:
    """Where a run's arrays of a kind are, relative to the run's folder."""
    return f"{folder}/{extractor}/run-{run:03d}.safetensors"


def cohort_folder(cohort: str) -> str:
    """Where the arrays of an external cohort are, relative to the run's folder."""
    return f"{COHORTS}/{cohort}"


def curves_figure(cohort: str = "") -> str:
    """Where the figure of scores over epochs is; an external cohort's lies with its arrays."""
    return f"{cohort_folder(cohort)}/curves.png" if cohort else CURVES_FIGURE


def check_free(out: Path, key: str) -> None:
    """Check that a run may use a folder: a new or empty one, or one that the same command began or finished.

    Raises:
        UsageError: The folder holds something else.
    """
    state = out / STATE_FILE
    if out.exists() and not out.is_dir():
        raise UsageError(f"--out {out} is a file.", "Name a folder.")
    if out.is_dir() and any(out.iterdir()):
        if not state.is_file():
            raise UsageError(
                f"--out {out} is not empty and holds no run of cbirbench.", "Name a new or an empty folder."
            )
        held = _read_json(state)
        if held.get("key") != key:
            begun = "" if held.get("finished") else " that was not finished"
            raise UsageError(
                f"--out {out} holds another run{begun} ({held.get('command', 'unknown command')}).",
                "Name another folder, or "
                + ("remove that one, or " if begun else "")
                + "give the same command to continue that run.",
            )


def claim(out: Path, key: str, command: str) -> None:
    """Take a folder for a run, after `check_free`; until `finish` it counts as a run that was cut off."""
    import shutil

    check_free(out, key)
    write_text(out / STATE_FILE, json.dumps({"key": key, "command": command, "finished": False}, indent=1))
    # Which queries are best and worst may be others than before, after an update of a plugin.
    shutil.rmtree(out / RETRIEVALS, ignore_errors=True)


def release(out: Path) -> None:
    """Remove what a run that was cut off left; all that it computed is in the cache."""
    import shutil

    state = out / STATE_FILE
    if not state.is_file() or _read_json(state).get("finished"):
        return
    for name in FILES:
        if (out / name).is_dir():
            shutil.rmtree(out / name)
        else:
            (out / name).unlink(missing_ok=True)
    if [path.name for path in out.iterdir()] == [STATE_FILE]:
        state.unlink()
        out.rmdir()


def finish(out: Path, key: str, command: str) -> None:
    """Mark a run's folder as whole."""
    write_text(out / STATE_FILE, json.dumps({"key": key, "command": command, "finished": True}, indent=1))


def present(out: Path) -> dict[str, str]:
    """The files and folders of `FILES` that a run's folder holds, and those that are written last."""
    last = (REPORT_FILE, SUMMARY_FILE)
    return {name: meaning for name, meaning in FILES.items() if name in last or (out / name).exists()}


def write_tables(
    out: Path,
    benchmark: str,
    sets: Sequence[QuerySet],
    outcomes: Sequence[RunOutcome],
    controls: Sequence[Mapping[str, Any]] = (),
) -> None:
    """Write slices, scores and neighbours as Parquet, and training, curves and explanations where any are."""
    import pandas as pd

    write_table(out / "slices.parquet", slices_table(sets))
    write_table(out / "scores.parquet", scores_table(benchmark, sets, outcomes))
    write_table(out / "neighbours.parquet", neighbours_table(sets, outcomes))
    for name, table in (
        ("training.parquet", training_table(outcomes)),
        (CURVES_TABLE, curves_table(outcomes)),
        (EXPLANATIONS_TABLE, _rows_of_runs(outcomes, lambda outcome: outcome.explained)),
        (ATTENTION_TABLE, _rows_of_runs(outcomes, lambda outcome: outcome.attention)),
        (CONTROLS_TABLE, pd.DataFrame(controls)),
    ):
        if len(table):
            write_table(out / name, table)


def write_outcome_arrays(out: Path, outcome: RunOutcome) -> None:
    """Write one run's embeddings, importance maps and trained weights."""
    label = {"extractor": outcome.extractor, "run": outcome.run, "seed": outcome.seed}
    embeddings = {"gallery": outcome.gallery_embeddings, "query": outcome.query_embeddings}
    if outcome.external:  # its gallery is the benchmark's, or its queries themselves
        del embeddings["gallery"]
    write_arrays(out / outcome.file("embeddings"), embeddings, label)
    if outcome.maps:
        write_arrays(out / outcome.file("maps"), outcome.maps, label)
        write_arrays(out / outcome.file("similarities"), outcome.similarities, label)
    if outcome.weights:
        write_arrays(out / outcome.file("weights"), outcome.weights, label)


def write_slices(out: Path, sets: Sequence[QuerySet], *, pixels: bool) -> None:
    """Write native-size masks, and the HU slices unless `pixels` is false."""
    files = {}
    for one in sets:
        folder = f"{cohort_folder(one.cohort)}/slices" if one.external else "slices"
        files[f"{folder}/query.safetensors"] = one.queries
        if not one.external:
            files[f"{folder}/gallery.safetensors"] = one.gallery
    for file, slices in files.items():
        arrays, metadata = slices_to_arrays(slices, pixels=pixels)
        write_arrays(out / file, arrays, {**metadata, "pixels": pixels})


def write_table(path: Path, table: pd.DataFrame) -> None:
    """Write a Parquet file whole."""
    with replacing(path) as temporary:
        table.to_parquet(temporary, index=False)


def write_summary(out: Path, document: str) -> None:
    """Write summary.json whole."""
    write_text(out / SUMMARY_FILE, document)


def slices_table(sets: Sequence[QuerySet]) -> pd.DataFrame:
    """One row a slice, with its split; the spacing is in the metadata of the slices' own files."""
    import pandas as pd

    tables = []
    for one in sets:
        splits = (
            [("query", one.queries)] if one.external else [("gallery", one.gallery), ("query", one.queries)]
        )
        tables += [
            slices.table().assign(split=split, cohort=one.cohort) for split, slices in splits if len(slices)
        ]
    return pd.concat(tables, ignore_index=True)[list(SLICE_COLUMNS)]


def scores_table(benchmark: str, sets: Sequence[QuerySet], outcomes: Sequence[RunOutcome]) -> pd.DataFrame:
    """One row a cohort, extractor, run, metric and query; values are fractions of 1, NaN where undefined."""
    import pandas as pd

    queries = {one.cohort: one.queries for one in sets}
    tables = [
        pd.DataFrame(
            {
                "benchmark": benchmark,
                "cohort": outcome.cohort,
                "extractor": outcome.extractor,
                "run": outcome.run,
                "metric": metric,
                "query_id": queries[outcome.cohort].ids,
                "patient_id": [item.patient_id for item in queries[outcome.cohort]],
                "value": values,
            }
        )
        for outcome in outcomes
        for metric, values in outcome.values.items()
    ]
    return pd.concat(tables, ignore_index=True)


def neighbours_table(sets: Sequence[QuerySet], outcomes: Sequence[RunOutcome]) -> pd.DataFrame:
    """One row a cohort, extractor, run, query and rank (from 1, the nearest)."""
    import pandas as pd

    of_cohort = {one.cohort: one for one in sets}
    tables = []
    for outcome in outcomes:
        count, depth = outcome.neighbours.shape
        one = of_cohort[outcome.cohort]
        gallery_ids = np.array(one.gallery.ids, dtype=object)
        tables.append(
            pd.DataFrame(
                {
                    "cohort": outcome.cohort,
                    "extractor": outcome.extractor,
                    "run": outcome.run,
                    "query_id": np.repeat(np.array(one.queries.ids, dtype=object), depth),
                    "rank": np.tile(np.arange(1, depth + 1), count),
                    "gallery_id": gallery_ids[outcome.neighbours.ravel()],
                    "distance": outcome.distances.ravel(),
                }
            )
        )
    return pd.concat(tables, ignore_index=True)


def training_table(outcomes: Sequence[RunOutcome]) -> pd.DataFrame:
    """One row an extractor, run and epoch."""
    table = _rows_of_runs(outcomes, lambda outcome: outcome.training)
    return table.drop(columns="cohort") if len(table) else table


def curves_table(outcomes: Sequence[RunOutcome]) -> pd.DataFrame:
    """One row a cohort, extractor, run, epoch and metric; values are fractions of 1."""
    return _rows_of_runs(outcomes, lambda outcome: outcome.curve)


def _rows_of_runs(
    outcomes: Sequence[RunOutcome], rows_of: Callable[[RunOutcome], Sequence[Mapping[str, Any]]]
) -> pd.DataFrame:
    import pandas as pd

    rows = [
        {"cohort": outcome.cohort, "extractor": outcome.extractor, "run": outcome.run, **row}
        for outcome in outcomes
        for row in rows_of(outcome)
    ]
    return pd.DataFrame(rows)


def read_summary(folder: Path) -> dict[str, Any]:
    """summary.json of a finished run.

    Raises:
        UsageError: The folder holds no finished run.
    """
    if not (folder / SUMMARY_FILE).is_file():
        begun = (folder / STATE_FILE).is_file()
        raise UsageError(
            f"{folder} holds {'a run that is not finished' if begun else 'no run of cbirbench'}.",
            "Give the folder that `cbirbench run` wrote"
            + (", after the same command has continued it to its end." if begun else "."),
        )
    return _read_json(folder / SUMMARY_FILE)


def read_table(folder: Path, name: str) -> pd.DataFrame:
    """A Parquet table of a run.

    Raises:
        DataError: The file is missing or damaged.
    """
    import pandas as pd

    with _readable(folder / name) as path:
        return pd.read_parquet(path)


def read_run_arrays(folder: Path, name: str) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """Arrays of a run and their metadata.

    Raises:
        DataError: The file is missing or damaged.
    """
    with _readable(folder / name) as path:
        return read_arrays(path)


@contextmanager
def _readable(path: Path) -> Iterator[Path]:
    """Report a file of a run that cannot be read."""
    try:
        yield path
    except (OSError, ValueError) as error:
        fault = "is missing" if isinstance(error, FileNotFoundError) else f"cannot be read: {error}"
        raise DataError(
            f"{path} {fault}.",
            "Run the same command again with the same --out to write it anew.",
        ) from error


def _read_json(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:  # TypeError: JSON, but no object
        raise DataError(
            f"{path} is damaged: {error}.", "Remove the folder and run the command again."
        ) from error
