"""Labels of single slices from a table: does the slice show the target organ?"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from cbirbench.datasets.text_tables import TextRow, at_lines, read_table
from cbirbench.errors import DataError

LABEL_FILES = ("slice_labels.csv", "labels.csv")
"""Tables of slice labels that are looked for beside scans."""

UNSURE = "-1"
"""The label of a slice that is left out."""

SLICE_COLUMNS = {"slice_k": "slice", "z": "slice", "z_index": "slice", "liver": "label"}
"""Other names of the columns ``slice`` and ``label``."""

_CASE_COLUMNS = {"volume": "case", "volume_id": "case", "image": "case"}


def read_slice_labels(path: Path, organ: str = "") -> dict[str, dict[int, int]]:
    """Read a table of slice labels: columns ``case``, ``slice`` and ``label``.

    ``volume`` and ``image`` mean ``case``; ``slice_k`` and ``z`` mean ``slice``; ``liver`` or the target
    organ's name means ``label``. Slices are counted from 0, the most inferior. A label is 1 where the slice
    shows the target organ, 0 where it does not, and -1 where nobody can tell: such a slice is left out.

    Args:
        path: A CSV or Parquet file.
        organ: The target organ.

    Returns:
        Label by slice, by case; a case all of whose slices are unsure has none.

    Raises:
        DataError: The file cannot be read, lacks a column, or a row is wrong or there twice.
    """
    aliases = {organ.lower(): "label", **_CASE_COLUMNS, **SLICE_COLUMNS}
    rows = read_table(path, required=("case", "slice", "label"), optional=(), aliases=aliases)
    cases: dict[str, list[TextRow]] = {}
    for row in rows:
        if not row.cells["case"]:
            raise DataError(f"{path}, line {row.line}, names no case.", "Name the scan in each row.")
        cases.setdefault(row.cells["case"], []).append(row)
    return {case: labels_of(path, of_case) for case, of_case in cases.items()}


def labels_of(path: Path, rows: Iterable[TextRow]) -> dict[int, int]:
    """The labels that rows of one scan give, by slice; unsure ones are left out.

    Raises:
        DataError: A row's slice or label is wrong, or a slice is there twice.
    """
    seen: dict[int, int] = {}
    labels: dict[int, int] = {}
    for row in rows:
        position, label = row.cells["slice"], row.cells["label"]
        if not (position.isascii() and position.isdecimal()):
            raise DataError(
                f"{path}, line {row.line}: {position!r} is no slice.",
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


def find_labels(*folders: Path) -> Path | None:
    """The first of `LABEL_FILES` in the folders; None where there is none."""
    places = (folder / name for folder in folders for name in LABEL_FILES)
    return next((path for path in places if path.is_file()), None)
