from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813

from cbirbench.errors import DataError, DataWarning
from cbirbench.scans.dicom_files import find_series
from cbirbench.scans.volumes import geometry_warnings, open_mask, open_volume

AFFINE = np.array([[-0.8, 0, 0, 120], [0, -0.8, 0, 80], [0, 0, 2.5, -300], [0, 0, 0, 1]])


def every_format(dicom, folder: Path, values: np.ndarray) -> dict[str, Path]:
    """The same voxels as NIfTI, NRRD, MetaImage and, for scans, DICOM."""
    folder.mkdir()
    nib.save(nib.Nifti1Image(values.transpose(2, 1, 0), AFFINE), folder / "v.nii.gz")
    image = sitk.GetImageFromArray(values)
    image.SetSpacing((0.8, 0.8, 2.5))
    image.SetOrigin((-120, -80, -300))
    paths = {"nifti": folder / "v.nii.gz"}
    for ending in ("nrrd", "nhdr", "mha", "mhd"):
        paths[ending] = folder / f"{ending}.{ending}"
        sitk.WriteImage(image, str(paths[ending]))
    if values.dtype == np.int16:
        dicom.write(folder / "dicom", dicom.datasets(values))
        paths["dicom"] = folder / "dicom"
    return paths


@pytest.fixture(scope="module")
def formats(dicom, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Path]]:
    folder = tmp_path_factory.mktemp("formats")
    hu = dicom.scan()
    mask = (hu > 200).astype(np.uint8) + (hu > 600)
    found = {
        "scan": every_format(dicom, folder / "scan", hu),
        "mask": every_format(dicom, folder / "mask", mask),
    }
    found["mask"]["seg"] = dicom.segmentation(folder / "mask" / "seg", dicom.datasets(hu), mask)
    return found


@pytest.mark.parametrize("kind", ["nifti", "nrrd", "nhdr", "mha", "mhd", "dicom"])
def test_every_format_gives_the_same_slices(kind: str, formats, dicom) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        volume = open_volume(formats["scan"][kind])
    assert volume.stated
    np.testing.assert_allclose(volume.grid.affine, AFFINE, atol=1e-5)
    np.testing.assert_array_equal(volume.read_hu(range(6)), dicom.scan())
    for other in formats["scan"].values():
        assert not geometry_warnings(open_volume(other))


@pytest.mark.parametrize("kind", ["nifti", "nrrd", "nhdr", "mha", "mhd", "seg"])
def test_every_mask_fits_every_scan(kind: str, formats, dicom) -> None:
    expected = (dicom.scan() > 200).astype(np.uint8) + (dicom.scan() > 600)
    for path in formats["scan"].values():
        image = open_volume(path)
        for as_image in (False, True):
            found = open_mask(formats["mask"][kind], image, as_image=as_image).read_mask(image)
            assert found.dtype == np.uint8
            np.testing.assert_array_equal(found, expected)


def test_a_mask_with_the_images_grid_on_request(formats, tmp_path: Path) -> None:
    image = open_volume(formats["scan"]["dicom"])
    mask = np.random.default_rng(0).integers(0, 3, (10, 8, 6)).astype(np.uint8)
    nib.save(nib.Nifti1Image(mask, np.diag((1.0, 1, 1, 1))), tmp_path / "label.nii")
    with pytest.raises(DataError, match="mm apart"):
        open_mask(tmp_path / "label.nii", image).read_mask(image)
    found = open_mask(tmp_path / "label.nii", image, as_image=True).read_mask(image)
    np.testing.assert_array_equal(found, mask.transpose(2, 1, 0))
    nib.save(nib.Nifti1Image(mask[1:], np.eye(4)), tmp_path / "small.nii")
    with pytest.raises(DataError, match="has shape"):
        open_mask(tmp_path / "small.nii", image, as_image=True)


def save_mask(path: Path, view: np.ndarray, affine: np.ndarray) -> Path:
    """A mask in radiological view, stored left, posterior, superior; `affine` says what it will."""
    nib.save(nib.Nifti1Image(view.transpose(2, 1, 0), affine), path)
    return path


def some_mask() -> np.ndarray:
    mask = np.zeros((6, 8, 10), np.uint8)
    mask[4, 1, 2], mask[0, 6, 9] = 1, 2
    return mask


@pytest.mark.parametrize("kind", ["nifti", "nrrd", "mha", "dicom"])
@pytest.mark.parametrize("codes", ["LPS", "RAS", "LAI"])
@pytest.mark.parametrize("ending", ["nii", "mha"])
def test_a_mask_stays_with_the_voxels_that_it_marks(
    kind: str, codes: str, ending: str, formats, tmp_path: Path
) -> None:
    """Whatever is said of the scan's axes, and in whatever order the mask's voxels are stored."""
    flipped = np.array([[-0.8, 0, 0, 120], [0, 0.8, 0, 80 - 0.8 * 7], [0, 0, 2.5, -300], [0, 0, 0, 1]])
    if ending == "nii":  # rows the other way round, as dcm2niix stores them
        path = save_mask(tmp_path / "mask.nii", some_mask()[:, ::-1], flipped)
    else:
        path = tmp_path / "mask.mha"
        image = sitk.GetImageFromArray(some_mask()[:, ::-1])
        image.SetDirection((1, 0, 0, 0, -1, 0, 0, 0, 1))
        image.SetSpacing((0.8, 0.8, 2.5))
        image.SetOrigin((-120, -80 + 0.8 * 7, -300))
        sitk.WriteImage(image, str(path))
    plain, turned = open_volume(formats["scan"][kind]), open_volume(formats["scan"][kind], orientation=codes)
    hu = plain.read_hu(range(6))[some_mask() > 0]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_array_equal(open_mask(path, plain, as_image=True).read_mask(plain), some_mask())
        mask = open_mask(path, turned, put_right=True).read_mask(turned)
    values = [int(turned.read_hu(range(6))[mask == label][0]) for label in (2, 1)]
    assert values == hu.tolist() and mask.sum() == 3


def test_a_mask_that_might_be_flipped_is_refused(formats, tmp_path: Path) -> None:
    shifted = AFFINE + np.array([[0, 0, 0, 30], [0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]])
    other = np.diag((0.8, 0.8, 2.5, 1))  # to the right and anterior
    nifti = open_volume(formats["scan"]["nifti"], orientation="LPS")
    dicom = open_volume(formats["scan"]["dicom"], orientation="LPS")
    same_axes = save_mask(tmp_path / "same.nii", some_mask(), shifted)
    other_axes = save_mask(tmp_path / "other.nii", some_mask(), other)
    silent = save_mask(tmp_path / "silent.nii", some_mask(), np.eye(4))

    def read(path: Path, image: Any, **options: bool) -> np.ndarray:
        return open_mask(path, image, **options).read_mask(image)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for path in (same_axes, silent):
            np.testing.assert_array_equal(read(path, nifti, put_right=True), some_mask())
        with pytest.raises(
            DataError, match="point to RAS by its own affine, and the scan's to LPS"
        ) as raised:
            read(other_axes, nifti, put_right=True)
        assert "mask_grid=image" in raised.value.remedy
        np.testing.assert_array_equal(read(other_axes, nifti, as_image=True), some_mask())
        for path, options in ((same_axes, {"put_right": True}), (other_axes, {"as_image": True})):
            with pytest.raises(DataError, match=r"format is NIfTI, the scan's DICOM.*upside down"):
                read(path, dicom, **options)
    with pytest.warns(DataWarning, match="of another format: check in a picture"):
        np.testing.assert_array_equal(read(silent, dicom, put_right=True), some_mask())


def test_a_segmentation_goes_by_positions_where_the_scan_was_turned(formats, dicom) -> None:
    image = open_volume(formats["scan"]["dicom"], orientation="LAI")
    expected = ((dicom.scan() > 200).astype(np.uint8) + (dicom.scan() > 600))[::-1, ::-1]
    found = open_mask(formats["mask"]["seg"], image, put_right=True).read_mask(image)
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("kind", ["nifti", "nrrd", "mha", "dicom"])
def test_an_orientation_that_outranks_the_file(kind: str, formats, dicom) -> None:
    path = formats["scan"][kind]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert open_volume(path, unstated="RAS").grid.codes == "LPS"  # the file says it
        volume = open_volume(path, orientation="RAI")
    assert volume.grid.codes == "RAI"
    assert volume.grid.voxel_mm == pytest.approx((2.5, 0.8, 0.8))
    np.testing.assert_array_equal(volume.read_hu(range(6)), dicom.scan()[::-1, ::-1, ::-1])
    np.testing.assert_array_equal(volume.read_hu([1]), dicom.scan()[4:5, ::-1, ::-1])


def test_a_file_that_states_no_orientation(tmp_path: Path, dicom) -> None:
    nib.save(nib.Nifti1Image(dicom.scan().transpose(2, 1, 0), np.eye(4)), tmp_path / "scan.nii")
    with pytest.warns(DataWarning, match="states no orientation. It is read as RAS"):
        volume = open_volume(tmp_path / "scan.nii")
    np.testing.assert_array_equal(volume.read_hu([0]), dicom.scan()[:1, ::-1, ::-1])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        volume = open_volume(tmp_path / "scan.nii", unstated="LPS")
    np.testing.assert_array_equal(volume.read_hu([0]), dicom.scan()[:1])


def test_doubts_about_files_are_told_with_an_orientation_too(dicom, tmp_path: Path) -> None:
    sets = dicom.datasets(dicom.scan())
    dicom.write(tmp_path, [*sets[:2], *sets[3:]])
    with pytest.warns(DataWarning, match="lacks 1 slice in 1 gap"):
        open_volume(tmp_path, orientation="LPS")


def test_one_of_several_series_is_chosen_by_its_pseudonym_or_identifier(dicom, tmp_path: Path) -> None:
    first, second = dicom.datasets(dicom.scan(3), seed="a"), dicom.datasets(dicom.scan(4), seed="b")
    dicom.write(tmp_path / "a", first)
    dicom.write(tmp_path / "b", second)
    with pytest.raises(DataError, match="holds 2 DICOM series of CT slices") as raised:
        open_volume(tmp_path)
    text = str(raised.value)
    assert "(CT, 3 files)" in text
    assert "(CT, 4 files)" in text
    assert "SECRET" not in text
    assert "--series ID" in text and "column series of a manifest" in text
    identifier = str(second[0].SeriesInstanceUID)
    assert identifier not in text
    assert open_volume(tmp_path, series=identifier).grid.slice_count == 4
    shown = next(word for word in text.split() if word.startswith("series-"))
    assert open_volume(tmp_path, series=shown).grid.slice_count == 3
    with pytest.raises(DataError, match="no DICOM series of that id"):
        open_volume(tmp_path, series="series-0000000000")


def test_segmentations_and_tables_beside_a_series_do_not_disturb(dicom, tmp_path: Path) -> None:
    sets = dicom.datasets(dicom.scan())
    dicom.write(tmp_path / "case", sets)
    mask = (dicom.scan() > 0).astype(np.uint8)
    dicom.segmentation(tmp_path / "case" / "seg.dcm", sets, mask)
    (tmp_path / "case" / "labels.csv").write_text("slice,label\n0,1\n")
    image = open_volume(tmp_path / "case")
    assert image.grid.slice_count == 6
    np.testing.assert_array_equal(open_mask(tmp_path / "case", image).read_mask(image), mask)
    dicom.segmentation(tmp_path / "case" / "seg2.dcm", sets, mask)
    with pytest.raises(DataError, match="holds 2 DICOM segmentations"):
        open_mask(tmp_path / "case", image)


@pytest.mark.parametrize("name", ["slice.png", "slice.JPG", "slice.tif"])
def test_pictures_are_refused(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"\x89PNG\r\n\x1a\n")
    with pytest.raises(DataError, match="is a picture: its grey values are no Hounsfield units"):
        open_volume(tmp_path / name)


def test_what_is_no_scan_is_refused(formats, dicom, tmp_path: Path) -> None:
    image = open_volume(formats["scan"]["nifti"])
    (tmp_path / "notes.txt").write_text("no scan")
    (tmp_path / "DICOMDIR").write_bytes(bytes(128) + b"DICM")
    (tmp_path / "empty").mkdir()
    for name, match in [
        ("notes.txt", r"is no scan that can be read\. Give NIfTI"),
        ("DICOMDIR", "table of contents"),
        ("gone", "does not exist"),
        ("gone.nrrd", "does not exist"),
        ("empty", "holds no DICOM file"),
    ]:
        with pytest.raises(DataError, match=match):
            open_volume(tmp_path / name)
        with pytest.raises(DataError, match=r"holds 0 DICOM seg" if name == "empty" else match):
            open_mask(tmp_path / name, image)


def test_known_files_of_a_series_are_not_looked_for_again(
    tmp_path: Path, dicom: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    dicom.write(tmp_path / "one", dicom.datasets(dicom.scan()))
    dicom.write(tmp_path / "two", dicom.datasets(dicom.scan() + 1, seed="two"))
    (first, second) = find_series(tmp_path)
    monkeypatch.setattr("cbirbench.scans.dicom_files.find_series", lambda *_, **__: pytest.fail("searched"))
    volumes = [open_volume(tmp_path, series=one.uid, files=one.files) for one in (first, second)]
    lowest = sorted(int(volume.read_hu(range(6)).min()) for volume in volumes)
    assert lowest == [-1000, -999]
