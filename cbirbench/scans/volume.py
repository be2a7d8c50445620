"""What a scan or a mask on disk is to the readers, whatever its format."""

from __future__ import annotations

import zlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from isal.igzip_lib import IsalError

from cbirbench.errors import DataError
from cbirbench.scans.geometry import Grid, millimetres_apart

if TYPE_CHECKING:
    from numpy.typing import NDArray

READER_VERSION = 3
"""Part of the data's fingerprint: raise it when the same file would give other slices."""

HIGHEST_AIR_HU = -200.0
"""A body scan holds air (-1000 HU), so one whose lowest value is above this is not in HU."""

LOWEST_TISSUE_HU = 0.0
"""A body scan holds tissue and bone, so one whose highest value is below this is not in HU, or empty."""

READ_ERRORS = (EOFError, OSError, zlib.error, cast("type[Exception]", IsalError))
"""What reading and inflating a file may raise."""

MOST_COMPRESSION = 1040
"""Deflate cannot shrink data below about 1/1032; a smaller file was cut, or its header is wrong."""


class Volume(ABC):
    """A CT scan, or a mask of one. Its grid is known; its voxels are read when they are asked for.

    Attributes:
        path: The file, or the folder of a series.
        grid: Where its voxels lie.
        stated: Whether the file says how its axes lie in the patient.
        doubts: What else is doubtful about it, in sentences to show.
    """

    path: Path
    grid: Grid
    stated: bool
    doubts: tuple[str, ...] = ()

    @abstractmethod
    def placed(self, grid: Grid) -> Volume:
        """The same voxels on another grid of the same stored shape."""

    @abstractmethod
    def read_hu(self, positions: Sequence[int]) -> NDArray[np.int16]:
        """Read chosen axial slices of a CT scan.

        Everything is read through and checked; only the chosen slices are kept and scaled.

        Args:
            positions: Wanted slices in ascending order, 0 the most inferior.

        Returns:
            Hounsfield units, shape ``(len(positions), rows, columns)``, radiological view.

        Raises:
            DataError: A file is damaged, holds NaN or infinity, or values that cannot be Hounsfield units.
        """

    @abstractmethod
    def read_mask(self, image: Volume) -> NDArray[np.uint8]:
        """Read a whole mask of whole numbers from 0 to 255.

        Args:
            image: The scan that it belongs to.

        Returns:
            The file's own values, shape ``(slices, rows, columns)``, radiological view of `image`.

        Raises:
            DataError: The file is damaged, holds other values, or lies on another grid than the image.
        """


class ChosenSlices:
    """Chosen axial slices of a scan, filled from its stored planes one at a time.

    No more than the slices themselves is in memory; floats of all would fill gigabytes.

    Attributes:
        hu: Hounsfield units, shape ``(slices, rows, columns)``, radiological view. Values that do not fit
            int16 are wrong here, so whoever reads looks at the range with `check_hu`.
    """

    hu: NDArray[np.int16]

    def __init__(self, grid: Grid, positions: Sequence[int]) -> None:
        self._axial = grid.axes[0] == 2
        self._axis = grid.axes[0]
        self._wanted = np.sort(grid.stored_positions(positions))
        self.hu = np.empty((len(self._wanted), *grid.view_shape[1:]), dtype=np.int16)
        self._stored = grid.stored_order(self.hu)

    def planes(self, count: int) -> Sequence[int]:
        """Which of the planes along the last stored axis hold something of the slices.

        Args:
            count: How many planes there are.
        """
        return sorted({int(k) for k in self._wanted}) if self._axial else range(count)

    def add(self, k: int, plane: NDArray[Any]) -> None:
        """Keep what belongs to the slices, rounded.

        Args:
            k: The plane's place along the last stored axis.
            plane: Hounsfield units, the first two stored axes.
        """
        if not self._axial:
            self._stored[:, :, k] = _rounded(plane.take(self._wanted, axis=self._axis))
            return
        first, last = np.searchsorted(self._wanted, (k, k + 1))
        if first < last:
            self._stored[:, :, first:last] = _rounded(plane)[:, :, np.newaxis]


def _rounded(values: NDArray[Any]) -> NDArray[np.int16]:
    with np.errstate(invalid="ignore"):
        whole = values if values.dtype.kind in "iu" else np.rint(values)
        return whole.astype(np.int16)


def check_same_grid(image: Volume, mask: Volume) -> None:
    """Check that an image and its mask have the same voxels, in whatever order each is stored.

    Raises:
        DataError: Their shapes differ, or a corner of the grid lies more than half a voxel apart.
    """
    if image.grid.view_shape != mask.grid.view_shape:
        raise DataError(
            f"{image.path} has shape {image.grid.shape}, but its mask {mask.path} has shape "
            f"{mask.grid.shape}.",
            "Check that the two belong together; resample the mask to the image's grid.",
        )
    apart = millimetres_apart(image.grid, mask.grid)
    if apart > min(image.grid.voxel_mm) / 2:
        raise DataError(
            f"The affines of {image.path} and its mask {mask.path} place the same voxel up to "
            f"{apart:.3g} mm apart.",
            "Check that the two belong together. If their voxels match all the same, say so with the option "
            "mask_grid=image, or copy the image's affine to the mask.",
        )


def check_hu(path: Path, low: float, high: float) -> None:
    """Check the lowest and highest value of a scan.

    Raises:
        DataError: They are not finite or cannot be Hounsfield units.
    """
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
            "Check the file's scaling and its padding value.",
        )


def as_mask_values(path: Path, plane: NDArray[Any]) -> NDArray[np.uint8]:
    """Mask values as uint8.

    Raises:
        DataError: One of them is no whole number from 0 to 255.
    """
    with np.errstate(invalid="ignore"):
        values = plane.astype(np.uint8)
    wrong = plane[values != plane]  # what the cast changed: negative, too large, fractions, NaN
    if wrong.size:
        raise DataError(
            f"The mask {path} must hold whole numbers from 0 to 255, found {float(wrong[0]):g}.",
            "Save it with its class numbers, resampled by nearest neighbour, not as probabilities.",
        )
    return values


def unreadable(path: Path, error: Exception) -> DataError:
    """The error for a file that cannot be opened or read to its end."""
    if isinstance(error, FileNotFoundError):
        return DataError(f"{path} does not exist.", "Check the path; copy the file again.")
    if isinstance(error, PermissionError):
        return DataError(f"{path} may not be read.", "Check its permissions.")
    what = "is truncated" if isinstance(error, EOFError) else "cannot be read"
    return DataError(f"{path} {what}: {error}.", "Copy or download the file again.")
