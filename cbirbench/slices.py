"""CT slices in Hounsfield units, with what identifies them.

A slice is kept as the scanner's numbers: Hounsfield units (HU) in int16, in radiological view (rows run
anterior to posterior, columns patient right to left), at its native size. Windowing is each extractor's own
business, so no windowed pixel is ever stored here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, overload

import numpy as np

from cbirbench.errors import DataError

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

AIR_HU = -1024
"""HU of the padding that makes a slice square: air, the lowest value a scanner stores."""


@dataclass(frozen=True, eq=False)
class CTSlice:
    """One axial CT slice.

    Attributes:
        hu: Hounsfield units, int16, shape ``(rows, columns)``, radiological view.
        mask: Segmentation, uint8, same shape: 0 background, other values the target organ or, where
            `target_values` says which are the target, any further structure. The source's own values are
            kept, so 2 is tumour in LiTS. None where the cohort has no masks.
        slice_id: Unique in the benchmark; ties in a ranking are broken by its order.
        patient_id: Pseudonym of the patient; patients never cross from gallery to queries.
        study_id: The examination the slice comes from.
        volume_id: The scan (one file or series) the slice comes from.
        z_index: Position in the scan, 0 the most inferior slice.
        label: 1 when the slice shows the target organ, else 0.
        spacing_mm: Distance between rows and between columns, in millimetres.
        target_values: The mask's values that are the target organ, 1 to 255; empty: all above 0, the
            protocol's rule.
        volume_slices: How many slices the scan has, so that positions compare between scans; None where the
            slice is all there is of it.
    """

    hu: NDArray[np.int16]
    mask: NDArray[np.uint8] | None
    slice_id: str
    patient_id: str
    study_id: str
    volume_id: str
    z_index: int
    label: int
    spacing_mm: tuple[float, float] = (1.0, 1.0)
    target_values: tuple[int, ...] = ()
    volume_slices: int | None = None

    def __post_init__(self) -> None:
        if self.hu.ndim != 2 or self.hu.dtype != np.int16 or 0 in self.hu.shape:
            raise DataError(
                f"Slice {self.slice_id!r} must hold a non-empty 2-D int16 array of Hounsfield units, "
                f"got {self.hu.dtype} of shape {self.hu.shape}.",
                "A benchmark plugin converts its scans to int16 HU before making slices.",
            )
        if self.mask is not None and (self.mask.shape != self.hu.shape or self.mask.dtype != np.uint8):
            raise DataError(
                f"The mask of slice {self.slice_id!r} must be uint8 of shape {self.hu.shape}, "
                f"got {self.mask.dtype} of shape {self.mask.shape}.",
                "Check that image and mask belong together and share one grid.",
            )
        if not all(1 <= value <= 255 for value in self.target_values):
            raise DataError(
                f"The target values of slice {self.slice_id!r} must lie in 1 to 255, "
                f"got {self.target_values}.",
                "0 is the background; leave the values away where all above it are the target organ.",
            )

        if self.volume_slices is not None and not 0 <= self.z_index < self.volume_slices:
            raise DataError(
                f"Slice {self.slice_id!r} lies at {self.z_index} of a scan of {self.volume_slices} slices.",
                "Slices are counted from 0, the most inferior, upwards.",
            )

    @property
    def relative_z(self) -> float | None:
        """Where in its scan it lies: 0 the most inferior slice, 1 the most superior; None where unknown.

        A scan of a single slice has no extent.
        """
        if self.volume_slices is None or self.volume_slices < 2:
            return None
        return self.z_index / (self.volume_slices - 1)

    @property
    def target(self) -> NDArray[np.bool_] | None:
        """Which pixels are the target organ's, bool, shape ``(rows, columns)``; None without a mask."""
        return None if self.mask is None else target_pixels(self.mask, self.target_values)

    @property
    def shows_target(self) -> bool:
        """Whether the mask has any pixel of the target organ; False without a mask."""
        target = self.target
        return target is not None and bool(target.any())

    @property
    def mask_fraction(self) -> float:
        """Share of the slice's own pixels that the target organ covers; NaN without a mask."""
        target = self.target
        return float("nan") if target is None else float(np.count_nonzero(target)) / target.size

    @cached_property
    def _digest(self) -> str:
        # Kept: the keys of every run and extractor ask for it, and a cohort is a gigabyte to hash.
        digest = hashlib.sha256()
        # int: NumPy's integers print otherwise, and a slice read from the cache has Python's.
        numbers = (int(self.z_index), int(self.label), self.hu.shape)
        identity = (self.slice_id, self.patient_id, self.volume_id, *numbers)
        digest.update(repr(identity).encode())
        if self.volume_slices is not None:
            digest.update(b"of %d" % self.volume_slices)
        if self.target_values:  # else the digest of before there were any, and what was cached by it
            digest.update(repr(tuple(int(value) for value in self.target_values)).encode())
        digest.update(np.ascontiguousarray(self.hu).tobytes())
        digest.update(b"none" if self.mask is None else np.ascontiguousarray(self.mask).tobytes())
        return digest.hexdigest()

    @property
    def side(self) -> int:
        """Side, in pixels, of the square that the padded slice fills."""
        return int(max(self.hu.shape))


def target_pixels(mask: NDArray[np.uint8], values: tuple[int, ...]) -> NDArray[np.bool_]:
    """Where a mask, of any shape, holds one of the target's values; every value above 0 if none is given."""
    return np.isin(mask, values) if values else mask > 0


def pad_to_square(hu: NDArray[np.int16]) -> NDArray[np.int16]:
    """Pad a slice with air, centrally, to a square; a square slice comes back as it is.

    An odd remainder goes below or to the right. `crop_from_square` undoes it.
    """
    rows, columns = hu.shape
    side = max(rows, columns)
    if rows == columns:
        return hu
    square = np.full((side, side), AIR_HU, dtype=np.int16)
    top, left = (side - rows) // 2, (side - columns) // 2
    square[top : top + rows, left : left + columns] = hu
    return square


def crop_from_square(square: NDArray[Any], shape: tuple[int, int]) -> NDArray[Any]:
    """Cut the native part out of a square array that covers the padded slice.

    Args:
        square: Shape ``(side, side)`` with ``side = max(shape)``.
        shape: The slice's native ``(rows, columns)``.
    """
    rows, columns = shape
    side = max(shape)
    if square.shape != (side, side):
        raise ValueError(f"expected a square of side {side}, got shape {square.shape}")
    top, left = (side - rows) // 2, (side - columns) // 2
    return square[top : top + rows, left : left + columns]


@dataclass(frozen=True, eq=False)
class Slices(Sequence[CTSlice]):
    """An ordered set of CT slices with unique ids."""

    items: tuple[CTSlice, ...]

    def __post_init__(self) -> None:
        seen: set[str] = set()
        for item in self.items:
            if item.slice_id in seen:
                raise DataError(
                    f"Two slices share the id {item.slice_id!r}.",
                    "A benchmark gives each slice an id of its own, volume and position for instance.",
                )
            seen.add(item.slice_id)

    def __len__(self) -> int:
        return len(self.items)

    @overload
    def __getitem__(self, index: int) -> CTSlice: ...
    @overload
    def __getitem__(self, index: slice) -> Slices: ...
    def __getitem__(self, index: int | slice) -> CTSlice | Slices:
        return Slices(self.items[index]) if isinstance(index, slice) else self.items[index]

    def __iter__(self) -> Iterator[CTSlice]:
        return iter(self.items)

    @property
    def ids(self) -> list[str]:
        """The slice ids, in order."""
        return [item.slice_id for item in self.items]

    @property
    def labels(self) -> NDArray[np.int64]:
        """Labels, shape ``(n,)``: 1 where the target organ is shown."""
        return np.array([item.label for item in self.items], dtype=np.int64)

    def table(self) -> pd.DataFrame:
        """One row a slice: ids, position, label, share of the organ and spacing."""
        import pandas as pd

        return pd.DataFrame(
            {
                "slice_id": self.ids,
                "patient_id": [item.patient_id for item in self.items],
                "study_id": [item.study_id for item in self.items],
                "volume_id": [item.volume_id for item in self.items],
                "z_index": [item.z_index for item in self.items],
                "relative_z": [np.nan if item.relative_z is None else item.relative_z for item in self.items],
                "label": [item.label for item in self.items],
                "mask_fraction": [item.mask_fraction for item in self.items],
                "row_spacing_mm": [item.spacing_mm[0] for item in self.items],
                "column_spacing_mm": [item.spacing_mm[1] for item in self.items],
            }
        )

    def fingerprint(self) -> str:
        """SHA-256 over every slice's identity, HU and mask: the data a result rests on."""
        digest = hashlib.sha256()
        for item in self.items:
            digest.update(slice_fingerprint(item).encode())
        return digest.hexdigest()


def slice_fingerprint(item: CTSlice) -> str:
    """SHA-256 of one slice's identity, label, HU and mask."""
    return item._digest


def batches_of_one_side(slices: Slices, batch_size: int) -> Iterator[list[int]]:
    """Yield positions of slices whose padded squares are equally large, at most `batch_size` at once.

    Slices of a cohort differ in size; an extractor gets batches of one size. Every position comes once.
    """
    by_side: dict[int, list[int]] = {}
    for position, item in enumerate(slices):
        by_side.setdefault(item.side, []).append(position)
    for positions in by_side.values():
        for start in range(0, len(positions), batch_size):
            yield positions[start : start + batch_size]


def stacked_squares(items: Sequence[CTSlice]) -> NDArray[np.int16]:
    """HU of slices of one side, padded to squares: int16, shape ``(n, side, side)``."""
    return np.stack([pad_to_square(item.hu) for item in items])
