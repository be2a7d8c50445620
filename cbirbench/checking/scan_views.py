"""Planes of a scan that show at a glance how its patient lies: three axial, a coronal and a sagittal one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

PLACES = (0.25, 0.5, 0.75)
"""Where the axial planes lie: shares of the slices with the target organ, of all slices without a mask."""


@dataclass(frozen=True, eq=False)
class View:
    """One plane of a scan.

    Attributes:
        plane: Which way it cuts.
        hu: Hounsfield units, int16, shape ``(rows, columns)``; the patient's right or front is on the left,
            front or head at the top.
        outline: Where the target organ is, bool, same shape; None without a mask.
        aspect: Height of a pixel by its width.
        index: Which slice, row or column of the radiological view it is.
    """

    plane: Literal["axial", "coronal", "sagittal"]
    hu: NDArray[np.int16]
    outline: NDArray[np.bool_] | None
    aspect: float
    index: int


def scan_views(
    hu: NDArray[np.int16],
    target: NDArray[np.bool_] | None,
    voxel_mm: tuple[float, float, float],
    body_centre: tuple[int, int],
) -> tuple[View, ...]:
    """Cut a scan where its target organ is, or in its middle.

    Args:
        hu: Hounsfield units, shape ``(slices, rows, columns)``, radiological view.
        target: Where the target organ is, same shape; None without a mask.
        voxel_mm: Distance between slices, rows and columns, in millimetres.
        body_centre: Row and column of the body's centre.

    Returns:
        Up to three axial planes (fewer where there are fewer slices), a coronal one through the organ's
        centre and a sagittal one through the body's. They keep nothing of `hu` in memory.
    """
    shown = np.arange(len(hu))
    row, column = body_centre
    if target is not None and target.any():
        by_slice_and_row = np.count_nonzero(target, axis=2)
        shown = np.flatnonzero(by_slice_and_row.any(axis=1))
        row = centre(by_slice_and_row.sum(axis=0))
    slice_mm, row_mm, column_mm = voxel_mm
    if len(shown) > len(PLACES):
        shown = shown[[int(share * len(shown)) for share in PLACES]]
    positions = shown.tolist()

    def plane(of: NDArray[Any]) -> tuple[NDArray[Any], ...]:
        axial = [of[z] for z in positions]
        return (*(each.copy() for each in axial), of[::-1, row].copy(), of[::-1, :, column].copy())

    images = plane(hu)
    outlines: tuple[NDArray[np.bool_] | None, ...] = (
        (None,) * len(images) if target is None else plane(target)
    )
    axial = [("axial", row_mm / column_mm, z) for z in positions]
    cuts: list[Any] = [
        *axial,
        ("coronal", slice_mm / column_mm, row),
        ("sagittal", slice_mm / row_mm, column),
    ]
    return tuple(
        View(kind, image, outline, aspect, index)
        for (kind, aspect, index), image, outline in zip(cuts, images, outlines, strict=True)
    )


def centre(counts: NDArray[np.integer[Any]]) -> int:
    """The middle of what is counted along an axis: as much lies before it as behind; half-way if nothing."""
    total = int(counts.sum())
    if not total:
        return len(counts) // 2
    return int(np.searchsorted(np.cumsum(counts), total / 2))
