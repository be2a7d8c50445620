"""Where voxels lie in the patient, and the radiological view that every format is turned into.

World coordinates are NIfTI's: millimetres towards the patient's right, anterior and superior (RAS+). In
radiological view slices run inferior to superior, rows anterior to posterior, columns patient right to left.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from cbirbench.errors import DataError, UsageError

if TYPE_CHECKING:
    from numpy.typing import NDArray

SAME_SPACING = 0.01
"""Rows and columns whose distances differ by less than this share count as square pixels."""

TILTED_DEGREES = 1.0
"""A scan whose slices are stacked further than this from their normal was taken with a tilted gantry."""

_OPPOSITE = {"R": "L", "L": "R", "A": "P", "P": "A", "S": "I", "I": "S"}
_WORLD_AXIS = {"R": (0, 1.0), "L": (0, -1.0), "A": (1, 1.0), "P": (1, -1.0), "S": (2, 1.0), "I": (2, -1.0)}


@dataclass(frozen=True, eq=False)
class Grid:
    """The voxels of a scan.

    Attributes:
        shape: Voxels along each stored axis.
        affine: From voxel indices to millimetres in RAS+ world coordinates, shape ``(4, 4)``.
    """

    shape: tuple[int, int, int]
    affine: NDArray[np.float64]

    @cached_property
    def _turning(self) -> tuple[tuple[int, int, int], tuple[bool, bool, bool]]:
        from nibabel.orientations import axcodes2ornt, io_orientation, ornt_transform

        transform = ornt_transform(io_orientation(self.affine), axcodes2ornt("SPL"))
        axes = tuple(int(np.flatnonzero(transform[:, 0] == axis)[0]) for axis in range(3))
        flips = tuple(bool(transform[axis, 1] < 0) for axis in axes)
        return cast("tuple[int, int, int]", axes), cast("tuple[bool, bool, bool]", flips)

    @property
    def axes(self) -> tuple[int, int, int]:
        """The stored axes that run along slices, rows and columns of the radiological view."""
        return self._turning[0]

    @property
    def flips(self) -> tuple[bool, bool, bool]:
        """Whether each of `axes` is stored against the view's direction."""
        return self._turning[1]

    @property
    def codes(self) -> str:
        """Where the stored axes point, ``LPS`` for instance: left, posterior, superior."""
        from nibabel.orientations import aff2axcodes

        return "".join(aff2axcodes(self.affine))

    @property
    def view_shape(self) -> tuple[int, int, int]:
        """Slices, rows and columns of the radiological view."""
        slices, rows, columns = (self.shape[axis] for axis in self.axes)
        return slices, rows, columns

    @property
    def slice_count(self) -> int:
        """Number of axial slices."""
        return self.view_shape[0]

    @property
    def voxel_mm(self) -> tuple[float, float, float]:
        """Distance between slices, rows and columns of the radiological view, in millimetres.

        Slices are counted along their normal, so that a tilted gantry does not widen them.
        """
        to_world = self.view_affine[:3, :3]
        rows, columns = (float(np.linalg.norm(to_world[:, axis])) for axis in (1, 2))
        return abs(float(to_world[:, 0] @ self._normal)), rows, columns

    @property
    def spacing_mm(self) -> tuple[float, float]:
        """Distance between the rows and between the columns of an axial slice, in millimetres."""
        return self.voxel_mm[1:]

    @property
    def _normal(self) -> NDArray[np.float64]:
        across = np.cross(self.view_affine[:3, 1], self.view_affine[:3, 2])
        normal: NDArray[np.float64] = across / np.linalg.norm(across)
        return normal

    @property
    def tilt_degrees(self) -> float:
        """Angle between the direction in which slices are stacked and their normal: the gantry's tilt."""
        step = self.view_affine[:3, 0]
        cosine = abs(float(step @ self._normal)) / float(np.linalg.norm(step))
        return float(np.degrees(np.arccos(min(cosine, 1.0))))

    @property
    def obliquity_degrees(self) -> float:
        """Angle between the slices' normal and the patient's long axis."""
        return float(np.degrees(np.arccos(min(abs(float(self._normal[2])), 1.0))))

    @property
    def square_pixels(self) -> bool:
        """Whether rows are as far apart as columns, within `SAME_SPACING`."""
        rows, columns = self.spacing_mm
        return abs(rows - columns) <= SAME_SPACING * max(rows, columns)

    @cached_property
    def view_affine(self) -> NDArray[np.float64]:
        """From (slice, row, column) of the radiological view to world coordinates, shape ``(4, 4)``."""
        view = np.zeros((4, 4))
        view[3, 3] = 1.0
        view[:3, 3] = self.affine[:3, 3]
        for place, (axis, flip) in enumerate(zip(self.axes, self.flips, strict=True)):
            step = self.affine[:3, axis]
            view[:3, place] = -step if flip else step
            if flip:
                view[:3, 3] += step * (self.shape[axis] - 1)
        return view

    def radiological_view(self, stored: NDArray[Any]) -> NDArray[Any]:
        """Turn an array with the stored axes into radiological view, without copying.

        Args:
            stored: Three axes as stored; its slice axis may hold a part of the slices.

        Returns:
            Shape ``(slices, rows, columns)``.
        """
        turned = stored.transpose(self.axes)
        return turned[tuple(slice(None, None, -1 if flip else 1) for flip in self.flips)]

    def stored_order(self, view: NDArray[Any]) -> NDArray[Any]:
        """Undo `radiological_view`, without copying: what is written to the result appears in `view`.

        Args:
            view: Shape ``(slices, rows, columns)``; it may hold a part of the slices.

        Returns:
            The same voxels with the axes as stored.
        """
        turned = view[tuple(slice(None, None, -1 if flip else 1) for flip in self.flips)]
        return turned.transpose(np.argsort(self.axes))

    def stored_positions(self, positions: Any) -> NDArray[np.intp]:
        """Where slices of the view lie along the stored slice axis."""
        asked = np.asarray(positions, dtype=np.intp)
        return self.slice_count - 1 - asked if self.flips[0] else asked

    def turned_to(self, codes: str) -> Grid:
        """The same voxels with their axes pointing elsewhere, for a file whose affine is missing or wrong.

        Args:
            codes: Where the stored axes point, as `orientation` checks them.
        """
        sizes = np.linalg.norm(self.affine[:3, :3], axis=0)
        affine = np.eye(4)
        affine[:3, :3] = 0.0
        for axis, code in enumerate(codes):
            world, sign = _WORLD_AXIS[code]
            affine[world, axis] = sign * sizes[axis]
        return Grid(self.shape, affine)


def orientation(text: str) -> str:
    """Check where stored axes are said to point.

    Args:
        text: Three letters, one of each pair R/L, A/P and S/I, such as ``LPS`` or ``RAS``.

    Raises:
        UsageError: It is something else.
    """
    codes = text.strip().upper()
    pairs = {min(code, _OPPOSITE[code]) for code in codes if code in _OPPOSITE}
    if len(codes) != 3 or len(pairs) != 3:
        raise UsageError(
            f"An orientation is three letters, one of each pair R/L, A/P and S/I, got {text!r}.",
            "Say where the stored axes point, LPS (to the left, posterior, superior) or RAS for instance.",
        )
    return codes


def check_affine(path: Any, affine: NDArray[np.float64]) -> None:
    """Check that an affine places a volume in space.

    Raises:
        DataError: It does not.
    """
    sizes = np.linalg.norm(affine[:3, :3], axis=0)
    # The determinant of unit vectors: 1 for right angles, 0 when the axes lie in one plane.
    if not np.isfinite(affine).all() or not sizes.all() or abs(np.linalg.det(affine[:3, :3] / sizes)) < 1e-3:
        raise DataError(
            f"The affine of {path} places no volume in space: {np.round(affine[:3], 4).tolist()}.",
            "Convert the scan anew, so that its header holds voxel sizes and orientation.",
        )


def millimetres_apart(one: Grid, other: Grid) -> float:
    """The most that corners of two grids of one view shape lie apart."""
    corners = np.array([(*c, 1) for c in product(*((0, n - 1) for n in one.view_shape))], dtype=np.float64)
    return float(np.linalg.norm(corners @ (one.view_affine - other.view_affine).T, axis=1).max())
