"""What lies below a folder: files of volumes told apart as images and masks, DICOM series, and the rest."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePath

from cbirbench.datasets.scan_names import (
    IMAGE_FOLDERS,
    MASK_FOLDERS,
    VOLUME_ENDINGS,
    is_image_word,
    is_mask_name,
    is_structure_name,
    mask_base,
    stem_of,
    without_first_word,
)
from cbirbench.errors import DataError
from cbirbench.scans.dicom_files import SeriesFiles, find_series
from cbirbench.scans.folder_walk import is_hidden, walked
from cbirbench.scans.volume import unreadable

Ignored = tuple[Path, str]
"""A path and why it is no scan and no mask; the reason begins with `DAMAGED` where it might have been one."""

DAMAGED = "damaged: "
"""How the reason begins for what cannot be read."""

_HEADERS = (".mhd", ".nhdr")


@dataclass(frozen=True)
class VolumeFile:
    """A file of one volume.

    Attributes:
        path: The file.
        place: Its path below the searched folder, without the folders that only tell images from masks.
    """

    path: Path
    place: PurePath

    @property
    def stem(self) -> str:
        """Its name without endings."""
        return stem_of(self.path.name)

    @property
    def folder(self) -> str:
        """The folder of its `place`; ``.`` is the searched one."""
        return self.place.parent.as_posix()

    @cached_property
    def keys(self) -> tuple[tuple[str, str], ...]:
        """By what image and mask are matched: folder and name as it is, without a mask's ending, and bare."""
        base = mask_base(self.stem)
        return (self.folder, self.stem), (self.folder, base), (self.folder, without_first_word(base))


@dataclass(frozen=True)
class FolderContents:
    """What lies below a folder.

    Attributes:
        images: Files of one volume each that are no masks.
        masks: Files that are.
        series: DICOM series of CT slices that do not lie among masks.
        segmentations: DICOM series of segmentations.
        ignored: The rest, with reasons.
    """

    images: tuple[VolumeFile, ...]
    masks: tuple[VolumeFile, ...]
    series: tuple[SeriesFiles, ...]
    segmentations: tuple[SeriesFiles, ...]
    ignored: tuple[Ignored, ...]


def contents_of(root: Path, *, apart: Path | None = None, all_masks: bool = False) -> FolderContents:
    """Look through a folder and all below it.

    Args:
        root: The folder.
        apart: A folder whose contents are left out if it lies below.
        all_masks: Whether all files of volumes are masks, whatever they are called.

    Raises:
        DataError: The folder cannot be listed.
    """
    elsewhere = apart if apart is not None and _below(apart, root) else None
    damaged: dict[Path, DataError] = {}
    series = [
        one
        for one in find_series(root, damaged=damaged)
        if elsewhere is None or not _below(one.files[0], elsewhere)
    ]
    paths, ignored = _files(root, elsewhere)
    of_series = {path for one in series for path in one.files}
    others = [path for path in paths if path not in of_series]
    files = [VolumeFile(path, place_of(root, path)) for path in others if _is_volume(path)]
    headers = {(file.path.parent, file.path.stem) for file in files if file.path.suffix.lower() in _HEADERS}
    for path in others:
        if not _is_volume(path):
            ignored.append((path, _why_not(path, headers, damaged)))
    scans = [one for one in series if one.scan and not (all_masks or _among_masks(root, one.files[0]))]
    ignored += _other_series(one for one in series if one not in scans and not one.segments)
    called = {file.path.parent for file in files if is_image_word(file.stem)}
    called |= {path.parent for one in scans for path in one.files}
    masks = {file for file in files if all_masks or _is_mask(root, file, beside=file.path.parent in called)}
    return FolderContents(
        images=tuple(file for file in files if file not in masks),
        masks=tuple(file for file in files if file in masks),
        series=tuple(scans),
        segmentations=tuple(one for one in series if one.segments),
        ignored=tuple(ignored),
    )


def place_of(root: Path, path: Path) -> PurePath:
    """A path below a folder, without folders of masks and the folders of images beside them."""
    relative = path.relative_to(root)
    kept = []
    for depth, part in enumerate(relative.parts[:-1]):
        tells = part.lower() in MASK_FOLDERS
        if part.lower() in IMAGE_FOLDERS:
            beside = root.joinpath(*relative.parts[:depth])
            tells = any(entry.is_dir() and entry.name.lower() in MASK_FOLDERS for entry in beside.iterdir())
        if not tells:
            kept.append(part)
    return PurePath(*kept, relative.name)


def _files(root: Path, elsewhere: Path | None) -> tuple[list[Path], list[Ignored]]:
    """Files below a folder; hidden ones and folders that cannot be listed are ignored."""
    found: list[Path] = []
    ignored: list[Ignored] = []

    def not_listed(folder: Path, error: OSError) -> None:
        why = unreadable(folder, error)
        if folder == root:
            raise why
        ignored.append((folder, f"{DAMAGED}{why.problem}"))

    for folder, names in walked(root, not_listed, apart=elsewhere):
        for name in names:
            path = folder / name
            if is_hidden(name):
                ignored.append((path, "hidden"))
            elif _leads_nowhere(path):
                ignored.append((path, f"{DAMAGED}a link into nowhere"))
            else:
                found.append(path)
    return found, ignored


def _leads_nowhere(path: Path) -> bool:
    try:
        return path.is_symlink() and not path.exists()
    except OSError:  # its folder lets nobody in: opening it says so
        return False


def _below(path: Path, folder: Path) -> bool:
    return path.resolve().is_relative_to(folder.resolve())


def _is_volume(path: Path) -> bool:
    return path.name.lower().endswith(VOLUME_ENDINGS)


def _why_not(path: Path, headers: set[tuple[Path, str]], damaged: Mapping[Path, DataError]) -> str:
    if path in damaged:
        return f"{DAMAGED}{damaged[path].problem}"
    stem = path.name.removesuffix(".gz").rpartition(".")[0]
    if (path.parent, stem) in headers:
        return "the voxels of the header beside it"
    return "no scan: neither NIfTI, NRRD, MetaImage nor DICOM"


def _among_masks(root: Path, path: Path) -> bool:
    return any(part.lower() in MASK_FOLDERS for part in path.relative_to(root).parts[:-1])


def _is_mask(root: Path, file: VolumeFile, *, beside: bool) -> bool:
    """Whether a file is a mask; `beside`: a series, or a file called ``ct`` or the like, is in its folder."""
    if _among_masks(root, file.path) or is_mask_name(file.stem):
        return True
    return beside and is_structure_name(file.stem)


def _other_series(series: Iterable[SeriesFiles]) -> list[Ignored]:
    """Series that are neither CT slices nor segmentations, or that lie where masks should."""
    ignored = []
    for one in series:
        if one.scan:
            what = "a DICOM series of CT among the masks"
        elif not one.modality:
            what = f"{DAMAGED}DICOM whose header says no modality, as of a file that was cut"
        elif one.modality == "CT":
            what = "DICOM without CT slices"
        else:
            what = f"DICOM of {one.modality}, not CT"
        ignored.append((one.files[0], f"{what}; {len(one.files)} files"))
    return ignored
