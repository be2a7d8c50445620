"""Anybody's own scans: found in a folder or named by a manifest, with masks or with labels of slices."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from cbirbench.datasets.discovery import DAMAGED, FoundScan, find_scans
from cbirbench.datasets.manifest import ManifestScan, Split, read_manifest
from cbirbench.datasets.scan_options import files_of
from cbirbench.datasets.slice_labels import find_labels, labels_by_scan, names_of
from cbirbench.datasets.text_tables import TABLE_ENDINGS, at_lines, listing
from cbirbench.errors import DataError, DataWarning, UsageError
from cbirbench.plain_text import are, many
from cbirbench.scans.dicom_files import SeriesFiles, find_series
from cbirbench.scans.dicom_headers import numbers_of, read_header, sequence_of, text_of
from cbirbench.scans.volumes import segmentation_file

_HOW_TO_LABEL = (
    "Give masks with --set folder.masks=DIR, or labels of slices with --set folder.labels=FILE: a CSV with "
    "the columns case, slice and label. A manifest can name both. A cohort of --queries has them in its "
    "folder (images and masks, or slice_labels.csv) or in a manifest."
)


@dataclass(frozen=True)
class OwnScan:
    """One scan.

    Attributes:
        volume_id: Unique among the scans.
        patient_id: Pseudonym of the patient.
        study_id: The examination.
        image: The file, or the folder of a DICOM series.
        mask: Its mask's file; None where there is none.
        series: The DICOM series' pseudonym; empty for files.
        orientation: Where its stored axes point, whatever the file says.
        split: On which side a manifest has it; empty where none says.
        labels: Label by slice, of scans without masks.
        names: What a table of labels may call it.
        files: The files that the image consists of.
        sorted_out: Whether `files` are those of the series alone, not all of a folder that may hold several.
    """

    volume_id: str
    patient_id: str
    study_id: str
    image: Path
    mask: Path | None = None
    series: str = ""
    orientation: str = ""
    split: Split = ""
    labels: Mapping[int, int] = field(default_factory=dict)
    names: tuple[str, ...] = ()
    files: tuple[Path, ...] = ()
    sorted_out: bool = False


def usable_scans(
    place: Path, *, masks: Path | None, labels: Path | None, organ: str, patient_pattern: str
) -> list[OwnScan]:
    """Find the scans that have a mask or labels; warn of the others, and of masks that belong to none.

    Args:
        place: A folder, or a manifest.
        masks: A folder with the masks alone, or None.
        labels: A table of labels of slices; None to look for one beside the scans of a folder.
        organ: What the target is called; a column of labels may be called so.
        patient_pattern: A regular expression whose first group is the patient, searched in ids of files.

    Raises:
        UsageError: There is no scan, or none that can be used.
        DataError: A table is faulty, or a file that it names is not there.
    """
    if place.is_dir():
        scans = _found(place, masks, patient_pattern)
        labels = labels or find_labels(place)
    elif place.is_file() and place.suffix.lower() in TABLE_ENDINGS:
        scans = _named(place, organ)
    else:
        what = "is neither a folder nor a manifest" if place.exists() else "is not there"
        raise UsageError(
            f"{place} {what}.", f"Name a folder with scans, or a manifest ({', '.join(TABLE_ENDINGS)})."
        )
    if labels is not None:
        scans = _labelled(scans, labels, organ)
    usable = [scan for scan in scans if scan.mask is not None or scan.labels]
    if not usable:
        raise UsageError(
            f"{place} has {many(len(scans), 'scan')}, but no mask and no label of a slice for any.",
            _HOW_TO_LABEL,
        )
    unused = [scan.volume_id for scan in scans if scan.mask is None and not scan.labels]
    if unused:
        have = "has" if len(unused) == 1 else "have"
        _warn(
            f"{many(len(unused), 'scan')} of {place} {have} neither mask nor labels and {are(unused)} left "
            f"out: {listing(unused)}."
        )
    return usable


def named_scans(manifest: Path, organ: str = "") -> tuple[FoundScan, ...]:
    """The scans that a manifest names, in its order, whether or not they have masks or labels.

    Labels are those that a run would use: of scans without masks.

    Args:
        manifest: The table.
        organ: What the target is called; a column of labels may be called so.

    Raises:
        DataError: It is faulty, or a file that it names is not there.
    """
    return tuple(
        FoundScan(
            volume_id=scan.volume_id,
            patient_id=scan.patient_id,
            study_id=scan.study_id,
            image=scan.image,
            series=scan.series,
            mask=scan.mask,
            files=scan.files if scan.sorted_out else (),
            orientation=scan.orientation,
            labels=scan.labels if scan.mask is None else {},
            split=scan.split,
        )
        for scan in _named(manifest, organ)
    )


def segment_names(masks: Iterable[Path]) -> dict[int, str]:
    """What the DICOM SEG files among some masks, or in folders among them, call their segments, by number.

    Numbers that two files give to different structures bear no name, and are warned of: what is counted as
    target goes by number.

    Raises:
        DataError: The header of a DICOM SEG cannot be read, or a folder holds none or several.
    """
    names: dict[int, str] = {}
    differing: dict[int, str] = {}
    for path in masks:
        file = segmentation_file(path)
        if file is None:
            continue
        header = read_header(file, ("SegmentSequence",))
        for item in sequence_of(file, header, "SegmentSequence"):
            number = int(numbers_of(file, item, "SegmentNumber")[0])
            label = text_of(file, item, "SegmentLabel")
            if label and names.setdefault(number, label).lower() != label.lower():
                differing[number] = f"{number} is {names[number]!r} and, in {file}, {label!r}"
    if differing:
        _warn(
            f"DICOM SEG files number their segments differently: {listing(differing.values())}. Targets go "
            "by number."
        )
    return {number: name for number, name in names.items() if number not in differing}


def _found(folder: Path, masks: Path | None, patient_pattern: str) -> list[OwnScan]:
    found = find_scans(folder, masks)
    if not found.scans:
        passed = listing(f"{path.name} ({why})" for path, why in found.ignored)
        raise UsageError(
            f"{folder} holds no scans{': ' if passed else ''}{passed}.",
            "Name the folder that holds NIfTI, NRRD or MetaImage files or DICOM series.",
        )
    doubtful = [(path, why) for path, why in found.ignored if "mask" in why or why.startswith(DAMAGED)]
    if doubtful:
        lost = [f"{path.name} ({why})" for path, why in doubtful]
        _warn(f"{many(len(lost), 'file')} of {masks or folder} {are(lost)} not used: {listing(lost)}.")
    return [
        OwnScan(
            volume_id=scan.volume_id,
            patient_id=scan.patient_id
            if scan.series or not patient_pattern
            else _patient(patient_pattern, scan.volume_id),
            study_id=scan.study_id,
            image=scan.image,
            mask=scan.mask,
            series=scan.series,
            names=names_of(scan.volume_id, scan.image, folder),
            files=scan.files if scan.series else files_of(scan.image),
            sorted_out=bool(scan.series),
        )
        for scan in found.scans
    ]


def _named(manifest: Path, organ: str) -> list[OwnScan]:
    indexed: dict[Path, list[SeriesFiles]] = {}  # a folder that many rows name is searched once
    lines: dict[Path, int] = {}
    scans = []
    for scan in read_manifest(manifest, organ):
        own = _own_series(scan, indexed)
        if own is not None:
            first = lines.setdefault(own.files[0].resolve(), scan.line)
            if first != scan.line:
                raise DataError(
                    f"{manifest} names the series {own.uid} more than once, {at_lines([first, scan.line])}.",
                    "Keep one row a scan, or name it in the same way in all rows.",
                )
        scans.append(
            OwnScan(
                volume_id=scan.volume_id,
                patient_id=scan.patient_id,
                study_id=scan.study_id,
                image=scan.image,
                mask=scan.mask,
                series=scan.series if own is None else own.uid,
                orientation=scan.orientation,
                split=scan.split,
                labels=scan.labels,
                names=names_of(scan.volume_id, scan.image, manifest.parent),
                files=files_of(scan.image) if own is None else own.files,
                sorted_out=own is not None,
            )
        )
    return scans


def _own_series(scan: ManifestScan, indexed: dict[Path, list[SeriesFiles]]) -> SeriesFiles | None:
    """The series that a row of a manifest means; None where it is no folder, or opening it will say why."""
    if not scan.image.is_dir():
        return None
    folder = scan.image.resolve()
    if folder not in indexed:
        indexed[folder] = find_series(scan.image)
    found = [one for one in indexed[folder] if (one.uid == scan.series if scan.series else one.scan)]
    return found[0] if len(found) == 1 else None


def _patient(pattern: str, volume_id: str) -> str:
    match = re.search(pattern, volume_id)
    if match is None or not match[1]:
        raise UsageError(
            f"folder.patient_pattern={pattern} finds no patient in the scan's id {volume_id!r}.",
            "Change the pattern, or name the patients in a manifest.",
        )
    return match[1]


def _labelled(scans: Sequence[OwnScan], table: Path, organ: str) -> list[OwnScan]:
    """The scans with the labels that a table has for those without masks."""
    labels = labels_by_scan(table, organ, [scan.names for scan in scans])
    return [
        replace(scan, labels=given) if given and scan.mask is None and not scan.labels else scan
        for scan, given in zip(scans, labels, strict=True)
    ]


def _warn(text: str) -> None:
    warnings.warn(text, DataWarning, stacklevel=3)
