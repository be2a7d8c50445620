from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path, PurePath
from typing import Any

import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from cbirbench.datasets.discovery import DAMAGED, Discovery, below, find_scans
from cbirbench.errors import DataError, UsageError
from cbirbench.scans import dicom_files

PERSON = "Doe^Jane"


def lay(root: Path, *files: str) -> Path:
    """Empty files: which scan a mask belongs to is told by names alone."""
    for name in files:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    return root


def pairs(found: Discovery, root: Path) -> dict[str, str | None]:
    """Relative path of each mask, by that of its scan."""
    return {
        scan.image.relative_to(root).as_posix(): scan.mask.relative_to(root).as_posix() if scan.mask else None
        for scan in found.scans
    }


def reasons(found: Discovery) -> dict[str, str]:
    return {path.name: why for path, why in found.ignored}


LAYOUTS = {
    "the Decathlon's": {
        "imagesTr/liver_0.nii.gz": "labelsTr/liver_0.nii.gz",
        "imagesTr/liver_2.nii.gz": "labelsTr/liver_2.nii.gz",
        "imagesTr/liver_10.nii.gz": "labelsTr/liver_10.nii.gz",
        "imagesTs/liver_131.nii.gz": None,
    },
    "nnU-Net's": {"imagesTr/case_7_0000.nii.gz": "labelsTr/case_7.nii.gz"},
    "images and masks of other kinds": {"images/a.nrrd": "masks/a_seg.nii.gz", "images/b.mha": "masks/b.nii"},
    "images and labels in each case": {
        "p1/Images/scan.nii.gz": "p1/Labels/scan-label.nii.gz",
        "p2/Images/scan.nii.gz": "p2/Labels/scan-label.nii.gz",
    },
    "masks in a folder below": {"a.nii.gz": "masks/a.nii.gz", "b.nii.gz": "masks/b_mask.nii.gz"},
    "LiTS, side by side": {
        "volume-1.nii": "segmentation-1.nii",
        "volume-2.nii": "segmentation-2.nii",
        "volume-10.nii": "segmentation-10.nii",
    },
    "endings, side by side": {"a.nii.gz": "a_seg.nii.gz", "a_2.nii.gz": "a_2-label.nrrd", "b.nii.gz": None},
    "Slicer's": {"chest.nrrd": "chest.seg.nrrd"},
    "a folder a case": {"p1/ct.nii.gz": "p1/liver.nii.gz", "p2/image.mha": "p2/label.mha"},
    "one segmentation below a case": {"s1/ct.nii.gz": "s1/segmentations/liver.nii.gz"},
    "a case's own folder": {"p1/abdomen.nii.gz": "p1/drawn_seg.nii.gz"},
    "studies of a patient": {
        "p1/2019/ct.nii.gz": "p1/2019/mask.nii.gz",
        "p1/2021/ct.nii.gz": "p1/2021/mask.nii.gz",
        "p2/2020/ct.nii.gz": "p2/2020/mask.nii.gz",
    },
    "nothing but scans": {"liver.nii.gz": None, "liver_1.nii.gz": None, "deep/below/x.nii.gz": None},
}


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_masks_are_found_in_layouts_that_people_use(layout: dict[str, str | None], tmp_path: Path) -> None:
    lay(tmp_path, *layout, *filter(None, layout.values()))
    found = find_scans(tmp_path)
    assert pairs(found, tmp_path) == layout
    assert found.ignored == ()


def test_scans_come_in_numeric_order_with_their_folders_as_patients(tmp_path: Path) -> None:
    lay(tmp_path, "p10/ct.nii.gz", "p2/2021/ct.nii.gz", "p2/2019/ct.nii.gz", "p1/a.nii.gz", "p1/b.nii.gz")
    lay(tmp_path, "alone_0000.nii.gz")
    assert [(s.volume_id, s.patient_id, s.study_id) for s in find_scans(tmp_path).scans] == [
        ("alone", "alone", "alone"),
        ("p1_a", "p1", "p1_a"),
        ("p1_b", "p1", "p1_b"),
        ("p2_2019_ct", "p2", "p2_2019"),
        ("p2_2021_ct", "p2", "p2_2021"),
        ("p10_ct", "p10", "p10_ct"),
    ]


def test_folders_that_only_tell_images_from_masks_are_no_patients(tmp_path: Path) -> None:
    lay(tmp_path, "images/a.nii.gz", "masks/a.nii.gz", "images/p/b.nii.gz", "masks/p/b.nii.gz")
    found = [(scan.volume_id, scan.patient_id) for scan in find_scans(tmp_path).scans]
    assert found == [("a", "a"), ("p_b", "p")]
    lay(tmp_path / "other", "images/c.nii.gz", "images/d.nii.gz", "images/p/e.nii.gz", "q/CT/f.nii.gz")
    found = [(s.volume_id, s.patient_id, s.study_id) for s in find_scans(tmp_path / "other").scans]
    assert found == [("c", "c", "c"), ("d", "d", "d"), ("p_e", "p", "p_e"), ("q_f", "q", "q_f")]


def test_a_folder_that_is_one_case_gives_its_name(tmp_path: Path) -> None:
    root = lay(tmp_path / "ward 7", "image.nii.gz", "label.nii.gz")
    found = find_scans(root)
    assert pairs(found, root) == {"image.nii.gz": "label.nii.gz"}
    assert (found.scans[0].volume_id, found.scans[0].patient_id) == ("ward 7", "ward 7")


def test_ids_are_unique(tmp_path: Path) -> None:
    lay(tmp_path, "a/b.nii.gz", "a_b.nii.gz", "a_b.nrrd")
    assert [scan.volume_id for scan in find_scans(tmp_path).scans] == ["a_b", "a_b_2", "a_b_3"]


def test_what_might_be_several_things_is_none_of_them(tmp_path: Path) -> None:
    lay(tmp_path, "a.nii.gz", "a_seg.nii.gz", "a_mask.nii.gz")
    lay(tmp_path, "s1/ct.nii.gz", "s1/segmentations/liver.nii.gz", "s1/segmentations/spleen.nii.gz")
    lay(tmp_path, "b.nii", "b.nii.gz", "b_seg.nii.gz")
    lay(tmp_path, "lost_seg.nii.gz")
    found = find_scans(tmp_path)
    assert set(pairs(found, tmp_path).values()) == {None}
    why = reasons(found)
    assert why.keys() == {
        "a_mask.nii.gz",
        "a_seg.nii.gz",
        "b_seg.nii.gz",
        "liver.nii.gz",
        "lost_seg.nii.gz",
        "spleen.nii.gz",
    }
    assert why["a_seg.nii.gz"] == "one of 2 masks of a: name one in a manifest"
    assert why["liver.nii.gz"] == "one of 2 masks of s1_ct: name one in a manifest"
    assert "several scans" in why["b_seg.nii.gz"]
    assert why["lost_seg.nii.gz"] == "a mask of no scan here"


def test_a_lone_scan_and_a_mask_of_another_name_do_not_match(tmp_path: Path) -> None:
    lay(tmp_path, "a.nii.gz", "b_seg.nii.gz")
    assert pairs(find_scans(tmp_path), tmp_path) == {"a.nii.gz": None}
    images, masks = lay(tmp_path / "i", "p/a.nii.gz"), lay(tmp_path / "m", "p/b.nii.gz")
    assert pairs(find_scans(images, masks), images) == {"p/a.nii.gz": None}


def test_other_files_are_ignored_with_a_reason(tmp_path: Path) -> None:
    lay(tmp_path, "a.nii.gz", "notes.txt", "p/labels.csv", "p/x.png", "p/dataset.json", ".DS_Store")
    lay(tmp_path, "._a.nii.gz", ".git/b.nii.gz", "c.mhd", "c.raw", "d.nhdr", "d.raw.gz", "e.raw")
    (tmp_path / "gone.nii.gz").symlink_to(tmp_path / "nowhere")
    found = find_scans(tmp_path)
    assert list(pairs(found, tmp_path)) == ["a.nii.gz", "c.mhd", "d.nhdr"]
    why = reasons(found)
    assert {name for name, text in why.items() if text == "hidden"} == {".DS_Store", "._a.nii.gz", ".git"}
    assert {name for name, text in why.items() if text.startswith("no scan")} == {
        "notes.txt",
        "labels.csv",
        "x.png",
        "dataset.json",
        "e.raw",
    }
    assert why["c.raw"] == why["d.raw.gz"] == "the voxels of the header beside it"
    assert why["gone.nii.gz"] == f"{DAMAGED}a link into nowhere"


def test_a_folder_linked_into_itself_is_walked_once(tmp_path: Path) -> None:
    lay(tmp_path, "p/a.nii.gz")
    (tmp_path / "p" / "again").symlink_to(tmp_path, target_is_directory=True)
    assert [scan.volume_id for scan in find_scans(tmp_path).scans] == ["p_a"]


def test_masks_in_a_folder_of_their_own(tmp_path: Path) -> None:
    images = lay(tmp_path / "scans", "p1/a_0000.nii.gz", "p1/b.nrrd", "c.nii.gz", "c_seg.nii.gz", "ct_9.nii")
    masks = lay(
        tmp_path / "drawn", "p1/a.nii.gz", "p1/b-label.nrrd", "c.nii", "ct_9.nii.gz", "z.nii.gz", "t.txt"
    )
    found = find_scans(images, masks)
    assert {
        scan.volume_id: scan.mask and scan.mask.relative_to(masks).as_posix() for scan in found.scans
    } == {
        "c": "c.nii",
        "ct_9": "ct_9.nii.gz",
        "p1_a": "p1/a.nii.gz",
        "p1_b": "p1/b-label.nrrd",
    }
    why = reasons(found)
    assert why.keys() == {"c_seg.nii.gz", "z.nii.gz", "t.txt"}
    assert "not in the masks' folder" in why["c_seg.nii.gz"]


@pytest.mark.parametrize("below", ["drawn", "."])
def test_a_masks_folder_within_the_images(below: str, tmp_path: Path) -> None:
    masks = lay(tmp_path / "drawn", "a.nii.gz")
    lay(tmp_path, "a.nii.gz")
    if below == ".":  # the images within the masks' folder
        images, masks = masks, tmp_path
    else:
        images = tmp_path
    found = find_scans(images, masks)
    assert [(scan.volume_id, scan.mask) for scan in found.scans] == [("a", masks / "a.nii.gz")]
    assert found.ignored == ()


def test_the_same_folder_for_both_is_searched_as_one(tmp_path: Path) -> None:
    lay(tmp_path, "a.nii.gz", "a_seg.nii.gz")
    assert pairs(find_scans(tmp_path, tmp_path), tmp_path) == {"a.nii.gz": "a_seg.nii.gz"}


def test_folders_that_are_not_there(tmp_path: Path) -> None:
    file = lay(tmp_path, "a.nii.gz") / "a.nii.gz"
    for images, masks in ((tmp_path / "no", None), (file, None), (tmp_path, tmp_path / "no")):
        with pytest.raises(UsageError, match="is no folder"):
            find_scans(images, masks)


WORDS = ("a", "b", "ct", "image", "label", "a_seg", "seg-b", "liver", "x_0000", ".h")
FOLDERS = ("", "p", "images", "masks", "p/images", "p/labels", "q/segmentations")
TREES = st.sets(
    st.tuples(st.sampled_from(FOLDERS), st.sampled_from(WORDS), st.sampled_from((".nii", ".nii.gz", ".csv"))),
    max_size=14,
)


@given(TREES)
@settings(max_examples=60, deadline=None)
def test_every_file_is_one_thing(tree: set[tuple[str, str, str]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        lay(root, *(f"{place}/{word}{ending}".lstrip("/") for place, word, ending in tree))
        found = find_scans(root)
        things = [scan.image for scan in found.scans] + [scan.mask for scan in found.scans if scan.mask]
        things += [path for path, _ in found.ignored]
        assert sorted(things) == sorted(path for path in root.rglob("*") if path.is_file())
        ids = [scan.volume_id for scan in found.scans]
        assert len(set(ids)) == len(ids)
        assert all(found.scans) and all(why for _, why in found.ignored)


def write_dicom(
    path: Path,
    series: str,
    *,
    patient: str = "MRN-001",
    study: str = "1.2.3",
    modality: str = "CT",
    kind: Sequence[str] = ("ORIGINAL", "PRIMARY", "AXIAL"),
    marks: str = "",
) -> Path:
    """A DICOM header without pixels."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = pydicom.uid.CTImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid()
    data = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    data.SOPClassUID = meta.MediaStorageSOPClassUID
    data.SOPInstanceUID = meta.MediaStorageSOPInstanceUID
    data.PatientName, data.PatientID, data.PatientBirthDate = PERSON, patient, "19610203"
    data.StudyInstanceUID, data.SeriesInstanceUID, data.Modality = study, series, modality
    data.ImageType, data.SamplesPerPixel = list(kind), 1
    if marks:
        item = Dataset()
        item.SeriesInstanceUID = marks
        data.ReferencedSeriesSequence = [item]
    path.parent.mkdir(parents=True, exist_ok=True)
    data.save_as(path, enforce_file_format=True)
    return path


def test_dicom_series_and_the_segmentations_that_refer_to_them(tmp_path: Path) -> None:
    folder = tmp_path / "DOE_JANE"
    first = [write_dicom(folder / f"IM{n}", "1.2.3.1") for n in range(3)]
    write_dicom(folder / "other" / "IM9.dcm", "1.2.4.1", study="1.2.4")
    mask = write_dicom(folder / "seg.dcm", "1.2.3.7", modality="SEG", marks="1.2.3.1")
    write_dicom(folder / "lost_seg.dcm", "1.2.3.8", modality="SEG", marks="9.9")
    write_dicom(folder / "mr" / "a.dcm", "1.2.3.5", modality="MR")
    write_dicom(folder / "scout" / "a.dcm", "1.2.3.6", kind=("ORIGINAL", "PRIMARY", "LOCALIZER"))
    lay(tmp_path, "file.nii.gz", "file_seg.nii.gz")
    found = find_scans(tmp_path)
    one, other, file = found.scans
    assert (one.image, one.files, one.mask) == (folder, tuple(first), mask)
    assert (other.image, other.mask) == (folder / "other", None)
    assert file.mask == tmp_path / "file_seg.nii.gz"
    assert one.patient_id == other.patient_id != file.patient_id
    assert one.study_id != other.study_id
    assert one.volume_id == one.series != other.volume_id
    why = {path.relative_to(folder).as_posix(): text for path, text in found.ignored}
    assert why == {
        "lost_seg.dcm": "a mask of no scan here",
        "mr/a.dcm": "DICOM of MR, not CT; 1 files",
        "scout/a.dcm": "DICOM without CT slices; 1 files",
    }
    ids = [f"{scan.volume_id} {scan.patient_id} {scan.study_id} {scan.series}" for scan in found.scans]
    for secret in ("Doe", "DOE", "MRN", "1961", "1.2.3"):
        assert not any(secret in text for text in (*ids, *why.values()))


def test_a_series_with_a_mask_in_a_file_or_a_folder_of_masks(tmp_path: Path) -> None:
    for case in ("p1", "p2"):
        write_dicom(tmp_path / case / "dicom" / "1.dcm", f"1.2.{case[1]}", study=f"1.{case[1]}", patient=case)
        write_dicom(tmp_path / case / "dicom" / "2.dcm", f"1.2.{case[1]}", study=f"1.{case[1]}", patient=case)
    lay(tmp_path, "p1/dicom/liver.nii.gz")
    write_dicom(tmp_path / "p2" / "masks" / "1.dcm", "1.2.9", patient="p2")
    masks = tmp_path / "drawn"
    seg = write_dicom(masks / "x.dcm", "1.2.8", modality="SEG", marks="1.2.2")
    found = find_scans(tmp_path / "p1")
    assert [scan.mask for scan in found.scans] == [tmp_path / "p1" / "dicom" / "liver.nii.gz"]
    found = find_scans(tmp_path / "p2", masks)
    assert [(scan.image, scan.mask) for scan in found.scans] == [(tmp_path / "p2" / "dicom", seg)]
    assert reasons(found) == {"1.dcm": "a DICOM series of CT among the masks; 1 files"}


def test_two_series_in_one_folder_are_two_scans(tmp_path: Path) -> None:
    for n in range(4):
        write_dicom(tmp_path / f"{n}.dcm", f"1.2.{n % 2}")
    found = find_scans(tmp_path)
    assert [scan.image for scan in found.scans] == [tmp_path, tmp_path]
    assert [[path.name for path in scan.files] for scan in found.scans] == [
        ["0.dcm", "2.dcm"],
        ["1.dcm", "3.dcm"],
    ]
    assert len({scan.series for scan in found.scans}) == 2


def test_damaged_dicom_files_are_said_to_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("1.dcm", "2.dcm", "3.dcm"):
        write_dicom(tmp_path / name, "1.2.1")
    cut = tmp_path / "2.dcm"
    cut.write_bytes(cut.read_bytes()[:300])

    def is_dicom(path: Path) -> bool:
        if path.name == "3.dcm":
            raise DataError(f"{path} may not be read.")
        return True

    monkeypatch.setattr(dicom_files, "is_dicom", is_dicom)
    found = find_scans(tmp_path)
    assert [[path.name for path in scan.files] for scan in found.scans] == [["1.dcm"]]
    why = reasons(found)
    assert why["3.dcm"] == f"{DAMAGED}{tmp_path / '3.dcm'} may not be read."
    assert why["2.dcm"].startswith(f"{DAMAGED}DICOM whose header says no modality")


def test_hidden_series_are_ignored(tmp_path: Path) -> None:
    write_dicom(tmp_path / "ct" / "1.dcm", "1.2.1")
    write_dicom(tmp_path / ".trash" / "2.dcm", "1.2.2")
    write_dicom(tmp_path / "ct" / "._1.dcm", "1.2.3")
    found = find_scans(tmp_path)
    assert [[path.name for path in scan.files] for scan in found.scans] == [["1.dcm"]]
    assert reasons(found) == {".trash": "hidden", "._1.dcm": "hidden"}


def test_patients_whose_identifiers_were_all_taken_away(tmp_path: Path) -> None:
    for patient in ("p1", "p2"):
        for n in range(2):
            write_dicom(tmp_path / patient / "CT" / f"{n}.dcm", "", patient="", study="")
    scans = find_scans(tmp_path).scans
    assert [(scan.image.parent.name, len(scan.files)) for scan in scans] == [("p1", 2), ("p2", 2)]
    assert len({scan.patient_id for scan in scans}) == len({scan.study_id for scan in scans}) == 2


def test_folders_that_cannot_be_listed_are_damaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lay(tmp_path, "p1/a.nii.gz", "p2/b.nii.gz")
    shut, real = {"p2"}, os.scandir

    def scandir(path: Any) -> Any:
        if Path(path).name in shut:
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    found = find_scans(tmp_path)
    assert [scan.volume_id for scan in found.scans] == ["p1_a"]
    assert reasons(found) == {"p2": f"{DAMAGED}{tmp_path / 'p2'} may not be read."}
    shut.add(tmp_path.name)
    with pytest.raises(DataError, match="may not be read"):
        find_scans(tmp_path)


def test_a_file_whose_name_begins_a_damaged_ones_is_not_damaged(tmp_path: Path) -> None:
    lay(tmp_path, "1", "scan.nii.gz")
    (tmp_path / "10").write_bytes(b"\0" * 128 + b"DICM" + b"\x02\x00\x00\x00UL\x04\x00\xff\xff")
    why = reasons(find_scans(tmp_path))
    assert why["10"].startswith(DAMAGED)
    assert why["1"].startswith("no scan")


def test_a_damaged_modality_quotes_no_patient(tmp_path: Path) -> None:
    for n in range(3):
        path = write_dicom(tmp_path / f"{n}.dcm", "1.2.1")
    content = bytearray(path.read_bytes())
    content[content.index(b"\x08\x00\x60\x00CS") + 6] = 120  # its length
    path.write_bytes(content)
    found = find_scans(tmp_path)
    assert [len(scan.files) for scan in found.scans] == [2]
    assert reasons(found)["2.dcm"].startswith(f"{DAMAGED}{path} has a Modality that cannot be understood")
    assert PERSON not in str(found)


@pytest.mark.parametrize("images", ["imagesTr", "imagesTs"])
def test_files_of_a_decathlon_task_are_patients_at_any_depth(images: str, tmp_path: Path) -> None:
    names = [f"{folder}/{name}.nii.gz" for folder in (images, "labelsTr") for name in ("liver_0", "liver_1")]
    lay(tmp_path / "Task03_Liver", *names)
    scans = find_scans(tmp_path).scans
    assert [scan.patient_id for scan in scans] == ["Task03_Liver_liver_0", "Task03_Liver_liver_1"]
    assert [scan.study_id for scan in scans] == [scan.volume_id for scan in scans]
    assert all(scan.mask is not None for scan in scans)


@pytest.mark.parametrize(
    ("path", "folder", "seen"),
    [
        ("d/a/b.nii", "d", "a/b.nii"),
        ("a/b.nii", ".", "a/b.nii"),
        ("d/../a/b.nii", ".", "a/b.nii"),
        ("HERE/d/a.nii", "d", "a.nii"),
        ("d/a.nii", "HERE/d", "a.nii"),
        ("HERE/a.nii", "d/..", "a.nii"),
        ("../a.nii", ".", None),
        ("dd/a.nii", "d", None),
    ],
)
def test_below_however_the_paths_are_typed(
    path: str, folder: str, seen: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    here = Path.cwd().as_posix()
    place = below(Path(path.replace("HERE", here)), Path(folder.replace("HERE", here)))
    assert (None if place is None else place.as_posix()) == seen


def test_a_linked_scan_lies_where_its_link_does(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "a.nii").touch()
    (tmp_path / "d/link.nii").symlink_to(tmp_path / "a.nii")
    assert below(tmp_path / "d/link.nii", tmp_path / "d") == PurePath("link.nii")
