from __future__ import annotations

import json
import os
import pickle
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from cbirbench import registry
from cbirbench.datasets.folder import Folder, FolderOptions
from cbirbench.datasets.sampling import draw_slices
from cbirbench.errors import DataError, DataWarning, UsageError
from cbirbench.interfaces import Source
from cbirbench.settings import Settings, parse_assignments

COUNT = 20
LPS = np.diag((-0.7, -0.7, 2.5, 1.0))


def voxels(number: int) -> np.ndarray:
    """HU with axes left, posterior, superior: 5 x 6 pixels, 20 slices."""
    hu = np.random.default_rng(number).integers(-900, 900, size=(5, 6, COUNT)).astype(np.int16)
    hu[0, 0, :2] = (-1000, 1000)
    return hu


def mask_of(shown: range = range(4, 13), value: int = 1) -> np.ndarray:
    mask = np.zeros((5, 6, COUNT), np.uint8)
    mask[1:3, 1:3, list(shown)] = value
    return mask


def write(path: Path, stored: np.ndarray, affine: np.ndarray = LPS) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(stored, affine), path)
    return path


def cohort(root: Path, count: int = 4, masks: str = "masks") -> Path:
    """Scans p1.nii.gz, ..., with masks unless `masks` is empty."""
    for number in range(1, count + 1):
        write(root / "images" / f"p{number}.nii.gz", voxels(number))
        if masks:
            write(root / masks / f"p{number}.nii.gz", mask_of())
    return root


def folder(**options: Any) -> Folder:
    return Folder(FolderOptions(**options))


def sides(sources: list[Source]) -> dict[str, str]:
    return {source.volume_id: source.split for source in sources}


def read_all(made: Folder) -> dict[str, Any]:
    return {source.volume_id: made.read(source) for source in made.sources()}


def fingerprints(made: Folder) -> list[Mapping[str, Any]]:
    return [source.fingerprint for source in made.sources()]


def test_scans_with_masks_are_drawn_from_as_the_papers_are(tmp_path: Path) -> None:
    root = cohort(tmp_path)
    made = folder(images=root / "images", masks=root / "masks")
    slices = read_all(made)
    assert list(slices) == ["p1", "p2", "p3", "p4"]
    for name, items in slices.items():
        drawn = draw_slices(mask_of().any(axis=(0, 1)), 5, 0, name)
        assert [item.z_index for item in items] == drawn.tolist()
        assert items.labels.tolist() == [int(4 <= z < 13) for z in drawn]
        for item in items:
            np.testing.assert_array_equal(item.hu, voxels(int(name[1]))[:, :, item.z_index].T)
            np.testing.assert_array_equal(item.mask, mask_of()[:, :, item.z_index].T)
            assert (item.patient_id, item.study_id, item.volume_id) == (name, name, name)


def test_every_way_to_name_the_same_scans_gives_the_same(tmp_path: Path) -> None:
    root = cohort(tmp_path)
    rows = [f"p{n},p{n},images/p{n}.nii.gz,masks/p{n}.nii.gz" for n in range(1, 5)]
    manifest = root / "m.csv"
    manifest.write_text("\n".join(["patient,study,image,mask", *rows]))
    expected = fingerprints(folder(images=root / "images", masks=root / "masks"))
    assert fingerprints(folder(images=root)) == expected
    assert fingerprints(folder(data=root)) == expected
    assert fingerprints(folder(manifest=manifest)) == expected
    assert fingerprints(folder(data=manifest)) == expected


@pytest.mark.parametrize(
    ("patients", "share", "gallery"),
    [(4, None, 3), (2, None, 1), (131, None, 100), (5, 0.5, 2), (3, 0.01, 1), (3, 0.99, 2)],
)
def test_patients_are_split_in_numeric_order(
    patients: int, share: float | None, gallery: int, tmp_path: Path
) -> None:
    for n in range(1, patients + 1):  # two studies each; nothing is read from them
        for study in ("a", "b"):
            for name in ("ct.nii.gz", "mask.nii.gz"):
                path = tmp_path / f"p{n}" / study / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.touch()
    sources = folder(images=tmp_path, **({} if share is None else {"train_share": share})).sources()
    order = [source.patient_id for source in sources]
    assert order == [f"p{n}" for n in range(1, patients + 1) for _ in range(2)]
    assert [source.split for source in sources] == ["gallery"] * 2 * gallery + ["query"] * 2 * (
        patients - gallery
    )


def test_a_manifest_says_who_is_on_which_side(tmp_path: Path) -> None:
    root = cohort(tmp_path)
    rows = [
        f"x{n % 2},images/p{n}.nii.gz,masks/p{n}.nii.gz,{'train' if n % 2 else 'test'}" for n in range(1, 5)
    ]
    (root / "m.csv").write_text("\n".join(["patient,image,mask,split", *rows]))
    sources = folder(manifest=root / "m.csv").sources()
    assert [(s.volume_id, s.patient_id, s.split) for s in sources] == [
        ("images_p1", "x1", "gallery"),
        ("images_p3", "x1", "gallery"),
        ("images_p2", "x0", "query"),
        ("images_p4", "x0", "query"),
    ]


def test_labels_of_slices_where_there_are_no_masks(tmp_path: Path) -> None:
    root = cohort(tmp_path, 2, masks="") / "images"
    table = root / "slice_labels.csv"
    table.write_text("case,slice_k,liver\np1,0,0\np1,7,1\np1,8,-1\np2.nii.gz,19,1\n")
    made = folder(images=root)
    slices = read_all(made)
    assert {name: [(i.z_index, i.label) for i in items] for name, items in slices.items()} == {
        "p1": [(0, 0), (7, 1)],
        "p2": [(19, 1)],
    }
    assert all(item.mask is None for items in slices.values() for item in items)
    np.testing.assert_array_equal(slices["p1"][1].hu, voxels(1)[:, :, 7].T)
    before = fingerprints(made)
    table.rename(tmp_path / "elsewhere.csv")
    assert fingerprints(folder(images=root, labels=tmp_path / "elsewhere.csv")) == before
    with pytest.raises(UsageError, match=r"2 scans, but no mask and no label") as raised:
        folder(images=root).sources()
    assert "folder.masks" in raised.value.remedy and "folder.labels" in raised.value.remedy


def test_masks_outrank_labels_and_both_may_be_in_one_cohort(tmp_path: Path) -> None:
    root = cohort(tmp_path, 3)
    (root / "masks" / "p2.nii.gz").unlink()
    (root / "labels.csv").write_text("case,slice,label\np1,0,1\np2,3,1\np2,4,0\n")
    slices = read_all(folder(images=root))
    assert {name: len(items) for name, items in slices.items()} == {"p1": 10, "p2": 2, "p3": 10}
    assert slices["p1"][0].mask is not None and slices["p2"][0].mask is None


def test_what_is_left_out_is_warned_of(tmp_path: Path) -> None:
    root = cohort(tmp_path, 4)
    (root / "masks" / "p2.nii.gz").rename(root / "masks" / "other.nii.gz")
    (root / "labels.csv").write_text("case,slice,label\np9,0,1\np2,1,-1\n")
    with pytest.warns(DataWarning) as caught:
        sources = folder(images=root).sources()
    assert list(sides(sources)) == ["p1", "p3", "p4"]
    texts = sorted(str(warning.message).replace(str(tmp_path), "") for warning in caught)
    assert texts == [
        "/labels.csv labels slices of 1 scan that is not here: p9.",
        "1 file of  is not used: other.nii.gz (a mask of no scan here).",
        "1 scan of  has neither mask nor labels and is left out: p2.",
    ]


def test_a_whole_cohort_says_nothing(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        read_all(folder(images=cohort(tmp_path)))


def test_too_few_slices_are_taken_and_said_or_refused(tmp_path: Path) -> None:
    root = cohort(tmp_path, 2)
    write(root / "masks" / "p1.nii.gz", mask_of(range(2, 20)))
    made = folder(images=root, organ="kidney")
    with pytest.warns(DataWarning, match="p1 gives 5 slices with kidney and 2 without"):
        assert made.read(made.sources()[0]).labels.tolist().count(0) == 2
    made = folder(images=root, too_few="refuse")
    with pytest.raises(DataError, match="2 slices without") as raised:
        made.read(made.sources()[0])
    assert "--set folder.slices_per_kind=2" in raised.value.remedy


def test_targets_and_the_organs_name(tmp_path: Path) -> None:
    root = cohort(tmp_path, 2)
    write(root / "masks" / "p1.nii.gz", np.maximum(mask_of(range(2, 8), 3), mask_of(range(6, 12), 5)))
    made = folder(images=root, targets=(5,), organ="spleen", slices_per_kind=6)
    labels = {item.z_index: item.label for item in made.read(made.sources()[0])}
    assert {z for z, label in labels.items() if label} == set(range(6, 12))
    assert made.structures == {5: "spleen"}
    assert folder(images=root, organ="liver").structures == {1: "liver"}
    assert folder(images=root, targets=(1, 2), organ="liver").structures == {}
    assert folder(images=root).structures == {}
    with pytest.warns(DataWarning, match="gives 0 slices with spleen and 6 without"):
        without = made.read(made.sources()[1])
    assert without.labels.tolist() == [0] * 6  # a patient whose scan does not show it
    strict = folder(images=root, targets=(5,), organ="spleen", slices_per_kind=6, too_few="refuse")
    with pytest.raises(DataError, match="marks no spleen: no voxel is 5"):
        strict.read(strict.sources()[1])


def test_synthetic_scans_are_called_so_however_they_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = cohort(tmp_path / "made", 2)
    described = root / "dataset.json"
    described.write_text(json.dumps({"description": "Synthetic CT."}))
    rows = [f"P{n},{root}/images/p{n}.nii.gz,{root}/masks/p{n}.nii.gz" for n in (1, 2)]
    table = tmp_path / "elsewhere" / "cohort.csv"
    table.parent.mkdir()
    table.write_text("\n".join(["patient,image,mask", *rows]))
    monkeypatch.chdir(root / "images")
    for made in (folder(data=root), folder(data=Path()), folder(manifest=table), folder(data=table)):
        assert made.synthetic
    described.write_text(json.dumps({"description": "Of a hospital."}))
    assert not folder(manifest=table).synthetic and not folder(data=root).synthetic
    described.write_text("[]")
    assert not folder(manifest=table).synthetic
    with pytest.raises(DataError, match=r"dataset\.json"):
        _ = folder(data=root).synthetic
    assert not folder().synthetic


def test_structures_are_those_of_a_dataset_json_beside_the_scans(tmp_path: Path) -> None:
    root = cohort(tmp_path, 2)
    path = root / "dataset.json"
    path.write_text(json.dumps({"labels": {"background": 0, "liver": 1, "tumour": 2}}))
    for made in (
        folder(images=root),
        folder(images=root / "images", masks=root / "masks"),
        folder(data=root, organ="x"),
    ):
        assert made.structures == {1: "liver", 2: "tumour"}
    path.write_text("[]")
    with pytest.warns(DataWarning, match=r"dataset\.json.*Structures bear no names"):
        assert folder(images=root).structures == {}


def test_orientation_of_files_that_do_not_say_it(tmp_path: Path) -> None:
    root = cohort(tmp_path, 2)
    expected = read_all(folder(images=root))["p1"]
    write(root / "images" / "p1.nii.gz", voxels(1), np.eye(4))
    write(root / "masks" / "p1.nii.gz", mask_of(), np.eye(4))
    assert_same(read_all(folder(images=root, unstated_orientation="LPS"))["p1"], expected)
    write(root / "images" / "p1.nii.gz", voxels(1), LPS)
    with pytest.raises(DataError, match="mask_grid=image"):
        read_all(folder(images=root))
    assert_same(read_all(folder(images=root, mask_grid="image"))["p1"], expected)


def test_a_manifests_orientation_outranks_the_file(tmp_path: Path) -> None:
    root = cohort(tmp_path, 2)
    wrong = np.diag((0.7, 0.7, 2.5, 1.0))  # as if the axes ran to the right and anterior
    for kind, stored in (("images", voxels(1)), ("masks", mask_of())):
        write(root / kind / "p1.nii.gz", stored, wrong)
    rows = "a,images/p1.nii.gz,masks/p1.nii.gz,{}\nb,images/p2.nii.gz,masks/p2.nii.gz,\n"
    texts = ["patient,image,mask,orientation\n" + rows.format(codes) for codes in ("LPS", "")]
    found = []
    for text in texts:
        (root / "m.csv").write_text(text)
        found.append(read_all(folder(manifest=root / "m.csv"))["images_p1"])
    z = found[0][0].z_index
    np.testing.assert_array_equal(found[0][0].hu, voxels(1)[:, :, z].T)
    np.testing.assert_array_equal(found[1][0].hu, voxels(1)[::-1, ::-1, z].T)
    np.testing.assert_array_equal(found[0][0].mask, mask_of()[:, :, z].T)


def assert_same(found: Any, expected: Any) -> None:
    assert found.ids == expected.ids
    for item, wanted in zip(found, expected, strict=True):
        np.testing.assert_array_equal(item.hu, wanted.hu)
        np.testing.assert_array_equal(item.mask, wanted.mask)


def test_sources_read_no_scan_and_reading_works_after_pickling(tmp_path: Path) -> None:
    root = cohort(tmp_path, 2)
    made = folder(images=root)
    source = made.sources()[0]
    expected = made.read(source)
    for benchmark in (made, folder(images=root)):  # with what `sources` found, and without
        again, source_again = pickle.loads(pickle.dumps((benchmark, source)))
        assert_same(again.read(source_again), expected)
    for path in root.glob("*/*.nii.gz"):
        path.write_bytes(b"no scan")
    assert len(made.sources()) == 2


def test_a_scan_that_vanished_since(tmp_path: Path) -> None:
    root = cohort(tmp_path, 3)
    made = folder(images=root)
    source = made.sources()[0]
    (root / "images" / "p1.nii.gz").unlink()
    with pytest.raises(DataError, match="does not exist"):
        made.read(source)
    with pytest.raises(DataError, match="p1 is no longer there"), pytest.warns(DataWarning, match="not used"):
        folder(images=root).read(source)


def test_fingerprints_follow_what_shapes_the_slices(tmp_path: Path) -> None:
    root = cohort(tmp_path, 2)
    before = fingerprints(folder(images=root))
    json.dumps(before)
    for changes in (
        {"slices_per_kind": 4},
        {"slice_seed": 1},
        {"targets": (1,)},
        {"too_few": "refuse"},
        {"unstated_orientation": "LPS"},
        {"mask_grid": "image"},
    ):
        assert all(a != b for a, b in zip(fingerprints(folder(images=root, **changes)), before, strict=True))
    for same in ({"organ": "liver"}, {"train_share": 0.5}):
        assert fingerprints(folder(images=root, **same)) == before
    for kind in ("images", "masks"):
        os.utime(root / kind / "p2.nii.gz", ns=(1, 1))
        after = fingerprints(folder(images=root))
        assert (after[0] == before[0], after[1] == before[1]) == (True, False)
        before = after


def test_labels_and_studies_are_part_of_the_fingerprint(tmp_path: Path) -> None:
    root = cohort(tmp_path, 2, masks="")
    texts = [
        "patient,study,image,slice,label\na,s,images/p1.nii.gz,1,1\nb,s,images/p2.nii.gz,1,1\n",
        "patient,study,image,slice,label\na,s,images/p1.nii.gz,1,0\nb,s,images/p2.nii.gz,1,1\n",
        "patient,study,image,slice,label\na,t,images/p1.nii.gz,1,1\nb,s,images/p2.nii.gz,1,1\n",
    ]
    found = []
    for text in texts:
        (root / "m.csv").write_text(text)
        found.append(fingerprints(folder(manifest=root / "m.csv")))
    assert found[0][0] not in (found[1][0], found[2][0])
    assert found[0][1] == found[1][1] == found[2][1]


def test_patients_by_a_pattern(tmp_path: Path) -> None:
    for name in ("a_1", "a_2", "b_1"):
        for ending in ("", "_seg"):
            (tmp_path / f"{name}{ending}.nii.gz").touch()
    with_pattern = folder(images=tmp_path, patient_pattern="^([^_]+)").sources()
    assert [(s.volume_id, s.patient_id) for s in with_pattern] == [("a_1", "a"), ("a_2", "a"), ("b_1", "b")]
    with pytest.raises(UsageError, match=r"finds no patient in the scan's id 'b_1'"):
        folder(images=tmp_path, patient_pattern="(a)").sources()
    for wrong, message in (("(", "no regular expression"), ("a", "no group")):
        settings = Settings("paper", {}, parse_assignments([f"folder.patient_pattern={wrong}"]))
        with pytest.raises(UsageError, match=message):
            settings.resolve(FolderOptions, ["folder"])


def test_scans_of_one_patient_are_no_benchmark(tmp_path: Path) -> None:
    for study in ("a", "b"):
        for name in ("ct.nii.gz", "mask.nii.gz"):
            path = tmp_path / "p1" / study / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
    with pytest.raises(UsageError, match="2 scans can be used, all of one patient, 'p1'") as raised:
        folder(images=tmp_path).sources()
    assert "folder.patient_pattern" in raised.value.remedy


def test_nothing_to_read_says_what_is_needed(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    (tmp_path / "x.pdf").touch()
    for options, message in (
        ({}, "none were named"),
        ({"images": tmp_path / "no"}, "no is not there"),
        ({"images": tmp_path / "x.pdf"}, "neither a folder nor a manifest"),
        ({"manifest": tmp_path}, "The manifest .* is a folder"),
        ({"images": tmp_path}, r"holds no scans: notes\.txt \(no scan"),
        ({"images": tmp_path, "masks": tmp_path / "no"}, "no is no folder"),
    ):
        with pytest.raises(UsageError, match=message) as raised:
            folder(**options).sources()
        assert raised.value.remedy


def test_options_that_contradict_each_other() -> None:
    for texts, message in (
        (["folder.images=a", "folder.manifest=b"], "images and manifest both say where"),
        (["folder.data=a", "folder.images=b"], "data and images both say where"),
        (["folder.manifest=a", "folder.masks=b"], "masks has no place beside it"),
    ):
        settings = Settings("paper", {}, parse_assignments(texts))
        with pytest.raises(UsageError, match=message):
            settings.resolve(FolderOptions, ["folder"])


def test_the_plain_benchmark_departs_from_no_profile() -> None:
    plugin = registry.find("benchmark", "folder")
    assert registry.load(plugin) is Folder
    settings = Settings(
        "paper", Folder.defaults, parse_assignments(["folder.images=x", "folder.organ=liver"])
    )
    settings.resolve(FolderOptions, plugin.names)
    assert settings.title() == "paper"


def test_scans_of_equal_names_sizes_and_times_elsewhere_are_other_scans(tmp_path: Path) -> None:
    roots = [cohort(tmp_path / name, 2) for name in ("east", "west")]
    for file in (file for root in roots for file in root.rglob("*.nii.gz")):
        os.utime(file, (1, 1))
    east, west = ([source.fingerprint for source in folder(images=root).sources()] for root in roots)
    assert all(one["image"] == other["image"] and one != other for one, other in zip(east, west, strict=True))
