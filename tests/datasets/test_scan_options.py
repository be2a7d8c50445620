from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from pydantic import ValidationError

from cbirbench.datasets.scan_options import ScanOptions, files_fingerprint, files_of
from cbirbench.errors import DataError, DataWarning


def test_options_enter_the_fingerprint_where_they_are_set() -> None:
    assert ScanOptions().shapes_slices() == {"slices_per_kind": 5, "slice_seed": 0}
    every = ScanOptions(
        targets=(2, 1), too_few="take-fewer", unstated_orientation="ras", mask_grid="image", slices_per_kind=3
    )
    assert every.shapes_slices() == {
        "slices_per_kind": 3,
        "slice_seed": 0,
        "targets": (1, 2),
        "too_few": "take-fewer",
        "unstated_orientation": "RAS",
        "mask_grid": "image",
    }


def test_drawing_takes_them_over() -> None:
    drawing = ScanOptions(targets=(3,), too_few="take-fewer", slice_seed=2).drawing("spleen", "mine")
    assert (drawing.targets, drawing.too_few, drawing.slice_seed) == ((3,), "take-fewer", 2)
    assert (drawing.organ, drawing.benchmark) == ("spleen", "mine")


@pytest.mark.parametrize(
    "wrong",
    [
        {"targets": (0,)},
        {"targets": (256,)},
        {"too_few": "guess"},
        {"mask_grid": "other"},
        {"slice_seed": -1},
    ],
)
def test_wrong_values_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        ScanOptions(**wrong)


def test_files_of_a_scan(tmp_path: Path) -> None:
    for name in ("a.nii.gz", "b.mhd", "b.zraw", "c.nhdr", "c.raw.gz", "bb.raw", "s/2", "s/1", "s/below/3"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()

    def files(name: str) -> list[str]:
        return [path.relative_to(tmp_path).as_posix() for path in files_of(tmp_path / name)]

    assert files("a.nii.gz") == ["a.nii.gz"]
    assert files("b.mhd") == ["b.mhd", "b.zraw"]
    assert files("c.nhdr") == ["c.nhdr", "c.raw.gz"]
    assert files("s") == ["s/1", "s/2", "s/below/3"]


def test_files_fingerprint_follows_each_file(tmp_path: Path) -> None:
    paths = tuple(tmp_path / name for name in ("1", "2", "3"))
    for path in paths:
        path.write_bytes(b"x")
        os.utime(path, ns=(5, 5))
    assert files_fingerprint(paths[:1]) == {"name": "1", "bytes": 1, "mtime_ns": 5}
    before = files_fingerprint(paths)
    assert before["files"] == 3 and len(json.dumps(before)) < 120
    assert before == files_fingerprint(paths) != files_fingerprint(paths[:2])
    os.utime(paths[1], ns=(6, 6))
    assert files_fingerprint(paths) != before
    paths[2].unlink()
    with pytest.raises(DataError, match="cannot be found"):
        files_fingerprint(paths)


@pytest.mark.parametrize(("given", "expected"), [("LAS", "same"), ("LPS", "refused"), ("", "apart")])
def test_a_mask_that_says_where_it_lies_beside_a_scan_that_does_not(
    given: str, expected: str, tmp_path: Path
) -> None:
    values = np.arange(4 * 5 * 6, dtype=np.int16).reshape(4, 5, 6) * 10 - 1000
    mask = (values > -100).astype(np.uint8)
    nib.save(nib.Nifti1Image(values, np.eye(4)), tmp_path / "scan.nii")
    nib.save(nib.Nifti1Image(mask, np.diag((-0.7, 0.7, 2.5, 1))), tmp_path / "mask.nii")
    options = ScanOptions(unstated_orientation=given)
    with contextlib.nullcontext() if given else pytest.warns(DataWarning, match="states no orientation"):
        image = options.open_image(tmp_path / "scan.nii")
    if expected == "same":
        found = options.open_mask(tmp_path / "mask.nii", image).read_mask(image)
        np.testing.assert_array_equal(found > 0, image.read_hu(range(6)) > -100)
        return
    says = "LAS by its own affine, and the scan's to LPS" if expected == "refused" else "mm apart"
    with pytest.raises(DataError, match=says):
        options.open_mask(tmp_path / "mask.nii", image).read_mask(image)
    image = (asked := ScanOptions(unstated_orientation="LPS", mask_grid="image")).open_image(image.path)
    found = asked.open_mask(tmp_path / "mask.nii", image).read_mask(image)
    np.testing.assert_array_equal(found > 0, image.read_hu(range(6)) > -100)
