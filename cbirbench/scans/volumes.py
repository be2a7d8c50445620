"""Any scan or mask by its path."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cbirbench.errors import DataError, DataWarning
from cbirbench.scans.geometry import TILTED_DEGREES, Grid
from cbirbench.scans.volume import Volume, check_same_grid

if TYPE_CHECKING:
    from numpy.typing import NDArray

NIFTI_ENDINGS = (".nii", ".nii.gz")
ITK_ENDINGS = (".nrrd", ".nhdr", ".mha", ".mhd")
PICTURE_ENDINGS = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".gif", ".webp")
_MOST_SHOWN = 5


def open_volume(
    path: Path,
    *,
    unstated: str = "",
    orientation: str = "",
    series: str = "",
    files: Sequence[Path] = (),
) -> Volume:
    """Open a scan or a mask; its voxels are read later. What is doubtful about it is warned of.

    Args:
        path: A NIfTI, NRRD, MetaImage or DICOM file, or a folder that holds the files of a DICOM series.
        unstated: Where the stored axes point, ``LPS`` for instance, in files that do not say it; empty to
            warn of such a file and take the affine that it has.
        orientation: Where the stored axes point whatever the file says; outranks `unstated`.
        series: Which DICOM series of the folder to take, by its pseudonym or its SeriesInstanceUID; empty
            where it holds one of CT slices.
        files: The files of that series where they are known already, so that the folder is not searched.

    Raises:
        DataError: It cannot be read, is no volume, lies nowhere in space, or is a folder with no series of CT
            slices or several.
    """
    volume = _of_series(path, files) if series and files else _opened(path, series)
    codes = orientation or ("" if volume.stated else unstated)
    if codes:
        volume = volume.placed(volume.grid.turned_to(codes))
    for text in (*volume.doubts, *([] if codes else geometry_warnings(volume))):
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


def open_mask(path: Path, image: Volume, *, put_right: bool = False, as_image: bool = False) -> Volume:
    """Open the mask of a scan.

    Beside a scan whose axes were put right, and on request, a mask goes where the scan went: voxels that lie
    at one place by the two files stay together. Where the files do not agree on places, the mask is taken as
    stored as the scan is, unless what it says of its own axes speaks against it: it is then refused, as it
    might be flipped.

    Args:
        path: A label map in NIfTI, NRRD or MetaImage; a DICOM SEG, or a folder with one.
        image: The scan.
        put_right: Whether the scan's axes point where a user said, and not where its file says.
        as_image: Whether a mask of the scan's format is stored as the scan is even where its affine says
            otherwise. The frames of a DICOM SEG are put on slices by their positions all the same, whatever
            its frame of reference.

    Raises:
        DataError: It cannot be read, or which of its voxels belong to which of the scan's is not known.
    """
    segmentation = segmentation_file(path)
    if segmentation is not None:
        from cbirbench.scans.dicom_segmentation import open_segmentation

        placed = open_segmentation(segmentation, image, any_frame_of_reference=as_image)
        for text in placed.doubts:
            warnings.warn(text, DataWarning, stacklevel=2)
        return placed
    mask = _opened(path)
    if not (put_right or as_image):
        return mask
    own = _as_its_file_says(image)
    if _agree(own, mask):
        return mask.placed(_moved(mask.grid, own.grid, image.grid))
    if mask.grid.shape != image.grid.shape:
        raise DataError(
            f"{image.path} has shape {image.grid.shape}, but its mask {path} has shape {mask.grid.shape}.",
            "Check that the two belong together; resample the mask to the image's grid.",
        )
    _check_stored_alike(mask, image, as_image)
    return mask.placed(Grid(mask.grid.shape, image.grid.affine))


def _as_its_file_says(image: Volume) -> Volume:
    """A scan on the grid that its file or files have, wherever it was placed."""
    if _format(image.path) != "DICOM":
        return _opened(image.path)
    from cbirbench.scans.dicom_series import DicomSeries

    assert isinstance(image, DicomSeries)
    return image.placed(image.source_grid)


def _agree(image: Volume, mask: Volume) -> bool:
    try:
        check_same_grid(image, mask)
    except DataError:
        return False
    return True


def _moved(mask: Grid, own: Grid, image: Grid) -> Grid:
    """A mask's grid where a scan's voxels went that lay at the same places: from `own` to `image`."""

    def stored_from_view(grid: Grid) -> NDArray[np.float64]:
        voxels: NDArray[np.float64] = np.rint(np.linalg.solve(grid.affine, grid.view_affine))
        return voxels

    to_image = stored_from_view(own) @ np.linalg.inv(stored_from_view(mask))
    return Grid(mask.shape, image.affine @ to_image)


def _check_stored_alike(mask: Volume, image: Volume, as_image: bool) -> None:
    """Check that nothing speaks against a mask's voxels being stored in the scan's order.

    Programs that convert a scan may store its rows the other way round, dcm2niix for one, and then state it
    in the affine.
    """
    formats = _format(mask.path), _format(image.path)
    one_format = formats[0] == formats[1]
    if mask.stated and not (one_format and (as_image or mask.grid.codes == image.grid.codes)):
        if one_format:
            why = f"axes point to {mask.grid.codes} by its own affine, and the scan's to {image.grid.codes}"
            how = "copy the scan's affine to it, or, where the command has the option, set mask_grid=image."
        else:
            why = f"format is {formats[0]}, the scan's {formats[1]}, and their affines do not agree"
            how = "store it anew in the scan's format with the scan's affine."
        raise DataError(
            f"Whether the mask {mask.path} is stored as its scan {image.path} is cannot be told: the mask's "
            f"{why}. It might be taken upside down.",
            f"Check that the two belong together. If the mask's voxels are stored as the scan's, {how}",
        )
    if not one_format:
        warnings.warn(
            f"The mask {mask.path} states no orientation and is taken as stored as its scan {image.path} is, "
            "which is of another format: check in a picture that it lies on its organ.",
            DataWarning,
            stacklevel=3,
        )


def _format(path: Path) -> str:
    name = path.name.lower()
    if name.endswith(NIFTI_ENDINGS):
        return "NIfTI"
    return "NRRD or MetaImage" if name.endswith(ITK_ENDINGS) else "DICOM"


def _opened(path: Path, series: str = "") -> Volume:
    name = path.name.lower()
    if name.endswith(NIFTI_ENDINGS):
        from cbirbench.scans.nifti import open_nifti

        return open_nifti(path)
    if not path.exists():
        raise DataError(f"{path} does not exist.", "Check the path; copy the file again.")
    if name.endswith(PICTURE_ENDINGS):
        raise DataError(
            f"{path} is a picture: its grey values are no Hounsfield units.",
            "Give the scan as it came from the scanner, or converted to NIfTI.",
        )
    if path.is_dir():
        return _opened_folder(path, series)
    if name.endswith(ITK_ENDINGS):
        from cbirbench.scans.itk import open_itk

        return open_itk(path)
    if _is_dicom(path):
        from cbirbench.scans.dicom_segmentation import is_segmentation
        from cbirbench.scans.dicom_series import open_series

        if is_segmentation(path):
            raise DataError(f"{path} is a DICOM segmentation, no scan.", "Give it as the mask of its scan.")
        return open_series(path, (path,))
    if name == "dicomdir":
        raise DataError(f"{path} is a DICOM table of contents.", "Give the folder that holds the series.")
    raise DataError(
        f"{path} is no scan that can be read.",
        "Give NIfTI (.nii, .nii.gz), NRRD (.nrrd, .nhdr), MetaImage (.mha, .mhd) or DICOM.",
    )


def _of_series(path: Path, files: Sequence[Path]) -> Volume:
    from cbirbench.scans.dicom_series import open_series

    return open_series(path, files)


def _opened_folder(folder: Path, series: str) -> Volume:
    """The one series of CT slices in a folder, or the one that was asked for."""
    from cbirbench.scans.dicom_files import find_series, pseudonym
    from cbirbench.scans.dicom_series import open_series

    found = find_series(folder)
    if series:
        wanted = [one for one in found if one.uid in (series, pseudonym("series", series))]
    else:
        wanted = [one for one in found if one.scan]
    if len(wanted) == 1:
        return open_series(folder, wanted[0].files)
    if not found:
        raise DataError(
            f"The folder {folder} holds no DICOM file.",
            "A folder is read as a DICOM series; give other scans by their file.",
        )
    listed = wanted or found
    shown = ", ".join(
        f"{one.uid} ({one.modality or 'no modality'}, {len(one.files)} files)" for one in listed[:_MOST_SHOWN]
    )
    more = f" and {len(listed) - _MOST_SHOWN} more" if len(listed) > _MOST_SHOWN else ""
    if wanted:
        raise DataError(
            f"The folder {folder} holds {len(wanted)} DICOM series of CT slices: {shown}{more}.",
            "Give the folder of one of them, or choose one by its id: with --series ID (of cross-exam's "
            "previous study --previous-series ID), or in the column series of a manifest.",
        )
    raise DataError(
        f"The folder {folder} holds no DICOM series {'of that id' if series else 'of CT slices'}: "
        f"{shown}{more}.",
        "Give the folder of a CT series, not of localizers, pictures of screens or segmentations.",
    )


def segmentation_file(path: Path) -> Path | None:
    """The DICOM SEG that a path names; None where it names another file.

    Args:
        path: A file, or a folder with one DICOM SEG, whatever else it holds.

    Raises:
        DataError: A folder holds none or several, or a header cannot be read.
    """
    if path.is_dir():
        from cbirbench.scans.dicom_files import find_series

        files = [file for one in find_series(path) if one.segments for file in one.files]
        if len(files) != 1:
            raise DataError(
                f"The folder {path} holds {len(files)} DICOM segmentations.", "Give the mask by its file."
            )
        return files[0]
    if not path.is_file() or path.name.lower().endswith((*NIFTI_ENDINGS, *ITK_ENDINGS, *PICTURE_ENDINGS)):
        return None
    if not _is_dicom(path):
        return None
    from cbirbench.scans.dicom_segmentation import is_segmentation

    return path if is_segmentation(path) else None


def _is_dicom(path: Path) -> bool:
    from cbirbench.scans.dicom_files import is_dicom

    return is_dicom(path)
