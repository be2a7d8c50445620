"""A CT series in DICOM as a volume: one file a slice, or one file of many frames (enhanced CT).

Slices lie where their headers say. They are ordered by position along their normal, whatever their names and
instance numbers, and each is rescaled by its own slope and intercept.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cbirbench.errors import DataError
from cbirbench.scans.dicom_pixels import decoded_frames
from cbirbench.scans.dicom_slices import Slice, slices_of
from cbirbench.scans.geometry import Grid, check_affine
from cbirbench.scans.volume import HIGHEST_AIR_HU, ChosenSlices, Volume, check_hu

if TYPE_CHECKING:
    from numpy.typing import NDArray

LPS_TO_RAS = np.array([-1.0, -1.0, 1.0])
"""DICOM counts millimetres to the left and posterior, NIfTI to the right and anterior."""

SAME_POSITION_MM = 0.01
"""Slices nearer than this lie at one position."""

REGULAR = 0.05
"""Steps that differ from the usual one by less than this share are regular."""

HIGHEST_TISSUE_HU = 3000.0
"""Above what bone reaches; only metal and padding lie there."""

_COUNTED = "Slices are counted as they come."


@dataclass(frozen=True, eq=False)
class DicomSeries(Volume):
    """The slices of a CT series, stored axes along columns, rows and slices.

    Attributes:
        path: The file, or the folder of the series.
        grid: Where its voxels lie. Its slices are evenly spaced; `planes` says where they really are.
        stated: True, as no slice without orientation is taken.
        slices: In order along the stored slice axis.
        source_grid: `grid` as the files have it, whatever the volume was placed on later.
        doubts: What is doubtful about its files.
    """

    path: Path
    grid: Grid
    stated: bool
    slices: tuple[Slice, ...]
    source_grid: Grid
    doubts: tuple[str, ...] = ()

    @property
    def planes(self) -> NDArray[np.float64]:
        """Centre of each slice's first pixel in RAS+ millimetres, shape ``(slices, 3)``."""
        positions: NDArray[np.float64] = np.array([item.position for item in self.slices]) * LPS_TO_RAS
        return positions

    @property
    def frame_of_reference(self) -> str:
        """FrameOfReferenceUID of its slices."""
        return self.slices[0].frame_of_reference

    def placed(self, grid: Grid) -> DicomSeries:
        """See `Volume`."""
        return replace(self, grid=grid)

    def read_mask(self, image: Volume) -> NDArray[np.uint8]:
        """Refused: a CT series is no mask.

        Raises:
            DataError: Always.
        """
        raise DataError(
            f"{self.path} is a DICOM image, no mask.", "Give the mask as DICOM SEG, NIfTI, NRRD or MetaImage."
        )

    def read_hu(self, positions: Sequence[int]) -> NDArray[np.int16]:
        """See `Volume`; only the files of the chosen slices are read where slices are stored axially."""
        chosen = ChosenSlices(self.grid, positions)
        read = chosen.planes(len(self.slices))
        ends = []
        for k, hu in zip(read, self._read(read), strict=True):
            ends.append((hu.min(), hu.max()))
            chosen.add(k, hu.T)
        self._check(ends, set(read))
        return chosen.hu

    def _read(self, places: Sequence[int]) -> Iterator[NDArray[np.float64]]:
        chosen = [self.slices[place] for place in places]
        for path, group in groupby(chosen, key=lambda item: item.path):
            items = list(group)
            decoded = decoded_frames(path, [item.frame for item in items])
            for item, stored in zip(items, decoded, strict=True):
                if stored.shape != item.shape:
                    raise DataError(
                        f"{path} has pixels of shape {stored.shape}, its header says {item.shape}.",
                        "Copy or export it again.",
                    )
                yield item.hu(stored)

    def _check(self, ends: list[tuple[Any, Any]], read: set[int]) -> None:
        """Check the range of the slices read; a few may lack air or tissue, so that the others then tell."""
        try:
            check_ends(self.path, ends)
        except DataError:
            rest = [place for place in range(len(self.slices)) if place not in read]
            check_ends(self.path, ends + [(hu.min(), hu.max()) for hu in self._read(rest)])


def check_ends(path: Path, ends: Sequence[tuple[Any, Any]]) -> None:
    """Check the lowest and highest values of slices, as `check_hu` does; none is fine."""
    if ends:
        check_hu(path, float(np.min(ends)), float(np.max(ends)))


def open_series(path: Path, files: Sequence[Path]) -> DicomSeries:
    """Read the headers of a CT series and check that its slices make one volume.

    Args:
        path: What the series is called in messages: its folder, or its only file.
        files: All of its files, in any order.

    Raises:
        DataError: A header cannot be read or lacks what places and scales a slice; the slices are not CT, of
            different geometry, or two lie at one position; or no decoder is installed for their pixels.
    """
    found: list[Slice] = []
    left_out: list[Path] = []
    for file in files:
        slices = slices_of(file)
        found.extend(slices)
        if not slices:
            left_out.append(file)
    if not found:
        raise DataError(
            f"{path} holds no CT slice, only localizers or pictures of a screen.",
            "Give the series of axial slices.",
        )
    doubts = []
    if left_out:
        doubts.append(f"{path}: localizers or pictures of a screen are left out, {_counted(left_out)}.")
    _check_alike(path, found)
    found, twice = _without_copies(found)
    if twice:
        doubts.append(f"{path}: copies of other files are left out, {_counted(twice)}.")
    row, column = found[0].directions
    normal = np.cross(row, column)
    found.sort(key=lambda item: float(item.position @ normal))
    depths = np.array([item.position @ normal for item in found])
    _check_positions(path, found, depths)
    doubts += _uneven(path, found, depths)
    doubts += _doubtful_padding(path, found)
    step = normal * (found[0].thickness or 1.0)
    if len(found) > 1:
        step = (found[-1].position - found[0].position) / (len(found) - 1)
    rows_apart, columns_apart = found[0].spacing
    affine = np.eye(4)
    for place, vector in enumerate((row * columns_apart, column * rows_apart, step, found[0].position)):
        affine[:3, place] = vector * LPS_TO_RAS
    check_affine(path, affine)
    rows, columns = found[0].shape
    grid = Grid((columns, rows, len(found)), affine)
    return DicomSeries(path, grid, True, tuple(found), grid, tuple(doubts))


def _check_alike(path: Path, slices: Sequence[Slice]) -> None:
    """Check that slices are of one geometry."""
    first = slices[0]
    frames = {item.frame_of_reference for item in slices} - {""}
    for other in slices[1:]:
        different = {
            "size": other.shape != first.shape,
            "pixel spacing": not np.allclose(other.spacing, first.spacing, rtol=1e-3),
            "orientation": not np.allclose(other.directions, first.directions, atol=1e-3),
            "frame of reference": len(frames) > 1 and other.frame_of_reference != first.frame_of_reference,
        }
        for what, is_different in different.items():
            if is_different:
                raise DataError(
                    f"{path} mixes slices of different {what}: {_name(first)} and {_name(other)} for two.",
                    "Keep the files of one scan in the folder.",
                )


def _without_copies(slices: Sequence[Slice]) -> tuple[list[Slice], list[Path]]:
    """Leave out copies of a slice: of the same unique identifier, position and scaling."""
    kept: dict[tuple[object, ...], Slice] = {}
    copies = []
    for place, item in enumerate(slices):
        key = (item.uid or place, *item.position, item.slope, item.intercept)
        if key in kept:
            copies.append(item.path)
        else:
            kept[key] = item
    return list(kept.values()), copies


def _check_positions(path: Path, slices: Sequence[Slice], depths: NDArray[np.float64]) -> None:
    """Check that slices in order lie apart from each other and in a row."""
    steps = np.diff(depths)
    same = np.flatnonzero(steps < SAME_POSITION_MM)
    if same.size:
        one, other = slices[same[0]], slices[same[0] + 1]
        raise DataError(
            f"{path} has {same.size + 1} slices at positions that others have too: {_name(one)} and "
            f"{_name(other)} for two.",
            "Keep one scan in the folder: one phase, one reconstruction, each slice once.",
        )
    if len(slices) < 3:
        return
    positions = np.array([item.position for item in slices])
    share = (depths - depths[0]) / (depths[-1] - depths[0])
    expected = positions[0] + share[:, np.newaxis] * (positions[-1] - positions[0])
    off = np.linalg.norm(positions - expected, axis=1)
    if off.max() > slices[0].spacing.max():
        raise DataError(
            f"The slices of {path} do not lie in a row: {_name(slices[int(off.argmax())])} is "
            f"{off.max():.3g} mm off.",
            "Keep the files of one scan in the folder.",
        )


def _uneven(path: Path, slices: Sequence[Slice], depths: NDArray[np.float64]) -> list[str]:
    """What is to be said of slices that are not evenly spaced."""
    steps = np.diff(depths)
    if len(steps) < 2:
        return []
    usual = float(np.median(steps))
    wholes = np.rint(steps / usual)
    uneven = np.flatnonzero(np.abs(steps / usual - 1) > REGULAR)
    if not uneven.size:
        return []
    place = int(uneven[0])
    between = f"between {_name(slices[place])} and {_name(slices[place + 1])}"
    if (wholes >= 1).all() and (np.abs(steps / usual - wholes) <= REGULAR).all():
        lacking, gaps = int((wholes - 1).sum()), int(uneven.size)
        return [
            f"{path} lacks {lacking} slice{'s' * (lacking > 1)} in {gaps} gap{'s' * (gaps > 1)}: the first, "
            f"{between}, is {steps[place]:.3g} mm wide where others are {usual:.3g} mm apart. {_COUNTED}"
        ]
    return [
        f"{path} has slices {steps.min():.3g} to {steps.max():.3g} mm apart, unevenly first {between}. "
        f"{_COUNTED}"
    ]


def _doubtful_padding(path: Path, slices: Sequence[Slice]) -> list[str]:
    """A padding value among tissue's: pixels of that very value become holes of air."""
    for item in slices:
        if item.padding is not None:
            low, high = sorted(value * item.slope + item.intercept for value in item.padding)
            if high > HIGHEST_AIR_HU and low < HIGHEST_TISSUE_HU:
                return [
                    f"{path} marks pixels of {low:g} to {high:g} HU as padding ({_name(item)}, "
                    "PixelPaddingValue): they are read as air."
                ]
    return []


def _counted(files: Sequence[Path]) -> str:
    return f"{len(files)} file{'s' * (len(files) > 1)}, {files[0].name} for one"


def _name(item: Slice) -> str:
    return f"{item.path.name}, frame {item.frame}" if item.frame else item.path.name
