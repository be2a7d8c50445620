"""The list of pairs of studies that a cross-examination of many is made of."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cbirbench.cases.studies import ScanFile, Study, open_study
from cbirbench.cases.study_orders import expert_picks
from cbirbench.errors import UsageError

NEEDED = ("query", "previous")
OPTIONAL = ("slice", "expert", "query_mask", "previous_mask", "previous_slice")


@dataclass(frozen=True, eq=False)
class Pair:
    """A line of the file, checked.

    Attributes:
        line: Its number in the file.
        query: The new study's path.
        previous: The previous study's path.
        numbers: Slices of the new study that are queries.
        picks: An expert's choice among the previous study's slices, the best first; may be empty.
        masks: Masks of the new and of the previous study; None where none are given.
        paired: The slice of the previous study at the query's height; None where it is not given.
    """

    line: int
    query: Path
    previous: Path
    numbers: list[int]
    picks: list[int]
    masks: tuple[Path, Path] | None
    paired: int | None


def read_pairs(
    path: Path, top: int | None, unstated: str = ""
) -> tuple[list[Pair], dict[Path, Study], list[str]]:
    """Read the file, and open every scan that it names.

    Args:
        path: A CSV file with the columns `NEEDED` and any of `OPTIONAL`; paths are relative to its folder.
        top: How many of the nearest slices are scored; None for 5 where there are masks.
        unstated: Where axes point in scans that do not say it.

    Returns:
        The pairs, the studies by path, and what is doubtful about the file.

    Raises:
        UsageError: The columns or cells do not fit, or a slice is out of range.
        DataError: A scan cannot be read.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            names = [str(name).strip() for name in reader.fieldnames or ()]
            reader.fieldnames = names
            table = [(reader.line_num, row) for row in reader]
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}.", "Check the path.") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise UsageError(f"{path} is no CSV file: {error}.", "Save it as CSV in UTF-8.") from error
    lacking = [name for name in NEEDED if name not in names]
    if lacking or not table:
        raise UsageError(
            f"{path} has no {'column ' + lacking[0] if lacking else 'pairs'}.",
            f"Its first line names the columns, {', '.join(NEEDED)} and any of {', '.join(OPTIONAL)}; each "
            "further line is a pair.",
        )
    unused = [name for name in names if name not in (*NEEDED, *OPTIONAL)]
    notes = [f"{path}: columns not used: {', '.join(unused)}."] if unused else []
    studies: dict[Path, Study] = {}
    return [_pair(path, top, unstated, studies, line, row) for line, row in table], studies, notes


def _pair(
    path: Path, top: int | None, unstated: str, studies: dict[Path, Study], line: int, row: Mapping[str, Any]
) -> Pair:
    where = f"{path}, line {line}"
    cells = {name: str(row.get(name) or "").strip() for name in (*NEEDED, *OPTIONAL)}
    if None in row or not all(cells[name] for name in NEEDED):
        fault = "has more cells than columns" if None in row else "lacks the query or the previous study"
        raise UsageError(f"{where} {fault}.", "Give one cell a column; quote what holds commas.")
    folder = path.parent
    paths = {name: folder / cells[name] for name in (*NEEDED, "query_mask", "previous_mask") if cells[name]}
    for name in NEEDED:
        if paths[name] not in studies:
            if not paths[name].exists():
                raise UsageError(
                    f"{where}: {paths[name]} does not exist.", "Paths begin at the list's own folder."
                )
            studies[paths[name]] = open_study(ScanFile(paths[name], unstated=unstated))
    query, previous = studies[paths["query"]], studies[paths["previous"]]
    numbers = list(range(query.slice_count))
    if cells["slice"]:
        numbers = query.numbers(cells["slice"], f"{where}: slice")
    if (cells["expert"] or cells["previous_slice"]) and len(numbers) != 1:
        raise UsageError(
            f"{where} has {len(numbers)} query slices; expert and previous_slice belong to one.",
            "Name the one in the column slice, or give each slice a line of its own.",
        )
    if bool(cells["query_mask"]) != bool(cells["previous_mask"]):
        raise UsageError(f"{where} has a mask of one study only.", "Give the masks of both, or none.")
    paired = None
    if cells["previous_slice"]:
        found = previous.numbers(cells["previous_slice"], f"{where}: previous_slice")
        if len(found) != 1:
            raise UsageError(f"{where} pairs one slice with {len(found)}.", "Name one previous_slice.")
        (paired,) = found
    scored = top or (5 if cells["query_mask"] else 1)
    if scored > previous.slice_count:
        raise UsageError(
            f"{where}: the {scored} nearest slices are scored, {previous.name} has {previous.slice_count}.",
            f"Give --top {previous.slice_count} or less.",
        )
    picks = expert_picks(previous, cells["expert"], f"{where}: expert") if cells["expert"] else []
    masks = (paths["query_mask"], paths["previous_mask"]) if cells["query_mask"] else None
    return Pair(line, paths["query"], paths["previous"], numbers, picks, masks, paired)
