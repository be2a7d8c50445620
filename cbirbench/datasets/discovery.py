"""Which scans a folder holds, which masks belong to them, and what is neither."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePath

from cbirbench.datasets.folder_contents import DAMAGED, Ignored, VolumeFile, contents_of, place_of
from cbirbench.datasets.scan_names import (
    IMAGE_FOLDERS,
    is_image_word,
    is_structure_name,
    unique,
    volume_id,
)
from cbirbench.errors import UsageError
from cbirbench.numeric_order import numeric_order
from cbirbench.scans.dicom_files import SeriesFiles

__all__ = ["DAMAGED", "Discovery", "FoundScan", "below", "find_scans", "spelt_out"]


PATIENT_PER_FILE = frozenset({"imagestr", "imagests"})
"""Folders, in lower case, that hold a file a patient at whatever depth: the Decathlon's and nnU-Net's."""


@dataclass(frozen=True)
class FoundScan:
    """One scan that was found.

    Attributes:
        volume_id: Unique among the scans found: of a file, its relative path without endings and with ``_``
            for ``/``, and without folders that only tell images from masks, such as ``images``; of a DICOM
            series, its pseudonym, as folders of exported series often bear names.
        patient_id: Of a DICOM series, the patient's pseudonym; of a file, the uppermost folder that it lies
            in below the one that was searched, those called ``images`` or the like not counted, or its name
            without endings where it lies in none or in one of `PATIENT_PER_FILE`. A file that is called
            ``image``, ``ct`` or the like in no folder bears the searched folder's name.
        study_id: Of a DICOM series, the study's pseudonym; of a file, the folders that it lies in, or
            `volume_id` where fewer than two tell patient from study.
        image: The file, or the folder of a DICOM series.
        series: The DICOM series' pseudonym; empty for files.
        mask: Its mask's file; None where there is none.
        files: The files that the image consists of.
        orientation: Where its stored axes point, whatever the file says; only a manifest tells.
        labels: Label by slice, of scans without masks; only a table tells.
        split: On which side of the split it is, ``gallery`` or ``query``; only a manifest tells.
    """

    volume_id: str
    patient_id: str
    study_id: str
    image: Path
    series: str = ""
    mask: Path | None = None
    files: tuple[Path, ...] = ()
    orientation: str = ""
    labels: Mapping[int, int] = field(default_factory=dict)
    split: str = ""


@dataclass(frozen=True)
class Discovery:
    """What a folder holds.

    Attributes:
        scans: In numeric order of their paths.
        ignored: What is no scan and no mask of one, each with the reason, which begins with `DAMAGED` where
            it might have been one and cannot be read. Of a DICOM series the first file stands for all.
    """

    scans: tuple[FoundScan, ...]
    ignored: tuple[Ignored, ...]


def below(path: Path, folder: Path) -> PurePath | None:
    """A path as seen from a folder that it lies in, in whatever way the two are typed; None if it does not.

    Links are taken as they are called: a scan that is linked into the folder lies in it.
    """
    place, root = spelt_out(path), spelt_out(folder)
    return place.relative_to(root) if place.is_relative_to(root) else None


def spelt_out(path: Path) -> Path:
    """The absolute path without ``..``; links are not followed."""
    return Path(os.path.normpath(path.absolute()))


def find_scans(images: Path, masks: Path | None = None) -> Discovery:
    """Find the scans below a folder and the masks that belong to them. No voxel is read.

    Scans are NIfTI, NRRD and MetaImage files and DICOM series of CT slices, wherever below the folder, in
    numeric order. Hidden files and files of other kinds are ignored. Without `masks`:

    - a folder that holds ``imagesTr`` and ``labelsTr``, ``images`` and ``masks``, ``images`` and ``labels``
      or the like is read as images and their masks, at whatever depth;
    - beside a scan, files called ``label``, ``mask`` or ``segmentation``, or ending or beginning so
      (``case1_seg``, ``segmentation-10``), are masks, and so are files called after structures alone
      (``liver``) beside a DICOM series or a scan that is called ``ct``, ``image`` or the like;
    - a DICOM SEG is the mask of the series that it refers to, with `masks` too.

    A mask belongs to the scan of the same relative path, but for endings, nnU-Net's ``_0000`` and such words;
    else to the only scan of its folder, where one of the two is called by such a word or the folder is a
    case's own. Where several masks might be a scan's, none is taken and all are ignored.

    Args:
        images: The folder to search.
        masks: A folder with the masks alone; None where they are to be told from the images.

    Raises:
        UsageError: A folder is not there.
        DataError: A folder or file may not be read.
    """
    for folder in (images, masks):
        if folder is not None and not folder.is_dir():
            raise UsageError(f"{folder} is no folder.", "Name the folder that holds the scans or masks.")
    if masks is not None and masks.resolve() == images.resolve():
        masks = None
    found = contents_of(images, apart=masks)
    scans = [_of_file(images, file) for file in found.images]
    scans += [_of_series(images, series) for series in found.series]
    ignored, segmentations, mask_files = [*found.ignored], [*found.segmentations], found.masks
    if masks is not None:
        why = "called as masks are, but not in the masks' folder"
        ignored += [(file.path, why) for file in found.masks]
        marked = contents_of(masks, apart=images, all_masks=True)
        ignored += marked.ignored
        segmentations += marked.segmentations
        mask_files = marked.masks
    owned = list(_owners(mask_files, scans, apart=masks is not None))
    for series in segmentations:
        owners = [n for n, scan in enumerate(scans) if scan.found.series in series.marks]
        owned += [(path, owners) for path in series.files]
    scans, without_scan = _with_masks(scans, owned)
    scans.sort(key=lambda scan: numeric_order(scan.order))
    ids = unique(scan.found.volume_id for scan in scans)
    ignored = sorted([*ignored, *without_scan], key=lambda item: numeric_order(item[0].as_posix()))
    return Discovery(
        tuple(replace(scan.found, volume_id=name) for scan, name in zip(scans, ids, strict=True)),
        tuple(ignored),
    )


@dataclass(frozen=True)
class _Scan:
    """A scan with what places it: its path for the order, its folder, and its file unless it is a series."""

    found: FoundScan
    order: str
    folder: str
    file: VolumeFile | None = None


def _of_file(root: Path, file: VolumeFile) -> _Scan:
    folders = tuple(part for part in file.place.parts[:-1] if part.lower() not in IMAGE_FOLDERS)
    own = file.stem
    if not folders and is_image_word(own):  # image.nii.gz: the folder is the case
        own = root.resolve().name or own
    name = volume_id(PurePath(*folders, file.place.name)) if folders else own
    own_patient = not folders or file.path.parent.name.lower() in PATIENT_PER_FILE
    found = FoundScan(
        volume_id=name,
        patient_id=name if own_patient else folders[0],
        study_id="_".join(folders) if len(folders) > 1 and not own_patient else name,
        image=file.path,
        files=(file.path,),
    )
    return _Scan(found, file.place.as_posix(), file.folder, file)


def _of_series(root: Path, series: SeriesFiles) -> _Scan:
    folder = Path(os.path.commonpath([path.parent for path in series.files]))
    found = FoundScan(
        volume_id=series.uid,
        patient_id=series.patient,
        study_id=series.study_uid,
        image=folder,
        series=series.uid,
        files=series.files,
    )
    order = series.files[0].relative_to(root).as_posix()
    return _Scan(found, order, place_of(root, folder / "series").parent.as_posix())


def _with_masks(
    scans: Sequence[_Scan], owned: Iterable[tuple[Path, Sequence[int]]]
) -> tuple[list[_Scan], list[Ignored]]:
    """The scans with their masks, and the masks that cannot be anybody's."""
    candidates: dict[int, list[Path]] = defaultdict(list)
    ignored: list[Ignored] = []
    for path, owners in owned:
        if len(owners) == 1:
            candidates[owners[0]].append(path)
        else:
            of = "that may be of several scans: name them in a manifest" if owners else "of no scan here"
            ignored.append((path, f"a mask {of}"))
    given = list(scans)
    for n, paths in candidates.items():
        if len(paths) == 1:
            given[n] = replace(given[n], found=replace(given[n].found, mask=paths[0]))
        else:
            why = f"one of {len(paths)} masks of {given[n].found.volume_id}: name one in a manifest"
            ignored += [(path, why) for path in paths]
    return given, ignored


def _owners(
    masks: Iterable[VolumeFile], scans: Sequence[_Scan], *, apart: bool
) -> Iterator[tuple[Path, list[int]]]:
    """Which scans each mask may belong to."""
    by_key: dict[tuple[int, tuple[str, str]], list[int]] = defaultdict(list)
    by_folder: dict[str, list[int]] = defaultdict(list)
    for n, scan in enumerate(scans):
        by_folder[scan.folder].append(n)
        for level, key in enumerate(scan.file.keys if scan.file else ()):
            by_key[level, key].append(n)
    for mask in masks:
        exact, base, bare = mask.keys
        tried = (by_key.get(key, []) for key in ((0, exact), (0, base), (1, base), (2, bare)))
        yield mask.path, next(filter(None, tried), []) or _only_neighbour(mask, scans, by_folder, apart)


def _only_neighbour(
    mask: VolumeFile, scans: Sequence[_Scan], by_folder: Mapping[str, list[int]], apart: bool
) -> list[int]:
    beside = by_folder.get(mask.folder, [])
    if len(beside) != 1:
        return []
    file = scans[beside[0]].file
    plain = is_structure_name(mask.stem) or file is None or is_image_word(file.stem)
    return beside if plain or (mask.folder != "." and not apart) else []
