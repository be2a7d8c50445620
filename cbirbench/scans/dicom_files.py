"""Which DICOM series lie in a folder, by their headers.

Patients, studies and series are known by pseudonyms from here on: the first ten hexadecimal digits of SHA-256
of PatientID and of the unique identifiers. Names, identifiers and dates of birth are never kept. The same
identifier gives the same pseudonym everywhere, so one patient is recognised across cohorts; whoever holds a
list of identifiers can find theirs again, so pseudonyms are no anonymisation.
"""

from __future__ import annotations

import hashlib
import os
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from cbirbench.errors import DataError
from cbirbench.scans.dicom_headers import (
    is_localizer,
    is_screen,
    read_header,
    sequence_of,
    text_of,
)
from cbirbench.scans.volume import unreadable

_DIGITS = 10
_PREAMBLE = 128
_FIRST_GROUPS = (b"\x08\x00", b"\x02\x00")  # how a file without preamble begins, in little endian
_INDEX_TAGS = (
    "SOPClassUID",
    "ImageType",
    "Modality",
    "SamplesPerPixel",
    "PatientID",
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "FrameOfReferenceUID",
    "ReferencedSeriesSequence",
)


@dataclass(frozen=True)
class SeriesFiles:
    """The files of one DICOM series.

    Attributes:
        uid: Pseudonym of SeriesInstanceUID, ``series-`` and ten digits.
        study_uid: Pseudonym of StudyInstanceUID, ``study-`` and ten digits.
        patient: Pseudonym of PatientID, or of the study where that is empty: ``patient-`` and ten digits.
        modality: ``CT``, ``MR``, ``SEG`` and so on; empty where the files do not say it.
        files: In order of their paths.
        segments: Whether they are segmentations (DICOM SEG), each file a mask.
        scan: Whether they hold CT slices, not only localizers, pictures of screens or other kinds of data.
        marks: Of segmentations, the `uid` of the series that they refer to.
    """

    uid: str
    study_uid: str
    patient: str
    modality: str
    files: tuple[Path, ...]
    segments: bool
    scan: bool = False
    marks: tuple[str, ...] = ()


class _Header(NamedTuple):
    path: Path
    patient: str
    study: str
    series: str
    modality: str
    scan: bool
    marks: tuple[str, ...]


def pseudonym(kind: str, identifier: str) -> str:
    """What an identifier is known by.

    Args:
        kind: ``patient``, ``study`` or ``series``.
        identifier: As the file has it; spaces around it do not count.
    """
    digest = hashlib.sha256(identifier.strip(" \0").encode("utf-8", "surrogateescape")).hexdigest()
    return f"{kind}-{digest[:_DIGITS]}"


def find_series(folder: Path, *, damaged: list[DataError] | None = None) -> list[SeriesFiles]:
    """Find the DICOM series in a folder and all below it; files of other kinds are passed over.

    Only headers are read. Files without SeriesInstanceUID are one series where they share folder and frame of
    reference.

    Args:
        folder: Where to look.
        damaged: Takes what is wrong with files whose header cannot be read, and they are left out; None to
            raise it.

    Returns:
        Series in the order of their first file.

    Raises:
        DataError: The header of a DICOM file cannot be read.
    """
    groups: dict[tuple[str, ...], list[_Header]] = defaultdict(list)
    for path in _files_below(folder):
        try:
            if not is_dicom(path):
                continue
            header = _indexed(path)
        except DataError as error:
            if damaged is None:
                raise
            damaged.append(error)
            continue
        groups[header.patient, header.study, header.series, header.modality].append(header)
    found = [
        SeriesFiles(
            uid=series,
            study_uid=study,
            patient=patient,
            modality=modality,
            files=tuple(sorted(header.path for header in headers)),
            segments=modality == "SEG",
            scan=any(header.scan for header in headers),
            marks=tuple(sorted({uid for header in headers for uid in header.marks})),
        )
        for (patient, study, series, modality), headers in groups.items()
    ]
    return sorted(found, key=lambda series: (series.files[0], series.uid))


def is_dicom(path: Path) -> bool:
    """Whether a file is DICOM, by its preamble or, where it has none, by its first elements.

    A DICOMDIR, the table of contents of a disc, is no image and does not count.

    Raises:
        DataError: It cannot be opened.
    """
    if path.name.upper() == "DICOMDIR":
        return False
    try:
        with path.open("rb") as stream:
            start = stream.read(_PREAMBLE + 4)
    except OSError as error:
        raise unreadable(path, error) from error
    if start[_PREAMBLE:] == b"DICM":
        return True
    if not start.startswith(_FIRST_GROUPS):
        return False
    try:
        header = read_header(path, ("SOPClassUID", "Modality"))
    except DataError:
        return False
    return "SOPClassUID" in header or "Modality" in header


def _indexed(path: Path) -> _Header:
    header = read_header(path, _INDEX_TAGS)
    frame = text_of(path, header, "FrameOfReferenceUID")
    series = text_of(path, header, "SeriesInstanceUID") or f"{frame}/{path.parent.name}"
    study = text_of(path, header, "StudyInstanceUID") or frame or series
    modality = text_of(path, header, "Modality").upper()
    return _Header(
        path=path,
        patient=pseudonym("patient", text_of(path, header, "PatientID") or study),
        study=pseudonym("study", study),
        series=pseudonym("series", series),
        modality=modality,
        scan=modality == "CT" and not is_localizer(path, header) and not is_screen(path, header),
        marks=tuple(
            pseudonym("series", text_of(path, item, "SeriesInstanceUID"))
            for item in sequence_of(path, header, "ReferencedSeriesSequence")
        ),
    )


def _files_below(folder: Path) -> Iterator[Path]:
    """Files in order of their paths; linked folders are followed, once each."""
    seen: set[str] = set()
    for root, folders, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(root)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders.sort()
        for name in sorted(names):
            path = Path(root, name)
            if path.is_file():  # no link into nowhere, no device
                yield path
