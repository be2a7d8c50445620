from __future__ import annotations

import json
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from pydantic import ValidationError

from cbirbench.datasets import msd
from cbirbench.datasets.msd import Decathlon, DecathlonOptions
from cbirbench.datasets.sampling import draw_slices
from cbirbench.errors import DataError, DataWarning, UsageError
from cbirbench.interfaces import Options
from cbirbench.settings import Assignment, Settings

AFFINES = {0: np.diag((-0.8, -0.7, 2.5, 1.0)), 1: np.diag((0.8, 0.7, 2.5, 1.0))}  # LPS and RAS
WITH_LIVER = range(4, 13)
COUNT = 20


def scan(number: int) -> tuple[np.ndarray, np.ndarray]:
    """HU and mask in radiological view, 20 slices of 6 x 5; slices 4 to 12 show liver, slice 8 tumour."""
    hu = np.random.default_rng(number).integers(-1000, 1000, size=(COUNT, 6, 5)).astype(np.int16)
    hu[0, 0, :2] = (-1000, 1000)
    mask = np.zeros(hu.shape, np.uint8)
    mask[list(WITH_LIVER), 1:4, 0:2] = 1
    mask[8, 1:4, 0:2] = 2
    return hu, mask


def write(path: Path, view: np.ndarray, affine: np.ndarray) -> None:
    stored = view.transpose(2, 1, 0)
    nib.save(nib.Nifti1Image(stored if affine[0, 0] < 0 else stored[::-1, ::-1], affine), path)


def write_pair(task: Path, number: int) -> None:
    hu, mask = scan(number)
    for folder, view in (("imagesTr", hu), ("labelsTr", mask)):
        (task / folder).mkdir(parents=True, exist_ok=True)
        write(task / folder / f"liver_{number}.nii.gz", view, AFFINES[number % 2])


@pytest.fixture
def task(tmp_path: Path) -> Path:
    """A task folder of five volumes, whose alphabetical order is not the numeric one."""
    folder = tmp_path / "Task03_Liver"
    for number in (10, 2, 0, 11, 1):
        write_pair(folder, number)
    return folder


def benchmark(data: Path | None, train: int = 3, test: int = 2, **options: Any) -> Decathlon:
    return Decathlon(DecathlonOptions(data=data, train_volumes=train, test_volumes=test, **options))


def list_files(task: Path, numbers: tuple[int, ...]) -> None:
    entries = [
        {k: f"./{d}/liver_{n}.nii.gz" for k, d in (("image", "imagesTr"), ("label", "labelsTr"))}
        for n in numbers
    ]
    (task / "dataset.json").write_text(json.dumps({"training": entries, "test": []}))


def read_first(task: Path, **options: Any) -> Any:
    made = benchmark(task, **options)
    return made.read(made.sources()[0])


def test_defaults_are_the_papers() -> None:
    options = DecathlonOptions()
    assert (options.train_volumes, options.test_volumes, options.slices_per_kind) == (100, 31, 5)
    assert options.slice_seed == 0
    assert Decathlon.defaults == {}


@pytest.mark.parametrize("name", ["train_volumes", "test_volumes", "slices_per_kind"])
def test_counts_below_one_are_refused(name: str) -> None:
    with pytest.raises(ValidationError, match=name):
        DecathlonOptions(**{name: 0})


def test_first_volumes_in_numeric_order_are_the_gallery(task: Path) -> None:
    sources = benchmark(task).sources()
    assert [source.volume_id for source in sources] == [f"liver_{n}" for n in (0, 1, 2, 10, 11)]
    assert [source.split for source in sources] == ["gallery"] * 3 + ["query"] * 2
    assert [source.patient_id for source in sources] == [source.volume_id for source in sources]
    fewer = benchmark(task, 2, 1).sources()
    assert [(s.volume_id, s.split) for s in fewer] == [
        ("liver_0", "gallery"),
        ("liver_1", "gallery"),
        ("liver_2", "query"),
    ]


def test_slices_are_those_drawn_in_radiological_view(task: Path) -> None:
    made = benchmark(task)
    for source in made.sources():
        hu, mask = scan(int(source.volume_id.removeprefix("liver_")))
        drawn = draw_slices(mask.any(axis=(1, 2)), 5, 0, source.volume_id)
        slices = made.read(source)
        assert [item.z_index for item in slices] == drawn.tolist()
        assert slices.labels.tolist() == [int(z in WITH_LIVER) for z in drawn]
        assert slices.labels.sum() == 5
        for item in slices:
            np.testing.assert_array_equal(item.hu, hu[item.z_index])
            np.testing.assert_array_equal(item.mask, mask[item.z_index])
            assert item.slice_id == f"{source.volume_id}_z{item.z_index:04d}"
            assert item.volume_id == item.patient_id == item.study_id == source.volume_id
            assert item.spacing_mm == pytest.approx((0.7, 0.8))


def test_tumour_counts_as_liver(task: Path) -> None:
    slices = read_first(task, slices_per_kind=9)
    tumour = next(item for item in slices if item.z_index == 8)
    assert tumour.label == 1
    assert set(np.unique(tumour.mask)) == {0, 2}


def test_slice_seed_draws_others(task: Path) -> None:
    drawn = {tuple(read_first(task, slice_seed=seed).ids) for seed in range(4)}
    assert len(drawn) > 1


def test_other_volumes_do_not_change_a_volumes_slices(task: Path) -> None:
    before = read_first(task).fingerprint()
    for path in task.glob("*/liver_2.nii.gz"):
        path.unlink()
    assert read_first(task, train=1, test=1).fingerprint() == before


def test_reading_works_after_pickling(task: Path) -> None:
    made = benchmark(task)
    source = made.sources()[0]
    again, source_again = pickle.loads(pickle.dumps((made, source)))
    assert again.read(source_again).fingerprint() == made.read(source).fingerprint()


def test_fingerprint_follows_files_and_options_but_not_the_place(task: Path, tmp_path: Path) -> None:
    before = benchmark(task).sources()
    json.dumps([dict(source.fingerprint) for source in before])
    copy = tmp_path / "elsewhere" / "Task03_Liver"
    shutil.copytree(task, copy)  # keeps modification times
    assert benchmark(copy).sources() == before
    assert benchmark(task, 2, 3).sources()[0].fingerprint == before[0].fingerprint
    for other in ({"slice_seed": 1}, {"slices_per_kind": 4}):
        assert benchmark(task, **other).sources()[0].fingerprint != before[0].fingerprint
    os.utime(task / "labelsTr" / "liver_0.nii.gz", ns=(1, 1))
    after = benchmark(task).sources()
    assert after[0].fingerprint != before[0].fingerprint
    assert after[1:] == before[1:]


def test_sources_read_no_volume(task: Path) -> None:
    for path in task.glob("*/*.nii.gz"):
        path.write_bytes(b"not a scan")
    assert len(benchmark(task).sources()) == 5


def test_the_folder_that_holds_the_task_will_do(task: Path) -> None:
    assert benchmark(task.parent).sources() == benchmark(task).sources()


def test_the_environment_names_the_folder(task: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CBIRBENCH_DATA", str(task))
    assert benchmark(None).sources() == benchmark(task).sources()
    monkeypatch.setenv("CBIRBENCH_DATA", str(task / "nowhere"))
    assert benchmark(task).sources()  # the option goes first


@pytest.mark.parametrize("value", [None, ""])
def test_no_folder_given(value: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CBIRBENCH_DATA", raising=False)
    if value is not None:
        monkeypatch.setenv("CBIRBENCH_DATA", value)
    monkeypatch.setattr(msd, "default_data_folder", lambda: Path("nowhere"))
    with pytest.raises(UsageError, match="no data folder was given") as raised:
        benchmark(None).sources()
    assert "--data DIR" in raised.value.remedy
    assert "CBIRBENCH_DATA" in raised.value.remedy


def test_wrong_folders(task: Path) -> None:
    with pytest.raises(UsageError, match=r"absent is no folder\."):
        benchmark(task / "absent").sources()
    with pytest.raises(UsageError, match=r"imagesTr holds no Task03_Liver\*"):
        benchmark(task / "imagesTr").sources()
    shutil.copytree(task, task.parent / "Task03_Liver_again")
    with pytest.raises(UsageError, match="2 task folders: Task03_Liver, Task03_Liver_again"):
        benchmark(task.parent).sources()
    shutil.rmtree(task / "labelsTr")
    with pytest.raises(UsageError, match="has no folder labelsTr"):
        benchmark(task).sources()


@pytest.mark.parametrize(
    ("train", "test", "subset"), [(100, 31, (4, 1)), (3, 3, (3, 2)), (1, 100, (1, 4)), (100, 1, (4, 1))]
)
def test_too_few_volumes_name_options_that_work(
    task: Path, train: int, test: int, subset: tuple[int, int]
) -> None:
    with pytest.raises(UsageError, match=f"has 5 labelled volumes, .* need {train + test}") as raised:
        benchmark(task, train, test).sources()
    named = f"--set decathlon.train_volumes={subset[0]} --set decathlon.test_volumes={subset[1]}"
    assert named in raised.value.remedy
    assert len(benchmark(task, *subset).sources()) == 5


def test_a_single_volume_is_no_benchmark(tmp_path: Path) -> None:
    write_pair(tmp_path / "Task03_Liver", 0)
    with pytest.raises(UsageError, match="has 1 labelled volumes") as raised:
        benchmark(tmp_path).sources()
    assert "at least 2" in raised.value.remedy


@pytest.mark.parametrize(("folder", "lacking"), [("imagesTr", "image"), ("labelsTr", "label")])
def test_one_of_a_pair_alone(task: Path, folder: str, lacking: str) -> None:
    (task / folder / "liver_2.nii.gz").unlink()
    with pytest.raises(DataError, match=rf"liver_2\.nii\.gz has no {lacking}"):
        benchmark(task, 1, 1).sources()


def test_files_that_dataset_json_lists_must_be_there(task: Path) -> None:
    list_files(task, (0, 1, 2, 10, 11))
    assert len(benchmark(task).sources()) == 5
    list_files(task, (0, 1, 2, 3, 10, 11))
    with pytest.raises(DataError, match=r"lists 12 .* 2 are not there.*liver_3\.nii\.gz") as raised:
        benchmark(task, 1, 1).sources()
    assert "--set decathlon.train_volumes=3 --set decathlon.test_volumes=2" in raised.value.remedy


@pytest.mark.parametrize("text", ["{", "[]", '{"training": [{"image": 3}]}', '{"training": 3}', "\udcff"])
def test_a_dataset_json_of_another_kind(task: Path, text: str) -> None:
    (task / "dataset.json").write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(DataError, match=r"dataset\.json is no Decathlon dataset\.json"):
        benchmark(task).sources()


def test_hidden_and_other_files_are_no_scans(task: Path) -> None:
    (task / "imagesTr" / "._liver_0.nii.gz").write_bytes(b"macOS")
    (task / "labelsTr" / ".DS_Store").write_bytes(b"macOS")
    (task / "labelsTr" / "notes.txt").write_text("...")
    assert len(benchmark(task).sources()) == 5


def test_a_volume_twice(task: Path) -> None:
    (task / "imagesTr" / "liver_2.nii").write_bytes(b"")
    with pytest.raises(DataError, match=r"liver_2 twice: liver_2\.nii and liver_2\.nii\.gz"):
        benchmark(task).sources()


def test_a_link_into_nowhere(task: Path) -> None:
    path = task / "imagesTr" / "liver_1.nii.gz"
    path.unlink()
    path.symlink_to(task / "gone.nii.gz")
    with pytest.raises(DataError, match=r"liver_1\.nii\.gz cannot be found"):
        benchmark(task).sources()


def test_uncompressed_volumes_are_read(task: Path) -> None:
    expected = read_first(task).fingerprint()
    for path in (task / "imagesTr" / "liver_0.nii.gz", task / "labelsTr" / "liver_0.nii.gz"):
        nib.save(nib.load(path), path.with_suffix(""))
        path.unlink()
    assert read_first(task).fingerprint() == expected


def without_liver(hu: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return hu, np.zeros_like(mask)


def little_liver(hu: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return hu, np.where(np.arange(COUNT)[:, None, None] < 8, mask, 0).astype(np.uint8)


def liver_everywhere(hu: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return hu, np.ones_like(mask)


def with_nan(hu: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return np.where(np.arange(5) == 4, np.nan, hu).astype(np.float32), mask


def normalised(hu: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return ((hu + 1000) / 2000).astype(np.float32), mask


def cropped_mask(hu: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return hu, mask[1:]


def four_dimensions(hu: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return np.stack([hu, hu], axis=-1), mask


def probabilities(hu: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return hu, (mask * 0.3).astype(np.float32)


@pytest.mark.parametrize(
    ("spoil", "message", "remedy"),
    [
        (without_liver, r"labelsTr/liver_0\.nii\.gz marks no liver", "leave the scan out"),
        (little_liver, r"labelsTr/liver_0\.nii\.gz: .*4 slices with", "--set decathlon.slices_per_kind=4"),
        (liver_everywhere, r"labelsTr/liver_0\.nii\.gz: .*0 slices without", "To run, take what there is"),
        (with_nan, r"imagesTr/liver_0\.nii\.gz holds NaN", "anew"),
        (normalised, r"imagesTr/liver_0\.nii\.gz holds values from 0 to 1\.", "normalised"),
        (cropped_mask, r"imagesTr/liver_0\.nii\.gz has shape .*labelsTr/liver_0\.nii\.gz has", "resample"),
        (four_dimensions, r"imagesTr/liver_0\.nii\.gz must hold one 3-D volume", "3-D"),
        (probabilities, r"labelsTr/liver_0\.nii\.gz must hold whole numbers", "nearest neighbour"),
    ],
)
def test_bad_volumes_name_the_file_and_what_to_do(
    spoil: Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]],
    message: str,
    remedy: str,
    task: Path,
) -> None:
    hu, mask = spoil(*scan(0))
    for folder, view in (("imagesTr", hu), ("labelsTr", mask)):
        stored = view.transpose((2, 1, 0, 3)[: view.ndim])
        nib.save(nib.Nifti1Image(stored, AFFINES[0]), task / folder / "liver_0.nii.gz")
    with pytest.raises(DataError, match=message) as raised:
        read_first(task)
    assert remedy in raised.value.remedy


@pytest.mark.parametrize("folder", ["imagesTr", "labelsTr"])
def test_truncated_files(task: Path, folder: str) -> None:
    path = task / folder / "liver_0.nii.gz"
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(DataError, match=rf"{folder}/liver_0\.nii\.gz is truncated"):
        read_first(task)


def test_a_volume_that_vanished_since(task: Path) -> None:
    made = benchmark(task)
    source = made.sources()[0]
    for path in task.glob("*/liver_0.nii.gz"):
        path.unlink()
    with pytest.raises(DataError, match="no longer has liver_0"):
        made.read(source)


def add_structures(task: Path) -> None:
    """To each mask, a kidney (value 3) in slices 0 to 6, some of them without liver."""
    for path in sorted((task / "labelsTr").iterdir()):
        number = int(path.name.removeprefix("liver_").removesuffix(".nii.gz"))
        mask = scan(number)[1]
        mask[:7, 4:, 3:] = 3
        write(path, mask, AFFINES[number % 2])


def test_targets_tell_the_liver_from_further_structures(task: Path) -> None:
    before = [(item.slice_id, item.label, item.mask_fraction) for item in read_first(task)]
    add_structures(task)
    slices = read_first(task, targets=(1, 2))
    assert [(item.slice_id, item.label, item.mask_fraction) for item in slices] == before
    assert {item.target_values for item in slices} == {(1, 2)}
    hu, mask = scan(0)
    for item in slices:
        np.testing.assert_array_equal(item.hu, hu[item.z_index])
        np.testing.assert_array_equal(item.target, mask[item.z_index] > 0)
        assert item.mask is not None and (item.mask == 3).any() == (item.z_index < 7)
    # By default any value is the target, so that slices 0 to 12 show it.
    every = read_first(task)
    assert [item.label for item in every] == [int(item.z_index <= 12) for item in every]
    assert {item.target_values for item in every} == {()}


def test_targets_reach_the_fingerprint_where_they_are_set(task: Path) -> None:
    plain, given = benchmark(task).sources()[0], benchmark(task, targets=(2, 1, 2)).sources()[0]
    assert "targets" not in plain.fingerprint
    assert given.fingerprint == {**plain.fingerprint, "targets": (1, 2)}
    json.dumps(dict(given.fingerprint))


def test_a_mask_without_the_targets(task: Path) -> None:
    with pytest.raises(DataError, match=r"liver_0\.nii\.gz marks no liver: no voxel is 4 or 5\."):
        read_first(task, targets=(5, 4))


def test_targets_are_set_as_a_list() -> None:
    def resolved(text: str) -> Options:
        settings = Settings("paper", {}, [Assignment("decathlon", "targets", text)])
        return settings.resolve(DecathlonOptions, ["decathlon"])

    assert resolved("1,2") == DecathlonOptions(targets=(1, 2))
    assert resolved(" 7 ") == DecathlonOptions(targets=(7,))
    for wrong in ("0", "1,256", "liver", ""):
        with pytest.raises(UsageError, match=rf"decathlon\.targets does not take '{wrong}'"):
            resolved(wrong)


def test_structures_are_the_decathlons_or_those_of_dataset_json(task: Path) -> None:
    given = benchmark(task, targets=(5,))
    assert benchmark(None).structures == {1: "liver", 2: "tumour"}
    assert given.structures == {}
    list_files(task, (0, 1, 2, 10, 11))
    assert given.structures == {}
    path = task / "dataset.json"
    for labels in (
        {"0": "background", "5": "liver", "2": "kidneys"},
        {"background": 0, "liver": 5, "kidneys": 2, "any": [2, 5]},
    ):
        path.write_text(json.dumps({"training": [], "labels": labels}))
        assert given.structures == {5: "liver", 2: "kidneys"}
        assert benchmark(task).structures == {1: "liver", 2: "tumour"}
    for text in ("[]", '{"labels": ["liver"]}', "{"):
        path.write_text(text)
        with pytest.raises(DataError, match=r"is no Decathlon dataset\.json"):
            _ = given.structures


def test_options_that_came_later_reach_the_fingerprint_where_they_are_set(task: Path) -> None:
    plain = benchmark(task).sources()[0].fingerprint
    assert set(plain) == {"image", "label", "slices_per_kind", "slice_seed", "reader"}
    for name, value in (
        ("too_few", "take-fewer"),
        ("unstated_orientation", "LPS"),
        ("mask_grid", "image"),
    ):
        given = benchmark(task, **{name: value}).sources()[0].fingerprint
        assert given == {**plain, name: value}


def test_too_few_slices_can_be_taken_as_they_are(task: Path) -> None:
    _, mask = little_liver(*scan(0))
    write(task / "labelsTr" / "liver_0.nii.gz", mask, AFFINES[0])
    with pytest.warns(DataWarning, match=r"liver_0 gives 4 slices with liver and 5 without.*fewer than 5"):
        slices = read_first(task, too_few="take-fewer")
    assert (len(slices), int(slices.labels.sum())) == (9, 4)


def unstate(path: Path) -> None:
    """The same stored voxels with an affine that says nothing."""
    image = nib.load(path)
    nib.save(nib.Nifti1Image(np.asarray(image.dataobj), np.eye(4)), path)


def test_an_unstated_orientation_is_put_right_with_its_mask(task: Path) -> None:
    expected = read_first(task)
    for folder in ("imagesTr", "labelsTr"):
        unstate(task / folder / "liver_0.nii.gz")
    with pytest.warns(DataWarning, match="states no orientation"):
        wrong = read_first(task)
    assert not np.array_equal(wrong[0].hu, expected[0].hu)
    right = read_first(task, unstated_orientation="lps")
    assert right.ids == expected.ids
    for item, wanted in zip(right, expected, strict=True):
        np.testing.assert_array_equal(item.hu, wanted.hu)
        np.testing.assert_array_equal(item.mask, wanted.mask)
    # Files that state theirs are left as they are.
    made = benchmark(task, unstated_orientation="LPS")
    first = made.read(made.sources()[1])[0]
    np.testing.assert_array_equal(first.hu, scan(1)[0][first.z_index])


def test_a_mask_on_another_affine_is_read_on_the_images_where_asked(task: Path) -> None:
    expected = read_first(task)
    unstate(task / "labelsTr" / "liver_0.nii.gz")
    with pytest.raises(DataError, match="mask_grid=image"):
        read_first(task)
    assert read_first(task, mask_grid="image").fingerprint() == expected.fingerprint()


@pytest.mark.parametrize("codes", ["LPX", "LP", "LRS", "sideways"])
def test_an_orientation_that_is_none_is_refused(codes: str) -> None:
    settings = Settings("paper", {}, [Assignment("decathlon", "unstated_orientation", codes)])
    with pytest.raises(UsageError, match=r"decathlon\.unstated_orientation does not take .* three letters"):
        settings.resolve(DecathlonOptions, ["decathlon"])
