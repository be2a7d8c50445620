"""Reading CT scans and their masks from NIfTI files, as slices in radiological view.

A compressed scan of 512 x 512 x 1000 voxels has no random access and would fill gigabytes as floats. So a
file is inflated once, from start to end, a plane in memory at a time, and only the wanted slices are kept.
Reading on to the end costs little and shows truncation, a wrong checksum, NaN and values that are no
Hounsfield units wherever they lie.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, cast

import nibabel
import numpy as np
from isal import igzip
from nibabel.spatialimages import HeaderDataError

from cbirbench.errors import DataError
from cbirbench.scans.geometry import Grid, check_affine
from cbirbench.scans.volume import (
    MOST_COMPRESSION,
    READ_ERRORS,
    ChosenSlices,
    Volume,
    as_mask_values,
    check_hu,
    check_same_grid,
    unreadable,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

_GZIP = b"\x1f\x8b"  # how a gzip file begins
_HEADER_CLASSES = {348: nibabel.Nifti1Header, 540: nibabel.Nifti2Header}


@dataclass(frozen=True, eq=False)
class NiftiVolume(Volume):
    """A 3-D NIfTI file, known by its header.

    Attributes:
        path: The file, ``.nii`` or ``.nii.gz``.
        grid: Where its voxels lie.
        stated: False where its affine is the identity or its qform and sform codes are 0.
        dtype: Type of the stored values, with their byte order.
        slope: Factor from stored values to real ones.
        intercept: Added after `slope`.
        data_offset: Bytes before the first voxel.
    """

    path: Path
    grid: Grid
    stated: bool
    dtype: np.dtype[Any]
    slope: float
    intercept: float
    data_offset: int

    @property
    def scaled(self) -> bool:
        """Whether stored values differ from real ones."""
        return (self.slope, self.intercept) != (1.0, 0.0)

    def placed(self, grid: Grid) -> NiftiVolume:
        """See `Volume`."""
        return replace(self, grid=grid)

    def read_mask(self, image: Volume) -> NDArray[np.uint8]:
        """See `Volume`."""
        check_same_grid(image, self)
        _check_size(self)
        values = np.empty(self.grid.shape, dtype=np.uint8, order="F")
        for k, stored in enumerate(_planes(self)):
            values[:, :, k] = as_mask_values(self.path, self._scale(stored))
        return self.grid.radiological_view(values)

    def read_hu(self, positions: Sequence[int]) -> NDArray[np.int16]:
        """See `Volume`."""
        _check_size(self)
        chosen = ChosenSlices(self.grid, positions)
        count = self.grid.shape[2]
        wanted = set(chosen.planes(count))
        lows, highs = np.empty(count), np.empty(count)
        for k, stored in enumerate(_planes(self)):
            lows[k], highs[k] = stored.min(), stored.max()  # NaN in, NaN out
            if k in wanted:
                chosen.add(k, self._scale(stored))
        ends = np.array([lows.min(), highs.max()]) * self.slope + self.intercept
        check_hu(self.path, float(ends.min()), float(ends.max()))
        return chosen.hu

    def _scale(self, stored: NDArray[Any]) -> NDArray[Any]:
        return stored.astype(np.float64) * self.slope + self.intercept if self.scaled else stored


def open_nifti(path: Path) -> NiftiVolume:
    """Read the header of a NIfTI file and check it.

    Raises:
        DataError: The file is missing, is no NIfTI file, has other than three dimensions or no usable affine.
    """
    try:
        _check_compressed(path)
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
    except READ_ERRORS as error:
        raise unreadable(path, error) from error
    try:
        header = _HEADER_CLASSES[size](raw)
        affine = np.asarray(header.get_best_affine(), dtype=np.float64)
        slope, intercept = header.get_slope_inter()
        shape, dtype = tuple(int(n) for n in header.get_data_shape()), header.get_data_dtype()
        offset = int(header.get_data_offset())
        coded = bool(header["qform_code"] or header["sform_code"])
        single_file = bytes(header["magic"].item()).startswith(b"n+")
        zooms = np.asarray(header.get_zooms()[:3], dtype=np.float64)
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
    check_affine(path, affine)
    identity = np.array_equal(affine, np.eye(4))
    if identity and len(zooms) == 3 and np.isfinite(zooms).all() and (zooms > 0).all():
        affine = np.diag([*zooms, 1.0])  # it says no orientation; the voxels' sizes stand beside it
    return NiftiVolume(
        path=path,
        grid=Grid(shape, affine),
        stated=coded and not identity,
        dtype=dtype,
        slope=1.0 if slope is None else float(slope),
        intercept=0.0 if intercept is None else float(intercept),
        data_offset=offset,
    )


def _check_compressed(path: Path) -> None:
    """Refuse what is named .gz and is no gzip file; one that was cut within its first bytes is truncated."""
    if path.suffix != ".gz":
        return
    with path.open("rb") as stream:
        start = stream.read(len(_GZIP))
    if not _GZIP.startswith(start):
        raise DataError(
            f"{path} cannot be read: it is no gzip file, though its name ends in .gz.",
            "Name an uncompressed scan .nii; if it should be a compressed one, copy or download it again.",
        )


def _open_stream(path: Path) -> IO[bytes]:
    # ISA-L inflates two to three times as fast as zlib; inflating is nearly all the time that reading takes.
    return cast("IO[bytes]", igzip.open(path, "rb")) if path.suffix == ".gz" else path.open("rb")


def _planes(volume: NiftiVolume) -> Iterator[NDArray[Any]]:
    """Yield the stored planes along the last axis, then read on to the end, where the checksum is."""
    rows, columns, count = volume.grid.shape
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
    except READ_ERRORS as error:
        raise unreadable(volume.path, error) from error


def _check_size(volume: NiftiVolume) -> None:
    """Refuse a header that promises more than its file can hold, before memory is asked for."""
    shape = volume.grid.shape
    promised = volume.data_offset + int(np.prod(shape, dtype=object)) * volume.dtype.itemsize
    try:
        found = volume.path.stat().st_size
    except OSError as error:
        raise unreadable(volume.path, error) from error
    if promised > found * (MOST_COMPRESSION if volume.path.suffix == ".gz" else 1):
        raise unreadable(volume.path, EOFError(f"its {found} bytes cannot hold shape {shape}"))
