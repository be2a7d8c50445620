"""Which DICOM series lie in a folder, by their headers.

Patients, studies and series are known by pseudonyms from here on: the first ten hexadecimal digits of SHA-256
of PatientID and of the unique identifiers. Names, identifiers and dates of birth are never kept. The same
identifier gives the same pseudonym everywhere, so one patient is recognised across cohorts; whoever holds a
list of identifiers can find theirs again, so pseudonyms are no anonymisation.
"""

from __future__ import annotations

import errno
import hashlib
import stat
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from cbirbench.errors import DataError
from cbirbench.scans.dicom_headers import (
    identifier_of,
    is_localizer,
    is_screen,
    read_header,
    sequence_of,
    word_of,
)
from cbirbench.scans.folder_walk import is_hidden, walked
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


def find_series(folder: Path, *, damaged: dict[Path, DataError] | None = None) -> list[SeriesFiles]:
    """Find the DICOM series in a folder and all below it; hidden files and other kinds are passed over.

    Only headers are read. Files without SeriesInstanceUID are one series where they share folder and frame of
    reference. Such a series is known by its folder's path below the one that is searched, and so are its
    study and patient where nothing else tells them: searched from further above, it has another pseudonym.

    Args:
        folder: Where to look.
        damaged: Takes what is wrong with folders that cannot be listed and files whose header cannot be
            read, and they are left out; None to raise it.

    Returns:
        Series in the order of their first file.

    Raises:
        DataError: A folder cannot be listed, or the header of a DICOM file cannot be read.
    """

    def left_out(path: Path, error: DataError) -> None:
        if damaged is None:
            raise error
        damaged[path] = error

    groups: dict[tuple[str, ...], list[_Header]] = defaultdict(list)
    for path in _files_below(folder, left_out):
        try:
            if not (_is_file(path) and is_dicom(path)):
                continue
            header = _indexed(folder, path)
        except DataError as error:
            left_out(path, error)
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


def _indexed(root: Path, path: Path) -> _Header:
    header = read_header(path, _INDEX_TAGS)
    frame = identifier_of(path, header, "FrameOfReferenceUID")
    series = identifier_of(path, header, "SeriesInstanceUID") or f"{frame}/{_place(root, path.parent)}"
    study = identifier_of(path, header, "StudyInstanceUID") or frame or series
    modality = word_of(path, header, "Modality")
    return _Header(
        path=path,
        patient=pseudonym("patient", identifier_of(path, header, "PatientID") or study),
        study=pseudonym("study", study),
        series=pseudonym("series", series),
        modality=modality,
        scan=modality == "CT" and not is_localizer(path, header) and not is_screen(path, header),
        marks=tuple(
            pseudonym("series", identifier_of(path, item, "SeriesInstanceUID"))
            for item in sequence_of(path, header, "ReferencedSeriesSequence")
        ),
    )


def _place(root: Path, folder: Path) -> str:
    """The path of a folder below another one, of which itself the name: as when searched from just above."""
    place, name = folder.relative_to(root).parts, root.resolve().name
    return "/".join((name, *place) if not place or place[0] == name else place)


def _files_below(root: Path, left_out: Callable[[Path, DataError], None]) -> Iterator[Path]:
    """What is no folder and not hidden, in order of paths."""
    for folder, names in walked(root, lambda path, error: left_out(path, unreadable(path, error))):
        yield from (folder / name for name in names if not is_hidden(name))


def _is_file(path: Path) -> bool:
    """Whether a path is a file: no link into nowhere, no device."""
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
            return False
        raise unreadable(path, error) from None
