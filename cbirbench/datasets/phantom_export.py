"""Writes the phantom's bodies as NIfTI files in the layout of the Decathlon's liver task (Task03_Liver).

The voxels are those of `cbirbench.datasets.phantom` with the same seed and size, so that the reader of the
real data can be run, and checked, without a download. As in real collections, scans differ in the direction
in which their voxels are stored; only the affine tells.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cbirbench.atomic import replacing, write_text
from cbirbench.errors import UsageError
from cbirbench.interfaces import Progress

if TYPE_CHECKING:
    from numpy.typing import NDArray

ORIENTATIONS = ("LPS", "RAS", "LAS")
"""Where the stored axes point (left or right, posterior or anterior, superior); volumes take them in turn."""

FEWEST_SLICES, MOST_SLICES = 16, 2000
"""Slices a volume that may be asked for; with fewer, hardly any would show liver."""


def write_decathlon_layout(
    out: Path,
    *,
    volumes: int,
    seed: int,
    size: int = 256,
    slices: int | None = None,
    progress: Progress | None = None,
) -> None:
    """Write bodies 0, 1, ... as ``imagesTr/liver_N.nii.gz`` and ``labelsTr/liver_N.nii.gz``.

    Each file appears whole or not at all, and ``dataset.json``, which lists them, comes last.

    Args:
        out: A folder that is empty or not there yet.
        volumes: How many bodies.
        seed: The phantom's seed; body N of that seed is the same here and there.
        size: Rows and columns of a slice.
        slices: Slices a volume, over the range that it covers; by default as the phantom draws them.
        progress: Where to report.

    Raises:
        UsageError: A number is out of range, or `out` is a file or holds something already.
        MissingError: A file cannot be written.
    """
    if volumes < 1 or seed < 0 or not 64 <= size <= 1024:
        raise UsageError(
            f"The phantom needs 1 volume or more, a seed of 0 or more and 64 to 1024 px, "
            f"got {volumes}, {seed} and {size}.",
            "Change the number that is out of range.",
        )
    if slices is not None and not FEWEST_SLICES <= slices <= MOST_SLICES:
        raise UsageError(
            f"A volume of the phantom has {FEWEST_SLICES} to {MOST_SLICES} slices, got {slices}.",
            "Change the number, or leave it out for as many as the phantom draws.",
        )
    # Empty subfolders, and temporary files of a run that was cut off, are no reason to refuse.
    if out.exists() and (not out.is_dir() or any(_kept(out))):
        raise UsageError(
            f"{out} is there already and is not an empty folder.",
            "Name a new folder, or empty that one first.",
        )
    files = []
    with _stage(progress, volumes) as advance:
        for index in range(volumes):
            name = f"liver_{index}.nii.gz"
            hu, mask, affine = oriented_volume(seed, index, size, slices)
            _write_nifti(out / "imagesTr" / name, hu, affine)
            _write_nifti(out / "labelsTr" / name, mask, affine)
            files.append({"image": f"./imagesTr/{name}", "label": f"./labelsTr/{name}"})
            advance(1)
    description = {
        "name": "Liver",
        "description": "Synthetic abdominal CT drawn by cbirbench; no patient was scanned",
        "reference": "cbirbench, benchmark `phantom`",
        "licence": "Apache-2.0",
        "release": f"seed {seed}, {size} px" + (f", {slices} slices" if slices else ""),
        "tensorImageSize": "3D",
        "modality": {"0": "CT"},
        "labels": {"0": "background", "1": "liver", "2": "cancer"},
        "numTraining": volumes,
        "numTest": 0,
        "training": files,
        "test": [],
    }
    write_text(out / "dataset.json", json.dumps(description, indent=2) + "\n")


def oriented_volume(
    seed: int, index: int, size: int, slices: int | None = None
) -> tuple[NDArray[np.int16], NDArray[np.uint8], NDArray[np.float64]]:
    """One body as stored: HU and segmentation, axes as `ORIENTATIONS` says, and their affine.

    The segmentation has liver and tumour alone, as the Decathlon's has.

    Returns:
        int16 and uint8 of shape ``(size, size, slices)``, and the affine from voxels to millimetres towards
        right, anterior and superior, shape ``(4, 4)``.
    """
    from cbirbench.datasets.anatomy_shapes import LIVER, TUMOUR
    from cbirbench.datasets.reconstruction import Scan

    scan = Scan(seed, index, size, slices)
    hu = np.empty((size, size, scan.count), dtype=np.int16)
    mask = np.empty((size, size, scan.count), dtype=np.uint8)
    for z_index in range(scan.count):
        rows, segmentation = scan.render(z_index)
        segmentation[~np.isin(segmentation, (LIVER, TUMOUR))] = 0
        hu[:, :, z_index], mask[:, :, z_index] = rows.T, segmentation.T  # columns run along x

    # The radiological view is towards left, posterior, superior; NIfTI's world is right, anterior, superior.
    row_mm, column_mm, slice_mm = scan.spacing_mm
    affine = np.diag([-column_mm, -row_mm, slice_mm, 1.0])
    affine[:3, 3] = (
        np.random.default_rng([seed, index, 6]).uniform((150, 120, -900), (250, 300, 100)).round(2)
    )
    orientation = ORIENTATIONS[index % len(ORIENTATIONS)]
    for axis, flip in enumerate((orientation[0] == "R", orientation[1] == "A")):
        if flip:
            hu, mask = np.flip(hu, axis), np.flip(mask, axis)
            affine[:3, 3] += (size - 1) * affine[:3, axis]
            affine[:3, axis] *= -1.0
    return hu, mask, affine


def _write_nifti(path: Path, voxels: NDArray[Any], affine: NDArray[np.float64]) -> None:
    import nibabel

    image = nibabel.Nifti1Image(voxels, affine)
    image.header.set_xyzt_units("mm")
    image.set_qform(affine, code=1)
    image.set_sform(affine, code=1)
    with replacing(path) as temporary:
        # No time stamp, so that the same bodies give the same bytes.
        temporary.write_bytes(gzip.compress(image.to_bytes(), compresslevel=4, mtime=0))


def _stage(progress: Progress | None, volumes: int) -> AbstractContextManager[Callable[[int], None]]:
    if progress is None:
        return nullcontext(lambda _: None)
    return progress.stage("Drawing synthetic bodies", volumes)


def _kept(folder: Path) -> Iterator[Path]:
    """The files below a folder that somebody meant to be there."""
    return (file for file in folder.rglob("*") if file.is_file() and not file.name.startswith(".part-"))
