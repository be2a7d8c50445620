"""A manifest: a table that names scans, their patients and masks, and on which side of the split they are."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Literal

from cbirbench.datasets.scan_names import VOLUME_ENDINGS, stem_of, unique, volume_id
from cbirbench.datasets.slice_labels import labels_of, read_labelled
from cbirbench.datasets.text_tables import TextRow, at_lines, listing
from cbirbench.errors import DataError, DataWarning, UsageError
from cbirbench.scans.dicom_files import pseudonym
from cbirbench.scans.geometry import orientation

Split = Literal["gallery", "query", ""]

REQUIRED = ("patient", "image")
OPTIONAL = ("study", "mask", "split", "orientation", "series")

_SPLITS: dict[str, Split] = {
    "gallery": "gallery",
    "train": "gallery",
    "training": "gallery",
    "query": "query",
    "queries": "query",
    "test": "query",
    "testing": "query",
}


@dataclass(frozen=True)
class ManifestScan:
    """One scan of a manifest.

    Attributes:
        line: The line that names it first.
        volume_id: Unique in the manifest: the image's path below it, without endings and with ``_``
            for ``/``; of DICOM patient, study and the series' pseudonym.
        patient_id: As given.
        study_id: As given; the `volume_id` where the manifest says none.
        image: The file, or the folder of a DICOM series.
        mask: Its mask's file; None where the manifest names none.
        split: On which side it is; empty where the manifest has no such column.
        orientation: Where its stored axes point, whatever the file says; empty to take the file's word.
        series: The DICOM series' pseudonym, where the folder holds several.
        labels: The label of each slice that the manifest gives one.
    """

    line: int
    volume_id: str
    patient_id: str
    study_id: str
    image: Path
    mask: Path | None = None
    split: Split = ""
    orientation: str = ""
    series: str = ""
    labels: Mapping[int, int] = field(default_factory=dict)


def read_manifest(path: Path, organ: str = "") -> list[ManifestScan]:
    """Read a manifest and check it.

    Columns: ``patient`` and ``image``, and where they serve ``study``, ``mask``, ``split`` (``gallery`` or
    ``query``; ``train`` and ``test`` mean the same), ``orientation`` (``LPS``, for a file that is wrong about
    it), ``series`` (for a folder of several), and ``slice`` with ``label`` for labels of single slices, one
    row a slice. Paths are relative to the manifest. Labels of a scan that has a mask are warned of.

    Args:
        path: A CSV file in UTF-8 or a Parquet file. Everything is text: patient ``007`` stays ``007``.
        organ: The target organ; a column of labels may be called so, see `read_labelled`.

    Returns:
        The scans in the order of their first rows.

    Raises:
        DataError: It cannot be read, lacks a column or has a faulty row; a file is not there; a scan is named
            twice; or a patient is on both sides of the split.
    """
    rows = read_labelled(path, organ, required=REQUIRED, optional=OPTIONAL)
    for column in REQUIRED:
        empty = [row.line for row in rows if not row.cells[column]]
        if empty:
            raise DataError(f"{path} names no {column} on {at_lines(empty)}.", "Fill in or remove the row.")
    columns = rows[0].cells.keys()
    if ("slice" in columns) != ("label" in columns):
        raise DataError(
            f"{path} has only one of the columns slice and label.", "Labels of slices need both of them."
        )
    splits = _splits(path, rows)
    groups: dict[tuple[Path, str], list[TextRow]] = {}
    for row in rows:
        image = _path(path, row.cells["image"]).resolve()  # one scan, in whatever way it is spelt
        groups.setdefault((image, _series(row)), []).append(row)
    names = unique(_name(path, of_scan[0]) for of_scan in groups.values())
    scans = [_scan(path, name, of_scan, splits) for name, of_scan in zip(names, groups.values(), strict=True)]
    _check_files(path, scans)
    _check_patients(path, scans)
    both = [scan.line for scan in scans if scan.mask is not None and scan.labels]
    if both:
        warnings.warn(
            f"{path} gives {len(both)} scans both a mask and labels of slices, first on {at_lines(both)}: "
            "the mask counts, and the labels are not used.",
            DataWarning,
            stacklevel=2,
        )
    return scans


def _splits(path: Path, rows: Sequence[TextRow]) -> dict[int, Split]:
    """Which side each line is on."""
    words = {row.line: row.cells.get("split", "") for row in rows}
    if not any(words.values()):
        return dict.fromkeys(words, "")
    wrong = [line for line, word in words.items() if word.lower() not in _SPLITS]
    if wrong:
        raise DataError(
            f"{path} has a split of {words[wrong[0]]!r} on {at_lines(wrong)}.",
            "A split is gallery or query (train and test will do). Remove the column to have one made.",
        )
    return {line: _SPLITS[word.lower()] for line, word in words.items()}


def _scan(path: Path, name: str, rows: Sequence[TextRow], splits: Mapping[int, Split]) -> ManifestScan:
    first = rows[0]
    labelled = [row for row in rows if row.cells.get("slice") or row.cells.get("label")]
    if len(rows) > 1 and len(labelled) < len(rows):
        lines = at_lines([row.line for row in rows])
        raise DataError(
            f"{path} names {first.cells['image']} more than once, {lines}.",
            "Keep one row a scan; only with slice and label filled in does a scan have several.",
        )
    for column in ("patient", "study", "mask", "split", "orientation"):
        differing = [row for row in rows if row.cells.get(column, "") != first.cells.get(column, "")]
        if differing:
            raise DataError(
                f"{path} gives {first.cells['image']} another {column} on line {differing[0].line} than on "
                f"line {first.line}.",
                "All rows of a scan say the same but for slice and label.",
            )
    mask = first.cells.get("mask", "")
    return ManifestScan(
        line=first.line,
        volume_id=name,
        patient_id=first.cells["patient"],
        study_id=first.cells.get("study", "") or name,
        image=_path(path, first.cells["image"]),
        mask=_path(path, mask) if mask else None,
        split=splits[first.line],
        orientation=_orientation(path, first),
        series=_series(first),
        labels=labels_of(path, labelled),
    )


def _orientation(path: Path, row: TextRow) -> str:
    given = row.cells.get("orientation", "")
    try:
        return orientation(given) if given else ""
    except UsageError as error:
        raise DataError(f"{path}, line {row.line}: {error.problem}", error.remedy) from error


def _name(manifest: Path, row: TextRow) -> str:
    image = _path(manifest, row.cells["image"])
    if not image.name.lower().endswith(VOLUME_ENDINGS):  # paths of exported DICOM often bear names
        return "_".join(filter(None, (row.cells["patient"], row.cells.get("study", ""), _series(row))))
    if (
        image.is_relative_to(manifest.parent)
        and ".." not in (below := image.relative_to(manifest.parent)).parts
    ):
        return volume_id(PurePath(below))
    # Where scans lie elsewhere, their path says nothing of them that belongs into results.
    return "_".join(filter(None, (row.cells["patient"], row.cells.get("study", ""), stem_of(image.name))))


def _series(row: TextRow) -> str:
    """The pseudonym of the series that a row names by it or by its identifier; empty where it names none."""
    series = row.cells.get("series", "")
    return pseudonym("series", series) if series and not series.startswith("series-") else series


def _path(manifest: Path, text: str) -> Path:
    return manifest.parent / Path(text).expanduser()


def _check_files(path: Path, scans: Iterable[ManifestScan]) -> None:
    named = [(scan.line, file) for scan in scans for file in (scan.image, scan.mask) if file is not None]
    absent = [(line, file) for line, file in named if not file.exists()]
    if absent:
        raise DataError(
            f"{path} names {len(absent)} files that are not there, on "
            f"{at_lines([line for line, _ in absent])}; the first is {absent[0][1]}.",
            f"Paths are relative to the manifest's folder, {path.parent}.",
        )


def _check_patients(path: Path, scans: Iterable[ManifestScan]) -> None:
    sides: dict[str, dict[Split, int]] = {}
    for scan in scans:
        sides.setdefault(scan.patient_id, {}).setdefault(scan.split, scan.line)
    crossing = {patient: lines for patient, lines in sides.items() if len(lines) > 1}
    if crossing:
        said = [f"{patient} ({at_lines(sorted(lines.values()))})" for patient, lines in crossing.items()]
        raise DataError(
            f"{path} has {len(crossing)} patients in both gallery and queries: {listing(said)}.",
            "A patient belongs to one side, or the retrieval only recognises the patient.",
        )
