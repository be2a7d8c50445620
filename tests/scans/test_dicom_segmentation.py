from __future__ import annotations

import warnings
from pathlib import Path

import highdicom as hd
import nibabel as nib
import numpy as np
import pytest
from pydicom import dcmread
from pydicom.uid import RLELossless

from cbirbench.errors import DataError, DataWarning
from cbirbench.scans.dicom_segmentation import DicomSegmentation, is_segmentation
from cbirbench.scans.volume import Volume
from cbirbench.scans.volumes import open_mask, open_volume


def some_mask(shape: tuple[int, ...] = (6, 8, 10), segments: int = 2) -> np.ndarray:
    """Random labels; the first and the fourth slice are empty."""
    values = np.random.default_rng(5).integers(0, segments + 1, shape).astype(np.uint8)
    values[0] = values[3] = 0
    return values


def read(path: Path, image: Volume, **options: bool) -> np.ndarray:
    with warnings.catch_warnings():
        warnings.simplefilter("error", DataWarning)
        return open_mask(path, image, **options).read_mask(image)


# Rows of 7 x 9 pixels end within a byte.
@pytest.mark.parametrize("shape", [(6, 8, 10), (6, 7, 9)])
def test_frames_land_on_their_slices(dicom, shape: tuple[int, int, int], tmp_path: Path) -> None:
    sets, mask = dicom.datasets(dicom.scan(*shape)), some_mask(shape)
    dicom.write(tmp_path / "ct", sets)
    path = dicom.segmentation(tmp_path / "seg.dcm", sets[::-1], mask[::-1])
    image = open_volume(tmp_path / "ct")
    opened = open_mask(path, image)
    assert isinstance(opened, DicomSegmentation)
    assert opened.names == {1: "organ 1", 2: "organ 2"}
    assert len(opened.frames) == 8  # empty planes are not stored
    np.testing.assert_array_equal(opened.read_mask(image), mask)


def test_highdicom_reads_the_same(dicom, tmp_path: Path) -> None:
    sets, mask = dicom.datasets(dicom.scan()), some_mask()
    dicom.write(tmp_path / "ct", sets)
    path = dicom.segmentation(tmp_path / "seg.dcm", sets, mask)
    theirs = hd.seg.segread(path).get_pixels_by_source_instance(
        [ds.SOPInstanceUID for ds in sets], combine_segments=True, ignore_spatial_locations=True,
        assert_missing_frames_are_empty=True,
    )  # fmt: skip
    np.testing.assert_array_equal(read(path, open_volume(tmp_path / "ct")), theirs)


def test_a_label_map_and_compressed_frames(dicom, tmp_path: Path) -> None:
    sets, mask = dicom.datasets(dicom.scan()), some_mask()
    dicom.write(tmp_path / "ct", sets)
    image = open_volume(tmp_path / "ct")
    path = dicom.segmentation(tmp_path / "seg.dcm", sets, mask, "LABELMAP", transfer_syntax_uid=RLELossless)
    assert dcmread(path).SegmentationType == "LABELMAP"
    np.testing.assert_array_equal(read(path, image), mask)


@pytest.mark.parametrize("highest", [255, 100, 3])
def test_at_least_half_of_a_fraction_counts(dicom, highest: int, tmp_path: Path) -> None:
    sets = dicom.datasets(dicom.scan())
    dicom.write(tmp_path / "ct", sets)
    fractions = np.random.default_rng(0).random((6, 8, 10))
    path = dicom.segmentation(
        tmp_path / "seg.dcm", sets, fractions[..., np.newaxis], "FRACTIONAL",
        fractional_type="PROBABILITY", max_fractional_value=highest,
    )  # fmt: skip
    image = open_volume(tmp_path / "ct")
    with pytest.warns(DataWarning, match=r"fractions \(probability\): voxels of at least one half"):
        mask = open_mask(path, image)
    stored = np.rint(fractions * highest)
    np.testing.assert_array_equal(mask.read_mask(image), stored * 2 >= highest)


def test_the_higher_segment_wins_where_two_overlap(dicom, tmp_path: Path) -> None:
    sets = dicom.datasets(dicom.scan())
    dicom.write(tmp_path / "ct", sets)
    masks = np.zeros((6, 8, 10, 2), np.uint8)
    masks[2, 2:6, :, 0] = masks[2, 4:8, :, 1] = 1
    path = dicom.segmentation(tmp_path / "seg.dcm", sets, masks)
    image = open_volume(tmp_path / "ct")
    with pytest.warns(DataWarning, match="overlap in 20 voxels"):
        found = open_mask(path, image).read_mask(image)
    assert found[2, :, 0].tolist() == [0, 0, 1, 1, 2, 2, 2, 2]


@pytest.mark.parametrize(
    ("directions", "step"),
    [
        ((-1, 0, 0, 0, -1, 0), (0, 0, 2.5)),  # on the belly
        ((1, 0, 0, 0, 0, -1), (0, 2.5, 0)),  # coronal
        ((0, 1, 0, 0, 0, -1), (2.5, 0, 0)),  # sagittal
        ((1, 0, 0, 0, 0.96, 0.28), (0, 0, 2.5)),  # tilted
        ((0.8, 0.6, 0, -0.6, 0.8, 0), (0, 0, -2.5)),  # turned, stored downwards
    ],
)
def test_any_orientation(dicom, directions, step, tmp_path: Path) -> None:
    hu = dicom.scan()
    sets = dicom.datasets(hu, directions=directions, step=step, spacing=(0.7, 0.9))
    dicom.write(tmp_path / "ct", sets)
    path = dicom.segmentation(tmp_path / "seg.dcm", sets, (hu > 300).astype(np.uint8))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)
        image = open_volume(tmp_path / "ct")
        stretched = open_volume(tmp_path / "ct", orientation="RAS")
    every = range(image.grid.slice_count)
    np.testing.assert_array_equal(read(path, image), image.read_hu(every) > 300)
    # What an option says of the axes turns the view of both alike.
    every = range(stretched.grid.slice_count)
    np.testing.assert_array_equal(read(path, stretched), stretched.read_hu(every) > 300)


def test_uneven_slices_are_matched_where_they_really_lie(dicom, tmp_path: Path) -> None:
    sets, mask = dicom.datasets(dicom.scan(9)), some_mask((9, 8, 10), 1)
    path = dicom.segmentation(
        tmp_path / "seg.dcm", sets[1:3] + sets[6:], np.concatenate([mask[1:3], mask[6:]])
    )
    kept = [0, 1, 2, 6, 7, 8]  # three slices are missing; none of these lies on an even grid's plane
    dicom.write(tmp_path / "ct", [sets[k] for k in kept])
    with pytest.warns(DataWarning, match="lacks 3 slices"):
        image = open_volume(tmp_path / "ct")
    np.testing.assert_array_equal(read(path, image), mask[kept] * (np.arange(6) > 0)[:, None, None])


def test_the_mask_of_a_scan_that_was_converted_to_nifti(dicom, tmp_path: Path) -> None:
    sets, mask = dicom.datasets(dicom.scan()), some_mask()
    path = dicom.segmentation(tmp_path / "seg.dcm", sets, mask)
    dicom.write(tmp_path / "ct", sets)
    grid = open_volume(tmp_path / "ct").grid
    stored = dicom.scan().transpose(2, 1, 0)
    flip = np.diag((1.0, -1, 1, 1))
    flip[1, 3] = 7  # as dcm2niix: rows from posterior to anterior
    nib.save(nib.Nifti1Image(stored[:, ::-1], grid.affine @ flip), tmp_path / "ct.nii")
    image = open_volume(tmp_path / "ct.nii")
    assert image.grid.codes == "LAS"
    np.testing.assert_array_equal(read(path, image), mask)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"origin": (-120, -80, -298.7)}, "8 of its 8 frames lie on no slice"),
        ({"origin": (-119, -80, -300)}, "another geometry"),
        ({"step": (0, 0, 2.4)}, "4 of its 8 frames"),
        ({"spacing": (0.8, 0.9)}, "another geometry"),
        ({"directions": (0, 1, 0, 1, 0, 0)}, "another geometry"),
        ({"frame": "1.2.3.10"}, "different frames of reference"),
    ],
)
def test_masks_of_other_geometry_are_refused(dicom, change, match: str, tmp_path: Path) -> None:
    path = dicom.segmentation(tmp_path / "seg.dcm", dicom.datasets(dicom.scan()), some_mask())
    dicom.write(tmp_path / "ct", dicom.datasets(dicom.scan(), **change))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)
        image = open_volume(tmp_path / "ct")
    with pytest.raises(DataError, match=match) as raised:
        read(path, image)
    assert "SECRET" not in str(raised.value)
    if "frame" in change:
        np.testing.assert_array_equal(read(path, image, as_image=True), some_mask())
    else:
        with pytest.raises(DataError, match=match):
            read(path, image, as_image=True)


def test_masks_of_another_size_are_refused(dicom, tmp_path: Path) -> None:
    path = dicom.segmentation(tmp_path / "seg.dcm", dicom.datasets(dicom.scan()), some_mask())
    dicom.write(tmp_path / "ct", dicom.datasets(dicom.scan(6, 8, 12)))
    with pytest.raises(DataError, match="another geometry"):
        read(path, open_volume(tmp_path / "ct"))


def test_a_segmentation_is_no_scan(dicom, tmp_path: Path) -> None:
    sets = dicom.datasets(dicom.scan())
    (ct, *_) = dicom.write(tmp_path / "ct", sets)
    path = dicom.segmentation(tmp_path / "seg.dcm", sets, some_mask())
    assert is_segmentation(path)
    assert not is_segmentation(ct)
    with pytest.raises(DataError, match="is a DICOM segmentation, no scan"):
        open_volume(path)
    with pytest.raises(DataError, match="is a DICOM segmentation, no scan"):
        open_mask(path, open_volume(ct)).read_hu([0])


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda ds: setattr(ds, "SegmentationType", "NEW"), "of type NEW"),
        (lambda ds: setattr(ds.SegmentSequence[0], "SegmentNumber", 300), "segment number 300"),
        (lambda ds: delattr(ds, "PerFrameFunctionalGroupsSequence"), "has no ReferencedSegmentNumber"),
        (lambda ds: delattr(ds, "PixelData"), "has no pixels"),
        (lambda ds: setattr(ds, "PixelData", ds.PixelData[:40]), "cannot be decoded"),
    ],
)
def test_damaged_segmentations(dicom, change, match: str, tmp_path: Path) -> None:
    sets = dicom.datasets(dicom.scan())
    dicom.write(tmp_path / "ct", sets)
    made = dcmread(dicom.segmentation(tmp_path / "seg.dcm", sets, some_mask()))
    change(made)
    made.save_as(tmp_path / "seg.dcm")
    with pytest.raises(DataError, match=match) as raised:
        read(tmp_path / "seg.dcm", open_volume(tmp_path / "ct"))
    assert "SECRET" not in str(raised.value)
