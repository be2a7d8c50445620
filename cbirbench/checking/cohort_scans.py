"""Which scans `cbirbench data check` reads: a folder's or a manifest's, with the labels that a run uses."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from cbirbench.datasets.dataset_json import listed_files, listed_names
from cbirbench.datasets.discovery import Discovery, FoundScan, find_scans, spelt_out
from cbirbench.datasets.own_scans import named_scans
from cbirbench.datasets.slice_labels import find_labels, labels_by_scan, names_of
from cbirbench.datasets.text_tables import TABLE_ENDINGS
from cbirbench.errors import DataError, DataWarning, UsageError
from cbirbench.plain_text import are, many

LIVER = "liver"


@dataclass(frozen=True)
class CohortScans:
    """The scans of a cohort.

    Attributes:
        folder: What paths are told from: the cohort's folder, or its manifest's.
        scans: Each scan.
        left_out: Ids of scans that a run would leave out: they have neither mask nor labels, as others do.
        ignored: What is neither scan nor mask nor the table of labels, each with the reason.
        doubts: What is doubtful about the manifest or the table of labels.
    """

    folder: Path
    scans: tuple[FoundScan, ...]
    left_out: frozenset[str]
    ignored: tuple[tuple[Path, str], ...]
    doubts: tuple[str, ...]


def cohort_scans(place: Path, masks: Path | None, organ: str) -> CohortScans:
    """Find a cohort's scans, masks and labels of slices, as the benchmark `folder` does.

    Args:
        place: A folder, or a manifest.
        masks: Where the masks of a folder are, if not beside the images.
        organ: What the target is called; a column of labels may be called so.

    Raises:
        UsageError: The cohort is neither a folder nor a manifest, or the folder of the masks is none.
        DataError: The folder holds no scan, or the manifest or the table of labels is faulty.
    """
    named = place.is_file() and place.suffix.lower() in TABLE_ENDINGS
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        if named:
            if masks is not None:
                raise UsageError("A manifest names the masks itself.", "Leave --masks out.")
            found = Discovery(named_scans(place, organ), ())
        else:
            found = _in_folder(place, masks)
            table = find_labels(place)
            if table is not None:
                found = _labelled(found, place, table, organ)
    doubts = tuple(str(each.message) for each in caught if issubclass(each.category, DataWarning))
    if {scan.split for scan in found.scans} == {"gallery"}:
        doubts += ("All scans are of the split gallery: a run needs queries, too.",)
    without = [scan.volume_id for scan in found.scans if scan.mask is None and not scan.labels]
    all_without = len(without) == len(found.scans)  # fine: such a cohort can be asked about slice by slice
    left_out = frozenset([] if all_without else without)
    return CohortScans(place.parent if named else place, found.scans, left_out, found.ignored, doubts)


def _in_folder(place: Path, masks: Path | None) -> Discovery:
    for given in filter(None, (place, masks)):
        if not given.is_dir():
            state = "is no folder" if given.exists() else "does not exist"
            tables = "" if given is masks else f", or a manifest ({', '.join(TABLE_ENDINGS)})"
            raise UsageError(f"{given} {state}.", f"Name the folder that holds the scans{tables}.")
    found = find_scans(place, masks)
    if not found.scans:
        raise DataError(
            f"{place} holds no CT scan; {many(len(found.ignored), 'other file')} {are(found.ignored)} in it.",
            "Name a folder with NIfTI, NRRD or DICOM files in it or below it.",
        )
    return found


def _labelled(found: Discovery, folder: Path, table: Path, organ: str) -> Discovery:
    """The scans with the labels that a table has for those without masks."""
    names = [names_of(scan.volume_id, scan.image, folder) for scan in found.scans]
    labels = labels_by_scan(table, organ, names)
    scans = tuple(
        replace(scan, labels=given) if scan.mask is None else scan
        for scan, given in zip(found.scans, labels, strict=True)
    )
    ignored = tuple(each for each in found.ignored if each[0] != table)
    return Discovery(scans, ignored)


def organs_of(folder: Path, images: Sequence[Path]) -> tuple[list[str], list[str]]:
    """What each scan's target is called, and what is doubtful of dataset.json files.

    Args:
        folder: The cohort's; folders above it say nothing.
        images: Each scan's file or folder.

    Returns:
        Of each scan ``liver``, where a folder's name or its dataset.json says so, or nothing; and the doubts.
    """
    root = spelt_out(folder)  # the same is said however the paths are typed
    told: dict[Path, bool] = {}
    doubts: list[str] = []

    def says_liver(here: Path) -> bool:
        if here not in told:
            told[here] = LIVER in here.name.lower() or _describes_liver(here, doubts)
            if here != root and here.is_relative_to(root):
                told[here] |= says_liver(here.parent)
        return told[here]

    within = [spelt_out(image if image.is_dir() else image.parent) for image in images]
    return [LIVER if says_liver(here) else "" for here in within], doubts


def _describes_liver(here: Path, doubts: list[str]) -> bool:
    description = here / "dataset.json"
    try:
        absent = [path for path in listed_files(description) if not path.is_file()]
        named = any(name.lower() == LIVER for name in listed_names(description).values())
    except DataError as error:
        doubts.append(str(error))
        return False
    if absent:
        doubts.append(
            f"{description} lists {many(len(absent), 'file')} that {are(absent)} not there; the first is "
            f"{absent[0]}."
        )
    return named
