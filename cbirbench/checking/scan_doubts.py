"""What is doubtful about a scan that can be read: few slices, a mask beside its organ, an odd position."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from cbirbench.checking.scan_facts import GridFacts, MaskFacts, ScanCheck
from cbirbench.datasets.scan_options import ScanOptions
from cbirbench.datasets.text_tables import listing
from cbirbench.errors import DataError
from cbirbench.plain_text import many
from cbirbench.scans.geometry import TILTED_DEGREES

if TYPE_CHECKING:
    from numpy.typing import NDArray

THICK_MM = 5.0
"""Slices further apart than this are warned of: small structures fall between them."""

SOFT_TISSUE_HU = (0, 200)
"""Where the median of an organ of soft tissue lies, with contrast or without, with room to spare."""

BODY_HU = -300
"""What is above this is body (or table), what is below is air or lung."""

BONE_HU = 250
"""What is above this is bone, or metal, or contrast medium."""

MOST_AIR = 0.1
"""A mask of soft tissue with a larger share than this in air or lung lies beside the organ."""

_NOT_SOFT = ("lung", "airway", "trachea", "bone", "rib", "spine", "vertebra", "femur", "hip", "skull")
_LEAST_BONE = 1e-3
"""Below this share of the body the bones' centre says nothing."""

_FAR = 0.03
"""How far, as a share of the body's depth, the bones' centre must lie off to be warned of."""


@dataclass(eq=False)
class Body:
    """How many voxels of body there are in each row and each column, and of bone in each row.

    Attributes:
        rows: Voxels above `BODY_HU` in each row of the radiological view.
        columns: The same in each column.
        bone_rows: Voxels above `BONE_HU` in each row.
    """

    rows: NDArray[np.int64]
    columns: NDArray[np.int64]
    bone_rows: NDArray[np.int64]


def body_of(hu: NDArray[np.int16]) -> Body:
    """Count a scan's body and bone, a slice at a time."""
    _, rows, columns = hu.shape
    body = Body(*(np.zeros(length, dtype=np.int64) for length in (rows, columns, rows)))
    for plane in hu:
        inside = plane > BODY_HU
        body.rows += np.count_nonzero(inside, axis=1)
        body.columns += np.count_nonzero(inside, axis=0)
        body.bone_rows += np.count_nonzero(plane > BONE_HU, axis=1)
    return body


def check_labels(check: ScanCheck, slices: int) -> None:
    """Note how many slices of a kind labels name.

    Raises:
        DataError: A label is of a slice that the scan does not have.
    """
    labels = check.scan.labels
    if not labels:
        return
    shown = sum(labels.values())
    others = len(labels) - shown
    check.notes.append(
        f"Labels: {many(shown, 'slice')} {'shows' if shown == 1 else 'show'} the {check.organ}, {others} "
        f"{'does' if others == 1 else 'do'} not."
    )
    beyond = sorted(z for z in labels if z >= slices)
    if beyond:
        raise DataError(
            f"{check.scan.image} has slices 0 to {slices - 1}, and labels name others: {listing(beyond)}.",
            "Slices are counted from 0, the most inferior, upwards.",
        )


def doubt_grid(check: ScanCheck, grid: GridFacts, options: ScanOptions) -> None:
    """Add warnings on thick or few slices, and notes on orientation."""
    slice_mm, slices = grid.spacing_mm[0], grid.shape[0]
    if not grid.stated and options.unstated_orientation:
        check.notes.append(f"Its orientation is not stated; it is read as {grid.orientation}, as you said.")
    if slice_mm > THICK_MM:
        check.warnings.append(f"Slices lie {slice_mm:.3g} mm apart: structures between them are not seen.")
    wanted = 2 * options.slices_per_kind
    if slices < wanted:
        check.warnings.append(f"It has {slices} slices, fewer than the {wanted} that are drawn from a scan.")
    if grid.obliquity_degrees > TILTED_DEGREES and grid.tilt_degrees <= TILTED_DEGREES:
        check.notes.append(
            f"Its slices lie {grid.obliquity_degrees:.1f} degrees off the axial plane and are taken as axial."
        )


def doubt_mask(check: ScanCheck, mask: MaskFacts, options: ScanOptions) -> None:
    """Add warnings on a mask that lacks slices of a kind, or lies where its organ cannot be."""
    organ, wanted = check.organ, options.slices_per_kind
    if not mask.slices_with:
        held = ", ".join(map(str, mask.voxels)) or "0 alone"
        check.warnings.append(f"Its mask marks no {organ}: its values are {held}.")
        return
    for kind, count in (("with", mask.slices_with), ("without", mask.slices_without)):
        if count < wanted:
            check.warnings.append(
                f"It has {count} slices {kind} {organ}, fewer than the {wanted} that are drawn."
            )
    if not mask.percentiles or any(word in organ.lower() for word in _NOT_SOFT):
        return
    median, (low, high) = mask.percentiles[50], SOFT_TISSUE_HU
    in_air = mask.histogram.share_below(BODY_HU)
    if in_air > MOST_AIR:
        check.warnings.append(
            f"{in_air:.0%} of its mask of {organ} lie in air or lung: does it belong to this scan, and does "
            "it lie the same way?"
        )
    elif not low <= median <= high:
        check.warnings.append(
            f"The median of its {organ} is {median} HU, and soft tissue lies at {low} to {high}: a hint that "
            "the mask is of another structure, or the values are no true HU."
        )


def doubt_position(check: ScanCheck, body: Body, target: NDArray[np.bool_] | None) -> None:
    """Whether the spine is behind and a liver on the right: hints that the patient lies as the file says."""
    if body.rows.sum() and body.bone_rows.sum() >= _LEAST_BONE * body.rows.sum():
        depth = np.ptp(np.flatnonzero(body.rows)) + 1
        backward = (_mean_place(body.bone_rows) - _mean_place(body.rows)) / depth
        if backward < -_FAR:
            check.warnings.append(
                "Its bones lie in the front half of the body, where the spine should be at the back: a hint "
                "that front and back are exchanged."
            )
    if check.organ.lower() == "liver" and target is not None and body.columns.sum() and target.any():
        leftward = _mean_place(target.sum(axis=(0, 1))) - _mean_place(body.columns)
        if leftward > 0:
            check.warnings.append(
                "Its liver lies in the left half of the patient: a hint that right and left are exchanged, "
                "or that its right lobe was removed. The heart and the aorta tell."
            )


def _mean_place(counts: NDArray[np.int64]) -> float:
    return float(counts @ np.arange(len(counts)) / counts.sum())
