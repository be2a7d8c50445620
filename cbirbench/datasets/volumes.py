"""Reading CT scans and their masks from NIfTI files, as slices in radiological view.

A compressed scan of 512 x 512 x 1000 voxels has no random access and would fill gigabytes as floats. So a
file is inflated once, from start to end, a plane in memory at a time, and only the wanted slices are kept.
Reading on to the end costs little and shows truncation, a wrong checksum, NaN and values that are no
Hounsfield units wherever they lie.
"""

from __future__ import annotations

import warnings
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, cast

import nibabel
import numpy as np
from isal import igzip
from isal.igzip_lib import IsalError
from nibabel.orientations import axcodes2ornt, io_orientation, ornt_transform
from nibabel.spatialimages import HeaderDataError

from cbirbench.errors import DataError

if TYPE_CHECKING:
    from numpy.typing import NDArray

READER_VERSION = 1
"""Part of the data's fingerprint: raise it when the same file would give other slices."""

HIGHEST_AIR_HU = -200.0
"""A body scan holds air (-1000 HU), so one whose lowest value is above this is not in HU."""

LOWEST_TISSUE_HU = 0.0
"""A body scan holds tissue and bone, so one whose highest value is below this is not in HU, or empty."""

_HEADER_CLASSES = {348: nibabel.Nifti1Header, 540: nibabel.Nifti2Header}
_READ_ERRORS = (EOFError, OSError, zlib.error, cast("type[Exception]", IsalError))
# Deflate cannot shrink data below about 1/1032; a file smaller than that was cut, or its header is wrong.
_MOST_COMPRESSION = 1040


@dataclass(frozen=True, eq=False)
class NiftiVolume:
    """The header of a 3-D NIfTI file: where its voxels lie, in the file and in the patient.

    Attributes:
        path: The file, ``.nii`` or ``.nii.gz``.
        shape: Voxels along each stored axis.
        affine: From voxel indices to millimetres in RAS+ world coordinates, shape ``(4, 4)``.
        dtype: Type of the stored values, with their byte order.
        slope: Factor from stored values to real ones.
        intercept: Added after `slope`.
        data_offset: Bytes before the first voxel.
        axes: The stored axes that run along slices, rows and columns of the radiological view.
        flips: Whether each of them is stored against the view's direction.
    """

    path: Path
    shape: tuple[int, int, int]
    affine: NDArray[np.float64]
    dtype: np.dtype[Any]
    slope: float
    intercept: float
    data_offset: int
    axes: tuple[int, int, int]
    flips: tuple[bool, bool, bool]

    @property
    def slice_count(self) -> int:
        """Number of axial slices."""
        return self.shape[self.axes[0]]

    @property
    def spacing_mm(self) -> tuple[float, float]:
        """Distance between the rows and between the columns of an axial slice, in millimetres."""
        sizes = np.linalg.norm(self.affine[:3, :3], axis=0)
        return float(sizes[self.axes[1]]), float(sizes[self.axes[2]])

    @property
    def scaled(self) -> bool:
        """Whether stored values differ from real ones."""
        return (self.slope, self.intercept) != (1.0, 0.0)

    def radiological_view(self, stored: NDArray[Any]) -> NDArray[Any]:
        """Turn an array with the file's axes into radiological view, without copying.

        Args:
            stored: Three axes as in the file; its slice axis may hold a part of the slices.

        Returns:
            Shape ``(slices, rows, columns)``: slices run inferior to superior, rows anterior to posterior,
            columns patient right to left.
        """
        turned = stored.transpose(self.axes)
        return turned[tuple(slice(None, None, -1 if flip else 1) for flip in self.flips)]


def open_volume(path: Path) -> NiftiVolume:
    """Read the header of a NIfTI file and check it.

    Raises:
        DataError: The file is missing, is no NIfTI file, has other than three dimensions or no usable affine.
    """
    try:
        with _open_stream(path) as stream:
            raw = stream.read(4)
            size = next((n for n in _HEADER_CLASSES if n.to_bytes(4, "little") in (raw, raw[::-1])), None)
            if size is None:
                raise DataError(
                    f"{path} is not a NIfTI file.", "Give scans and masks as .nii or .nii.gz files."
                )
            raw += stream.read(size - 4)
        if len(raw) < size:
            raise EOFError("the file ends within its header")
    except _READ_ERRORS as error:
        raise _unreadable(path, error) from error
    try:
        header = _HEADER_CLASSES[size](raw)
        affine = np.asarray(header.get_best_affine(), dtype=np.float64)
        slope, intercept = header.get_slope_inter()
        shape, dtype = tuple(int(n) for n in header.get_data_shape()), header.get_data_dtype()
        offset = int(header.get_data_offset())
        stated = bool(header["qform_code"] or header["sform_code"])
        single_file = bytes(header["magic"].item()).startswith(b"n+")
    except (HeaderDataError, ValueError, OverflowError, np.linalg.LinAlgError) as error:
        raise DataError(f"{path} has a faulty NIfTI header: {error}", "Convert or copy it anew.") from error
    if not single_file:
        raise DataError(
            f"{path} is one half of a .hdr/.img pair.",
            "Give scans and masks as single .nii or .nii.gz files.",
        )
    if len(shape) != 3 or min(shape) < 1:
        raise DataError(
            f"{path} must hold one 3-D volume, its shape is {shape}.",
            "Save the wanted time point or channel as a 3-D volume.",
        )
    if dtype.kind not in "iuf":
        raise DataError(f"{path} stores {dtype} values.", "Save it with integer or real values.")
    _check_affine(path, affine, stated)
    transform = ornt_transform(io_orientation(affine), axcodes2ornt("SPL"))
    axes = tuple(int(np.flatnonzero(transform[:, 0] == axis)[0]) for axis in range(3))
    return NiftiVolume(
        path=path,
        shape=shape,
        affine=affine,
        dtype=dtype,
        slope=1.0 if slope is None else float(slope),
        intercept=0.0 if intercept is None else float(intercept),
        data_offset=offset,
        axes=cast("tuple[int, int, int]", axes),
        flips=cast("tuple[bool, bool, bool]", tuple(bool(transform[axis, 1] < 0) for axis in axes)),
    )


def check_same_grid(image: NiftiVolume, mask: NiftiVolume) -> None:
    """Check that an image and its mask have the same voxels.

    Raises:
        DataError: Their shapes differ, or a corner of the grid lies more than half a voxel apart.
    """
    if image.shape != mask.shape:
        raise DataError(
            f"{image.path} has shape {image.shape}, but its mask {mask.path} has shape {mask.shape}.",
            "Check that the two belong together; resample the mask to the image's grid.",
        )
    corners = np.array([(*c, 1) for c in product(*((0, n - 1) for n in image.shape))], dtype=np.float64)
    apart = float(np.linalg.norm(corners @ (image.affine - mask.affine).T, axis=1).max())
    if apart > np.linalg.norm(image.affine[:3, :3], axis=0).min() / 2:
        raise DataError(
            f"The affines of {image.path} and its mask {mask.path} place the same voxel up to "
            f"{apart:.3g} mm apart.",
            "Check that the two belong together; if their voxels match, copy the image's affine to the mask.",
        )


def read_mask(mask: NiftiVolume) -> NDArray[np.uint8]:
    """Read a whole mask.

    Args:
        mask: A file of whole numbers from 0 to 255, as any type.

    Returns:
        The file's own values, with the file's axes (see `NiftiVolume.radiological_view`).

    Raises:
        DataError: The file is damaged, or holds other values.
    """
    _check_size(mask)
    values = np.empty(mask.shape, dtype=np.uint8, order="F")
    for k, stored in enumerate(_planes(mask)):
        plane = _scale(mask, stored)
        with np.errstate(invalid="ignore"):
            values[:, :, k] = plane.astype(np.uint8)
        wrong = plane[values[:, :, k] != plane]  # what the cast changed: negative, too large, fractions, NaN
        if wrong.size:
            raise DataError(
                f"The mask {mask.path} must hold whole numbers from 0 to 255, found {float(wrong[0]):g}.",
                "Save it with its class numbers, resampled by nearest neighbour, not as probabilities.",
            )
    return values


def read_hu(image: NiftiVolume, positions: Sequence[int]) -> NDArray[np.int16]:
    """Read chosen axial slices of a CT scan.

    The whole file is read through and checked; only the chosen slices are kept and scaled.

    Args:
        image: The scan.
        positions: Wanted slices in ascending order, 0 the most inferior.

    Returns:
        Hounsfield units, shape ``(len(positions), rows, columns)``, radiological view.

    Raises:
        DataError: The file is damaged, holds NaN or infinity, or values that cannot be Hounsfield units.
    """
    _check_size(image)
    axis, last = image.axes[0], image.slice_count - 1
    stored_positions = np.sort([last - p if image.flips[0] else p for p in positions]).astype(np.intp)
    place = {int(k): i for i, k in enumerate(stored_positions)}
    kept_shape = list(image.shape)
    kept_shape[axis] = len(place)
    kept = np.empty(kept_shape, dtype=image.dtype, order="F")
    lows, highs = np.empty(image.shape[2]), np.empty(image.shape[2])
    for k, stored in enumerate(_planes(image)):
        lows[k], highs[k] = stored.min(), stored.max()  # NaN in, NaN out
        if axis != 2:
            kept[:, :, k] = stored.take(stored_positions, axis=axis)
        elif k in place:
            kept[:, :, place[k]] = stored
    ends = np.array([lows.min(), highs.max()]) * image.slope + image.intercept
    _check_hu(image.path, float(ends.min()), float(ends.max()))
    view = image.radiological_view(kept)
    return np.ascontiguousarray(np.rint(_scale(image, view)), dtype=np.int16)


def _open_stream(path: Path) -> IO[bytes]:
    # ISA-L inflates two to three times as fast as zlib; inflating is nearly all the time that reading takes.
    return cast("IO[bytes]", igzip.open(path, "rb")) if path.suffix == ".gz" else path.open("rb")


def _planes(volume: NiftiVolume) -> Iterator[NDArray[Any]]:
    """Yield the stored planes along the last axis, then read on to the end, where the checksum is."""
    rows, columns, count = volume.shape
    size = rows * columns * volume.dtype.itemsize
    try:
        with _open_stream(volume.path) as stream:
            stream.seek(volume.data_offset)
            for k in range(count):
                data = stream.read(size)
                if len(data) < size:
                    raise EOFError(f"it ends after {k} of {count} planes")
                yield np.frombuffer(data, dtype=volume.dtype).reshape((rows, columns), order="F")
            while stream.read(1 << 20):
                pass
    except _READ_ERRORS as error:
        raise _unreadable(volume.path, error) from error


def _scale(volume: NiftiVolume, stored: NDArray[Any]) -> NDArray[Any]:
    return stored.astype(np.float64) * volume.slope + volume.intercept if volume.scaled else stored


def _check_hu(path: Path, low: float, high: float) -> None:
    if not np.isfinite((low, high)).all():
        raise DataError(f"{path} holds NaN or infinite values.", "Convert it anew from the scanner's images.")
    if low > HIGHEST_AIR_HU or high < LOWEST_TISSUE_HU:
        raise DataError(
            f"{path} holds values from {low:g} to {high:g}. These cannot be Hounsfield units, in which a "
            "body scan has air near -1000 and tissue above 0.",
            "Give the scan neither windowed nor normalised, and with its rescale intercept (often -1024).",
        )
    limits = np.iinfo(np.int16)
    if np.rint(low) < limits.min or np.rint(high) > limits.max:
        raise DataError(
            f"{path} holds values from {low:g} to {high:g}; Hounsfield units fit 16-bit integers.",
            "Check the file's scaling (scl_slope, scl_inter) and its padding value.",
        )


def _check_affine(path: Path, affine: NDArray[np.float64], stated: bool) -> None:
    sizes = np.linalg.norm(affine[:3, :3], axis=0)
    # The determinant of unit vectors: 1 for right angles, 0 when the axes lie in one plane.
    if not np.isfinite(affine).all() or not sizes.all() or abs(np.linalg.det(affine[:3, :3] / sizes)) < 1e-3:
        raise DataError(
            f"The affine of {path} places no volume in space: {np.round(affine[:3], 4).tolist()}.",
            "Convert the scan anew, so that its sform or qform holds voxel sizes and orientation.",
        )
    if not stated or np.array_equal(affine, np.eye(4)):
        why = "its affine is the identity" if stated else "its qform and sform codes are 0"
        warnings.warn(
            f"{path} states no orientation: {why}. It is read as that affine has it; if its slices lie "
            "mirrored or turned, correct the affine.",
            stacklevel=3,
        )


def _check_size(volume: NiftiVolume) -> None:
    """Refuse a header that promises more than its file can hold, before memory is asked for."""
    promised = volume.data_offset + int(np.prod(volume.shape, dtype=object)) * volume.dtype.itemsize
    try:
        found = volume.path.stat().st_size
    except OSError as error:
        raise _unreadable(volume.path, error) from error
    if promised > found * (_MOST_COMPRESSION if volume.path.suffix == ".gz" else 1):
        raise _unreadable(volume.path, EOFError(f"its {found} bytes cannot hold shape {volume.shape}"))


def _unreadable(path: Path, error: Exception) -> DataError:
    if isinstance(error, FileNotFoundError):
        return DataError(f"{path} does not exist.", "Check the path; copy the file again.")
    if isinstance(error, PermissionError):
        return DataError(f"{path} may not be read.", "Check its permissions.")
    what = "is truncated" if isinstance(error, EOFError) else "cannot be read"
    return DataError(f"{path} {what}: {error}.", "Copy or download the file again.")
