from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from cbirbench.checking.scan_check import check_scan
from cbirbench.checking.scan_facts import ScanCheck
from cbirbench.datasets.discovery import FoundScan
from cbirbench.datasets.scan_options import ScanOptions

LPS = np.diag((-0.8, -0.8, 2.0, 1.0))


def body() -> tuple[np.ndarray, np.ndarray]:
    """A body in radiological view: spine at the back, liver on the right in slices 5 to 14."""
    rng = np.random.default_rng(0)
    hu = np.full((20, 40, 40), -1000, np.int16)
    hu[:, 8:34, 4:36] = rng.integers(20, 60, (20, 26, 32))
    hu[:, 26:32, 18:23] = 700
    mask = np.zeros(hu.shape, np.uint8)
    mask[5:15, 12:24, 6:16] = 1
    hu[mask == 1] = rng.integers(90, 130, 1200)
    mask[9:11, 14:16, 8:10] = 2  # 8 voxels
    return hu, mask


def checked(
    folder: Path,
    hu: np.ndarray,
    mask: np.ndarray | None = None,
    affine: np.ndarray = LPS,
    organ: str = "",
    **options: Any,
) -> ScanCheck:
    """Write a scan and its mask as LPS, and check them."""
    paths = []
    for name, view in (("image", hu), ("mask", mask)):
        if view is not None:
            paths.append(folder / f"{name}.nii.gz")
            nib.save(nib.Nifti1Image(view.transpose(2, 1, 0), affine), paths[-1])
    scan = FoundScan("one", "one", "one", paths[0], mask=paths[1] if mask is not None else None)
    check, views = check_scan(scan, ScanOptions(**options), organ)
    assert bool(views) == (check.hu is not None)
    return check


def test_what_is_said_of_a_scan_in_order(tmp_path: Path) -> None:
    hu, mask = body()
    check = checked(tmp_path, hu, mask, organ="liver")
    assert (check.errors, check.warnings, check.notes) == ([], [], [])
    assert check.readable and check.format == "NIfTI"
    assert check.grid is not None and check.hu is not None and check.mask is not None
    assert check.grid.shape == (20, 40, 40)
    assert check.grid.spacing_mm == pytest.approx((2.0, 0.8, 0.8))
    assert (check.grid.orientation, check.grid.stated) == ("LPS", True)
    assert (check.hu.lowest, check.hu.highest, check.hu.padding) == (-1000, 700, None)
    assert check.hu.percentiles == {q: int(np.percentile(hu, q, method="inverted_cdf")) for q in (1, 50, 99)}
    assert check.mask.voxels == {1: 1192, 2: 8}
    assert check.mask.ml == pytest.approx({1: 1192 * 1.28e-3, 2: 8 * 1.28e-3})
    assert check.mask.organ_ml == pytest.approx(1200 * 1.28e-3)
    assert (check.mask.slices_with, check.mask.slices_without) == (10, 10)
    inside = hu[mask > 0]
    assert check.mask.percentiles == {
        q: int(np.percentile(inside, q, method="inverted_cdf")) for q in (1, 5, 50, 95, 99)
    }
    assert check.mask.histogram.bins(90, 130, 10) == [
        int(n) for n in np.histogram(inside, [90, 100, 110, 120, 130])[0]
    ]


def test_targets_choose_the_organ(tmp_path: Path) -> None:
    check = checked(tmp_path, *body(), targets=(2,))
    assert check.mask is not None
    assert check.mask.organ_ml == pytest.approx(8 * 1.28e-3)
    assert (check.mask.slices_with, check.mask.slices_without) == (2, 18)
    assert check.warnings == ["It has 2 slices with target organ, fewer than the 5 that are drawn."]


def test_a_scan_without_a_mask(tmp_path: Path) -> None:
    check = checked(tmp_path, body()[0])
    assert check.mask is None and check.hu is not None and check.warnings == []


def test_equal_voxels_have_equal_digests_however_they_are_stored(tmp_path: Path) -> None:
    hu, _ = body()
    first = checked(tmp_path, hu).digest
    turned = checked(tmp_path, hu[:, ::-1, ::-1], affine=np.diag((0.8, 0.8, 2.0, 1.0)))
    assert turned.grid is not None and turned.grid.orientation == "RAS"
    assert turned.digest == first and len(first) == 64
    hu[3, 3, 3] += 1
    assert checked(tmp_path, hu).digest != first


def doubted(folder: Path, *parts: Any, **options: Any) -> str:
    """The only warning that a scan gets."""
    check = checked(folder, *parts, **options)
    assert check.errors == []
    (text,) = check.warnings
    return text


def test_doubts_about_the_mask(tmp_path: Path) -> None:
    hu, mask = body()
    assert "marks no target organ: its values are 1, 2" in doubted(tmp_path, hu, mask, targets=(7,))
    assert "marks no target organ: its values are 0 alone" in doubted(tmp_path, hu, np.zeros_like(mask))
    few = doubted(tmp_path, hu[4:17], mask[4:17])
    assert few == "It has 3 slices without target organ, fewer than the 5 that are drawn."
    assert checked(tmp_path, hu[4:17], mask[4:17], slices_per_kind=3).warnings == []
    outside = np.zeros_like(mask)
    outside[5:15, 0:7] = 1
    assert "100% of its mask of target organ lie in air" in doubted(tmp_path, hu, outside)
    assert checked(tmp_path, hu, outside, organ="lung").warnings == []
    spine = (hu == 700).astype(np.uint8)
    spine[:5] = 0
    assert "The median of its target organ is 700 HU" in doubted(tmp_path, hu, spine)
    assert checked(tmp_path, hu, spine, organ="Vertebrae bone").warnings == []


def test_a_liver_on_the_left_is_asked_about(tmp_path: Path) -> None:
    hu, mask = (part[:, :, ::-1] for part in body())
    assert "liver lies in the left half" in doubted(tmp_path, hu, mask, organ="liver")
    assert checked(tmp_path, hu, mask, organ="spleen").warnings == []
    off_centre = np.roll(body()[0], 4, axis=2), np.roll(body()[1], 4, axis=2)
    assert checked(tmp_path, *off_centre, organ="liver").warnings == []


def test_a_spine_in_front_is_asked_about(tmp_path: Path) -> None:
    hu, _ = body()
    assert "bones lie in the front half" in doubted(tmp_path, hu[:, ::-1])
    boneless = np.where(hu == 700, 40, hu).astype(np.int16)
    boneless[0, 9, 20] = 900  # too little to tell
    assert checked(tmp_path, boneless[:, ::-1]).warnings == []


def test_doubts_about_the_grid(tmp_path: Path) -> None:
    hu, _ = body()
    assert "7.5 mm apart" in doubted(tmp_path, hu, affine=np.diag((-1.0, -1.0, 7.5, 1.0)))
    assert "It has 9 slices, fewer than the 10" in doubted(tmp_path, hu[:9])
    assert "stretched" in doubted(tmp_path, hu, affine=np.diag((-1.0, -2.0, 2.0, 1.0)))
    sheared = LPS.copy()
    sheared[1, 2] = 0.5
    assert "gantry tilted" in doubted(tmp_path, hu, affine=sheared)
    angle = np.radians(10)
    turn = np.eye(4)
    turn[1:3, 1:3] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    oblique = checked(tmp_path, hu, affine=turn @ LPS)
    assert oblique.warnings == []
    assert "10.0 degrees off the axial plane" in oblique.notes[0]


def test_an_unstated_orientation_is_doubtful_until_it_is_given(tmp_path: Path) -> None:
    hu, mask = body()
    assert "states no orientation" in checked(tmp_path, hu, mask, affine=np.eye(4)).warnings[0]
    given = checked(tmp_path, hu, mask, affine=np.eye(4), unstated_orientation="LPS", organ="liver")
    assert given.warnings == [] and "read as LPS" in given.notes[0]
    assert given.grid is not None and not given.grid.stated


def test_a_slice_stored_twice(tmp_path: Path) -> None:
    hu, _ = body()
    hu[:2] = -1000  # empty slices are no copies
    assert checked(tmp_path, hu).warnings == []
    hu[7] = hu[6]
    assert "Slices 6 and 7 are identical: was" in doubted(tmp_path, hu)
    hu[9] = hu[8]
    assert "Slices 6 and 7 are identical, and 1 further pairs" in doubted(tmp_path, hu)


def test_padding_is_left_out_of_percentiles(tmp_path: Path) -> None:
    hu, _ = body()
    hu[:, :8] = -3024
    facts = checked(tmp_path, hu).hu
    assert facts is not None
    assert (facts.lowest, facts.padding, facts.padding_share) == (-3024, -3024, 0.2)
    assert facts.percentiles[1] == -1000


def test_values_that_are_no_hu_are_an_error_and_the_grid_is_still_told(tmp_path: Path) -> None:
    check = checked(tmp_path, (body()[0].clip(0, 255)).astype(np.uint8))
    assert check.grid is not None and check.hu is None and check.digest == ""
    assert len(check.errors) == 1 and "cannot be Hounsfield units" in check.errors[0]
    assert "rescale intercept" in check.errors[0]  # and what to do


def test_a_damaged_scan_says_so_and_its_mask_is_still_looked_at(tmp_path: Path) -> None:
    hu, mask = body()
    checked(tmp_path, hu, mask)
    whole = (tmp_path / "image.nii.gz").read_bytes()
    (tmp_path / "image.nii.gz").write_bytes(whole[: len(whole) // 2])
    scan = FoundScan("one", "one", "one", tmp_path / "image.nii.gz", mask=tmp_path / "mask.nii.gz")
    check, views = check_scan(scan, ScanOptions())
    assert views == () and "truncated" in check.errors[0]
    assert check.mask is not None and check.mask.slices_with == 10 and check.mask.percentiles == {}


def test_a_mask_of_another_grid_is_an_error_and_the_scan_is_still_shown(tmp_path: Path) -> None:
    hu, mask = body()
    check = checked(tmp_path, hu, mask[:, :, :20])
    assert check.hu is not None and check.mask is None
    assert len(check.errors) == 1 and "has shape" in check.errors[0]


def test_other_libraries_texts_stay_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # They may quote a DICOM header, and with it a patient's name.
    def broken(self: ScanOptions, path: Path, **_: Any) -> Any:
        warnings.warn("Invalid value: Doe^Jane", UserWarning, stacklevel=2)
        raise ValueError("Doe^Jane")

    monkeypatch.setattr(ScanOptions, "open_image", broken)
    check, _ = check_scan(FoundScan("one", "one", "one", tmp_path / "series"), ScanOptions())
    assert check.format == "DICOM" and check.warnings == []
    assert check.errors == [f"{tmp_path / 'series'} could not be read: an unexpected ValueError."]


def test_warnings_are_kept_here_and_go_no_further(tmp_path: Path) -> None:
    hu, _ = body()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = checked(tmp_path, hu, affine=np.eye(4)).warnings
    assert "states no orientation" in found[0]
    assert "bones lie in the front half" in found[1]  # as the identity says RAS and the voxels lie LPS


def test_a_file_of_no_known_format_is_called_by_its_ending(tmp_path: Path) -> None:
    for name, called in (("a.PNG", ".png"), ("a", "unknown")):
        (tmp_path / name).write_bytes(b"no scan")
        assert check_scan(FoundScan("x", "x", "x", tmp_path / name), ScanOptions())[0].format == called
    (tmp_path / "b").write_bytes(b"\0" * 128 + b"DICM")
    assert check_scan(FoundScan("x", "x", "x", tmp_path / "b"), ScanOptions())[0].format == "DICOM"


@pytest.mark.parametrize(
    ("labels", "note"),
    [
        ({0: 1, 3: 1, 19: 0}, "Labels: 2 slices show the liver, 1 does not."),
        ({4: 1}, "Labels: 1 slice shows the liver, 0 do not."),
    ],
)
def test_labels_are_counted(labels: dict[int, int], note: str, tmp_path: Path) -> None:
    checked(tmp_path, body()[0])
    scan = FoundScan("one", "one", "one", tmp_path / "image.nii.gz", labels=labels)
    check, _ = check_scan(scan, ScanOptions(), "liver")
    assert (check.errors, check.notes) == ([], [note])


def test_a_label_of_a_slice_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    checked(tmp_path, body()[0])
    scan = FoundScan("one", "one", "one", tmp_path / "image.nii.gz", labels={19: 1, 20: 0, 99: 1})
    check, views = check_scan(scan, ScanOptions())
    assert views and not check.readable
    assert "image.nii.gz has slices 0 to 19, and labels name others: 20, 99." in check.errors[0]


@pytest.mark.parametrize(
    ("name", "called"),
    [("a.NII.gz", "NIfTI"), ("a.nii", "NIfTI"), ("a.nhdr", "NRRD"), ("a.mha", "MetaImage"), ("a", "DICOM")],
)
def test_formats_by_name(name: str, called: str, tmp_path: Path) -> None:
    check, _ = check_scan(FoundScan("x", "x", "x", tmp_path / name), ScanOptions())
    assert check.format == called and not check.readable
