"""Labels of single slices from a table: does the slice show the target organ?"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from cbirbench.datasets.discovery import below
from cbirbench.datasets.scan_names import stem_of
from cbirbench.datasets.text_tables import TextRow, at_lines, listing, read_table
from cbirbench.errors import DataError, DataWarning
from cbirbench.plain_text import are, many

LABEL_FILES = ("slice_labels.csv", "labels.csv")
"""Tables of slice labels that are looked for beside scans."""

UNSURE = "-1"
"""The label of a slice that is left out."""

MOST_DIGITS = 9
"""Of a slice's number: no scan has as many slices."""

UNNAMED_ORGAN = "target organ"
"""What the target is called where nobody says."""

_SLICE_COLUMNS = {"slice_k": "slice", "z": "slice", "z_index": "slice"}

_CASE_COLUMNS = {"volume": "case", "volume_id": "case", "image": "case"}


def read_slice_labels(path: Path, organ: str = "") -> dict[str, dict[int, int]]:
    """Read a table of slice labels: columns ``case``, ``slice`` and ``label``.

    ``volume`` and ``image`` mean ``case``; ``slice_k`` and ``z`` mean ``slice``; which column means
    ``label`` is for `read_labelled` to say. Slices are counted from 0, the most inferior. A label is 1 where
    the slice shows the target organ, 0 where it does not, and -1 where nobody can tell: such a slice is left
    out.

    Args:
        path: A CSV or Parquet file.
        organ: The target organ.

    Returns:
        Label by slice, by case; a case all of whose slices are unsure has none.

    Raises:
        DataError: The file cannot be read, lacks a column, or a row is wrong or there twice.
    """
    rows = read_labelled(path, organ, required=("case", "slice"), aliases=_CASE_COLUMNS)
    if "label" not in rows[0].cells:
        raise DataError(
            f"{path} has no column 'label', nor one called as the organ is, {organ or UNNAMED_ORGAN!r}.",
            "Name the column that says which slices show the organ label, or the organ as the column.",
        )
    cases: dict[str, list[TextRow]] = {}
    for row in rows:
        if not row.cells["case"]:
            raise DataError(f"{path}, line {row.line}, names no case.", "Name the scan in each row.")
        cases.setdefault(row.cells["case"], []).append(row)
    return {case: labels_of(path, of_case) for case, of_case in cases.items()}


def read_labelled(
    path: Path,
    organ: str,
    *,
    required: Sequence[str],
    optional: Sequence[str] = (),
    aliases: Mapping[str, str] | None = None,
) -> list[TextRow]:
    """Read a table that may have labels of slices.

    The labels are those of the column that is called as the target organ is, else of ``label``, else, where
    the organ is the liver or has no name, of ``liver``; further ones of these are warned of.

    Args:
        path: A CSV or Parquet file.
        organ: The target organ.
        required: Columns that it must have.
        optional: Columns that it may have besides.
        aliases: Other names of columns, and what they stand for.

    Returns:
        Its rows; the labels are in the column ``label`` where it has any.

    Raises:
        DataError: See `read_table`.
    """
    own = organ.strip().lower() or UNNAMED_ORGAN
    named = ["label", "liver"] if own in ("liver", UNNAMED_ORGAN) else ["label"]
    known = {*required, *optional, *(aliases or {}), *_SLICE_COLUMNS, "slice"}
    wanted = list(dict.fromkeys(name for name in (own, *named) if name not in known))
    rows = read_table(
        path,
        required=required,
        optional=[*optional, *(["slice"] if "slice" not in required else []), *wanted],
        aliases={**(aliases or {}), **_SLICE_COLUMNS},
    )
    there = [name for name in wanted if name in rows[0].cells]
    if len(there) > 1:
        warnings.warn(
            f"{path}: labels are those of the column {there[0]}, not of {' or '.join(there[1:])}.",
            DataWarning,
            stacklevel=3,
        )
    return [_with_label(row, there) for row in rows] if there else rows


def _with_label(row: TextRow, columns: Sequence[str]) -> TextRow:
    rest = {name: cell for name, cell in row.cells.items() if name not in columns}
    return TextRow(row.line, {**rest, "label": row.cells[columns[0]]})


def labels_of(path: Path, rows: Iterable[TextRow]) -> dict[int, int]:
    """The labels that rows of one scan give, by slice; unsure ones are left out.

    Raises:
        DataError: A row's slice or label is wrong, or a slice is there twice.
    """
    seen: dict[int, int] = {}
    labels: dict[int, int] = {}
    for row in rows:
        position, label = row.cells["slice"], row.cells["label"]
        if not (position.isascii() and position.isdecimal() and len(position) <= MOST_DIGITS):
            raise DataError(
                f"{path}, line {row.line}: {position!r:.60} is no slice.",
                "Slices are counted from 0, the most inferior, in whole numbers.",
            )
        if label not in ("0", "1", UNSURE):
            raise DataError(
                f"{path}, line {row.line}: {label!r} is no label.",
                "A label is 1 where the slice shows the target organ, 0 where it does not, -1 where unsure.",
            )
        z = int(position)
        if z in seen:
            raise DataError(
                f"{path} gives slice {z} of one scan twice, {at_lines([seen[z], row.line])}.",
                "Keep one of the rows.",
            )
        seen[z] = row.line
        if label != UNSURE:
            labels[z] = int(label)
    return labels


def names_of(volume_id: str, image: Path, folder: Path) -> tuple[str, ...]:
    """What a table of labels may call a scan: its id, its path below the folder, or its file's name."""
    place = below(image, folder)
    relative = [] if place is None else [place.as_posix()]
    return tuple(dict.fromkeys((volume_id, *relative, image.name, stem_of(image.name))))


def labels_by_scan(table: Path, organ: str, scans: Sequence[Sequence[str]]) -> list[Mapping[int, int]]:
    """Read a table of slice labels for some scans; labels of others are warned of.

    Args:
        table: A CSV or Parquet file.
        organ: The target organ.
        scans: What it may call each scan, see `names_of`; names of several scans mean none of them.

    Returns:
        The labels of each scan, empty where the table has none.

    Raises:
        DataError: See `read_slice_labels`.
    """
    cases = read_slice_labels(table, organ)
    bearers = Counter(name for names in scans for name in names)
    called = [[name for name in names if name in cases and bearers[name] == 1] for names in scans]
    known = {name for names in called for name in names}
    strangers = [case for case in cases if case not in known]
    if strangers:
        warnings.warn(
            f"{table} labels slices of {many(len(strangers), 'scan')} that {are(strangers)} not here: "
            f"{listing(strangers)}.",
            DataWarning,
            stacklevel=3,
        )
    return [cases[names[0]] if names else {} for names in called]


def find_labels(*folders: Path) -> Path | None:
    """The first of `LABEL_FILES` in the folders; None where there is none."""
    places = (folder / name for folder in folders for name in LABEL_FILES)
    return next((path for path in places if path.is_file()), None)
