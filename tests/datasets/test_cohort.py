from __future__ import annotations

import pickle
import warnings
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from cbirbench.datasets.cohort import cohort_of
from cbirbench.datasets.folder import FolderOptions
from cbirbench.errors import DataError, DataWarning, UsageError


def write(path: Path, values: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(values, np.diag((-0.7, -0.7, 2.5, 1.0))), path)


def scans(root: Path, masks: str = "masks", count: int = 2) -> Path:
    mask = np.zeros((5, 6, 20), np.uint8)
    mask[1:3, 1:3, 4:13] = 1
    for n in range(1, count + 1):
        hu = np.random.default_rng(n).integers(-900, 900, size=mask.shape).astype(np.int16)
        hu[0, 0, :2] = (-1000, 1000)
        write(root / "images" / f"p{n}.nii.gz", hu)
        if masks:
            write(root / masks / f"p{n}.nii.gz", mask)
    return root


def counts(text: str, **options: object) -> dict[str, int]:
    benchmark = cohort_of(text, **options).benchmark
    sources = benchmark.sources()
    assert {source.split for source in sources} == {"query"}
    return {source.volume_id: len(benchmark.read(source)) for source in sources}


def test_every_scan_is_a_query_though_it_is_the_only_one(tmp_path: Path) -> None:
    assert counts(str(scans(tmp_path))) == {"p1": 10, "p2": 10}
    for kind in ("images", "masks"):
        (tmp_path / kind / "p2.nii.gz").unlink()
    assert counts(str(tmp_path)) == {"p1": 10}


def test_labels_within_the_folder_are_found(tmp_path: Path) -> None:
    root = scans(tmp_path, masks="") / "images"
    (root / "slice_labels.csv").write_text("case,slice,label\np1,0,0\np1,5,1\np2,1,-1\np2,3,1\n")
    assert counts(str(root)) == {"p1": 2, "p2": 1}


def test_a_manifests_gallery_is_left_out(tmp_path: Path) -> None:
    scans(tmp_path, count=3)
    rows = [f"p{n},images/p{n}.nii.gz,masks/p{n}.nii.gz" for n in (1, 2, 3)]
    path = tmp_path / "ward.csv"
    path.write_text("\n".join(["patient,image,mask", *rows]))
    assert counts(str(path)) == {"images_p1": 10, "images_p2": 10, "images_p3": 10}
    split = [f"{row},{side}" for row, side in zip(rows, ("train", "test", "gallery"), strict=True)]
    path.write_text("\n".join(["patient,image,mask,split", *split]))
    with pytest.warns(DataWarning, match="2 scans .* left out: images_p1, images_p3"):
        assert counts(str(path)) == {"images_p2": 10}
    path.write_text("\n".join(["patient,image,mask,split", split[0], split[2]]))
    with pytest.raises(UsageError, match="All 2 scans"):
        counts(str(path))


@pytest.mark.parametrize(
    ("prefix", "folder", "name"),
    [
        ("", "UNN", "UNN"),
        ("UNN=", "other", "UNN"),
        ("my ward/2=", "x", "my-ward-2"),
        ("", "Ward 7 (Süd)", "Ward-7-S-d"),
        ("", "a=b", "a-b"),
        ("n=", "a=b", "n"),
        ("", ".hidden", "hidden"),
    ],
)
def test_names(prefix: str, folder: str, name: str, tmp_path: Path) -> None:
    (tmp_path / folder).mkdir()
    assert cohort_of(f"{prefix}{tmp_path / folder}").name == name


def test_the_working_folder_and_manifests_have_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "ward").mkdir()
    (tmp_path / "ward" / "list.v2.csv").touch()
    monkeypatch.chdir(tmp_path / "ward")
    assert cohort_of(".").name == "ward"
    assert cohort_of("list.v2.csv").name == "list.v2"


def test_options_are_the_folder_benchmarks_but_for_places(tmp_path: Path) -> None:
    scans(tmp_path)
    given = FolderOptions(
        images=tmp_path / "no", labels=tmp_path / "no.csv", slices_per_kind=3, organ="liver"
    )
    found = cohort_of(str(tmp_path), given, slice_seed=4)
    options = found.benchmark.options
    assert (options.data, options.images, options.labels) == (tmp_path, None, None)
    assert (options.slices_per_kind, options.slice_seed, options.organ) == (3, 4, "liver")
    assert counts(str(tmp_path), slices_per_kind=2) == {"p1": 4, "p2": 4}
    assert options.too_few == "take-fewer"
    with pytest.raises(UsageError, match=r"folder\.slices_per_kind"):
        cohort_of(str(tmp_path), slices_per_kind=0)


def test_it_pickles_with_its_sources(tmp_path: Path) -> None:
    benchmark = cohort_of(str(scans(tmp_path))).benchmark
    source = benchmark.sources()[0]
    again, source_again = pickle.loads(pickle.dumps((benchmark, source)))
    assert again.read(source_again).fingerprint() == benchmark.read(source).fingerprint()
    assert {source.split for source in again.sources()} == {"query"}


def test_places_that_will_not_do(tmp_path: Path) -> None:
    (tmp_path / "ct.nii.gz").touch()
    (tmp_path / "...").mkdir()
    for text, message in (
        (str(tmp_path / "no"), "is not there"),
        ("UNN=", "is not there"),
        ("", "is not there"),
        (f"UNN={tmp_path / 'no'}", "is not there"),
        (str(tmp_path / "ct.nii.gz"), "neither a folder nor a manifest"),
        (str(tmp_path / "..."), "no name of letters or digits"),
        (f"={tmp_path}", "no name"),
    ):
        with pytest.raises(UsageError, match=message) as raised:
            cohort_of(text)
        assert raised.value.remedy
    with pytest.raises(UsageError, match="no mask and no label"):
        cohort_of(str(tmp_path)).benchmark.sources()
    (tmp_path / "m.csv").write_text("patient\n")
    with pytest.raises(DataError, match="no column 'image'"):
        cohort_of(str(tmp_path / "m.csv")).benchmark.sources()


def test_a_folder_called_images_is_no_patient(tmp_path: Path) -> None:
    root = scans(tmp_path, masks="")
    (root / "slice_labels.csv").write_text("case,slice,label\np1,0,0\np1,5,1\nimages/p2.nii.gz,3,1\n")
    sources = cohort_of(str(root)).benchmark.sources()
    assert [(source.volume_id, source.patient_id) for source in sources] == [("p1", "p1"), ("p2", "p2")]


def test_scans_that_all_seem_to_be_one_patients_are_warned_of(tmp_path: Path) -> None:
    scans(tmp_path / "ward" / "data")
    (tmp_path / "m.csv").write_text(
        "patient,image,mask\n"
        + "".join(f"x,ward/data/images/p{n}.nii.gz,ward/data/masks/p{n}.nii.gz\n" for n in (1, 2))
    )
    with pytest.warns(DataWarning, match="All 2 scans .* one patient, 'data'.*patient_pattern"):
        cohort_of(str(tmp_path / "ward")).benchmark.sources()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        cohort_of(str(tmp_path / "m.csv")).benchmark.sources()  # there somebody says so
        cohort_of(str(tmp_path / "ward" / "data")).benchmark.sources()
