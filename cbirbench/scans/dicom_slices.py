"""CT slices in DICOM: what a file's header says of each."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydicom.dataset import Dataset

from cbirbench.errors import DataError
from cbirbench.scans.dicom_headers import (
    functional_group,
    identifier_of,
    is_localizer,
    is_screen,
    numbers_of,
    read_header,
    sequence_of,
    value_of,
    word_of,
)
from cbirbench.scans.dicom_pixels import PIXEL_TAGS, check_decoder
from cbirbench.slices import AIR_HU

if TYPE_CHECKING:
    from numpy.typing import NDArray

_HU_TYPES = ("", "HU", "US")  # US: unspecified, as some scanners write; the values' range is checked anyway
_MACROS = {
    "ImagePositionPatient": "PlanePositionSequence",
    "ImageOrientationPatient": "PlaneOrientationSequence",
    "PixelSpacing": "PixelMeasuresSequence",
    "SliceThickness": "PixelMeasuresSequence",
    "SpacingBetweenSlices": "PixelMeasuresSequence",
    "RescaleSlope": "PixelValueTransformationSequence",
    "RescaleIntercept": "PixelValueTransformationSequence",
    "RescaleType": "PixelValueTransformationSequence",
}
_TAGS = (
    *PIXEL_TAGS,
    *_MACROS,
    "SOPClassUID",
    "SOPInstanceUID",
    "ImageType",
    "Modality",
    "FrameOfReferenceUID",
    "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence",
)


@dataclass(frozen=True, eq=False)
class Slice:
    """One slice by its header; world coordinates are DICOM's (left, posterior, superior).

    Attributes:
        path: Its file.
        frame: Its place in the file, from 0.
        uid: SOPInstanceUID with `frame`; empty where de-identification took it away.
        shape: Rows and columns.
        spacing: Millimetres between rows and between columns.
        thickness: Millimetres from one slice to the next as the header says; 0 where it does not.
        directions: Unit vectors along a row and along a column, shape ``(2, 3)``.
        position: Centre of the first pixel.
        slope: From stored values to HU.
        intercept: Added after `slope`.
        padding: The lowest and the highest stored value that marks pixels outside the image; None for none.
        frame_of_reference: FrameOfReferenceUID; slices share it where their positions do.
    """

    path: Path
    frame: int
    uid: str
    shape: tuple[int, int]
    spacing: NDArray[np.float64]
    thickness: float
    directions: NDArray[np.float64]
    position: NDArray[np.float64]
    slope: float
    intercept: float
    padding: tuple[int, int] | None
    frame_of_reference: str

    def hu(self, stored: NDArray[Any]) -> NDArray[np.float64]:
        """Hounsfield units of its stored values; padding becomes air, `AIR_HU`."""
        values: NDArray[np.float64] = stored * self.slope + self.intercept
        if self.padding is not None:
            low, high = self.padding
            values[(stored >= low) & (stored <= high)] = AIR_HU
        return values


def slices_of(path: Path) -> list[Slice]:
    """The slices that a file holds; none in a localizer or a picture of a screen."""
    header = read_header(path, _TAGS)
    modality = word_of(path, header, "Modality")
    if modality != "CT":
        raise DataError(
            f"{path} is DICOM of modality {modality or '(none)'}, not CT: its values are not in HU.",
            "Give CT series only.",
        )
    if is_localizer(path, header) or is_screen(path, header):
        return []
    check_decoder(path, header.file_meta.TransferSyntaxUID)
    frames = int(numbers_of(path, header, "NumberOfFrames", default=(1,))[0])
    multi = bool(sequence_of(path, header, "PerFrameFunctionalGroupsSequence"))
    if frames != 1 and not multi:
        raise DataError(
            f"{path} holds {frames} frames without saying where each lies.",
            "Convert it with dcm2niix, or export the series as one file a slice.",
        )
    return [_slice(path, header, frame) for frame in range(frames)]


def _slice(path: Path, header: Dataset, frame: int) -> Slice:
    def numbers(
        keyword: str, count: int = 1, default: tuple[float, ...] | None = None
    ) -> NDArray[np.float64]:
        group = functional_group(path, header, frame, _MACROS[keyword]) if keyword in _MACROS else header
        return numbers_of(path, group if keyword in group else header, keyword, count, default)

    transformation = functional_group(path, header, frame, _MACROS["RescaleType"])
    unit = word_of(path, transformation, "RescaleType") or word_of(path, header, "RescaleType")
    if unit not in _HU_TYPES:
        raise DataError(
            f"{path} holds values of type {unit}, no Hounsfield units.",
            "Give the series with RescaleType HU.",
        )
    slope, intercept = (float(numbers(name)[0]) for name in ("RescaleSlope", "RescaleIntercept"))
    spacing, directions = numbers("PixelSpacing", 2), numbers("ImageOrientationPatient", 6).reshape(2, 3)
    crossed = np.linalg.norm(np.cross(*directions))
    if (
        slope == 0
        or (spacing <= 0).any()
        or not np.allclose([*np.linalg.norm(directions, axis=1), crossed], 1, atol=1e-3)
    ):
        raise DataError(
            f"{path} has impossible geometry or scaling: RescaleSlope {slope:g}, PixelSpacing "
            f"{spacing.tolist()}, ImageOrientationPatient {directions.ravel().tolist()}.",
            "Export the series again.",
        )
    uid = identifier_of(path, header, "SOPInstanceUID") or identifier_of(
        path, header.file_meta, "MediaStorageSOPInstanceUID"
    )
    between = abs(float(numbers("SpacingBetweenSlices", default=(0,))[0]))
    return Slice(
        path=path,
        frame=frame,
        uid=f"{uid}/{frame}" if uid else "",
        shape=(int(numbers("Rows")[0]), int(numbers("Columns")[0])),
        spacing=spacing,
        thickness=between or abs(float(numbers("SliceThickness", default=(0,))[0])),
        directions=directions,
        position=numbers("ImagePositionPatient", 3),
        slope=slope,
        intercept=intercept,
        padding=_padding(path, header),
        frame_of_reference=identifier_of(path, header, "FrameOfReferenceUID"),
    )


def _padding(path: Path, header: Dataset) -> tuple[int, int] | None:
    if value_of(path, header, "PixelPaddingValue") is None:
        return None
    first = int(numbers_of(path, header, "PixelPaddingValue")[0])
    last = int(numbers_of(path, header, "PixelPaddingRangeLimit", default=(first,))[0])
    bits = int(numbers_of(path, header, "BitsAllocated")[0])
    signed = bool(numbers_of(path, header, "PixelRepresentation", default=(0,))[0])
    # Some files have it unsigned where pixels are signed, or the other way round: the bits count.
    low, high = sorted(
        (value + half) % 2**bits - half
        for value in (first, last)
        for half in (2 ** (bits - 1) if signed else 0,)
    )
    return low, high
