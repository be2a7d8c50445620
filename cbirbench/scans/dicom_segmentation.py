"""A DICOM segmentation (SEG) as the mask of a scan.

A SEG is a stack of frames, each one segment in one plane, and need not hold planes without a segment. Frames
are put on the scan's slices by position and orientation; slices without a frame are empty.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from pydicom.dataset import Dataset

from cbirbench.errors import DataError, DataWarning
from cbirbench.scans.dicom_headers import (
    functional_group,
    identifier_of,
    numbers_of,
    read_header,
    sequence_of,
    sop_class,
    text_of,
    word_of,
)
from cbirbench.scans.dicom_pixels import check_decoder, decoded_frames
from cbirbench.scans.dicom_series import LPS_TO_RAS, DicomSeries
from cbirbench.scans.geometry import Grid
from cbirbench.scans.volume import Volume

if TYPE_CHECKING:
    from numpy.typing import NDArray

SAME_PLANE = 0.1
"""A frame lies on a slice when it is nearer than this share of the distance between slices."""

_SEGMENTATION_CLASSES = (
    "1.2.840.10008.5.1.4.1.1.66.4",
    "1.2.840.10008.5.1.4.1.1.66.7",
)  # the latter: label map
_TAGS = (
    "SOPClassUID",
    "Modality",
    "Rows",
    "Columns",
    "NumberOfFrames",
    "FrameOfReferenceUID",
    "SegmentationType",
    "SegmentationFractionalType",
    "MaximumFractionalValue",
    "SegmentSequence",
    "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence",
)


@dataclass(frozen=True, eq=False)
class Frame:
    """One plane of a segmentation by its header; world coordinates are RAS+ millimetres.

    Attributes:
        place: Its place in the file, from 0.
        segment: The segment's number; 0 in a label map, where each pixel holds it.
        position: Centre of the first pixel.
        along_row: From one column to the next.
        along_column: From one row to the next.
    """

    place: int
    segment: int
    position: NDArray[np.float64]
    along_row: NDArray[np.float64]
    along_column: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class DicomSegmentation(Volume):
    """A DICOM SEG. The mask's values are its segment numbers; where segments overlap, the higher number wins.

    Attributes:
        path: The file.
        grid: That of the scan it was opened for.
        stated: True, as its frames say where they lie.
        names: The segments' labels by number.
        frames: In ascending order of segments.
        frame_shape: Rows and columns of a frame.
        kind: ``BINARY``, ``FRACTIONAL`` or ``LABELMAP``.
        highest_fraction: The stored value that means all of a voxel.
        frame_of_reference: FrameOfReferenceUID.
        any_frame_of_reference: Whether another frame of reference than the scan's will do.
        doubts: Whether fractions were rounded.
    """

    path: Path
    grid: Grid
    stated: bool
    names: Mapping[int, str]
    frames: tuple[Frame, ...]
    frame_shape: tuple[int, int]
    kind: str
    highest_fraction: float
    frame_of_reference: str
    any_frame_of_reference: bool = False
    doubts: tuple[str, ...] = ()

    def placed(self, grid: Grid) -> DicomSegmentation:
        """See `Volume`; its frames stay where they are."""
        return replace(self, grid=grid)

    def read_hu(self, positions: Sequence[int]) -> NDArray[np.int16]:
        """Refused: a mask holds no Hounsfield units.

        Raises:
            DataError: Always.
        """
        raise DataError(f"{self.path} is a DICOM segmentation, no scan.", "Give it as the mask of its scan.")

    def read_mask(self, image: Volume) -> NDArray[np.uint8]:
        """See `Volume`; fractions of at least one half count. Segments that overlap are warned of."""
        self._check_frame_of_reference(image)
        stored = np.zeros(image.grid.shape, dtype=np.uint8)
        slices = _ImageSlices.of(image)
        planes = [slices.plane(stored, frame, self.frame_shape) for frame in self.frames]
        missed = sum(plane is None for plane in planes)
        if missed:
            raise DataError(
                f"{self.path} has another geometry than {image.path}: {missed} of its {len(planes)} frames "
                "lie on no slice, or have other pixels.",
                "Check that the two belong together and that the scan has all its slices; resample the mask "
                "to the scan's grid.",
            )
        overlapping = 0
        decoded = decoded_frames(self.path, [frame.place for frame in self.frames])
        for frame, plane, values in zip(self.frames, planes, decoded, strict=True):
            assert plane is not None
            if self.kind == "LABELMAP":
                plane[...] = self._labels(values)
                continue
            marked = values >= self.highest_fraction / 2 if self.kind == "FRACTIONAL" else values > 0
            overlapping += int(np.count_nonzero(marked & (plane > 0) & (plane != frame.segment)))
            plane[marked] = frame.segment
        if overlapping:
            warnings.warn(
                f"{self.path} has segments that overlap in {overlapping} voxels: there the higher segment "
                "number counts.",
                DataWarning,
                stacklevel=2,
            )
        return image.grid.radiological_view(stored)

    def _labels(self, values: NDArray[np.generic]) -> NDArray[np.uint8]:
        if values.max() > 255:
            raise DataError(
                f"{self.path} has segment number {values.max()}; masks hold numbers to 255.",
                "Number the segments anew.",
            )
        return values.astype(np.uint8)

    def _check_frame_of_reference(self, image: Volume) -> None:
        if self.any_frame_of_reference or not isinstance(image, DicomSeries):
            return
        if self.frame_of_reference and image.frame_of_reference not in ("", self.frame_of_reference):
            raise DataError(
                f"{self.path} and {image.path} are of different frames of reference: their positions cannot "
                "be compared.",
                "Check that the two belong together. If their positions match all the same, say so with the "
                "option mask_grid=image.",
            )


@dataclass(frozen=True)
class _ImageSlices:
    """A scan's slices as the frames of a segmentation meet them."""

    affine: NDArray[np.float64]
    planes: NDArray[np.float64] | None

    @staticmethod
    def of(image: Volume) -> _ImageSlices:
        """A DICOM series' slices lie where its headers say, evenly or not; others by their affine."""
        if isinstance(image, DicomSeries):
            return _ImageSlices(image.source_grid.affine, image.planes)
        return _ImageSlices(image.grid.affine, None)

    def plane(
        self, stored: NDArray[np.uint8], frame: Frame, frame_shape: tuple[int, int]
    ) -> NDArray[np.uint8] | None:
        """The part of a stored mask that a frame covers, shape (rows, columns); None where it fits none."""
        to_voxels = np.linalg.inv(self.affine[:3, :3])
        axes, senses = [], []
        for step, count in ((frame.along_column, frame_shape[0]), (frame.along_row, frame_shape[1])):
            voxels = to_voxels @ step
            axis = int(np.abs(voxels).argmax())
            sense = float(np.sign(voxels[axis]))
            unit = np.zeros(3)
            unit[axis] = sense
            # From the first pixel to the last the two may drift apart by half a pixel.
            if np.abs(voxels - unit).max() * count > 0.5 or stored.shape[axis] != count:
                return None
            axes.append(axis)
            senses.append(sense)
        rows_axis, columns_axis = axes
        if rows_axis == columns_axis:
            return None
        slice_axis = 3 - rows_axis - columns_axis
        origins = self._origins(slice_axis, stored.shape[slice_axis])
        normal = np.cross(frame.along_row, frame.along_column)
        normal /= np.linalg.norm(normal)
        distances = (origins - frame.position) @ normal
        place = int(np.abs(distances).argmin())
        apart = abs(float(self.affine[:3, slice_axis] @ normal))
        if abs(distances[place]) > SAME_PLANE * apart:
            return None
        first = to_voxels @ (frame.position - origins[place])
        for axis, sense, count in zip(axes, senses, frame_shape, strict=True):
            if abs(first[axis] - (0 if sense > 0 else count - 1)) > 0.5:
                return None
        plane = np.moveaxis(stored, (slice_axis, rows_axis, columns_axis), (0, 1, 2))[place]
        covered: NDArray[np.uint8] = plane[:: int(senses[0]), :: int(senses[1])]
        return covered

    def _origins(self, slice_axis: int, count: int) -> NDArray[np.float64]:
        """The first pixel of each slice."""
        if self.planes is not None and slice_axis == 2:
            return self.planes
        steps = np.arange(count)[:, np.newaxis] * self.affine[:3, slice_axis]
        origins: NDArray[np.float64] = self.affine[:3, 3] + steps
        return origins


def is_segmentation(path: Path) -> bool:
    """Whether a DICOM file is a segmentation.

    Raises:
        DataError: Its header cannot be read.
    """
    header = read_header(path, ("SOPClassUID", "Modality"))
    return (
        sop_class(path, header) in _SEGMENTATION_CLASSES or identifier_of(path, header, "Modality") == "SEG"
    )


def open_segmentation(
    path: Path, image: Volume, *, any_frame_of_reference: bool = False
) -> DicomSegmentation:
    """Read the header of a DICOM SEG and check it.

    Args:
        path: The file.
        image: The scan that it belongs to.
        any_frame_of_reference: Whether positions are compared whatever frames of reference the two name.

    Raises:
        DataError: The header cannot be read or lacks what places a frame, or no decoder is installed.
    """
    header = read_header(path, _TAGS)
    check_decoder(path, header.file_meta.TransferSyntaxUID)
    kind = word_of(path, header, "SegmentationType")
    if kind not in ("BINARY", "FRACTIONAL", "LABELMAP"):
        raise DataError(
            f"{path} is a DICOM segmentation of type {kind or '(none)'}.",
            "Give BINARY, FRACTIONAL or LABELMAP.",
        )
    names = {
        int(numbers_of(path, item, "SegmentNumber")[0]): text_of(path, item, "SegmentLabel")
        for item in sequence_of(path, header, "SegmentSequence")
    }
    beyond = [number for number in names if not 0 <= number <= 255]
    if beyond:
        raise DataError(
            f"{path} has segment number {beyond[0]}; masks hold numbers to 255.", "Number the segments anew."
        )
    count = int(numbers_of(path, header, "NumberOfFrames", default=(1,))[0])
    frames = [_frame(path, header, place, kind) for place in range(count)]
    doubts = []
    if kind == "FRACTIONAL":
        what = word_of(path, header, "SegmentationFractionalType").lower() or "fraction"
        doubts.append(f"{path} holds fractions ({what}): voxels of at least one half count as marked.")
    return DicomSegmentation(
        path=path,
        grid=image.grid,
        stated=True,
        doubts=tuple(doubts),
        names=names,
        frames=tuple(sorted(frames, key=lambda frame: frame.segment)),
        frame_shape=(int(numbers_of(path, header, "Rows")[0]), int(numbers_of(path, header, "Columns")[0])),
        kind=kind,
        highest_fraction=float(numbers_of(path, header, "MaximumFractionalValue", default=(255,))[0]),
        frame_of_reference=identifier_of(path, header, "FrameOfReferenceUID"),
        any_frame_of_reference=any_frame_of_reference,
    )


def _frame(path: Path, header: Dataset, place: int, kind: str) -> Frame:
    def numbers(macro: str, keyword: str, count: int = 1) -> NDArray[np.float64]:
        return numbers_of(path, functional_group(path, header, place, macro), keyword, count)

    segment = 0
    if kind != "LABELMAP":
        segment = int(numbers("SegmentIdentificationSequence", "ReferencedSegmentNumber")[0])
        if not 1 <= segment <= 255:
            raise DataError(
                f"{path} has segment number {segment}; masks hold numbers to 255.",
                "Number the segments anew.",
            )
    rows_apart, columns_apart = numbers("PixelMeasuresSequence", "PixelSpacing", 2)
    row, column = numbers("PlaneOrientationSequence", "ImageOrientationPatient", 6).reshape(2, 3)
    if min(rows_apart, columns_apart) <= 0 or np.linalg.norm(np.cross(row, column)) < 0.5:
        raise DataError(f"{path} has impossible geometry in frame {place}.", "Export it again.")
    return Frame(
        place=place,
        segment=segment,
        position=numbers("PlanePositionSequence", "ImagePositionPatient", 3) * LPS_TO_RAS,
        along_row=row * columns_apart * LPS_TO_RAS,
        along_column=column * rows_apart * LPS_TO_RAS,
    )
