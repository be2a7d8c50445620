from __future__ import annotations

import warnings
from pathlib import Path

import pandas as pd
import pytest

from cbirbench.datasets.manifest import ManifestScan, read_manifest
from cbirbench.errors import DataError, DataWarning
from cbirbench.scans.dicom_files import pseudonym


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of files that manifests name; nothing is read from them."""
    for name in ("a.nii.gz", "b.nii.gz", "c.nrrd", "masks/a.nii.gz", "masks/b.nii.gz"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.touch()
    (tmp_path / "DOE_JANE").mkdir()
    return tmp_path


def read(folder: Path, text: str) -> list[ManifestScan]:
    path = folder / "manifest.csv"
    path.write_text(text)
    return read_manifest(path)


def test_scans_as_they_are_named(folder: Path) -> None:
    one, two, three = read(
        folder,
        "patient,study,image,mask,split\n"
        "007,first,a.nii.gz,masks/a.nii.gz,train\n"
        "\n"
        f"008,,{folder / 'b.nii.gz'},,Query\n"
        "007,second,c.nrrd,,gallery\n",
    )
    assert one == ManifestScan(
        line=2,
        volume_id="a",
        patient_id="007",
        study_id="first",
        image=folder / "a.nii.gz",
        mask=folder / "masks" / "a.nii.gz",
        split="gallery",
    )
    assert (two.line, two.patient_id, two.study_id, two.volume_id) == (4, "008", "b", "b")
    assert (two.image, two.mask, two.split) == (folder / "b.nii.gz", None, "query")
    assert (three.study_id, three.split) == ("second", "gallery")


def test_parquet_says_the_same(folder: Path) -> None:
    rows = {"patient": ["007", "008"], "image": ["a.nii.gz", "b.nii.gz"], "split": ["test", "train"]}
    pd.DataFrame(rows).to_parquet(folder / "m.parquet")
    scans = read_manifest(folder / "m.parquet")
    assert [(scan.patient_id, scan.split) for scan in scans] == [("007", "query"), ("008", "gallery")]


def test_only_patient_and_image_are_needed(folder: Path) -> None:
    (scan,) = read(folder, "image,patient\na.nii.gz,p\n")
    assert (scan.split, scan.mask, scan.orientation, scan.series, scan.labels) == ("", None, "", "", {})


def test_orientation_and_series(folder: Path) -> None:
    text = "patient,study,image,series,orientation\np,s,DOE_JANE,1.2,lps\np,s,DOE_JANE,1.3,\n"
    one, two = read(folder, text)
    series = [pseudonym("series", uid) for uid in ("1.2", "1.3")]
    assert [(scan.series, scan.orientation) for scan in (one, two)] == [(series[0], "LPS"), (series[1], "")]
    # Folders of exported series often bear names, which are to appear nowhere.
    assert [one.volume_id, two.volume_id] == [f"p_s_{uid}" for uid in series]


def test_ids_are_unique_and_within(folder: Path) -> None:
    (folder / "m").mkdir()
    (folder / "m" / "manifest.csv").write_text("patient,image\np,../a.nii.gz\np,../masks/a.nii.gz\n")
    ids = [scan.volume_id for scan in read_manifest(folder / "m" / "manifest.csv")]
    assert len(set(ids)) == 2 and all(".." not in name and not name.startswith("_") for name in ids)


def test_labels_of_slices_one_row_each(folder: Path) -> None:
    one, two = read(
        folder,
        "patient,image,split,slice,label\n"
        "p,a.nii.gz,test,0,0\n"
        "q,b.nii.gz,train,1,1\n"
        "p,./a.nii.gz,test,3,1\n"
        "p,a.nii.gz,test,4,-1\n",
    )
    assert (one.labels, two.labels) == ({0: 0, 3: 1}, {1: 1})


def test_scans_with_masks_and_with_labels_in_one(folder: Path) -> None:
    text = "patient,image,mask,slice,label\np,a.nii.gz,masks/a.nii.gz,,\nq,b.nii.gz,,2,1\nq,b.nii.gz,,3,0\n"
    assert [(scan.mask is None, scan.labels) for scan in read(folder, text)] == [
        (False, {}),
        (True, {2: 1, 3: 0}),
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("patient,image\n", "has no rows"),
        ("image\na.nii.gz\n", "no column 'patient'"),
        ("patient,path\np,a.nii.gz\n", "no column 'image'"),
        ("patient,image\np,a.nii.gz\n,b.nii.gz\n", "names no patient on line 3"),
        ("patient,image\np,\n", "names no image on line 2"),
        (
            "patient,image\np,a.nii.gz\nq,x.nii\nq,y.nii\n",
            r"2 files that are not there, on lines 3, 4: the image .*x\.nii \(line 3\), the image .*y\.nii",
        ),
        (
            "patient,image,mask\np,a.nii.gz,masks/x.nii\n",
            r"1 file that is not there, on line 2: the mask .*masks/x\.nii",
        ),
        (
            "patient,image,mask\np,x.nii,masks/a.nii.gz\nq,b.nii.gz,y.nii\nr,z.nii,v.nii\n",
            r"4 files that are not there, on lines 2, 3, 4: the image .*x\.nii \(line 2\), the mask .*y\.nii "
            r"\(line 3\), the image .*z\.nii \(line 4\), the mask .*v\.nii \(line 4\)",
        ),
        ("patient,image\np,a.nii.gz\nq,b\0.nii\n", r"line 3: the image 'b\\x00\.nii' cannot be looked up"),
        ("patient,image,mask\np,a.nii.gz,b\0\n", r"line 2: the mask 'b\\x00' cannot be looked up"),
        pytest.param(
            f"patient,image\np,{'x' * 5000}\n",
            r"line 2: the image 'x{80}\.\.\.' cannot be looked up",
            id="a long path of an image",
        ),
        pytest.param(
            f"patient,image,mask\np,a.nii.gz,{'x' * 5000}\n",
            r"line 2: the mask 'x{80}\.\.\.' cannot be",
            id="a long path of a mask",
        ),
        ("patient,image\np,~no-such-user/a.nii\n", "line 2: the image '~no-such-user/a.nii' cannot be"),
        (
            "patient,image,series\np,a.nii.gz,\nq,b.nii.gz,1.2\n",
            "series of an image that is a file, on line 3",
        ),
        ("patient,image\np,a.nii.gz\nq,b.nii.gz,x\n", "more cells than the 2 columns on line 3"),
        ("patient,image,split\np,a.nii.gz,val\n", "a split of 'val' on line 2"),
        ("patient,image,split\np,a.nii.gz,train\nq,b.nii.gz,\n", "a split of '' on line 3"),
        ("patient,image\np,a.nii.gz\nq,b.nii.gz\np,a.nii.gz\n", "more than once, lines 2, 4"),
        ("patient,image\np,a.nii.gz\np,./a.nii.gz\n", "more than once, lines 2, 3"),
        ("patient,image\np,a.nii.gz\nq,masks/../a.nii.gz\n", "more than once, lines 2, 3"),
        (
            "patient,image,slice,label,split\np,a.nii.gz,0,1,train\nq,masks/../a.nii.gz,1,1,test\n",
            "another patient on line 3",
        ),
        (
            f"patient,image,series\np,DOE_JANE,1.2\nq,DOE_JANE,{pseudonym('series', '1.2')}\n",
            "more than once, lines 2, 3",
        ),
        (
            "patient,image,split\np,a.nii.gz,train\nq,b.nii.gz,train\np,c.nrrd,test\n",
            r"1 patient in both gallery and queries: p \(lines 2, 4\)",
        ),
        ("patient,image,orientation\np,a.nii.gz,LPX\n", "line 2: An orientation is three letters"),
        ("patient,image,slice\np,a.nii.gz,3\n", "only one of the columns slice and label"),
        ("patient,image,slice,label\np,a.nii.gz,3,7\n", "line 2: '7' is no label"),
        ("patient,image,slice,label\np,a.nii.gz,3,\n", "line 2: '' is no label"),
        (
            "patient,image,slice,label\np,a.nii.gz,3,1\np,a.nii.gz,3,0\n",
            "slice 3 of one scan twice, lines 2, 3",
        ),
        ("patient,image,slice,label\np,a.nii.gz,3,1\np,a.nii.gz,,\n", "more than once, lines 2, 3"),
        ("patient,image,slice,label\np,a.nii.gz,3,1\nq,a.nii.gz,4,0\n", "another patient on line 3"),
    ],
)
def test_faults_name_the_line(text: str, message: str, folder: Path) -> None:
    with pytest.raises(DataError, match=message) as raised:
        read(folder, text)
    assert "manifest.csv" in raised.value.problem and raised.value.remedy


def test_all_crossing_patients_are_listed(folder: Path) -> None:
    text = "patient,image,split\np,a.nii.gz,train\np,b.nii.gz,test\nq,c.nrrd,train\nq,masks/a.nii.gz,query\n"
    with pytest.raises(DataError, match=r"2 patients .*: p \(lines 2, 3\), q \(lines 4, 5\)"):
        read(folder, text)


def test_unknown_columns_are_warned_of(folder: Path) -> None:
    with pytest.warns(DataWarning, match="not read: age"):
        assert len(read(folder, "patient,image,age\np,a.nii.gz,40\n")) == 1


def test_labels_of_a_scan_with_a_mask_are_warned_of(folder: Path) -> None:
    rows = "p,a.nii.gz,masks/a.nii.gz,2,1\np,a.nii.gz,masks/a.nii.gz,3,0\nq,b.nii.gz,,2,1\n"
    with pytest.warns(DataWarning, match=r"1 scan both a mask and labels of slices, first on line 2"):
        read(folder, f"patient,image,mask,slice,label\n{rows}")


def test_labels_are_the_target_organs(folder: Path) -> None:
    path = folder / "manifest.csv"
    path.write_text("patient,image,slice,liver,spleen\np,a.nii.gz,0,1,0\n")
    with pytest.warns(DataWarning, match="not read: liver"):
        assert read_manifest(path, "spleen")[0].labels == {0: 0}
    with pytest.warns(DataWarning, match="not read: spleen"):
        assert read_manifest(path, "liver")[0].labels == {0: 1}


def test_an_images_path_elsewhere_is_in_no_id(folder: Path, tmp_path: Path) -> None:
    image = folder / "a.nii.gz"
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "m.csv").write_text(f"patient,study,image\n007,2019,{image.resolve()}\n")
    (scan,) = read_manifest(tmp_path / "other" / "m.csv")
    assert scan.volume_id == "007_2019_a"


def test_ids_do_not_depend_on_how_paths_are_typed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    here = Path.cwd()
    images = ("masks/a.nii.gz", f"{here}/masks/a.nii.gz", "../" + here.name + "/masks/a.nii.gz")
    manifests = ("m.csv", "./m.csv", f"../{here.name}/m.csv", f"{here}/m.csv", "masks/../m.csv")
    ids = set()
    for image in images:
        (folder / "m.csv").write_text(f"patient,study,image\n007,2019,{image}\n")
        ids |= {read_manifest(Path(manifest))[0].volume_id for manifest in manifests}
    assert ids == {"masks_a"}


def test_absent_files_are_told_with_the_folder_that_they_count_from(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    Path("m.csv").write_text("patient,image\np,x.nii\n")
    with pytest.raises(DataError) as raised:
        read_manifest(Path("m.csv"))
    assert raised.value.remedy == f"Paths are relative to the manifest's folder, {Path.cwd()}."


def test_columns_that_may_be_swapped_are_warned_of(folder: Path) -> None:
    with pytest.warns(
        DataWarning, match=r"may be swapped: on line 2, the image is .*masks/a\.nii\.gz, the mask"
    ):
        read(folder, "patient,image,mask\np,masks/a.nii.gz,a.nii.gz\nq,masks/b.nii.gz,b.nii.gz\nr,c.nrrd,\n")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        read(folder, "patient,image,mask\np,masks/a.nii.gz,a.nii.gz\nq,b.nii.gz,masks/b.nii.gz\n")
        read(folder, "patient,image\np,masks/a.nii.gz\n")
