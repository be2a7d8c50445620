from __future__ import annotations

from pathlib import PurePath

import pytest

from cbirbench.datasets.scan_names import (
    is_image_word,
    is_mask_name,
    is_structure_name,
    mask_base,
    safe_name,
    stem_of,
    unique,
    volume_id,
    without_first_word,
)


@pytest.mark.parametrize(
    ("name", "stem"),
    [
        ("a.nii.gz", "a"),
        ("a.b.NII", "a.b"),
        ("a_0000.nii.gz", "a"),
        ("a_0001.nrrd", "a_0001"),
        ("IM1.dcm", "IM1"),
        ("IM1", "IM1"),
        (".nii", ".nii"),
        ("a.txt", "a.txt"),
    ],
)
def test_stems(name: str, stem: str) -> None:
    assert stem_of(name) == stem


@pytest.mark.parametrize(
    ("stem", "mask", "base", "bare"),
    [
        ("case1", False, "case1", "case1"),
        ("case1_seg", True, "case1", "case1"),
        ("case1-label", True, "case1", "case1"),
        ("Case.Mask", True, "Case", "Case"),
        ("labels", True, "labels", "labels"),
        ("segmentation-10", True, "segmentation-10", "10"),
        ("volume-10", False, "volume-10", "10"),
        ("segment", False, "segment", "segment"),
        ("unmasked", False, "unmasked", "unmasked"),
        ("labelled_3", False, "labelled_3", "labelled_3"),
    ],
)
def test_masks_by_their_names(stem: str, mask: bool, base: str, bare: str) -> None:
    assert (is_mask_name(stem), mask_base(stem), without_first_word(mask_base(stem))) == (mask, base, bare)


def test_names_of_images_and_structures() -> None:
    assert all(map(is_image_word, ("ct", "CT", "image", "Volume")))
    assert not any(map(is_image_word, ("ct1", "case", "label")))
    assert all(map(is_structure_name, ("liver", "Liver_Tumour", "left-kidney", "liver mask")))
    assert not any(map(is_structure_name, ("liver_0", "case1", "")))


def test_ids() -> None:
    assert volume_id(PurePath("a/b c/ct.nii.gz")) == "a_b c_ct"
    assert unique(["a", "b", "a", "a_2", "a"]) == ["a", "b", "a_2", "a_2_2", "a_3"]
    assert safe_name(" Ward 7/ä.b ") == "Ward-7-.b"
