"""A manifest: a table that names scans, their patients and masks, and on which side of the split they are."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from cbirbench.datasets.discovery import below
from cbirbench.datasets.scan_names import (
    MASK_FOLDERS,
    VOLUME_ENDINGS,
    is_mask_name,
    stem_of,
    unique,
    volume_id,
)
from cbirbench.datasets.slice_labels import labels_of, read_labelled
from cbirbench.datasets.text_tables import TextRow, at_lines, listing
from cbirbench.errors import DataError, DataWarning, UsageError
from cbirbench.plain_text import are, many
from cbirbench.scans.dicom_files import pseudonym
from cbirbench.scans.geometry import orientation

Split = Literal["gallery", "query", ""]

REQUIRED = ("patient", "image")
OPTIONAL = ("study", "mask", "split", "orientation", "series")

_LONG = 80  # letters of a cell that a message shows

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
    row a slice. Paths are relative to the manifest. Labels of a scan that has a mask are warned of, and so
    are images that are called as masks are, beside masks that are not.

    Args:
        path: A CSV file in UTF-8 or a Parquet file. Everything is text: patient ``007`` stays ``007``.
        organ: The target organ; a column of labels may be called so, see `read_labelled`.

    Returns:
        The scans in the order of their first rows.

    Raises:
        DataError: It cannot be read, lacks a column or has a faulty row; a file is not there; a file has a
            series; a scan is named twice; or a patient is on both sides of the split.
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
        image = _path(path, row, "image").resolve()  # one scan, in whatever way it is spelt
        groups.setdefault((image, _series(row)), []).append(row)
    names = unique(_name(path, of_scan[0]) for of_scan in groups.values())
    scans = [_scan(path, name, of_scan, splits) for name, of_scan in zip(names, groups.values(), strict=True)]
    _check_files(path, scans)
    _check_patients(path, scans)
    both = [scan.line for scan in scans if scan.mask is not None and scan.labels]
    if both:
        warnings.warn(
            f"{path} gives {many(len(both), 'scan')} both a mask and labels of slices, first on "
            f"{at_lines(both)}: the mask counts, and the labels are not used.",
            DataWarning,
            stacklevel=2,
        )
    _doubt_columns(path, scans)
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
    return ManifestScan(
        line=first.line,
        volume_id=name,
        patient_id=first.cells["patient"],
        study_id=first.cells.get("study", "") or name,
        image=_path(path, first, "image"),
        mask=_path(path, first, "mask") if first.cells.get("mask") else None,
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
    image = _path(manifest, row, "image")
    if not image.name.lower().endswith(VOLUME_ENDINGS):  # paths of exported DICOM often bear names
        return "_".join(filter(None, (row.cells["patient"], row.cells.get("study", ""), _series(row))))
    place = below(image, manifest.parent)
    if place is not None:
        return volume_id(place)
    # Where scans lie elsewhere, their path says nothing of them that belongs into results.
    return "_".join(filter(None, (row.cells["patient"], row.cells.get("study", ""), stem_of(image.name))))


def _series(row: TextRow) -> str:
    """The pseudonym of the series that a row names by it or by its identifier; empty where it names none."""
    series = row.cells.get("series", "")
    return pseudonym("series", series) if series and not series.startswith("series-") else series


def _path(manifest: Path, row: TextRow, column: str) -> Path:
    """The file or folder that a cell names, whether or not it is there."""
    text = row.cells[column]
    try:
        path = manifest.parent / Path(text).expanduser()
        with suppress(FileNotFoundError, NotADirectoryError):
            path.stat()
    except (OSError, ValueError, RuntimeError) as error:  # too long, a NUL in it, nobody's home
        shown = text if len(text) <= _LONG else f"{text[:_LONG]}..."
        why = (error.strerror if isinstance(error, OSError) else None) or str(error)
        raise DataError(
            f"{manifest}, line {row.line}: the {column} {shown!r} cannot be looked up: {why.rstrip('.')}.",
            "Name a file or a folder.",
        ) from error
    return path


def _check_files(path: Path, scans: Sequence[ManifestScan]) -> None:
    """Whether all files are there, and series are given of folders alone."""
    named = [
        (scan.line, column, file)
        for scan in scans
        for column, file in (("image", scan.image), ("mask", scan.mask))
        if file is not None
    ]
    absent = [each for each in named if not each[2].exists()]
    if absent:
        lines = list(dict.fromkeys(line for line, _, _ in absent))
        said = (f"the {column} {file} (line {line})" for line, column, file in absent)
        raise DataError(
            f"{path} names {many(len(absent), 'file')} that {are(absent)} not there, on {at_lines(lines)}: "
            f"{listing(said)}.",
            f"Paths are relative to the manifest's folder, {path.absolute().parent}.",
        )
    files = [scan.line for scan in scans if scan.series and scan.image.is_file()]
    if files:
        raise DataError(
            f"{path} gives a series of an image that is a file, on {at_lines(files)}.",
            "A series is one of a folder's: name the folder of the DICOM files, or leave series empty.",
        )


def _doubt_columns(path: Path, scans: Iterable[ManifestScan]) -> None:
    """Warn where images are called as masks are, and masks are not, of all scans that have both."""
    pairs = [(scan.line, scan.image, scan.mask) for scan in scans if scan.mask is not None]
    if pairs and all(_called_mask(image) and not _called_mask(mask) for _, image, mask in pairs):
        line, image, mask = pairs[0]
        warnings.warn(
            f"{path}: the columns image and mask may be swapped: on line {line}, the image is {image}, "
            f"the mask {mask}.",
            DataWarning,
            stacklevel=3,
        )


def _called_mask(path: Path) -> bool:
    return is_mask_name(stem_of(path.name)) or path.parent.name.lower() in MASK_FOLDERS


def _check_patients(path: Path, scans: Iterable[ManifestScan]) -> None:
    sides: dict[str, dict[Split, int]] = {}
    for scan in scans:
        sides.setdefault(scan.patient_id, {}).setdefault(scan.split, scan.line)
    crossing = {patient: lines for patient, lines in sides.items() if len(lines) > 1}
    if crossing:
        said = [f"{patient} ({at_lines(sorted(lines.values()))})" for patient, lines in crossing.items()]
        raise DataError(
            f"{path} has {many(len(crossing), 'patient')} in both gallery and queries: {listing(said)}.",
            "A patient belongs to one side, or the retrieval only recognises the patient.",
        )
