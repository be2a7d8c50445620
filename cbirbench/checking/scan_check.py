"""Reading one scan and its mask as a benchmark would, and saying what they are like and what is wrong."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cbirbench.checking.hu_counts import HUCounts
from cbirbench.checking.scan_doubts import body_of, check_labels, doubt_grid, doubt_mask, doubt_position
from cbirbench.checking.scan_facts import GridFacts, HUFacts, MaskFacts, ScanCheck
from cbirbench.checking.scan_views import View, centre, scan_views
from cbirbench.datasets.discovery import FoundScan
from cbirbench.datasets.scan_options import ScanOptions
from cbirbench.errors import CbirbenchError, DataError, DataWarning
from cbirbench.scans.dicom_files import is_dicom
from cbirbench.scans.volume import Volume
from cbirbench.slices import target_pixels

if TYPE_CHECKING:
    from numpy.typing import NDArray


def check_scan(scan: FoundScan, options: ScanOptions, organ: str = "") -> tuple[ScanCheck, tuple[View, ...]]:
    """Read a scan and its mask as a benchmark would, and look at them.

    One volume of int16 and, with a mask, one of uint8 are in memory; besides, while it is read, a file's own
    voxels where it is NRRD, MetaImage or DICOM of many frames, inflated.

    Args:
        scan: The scan.
        options: How it is opened, which values of a mask are the target, how many slices a kind are wanted.
        organ: What the target is called; ``liver`` is also expected on the patient's right.

    Returns:
        What was found, and planes to look at; none where the scan could not be read.
    """
    check = ScanCheck(scan, _format(scan), organ or "target organ")
    views: tuple[View, ...] = ()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        hu = image = None
        target: NDArray[np.bool_] | None = None
        with _errors_of(check):
            image = options.open_image(
                scan.image, series=scan.series, orientation=scan.orientation, files=scan.files
            )
            check.grid = _grid_facts(image)
            hu = image.read_hu(range(image.grid.slice_count))
        if image is not None:
            with _errors_of(check):
                check_labels(check, image.grid.slice_count)
        if image is not None and scan.mask is not None:
            with _errors_of(check):
                opened = options.open_mask(scan.mask, image, orientation=scan.orientation)
                mask = opened.read_mask(image)
                check.mask = _mask_facts(mask, hu, image, options)  # leaves 1 where the target is, else 0
                target = mask.view(np.bool_)
        # Only ours: other libraries' warnings may quote a header, and with it a patient's name.
        check.warnings += [str(each.message) for each in caught if issubclass(each.category, DataWarning)]
    if image is not None and hu is not None:
        body = body_of(hu)
        _look_at_voxels(check, hu)
        doubt_position(check, body, target)
        views = scan_views(hu, target, image.grid.voxel_mm, (centre(body.rows), centre(body.columns)))
    if check.grid is not None:
        doubt_grid(check, check.grid, options)
    if check.mask is not None:
        doubt_mask(check, check.mask, options)
    return check, views


@contextmanager
def _errors_of(check: ScanCheck) -> Iterator[None]:
    """Keep what went wrong, so that other scans are still read."""
    try:
        yield
    except CbirbenchError as error:
        check.errors.append(str(error))
    except Exception as error:
        # Not its text: it may quote a header.
        check.errors.append(f"{check.scan.image} could not be read: an unexpected {type(error).__name__}.")


def _format(scan: FoundScan) -> str:
    name = scan.image.name.lower()
    for ending, called in ((".nii", "NIfTI"), (".nii.gz", "NIfTI"), (".nrrd", "NRRD"), (".nhdr", "NRRD")):
        if name.endswith(ending):
            return called
    if name.endswith((".mha", ".mhd")):
        return "MetaImage"
    if not scan.image.is_file() or _is_dicom(scan.image):
        return "DICOM"
    return scan.image.suffix.lower() or "unknown"


def _is_dicom(file: Path) -> bool:
    try:
        return is_dicom(file)
    except DataError:  # opening it says why
        return False


def _grid_facts(image: Volume) -> GridFacts:
    grid = image.grid
    return GridFacts(
        shape=grid.view_shape,
        spacing_mm=grid.voxel_mm,
        orientation=grid.codes,
        stated=image.stated,
        tilt_degrees=grid.tilt_degrees,
        obliquity_degrees=grid.obliquity_degrees,
    )


def _look_at_voxels(check: ScanCheck, hu: NDArray[np.int16]) -> None:
    """HU range and digest, a slice at a time."""
    counts = HUCounts()
    digest = hashlib.sha256(repr(hu.shape).encode())
    repeated, before = [], b""
    for z, plane in enumerate(hu):
        counts.add(plane)
        this = hashlib.blake2b(np.ascontiguousarray(plane).tobytes(), digest_size=32).digest()
        digest.update(this)
        if this == before and plane.min() < plane.max():
            repeated.append(z)
        before = this
    check.digest = digest.hexdigest()
    padding, share = counts.padding()
    within = counts.without(padding)
    check.hu = HUFacts(
        counts.lowest, counts.highest, {q: within.percentile(q) for q in (1, 50, 99)}, padding, share
    )
    if repeated:
        first, more = repeated[0], len(repeated) - 1
        others = f", and {more} further pairs" if more else ""
        check.warnings.append(
            f"Slices {first - 1} and {first} are identical{others}: was a slice stored twice?"
        )


def _mask_facts(
    mask: NDArray[np.uint8], hu: NDArray[np.int16] | None, image: Volume, options: ScanOptions
) -> MaskFacts:
    """Count a mask's values, and turn it, in place, into 1 where the target organ is and 0 elsewhere."""
    counts = np.zeros(256, dtype=np.int64)
    histogram, slices_with, organ_voxels = HUCounts(), 0, 0
    for z, plane in enumerate(mask):
        counts += np.bincount(plane.ravel(), minlength=256)
        target = target_pixels(plane, options.targets)
        mask[z] = target
        slices_with += bool(target.any())
        organ_voxels += int(np.count_nonzero(target))
        if hu is not None:
            histogram.add(hu[z][target])
    to_ml = float(np.prod(image.grid.voxel_mm)) / 1000
    found = {int(value): int(counts[value]) for value in np.flatnonzero(counts[1:]) + 1}
    return MaskFacts(
        voxels=found,
        ml={value: voxels * to_ml for value, voxels in found.items()},
        organ_ml=organ_voxels * to_ml,
        slices_with=slices_with,
        slices_without=len(mask) - slices_with,
        percentiles={q: histogram.percentile(q) for q in (1, 5, 50, 95, 99)} if histogram.total else {},
        histogram=histogram,
    )
