"""Any scan or mask by its path."""

from __future__ import annotations

import warnings
from pathlib import Path

from cbirbench.datasets.geometry import TILTED_DEGREES, Grid
from cbirbench.datasets.volume import Volume
from cbirbench.errors import DataError, DataWarning

NIFTI_ENDINGS = (".nii", ".nii.gz")
PICTURE_ENDINGS = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".gif", ".webp")


def open_volume(path: Path, *, unstated: str = "", orientation: str = "") -> Volume:
    """Open a scan or a mask; its voxels are read later.

    Args:
        path: A file, or the folder of one DICOM series.
        unstated: Where the stored axes point, ``LPS`` for instance, in files that do not say it; empty to
            warn of such a file and take the affine that it has.
        orientation: Where the stored axes point whatever the file says; outranks `unstated`.

    Raises:
        DataError: It cannot be read, is no volume, or lies nowhere in space.
    """
    volume = _opened(path)
    codes = orientation or ("" if volume.stated else unstated)
    if codes:
        return volume.placed(volume.grid.turned_to(codes))
    for text in geometry_warnings(volume):
        warnings.warn(text, DataWarning, stacklevel=2)
    return volume


def geometry_warnings(volume: Volume) -> list[str]:
    """What is doubtful about where a scan's voxels lie."""
    grid, found = volume.grid, []
    if not volume.stated:
        found.append(
            f"{volume.path} states no orientation. It is read as {grid.codes}, as its affine has it; if its "
            "slices lie mirrored or turned, set the option unstated_orientation."
        )
    if not grid.square_pixels:
        rows, columns = grid.spacing_mm
        found.append(
            f"{volume.path} has rows {rows:.3g} mm and columns {columns:.3g} mm apart: the body looks "
            "stretched. Resample it, or know that shapes differ from the other scans'."
        )
    if grid.tilt_degrees > TILTED_DEGREES:
        found.append(
            f"{volume.path} was taken with a gantry tilted by {grid.tilt_degrees:.1f} degrees: its slices "
            "are no axial planes of the others."
        )
    return found


def open_mask(path: Path, image: Volume, *, as_image: bool = False) -> Volume:
    """Open the mask of a scan.

    Args:
        path: A file.
        image: The scan.
        as_image: Whether the mask's voxels are the image's whatever its own affine says.

    Raises:
        DataError: It cannot be read or, with `as_image`, has another shape than the image.
    """
    mask = _opened(path)
    if not as_image:
        return mask
    if mask.grid.shape != image.grid.shape:
        raise DataError(
            f"{image.path} has shape {image.grid.shape}, but its mask {path} has shape {mask.grid.shape}.",
            "Check that the two belong together; resample the mask to the image's grid.",
        )
    return mask.placed(Grid(mask.grid.shape, image.grid.affine))


def _opened(path: Path) -> Volume:
    name = path.name.lower()
    if name.endswith(NIFTI_ENDINGS):
        from cbirbench.datasets.nifti import open_nifti

        return open_nifti(path)
    if not path.exists():
        raise DataError(f"{path} does not exist.", "Check the path; copy the file again.")
    if name.endswith(PICTURE_ENDINGS):
        raise DataError(
            f"{path} is a picture: its grey values are no Hounsfield units.",
            "Give the scan as it came from the scanner, or converted to NIfTI.",
        )
    raise DataError(f"{path} is no scan that can be read.", "Give NIfTI: .nii or .nii.gz.")
