"""DICOM in the benchmark `folder`; files are tested with the benchmark itself."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from cbirbench.datasets.cohort import cohort_of
from cbirbench.datasets.folder import Folder, FolderOptions
from cbirbench.datasets.own_scans import named_scans, segment_names
from cbirbench.errors import DataError, DataWarning
from cbirbench.scans.dicom_files import pseudonym

COUNT, ROWS, COLUMNS = 8, 4, 5


def dicom(path: Path, patient: str, uid: str) -> FileDataset:
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = pydicom.uid.CTImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid()
    data = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    data.SOPClassUID, data.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    data.PatientName, data.PatientID, data.PatientBirthDate = "Doe^Jane", patient, "19610203"
    data.StudyInstanceUID, data.SeriesInstanceUID, data.Modality = f"{uid}.1", uid, "CT"
    data.FrameOfReferenceUID = f"{uid}.2"
    path.parent.mkdir(parents=True, exist_ok=True)
    return data


def write_series(folder: Path, patient: str, uid: str, seed: int) -> np.ndarray:
    """A CT series in files whose names run against their positions; HU in radiological view."""
    hu = np.random.default_rng(seed).integers(-900, 900, size=(COUNT, ROWS, COLUMNS)).astype(np.int16)
    hu[:, 0, :2] = (-1000, 1000)
    for z in range(COUNT):
        path = folder / f"IM{COUNT - z}"
        data = dicom(path, patient, uid)
        data.ImageType, data.InstanceNumber = ["ORIGINAL", "PRIMARY", "AXIAL"], COUNT - z
        data.ImagePositionPatient, data.ImageOrientationPatient = [0, 0, 2.5 * z], [1, 0, 0, 0, 1, 0]
        data.PixelSpacing, data.SliceThickness = [0.7, 0.7], 2.5
        data.Rows, data.Columns, data.SamplesPerPixel = ROWS, COLUMNS, 1
        data.PhotometricInterpretation, data.PixelRepresentation = "MONOCHROME2", 0
        data.BitsAllocated, data.BitsStored, data.HighBit = 16, 16, 15
        data.RescaleSlope, data.RescaleIntercept, data.RescaleType = 1, -1024, "HU"
        data.PixelData = (hu[z].astype(np.int32) + 1024).astype(np.uint16).tobytes()
        data.save_as(path, enforce_file_format=True)
    return hu


def write_mask(path: Path, shown: range) -> None:
    view = np.zeros((COUNT, ROWS, COLUMNS), np.uint8)
    view[list(shown), 1:3, 1:3] = 1
    nib.save(nib.Nifti1Image(view.transpose(2, 1, 0), np.diag((-0.7, -0.7, 2.5, 1.0))), path)


@pytest.fixture
def ward(tmp_path: Path) -> tuple[Path, list[np.ndarray]]:
    """Two patients' exported series, one with a mask beside it, in folders that bear names."""
    root = tmp_path / "ward"
    scans = [write_series(root / f"DOE_{n}" / "S1", f"MRN-{n}", f"1.2.{n}", n) for n in (1, 2)]
    write_mask(root / "DOE_1" / "S1" / "liver.nii.gz", range(2, 5))
    (root / "notes.txt").write_text("ward 7")
    return root, scans


def test_series_with_masks_and_with_labels(ward: tuple[Path, list[np.ndarray]]) -> None:
    root, scans = ward
    (root / "labels.csv").write_text("case,slice,label\nDOE_2/S1,0,0\nDOE_2/S1,6,1\nDOE_2/S1,7,-1\n")
    made = Folder(FolderOptions(images=root, slices_per_kind=3))
    one, two = made.sources()
    assert (one.split, two.split) == ("gallery", "query")
    drawn, labelled = made.read(one), made.read(two)
    assert {item.z_index for item in drawn if item.label} == {2, 3, 4} and len(drawn) == 6
    assert [(item.z_index, item.label) for item in labelled] == [(0, 0), (6, 1)]
    for items, hu in ((drawn, scans[0]), (labelled, scans[1])):
        for item in items:
            np.testing.assert_array_equal(item.hu, hu[item.z_index])
    known = repr([one, two, *((i.slice_id, i.patient_id, i.study_id) for i in (*drawn, *labelled))])
    assert not any(secret in known for secret in ("Doe", "DOE", "MRN", "1961"))


def test_fingerprints_follow_every_file_of_a_series(ward: tuple[Path, list[np.ndarray]]) -> None:
    root, _ = ward
    (root / "labels.csv").write_text("case,slice,label\nDOE_2/S1,0,0\n")

    def fingerprints() -> list[object]:
        return [source.fingerprint["image"] for source in Folder(FolderOptions(images=root)).sources()]

    before = fingerprints()
    path = root / "DOE_2" / "S1" / "IM3"
    path.write_bytes(path.read_bytes() + b"\0\0")
    after = fingerprints()
    assert (after[0] == before[0], after[1] == before[1]) == (True, False)


def test_a_manifest_names_a_series_by_its_folder_or_its_uid(ward: tuple[Path, list[np.ndarray]]) -> None:
    root, scans = ward
    (root / "m.csv").write_text(
        "patient,study,image,series,slice,label\n"
        "a,s,DOE_1/S1,,5,1\n"
        "b,s,.,1.2.2,4,0\n"  # the whole ward is searched for it
    )
    benchmark = cohort_of(str(root / "m.csv")).benchmark
    slices = [benchmark.read(source) for source in benchmark.sources()]
    np.testing.assert_array_equal(slices[0][0].hu, scans[0][5])
    np.testing.assert_array_equal(slices[1][0].hu, scans[1][4])
    assert [items[0].volume_id for items in slices] == ["a_s", f"b_s_{pseudonym('series', '1.2.2')}"]


def write_segments(path: Path, names: dict[int, str]) -> Path:
    data = dicom(path, "MRN", "1.2.9")
    data.Modality, data.SegmentSequence = "SEG", []
    for number, name in names.items():
        item = Dataset()
        item.SegmentNumber, item.SegmentLabel = number, name
        data.SegmentSequence.append(item)
    data.save_as(path, enforce_file_format=True)
    return path


def test_segments_are_called_as_their_files_call_them(tmp_path: Path) -> None:
    one = write_segments(tmp_path / "1.dcm", {1: "Liver", 2: "Spleen"})
    two = write_segments(tmp_path / "2.dcm", {1: "liver", 3: ""})
    assert segment_names([one, two, tmp_path / "a.nii.gz"]) == {1: "Liver", 2: "Spleen"}
    three = write_segments(tmp_path / "3.dcm", {1: "Kidney", 2: "spleen"})
    with pytest.warns(DataWarning, match=r"differently: 1 is 'Liver' and, in .*3\.dcm, 'Kidney'"):
        assert segment_names([one, three]) == {2: "Spleen"}


def test_a_mask_that_is_a_folder_with_a_segmentation(tmp_path: Path) -> None:
    (tmp_path / "seg").mkdir()
    write_segments(tmp_path / "seg" / "1.dcm", {1: "Liver"})
    (tmp_path / "seg" / "notes.txt").write_text("no mask")
    assert segment_names([tmp_path / "seg"]) == {1: "Liver"}
    write_segments(tmp_path / "seg" / "2.dcm", {1: "Liver"})
    with pytest.raises(DataError, match="holds 2 DICOM segmentations"):
        segment_names([tmp_path / "seg"])


@pytest.fixture
def searched(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The folders that are searched for series, each time."""
    from cbirbench.datasets import folder_contents, own_scans
    from cbirbench.scans import dicom_files

    folders: list[Path] = []

    def noted(plain: Callable[..., Any]) -> Callable[..., Any]:
        def search(folder: Path, **options: Any) -> Any:
            folders.append(folder)
            return plain(folder, **options)

        return search

    for module in (dicom_files, folder_contents, own_scans):
        monkeypatch.setattr(module, "find_series", noted(module.find_series))
    return folders


@pytest.mark.parametrize("by", ["folder", "manifest"])
def test_a_folder_is_searched_once_for_all_its_series(
    by: str, ward: tuple[Path, list[np.ndarray]], searched: list[Path]
) -> None:
    root, scans = ward
    (root / "labels.csv").write_text("case,slice,label\nDOE_1/S1,6,1\nDOE_2/S1,6,1\n")
    (root / "DOE_1" / "S1" / "liver.nii.gz").unlink()
    (root / "m.csv").write_text("patient,image,series,slice,label\na,.,1.2.1,6,1\nb,./DOE_2/..,1.2.2,6,1\n")
    place = root if by == "folder" else root / "m.csv"
    made = Folder(FolderOptions(data=place))
    sources = made.sources()
    again = pickle.loads(pickle.dumps(made))
    for benchmark in (made, again):
        for source, hu in zip(sources, scans, strict=True):
            np.testing.assert_array_equal(benchmark.read(source)[0].hu, hu[6])
    assert len(searched) == 1


def test_the_fingerprint_of_a_named_series_follows_its_own_files_alone(
    ward: tuple[Path, list[np.ndarray]],
) -> None:
    root, _ = ward
    (root / "m.csv").write_text("patient,image,series,slice,label\na,.,1.2.1,6,1\nb,.,1.2.2,6,1\n")

    def fingerprints() -> list[object]:
        return [source.fingerprint for source in Folder(FolderOptions(manifest=root / "m.csv")).sources()]

    before = fingerprints()
    path = root / "DOE_2" / "S1" / "IM3"
    path.write_bytes(path.read_bytes() + b"\0\0")
    after = fingerprints()
    assert (after[0] == before[0], after[1] == before[1]) == (True, False)


def test_a_series_named_in_two_ways_is_refused(ward: tuple[Path, list[np.ndarray]]) -> None:
    root, _ = ward
    (root / "m.csv").write_text(
        "patient,image,series,slice,label,split\na,.,1.2.1,6,1,train\nb,DOE_1/S1,,6,1,test\n"
    )
    with pytest.raises(DataError, match=r"names the series series-\w+ more than once, lines 2, 3"):
        Folder(FolderOptions(manifest=root / "m.csv")).sources()


def test_a_manifest_gives_the_same_however_its_path_is_typed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for n in (1, 2):
        hu = np.random.default_rng(n).integers(-1000, 900, (5, 4, COUNT)).astype(np.int16)
        nib.save(nib.Nifti1Image(hu, np.diag((-0.7, -0.7, 2.5, 1.0))), tmp_path / f"{n}.nii.gz")
        write_mask(tmp_path / f"mask{n}.nii.gz", range(2, 6))
    monkeypatch.chdir(tmp_path)
    here = Path.cwd()
    Path("m.csv").write_text(
        "patient,image,mask\n" + "".join(f"P{n},{here}/{n}.nii.gz,mask{n}.nii.gz\n" for n in (1, 2))
    )
    Path("slice_labels.csv").write_text("case,slice,label\n1.nii.gz,0,1\n")
    seen = []
    for manifest in ("m.csv", f"{here}/m.csv", f"../{here.name}/m.csv"):
        made = Folder(FolderOptions(data=Path(manifest), slices_per_kind=2, labels=Path("slice_labels.csv")))
        sources = made.sources()
        seen.append([(source, [item.slice_id for item in made.read(source)]) for source in sources])
    assert seen[0][0][0].volume_id == "1"
    assert seen[0] == seen[1] == seen[2]


def test_what_a_manifest_says_of_labels_and_split(ward: tuple[Path, list[np.ndarray]]) -> None:
    root, _ = ward
    (root / "m.csv").write_text(
        "patient,image,mask,split,slice,label\n"
        "a,DOE_1/S1,DOE_1/S1/liver.nii.gz,train,3,1\n"
        "b,DOE_2/S1,,test,0,0\nb,DOE_2/S1,,test,6,1\n"
    )
    with pytest.warns(DataWarning, match="the labels are not used"):
        scans = named_scans(root / "m.csv")
    assert [(scan.labels, scan.split) for scan in scans] == [({}, "gallery"), ({0: 0, 6: 1}, "query")]
