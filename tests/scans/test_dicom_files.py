from __future__ import annotations

import hashlib
import os
import warnings
from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid

from cbirbench.errors import DataError
from cbirbench.scans.dicom_files import find_series, is_dicom, pseudonym
from cbirbench.scans.volumes import open_volume


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:10]


def test_series_are_grouped_by_their_headers(dicom, tmp_path: Path) -> None:
    first, second = dicom.datasets(dicom.scan(3), seed="a"), dicom.datasets(dicom.scan(2), seed="b")
    here = dicom.write(tmp_path / "mixed", first)
    second[0].save_as(tmp_path / "mixed" / "zz")  # no ending
    second[1].save_as(tmp_path / "mixed" / "zy.IMA")
    found = find_series(tmp_path)
    assert [one.files for one in found] == [
        tuple(sorted(here)),
        (tmp_path / "mixed" / "zy.IMA", tmp_path / "mixed" / "zz"),
    ]
    one = found[0]
    assert (one.modality, one.segments, one.scan, one.marks) == ("CT", False, True, ())
    assert one.patient == f"patient-{digest('SECRET a')}"
    assert one.study_uid == f"study-{digest(first[0].StudyInstanceUID)}"
    assert one.uid == f"series-{digest(first[0].SeriesInstanceUID)}"
    assert "SECRET" not in repr(found)
    assert str(first[0].SeriesInstanceUID) not in repr(found)


def test_spaces_around_an_identifier_do_not_count() -> None:
    assert pseudonym("patient", " P 1 \0") == f"patient-{digest('P 1')}"


def test_series_in_several_folders_are_one(dicom, tmp_path: Path) -> None:
    sets = dicom.datasets(dicom.scan(4))
    dicom.write(tmp_path / "a", sets[:2])
    dicom.write(tmp_path / "b", sets[2:])
    (one,) = find_series(tmp_path)
    assert len(one.files) == 4


def test_other_files_are_passed_over(dicom, tmp_path: Path) -> None:
    (path, _) = dicom.write(tmp_path, dicom.datasets(dicom.scan(2)))
    (tmp_path / "table.csv").write_text("patient,liver\n1,0\n")
    (tmp_path / "empty").touch()
    (tmp_path / "short").write_bytes(b"\x08\x00\x05")
    (tmp_path / "looks").write_bytes(b"\x08\x00" + bytes(range(200)) * 3)
    (tmp_path / "DICOMDIR").write_bytes(path.read_bytes())
    (tmp_path / "nowhere").symlink_to(tmp_path / "gone")
    (one,) = find_series(tmp_path)
    assert len(one.files) == 2
    assert not is_dicom(tmp_path / "DICOMDIR")
    assert is_dicom(path)


def test_linked_folders_are_followed_once(dicom, tmp_path: Path) -> None:
    dicom.write(tmp_path / "store", dicom.datasets(dicom.scan(2)))
    (tmp_path / "cohort").mkdir()
    (tmp_path / "cohort" / "case").symlink_to(tmp_path / "store")
    (tmp_path / "store" / "round").symlink_to(tmp_path / "cohort")
    (one,) = find_series(tmp_path / "cohort")
    assert len(one.files) == 2


def test_files_whose_identifiers_were_taken_away(dicom, tmp_path: Path) -> None:
    for folder, frame in (("one", "1.2.3"), ("two", "1.2.4"), ("three", "")):
        sets = dicom.datasets(dicom.scan(2), frame=frame)
        for ds in sets:
            ds.PatientID = ds.StudyInstanceUID = ds.SeriesInstanceUID = ""
        dicom.write(tmp_path / folder, sets)
    found = find_series(tmp_path)
    assert len(found) == 3
    assert len({one.uid for one in found}) == len({one.patient for one in found}) == 3
    assert all(len(one.files) == 2 and one.scan for one in found)


def nameless(dicom, folder: Path, count: int = 2) -> None:
    """Write a series whose identifiers, frame of reference too, were all taken away."""
    sets = dicom.datasets(dicom.scan(count), frame="")
    for ds in sets:
        ds.PatientID = ds.StudyInstanceUID = ds.SeriesInstanceUID = ""
    dicom.write(folder, sets)


def test_patients_without_any_identifier_are_told_apart_by_their_folders(dicom, tmp_path: Path) -> None:
    for folder in ("p1/CT", "p2/CT", "p2"):
        nameless(dicom, tmp_path / folder)
    found = find_series(tmp_path)
    assert [len(one.files) for one in found] == [2, 2, 2]
    for kind in ("uid", "study_uid", "patient"):
        assert len({getattr(one, kind) for one in found}) == 3


def test_a_series_without_identifier_is_known_from_its_folder_and_the_one_above(
    dicom, tmp_path: Path
) -> None:
    for folder in ("CT", "CT/CT", "CT/CT/CT"):
        nameless(dicom, tmp_path / folder)
    above, within = find_series(tmp_path), find_series(tmp_path / "CT")
    assert above[0].files == within[0].files
    assert above[0].uid == within[0].uid
    assert len({one.uid for one in within}) == len({one.uid for one in above}) == 3


def test_hidden_files_and_folders_are_passed_over(dicom, tmp_path: Path) -> None:
    for folder in (".trash", "ct/.old", "ct"):
        dicom.write(tmp_path / folder, dicom.datasets(dicom.scan(2), seed=folder))
    (tmp_path / "ct" / "._000.dcm").write_bytes((tmp_path / "ct" / "000.dcm").read_bytes())
    (one,) = find_series(tmp_path)
    assert [path.relative_to(tmp_path).as_posix() for path in one.files] == ["ct/000.dcm", "ct/001.dcm"]
    (hidden,) = find_series(tmp_path / ".trash")  # asked for
    assert len(hidden.files) == 2


def test_folders_that_cannot_be_listed_are_told(
    dicom, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder in ("open", "shut"):
        dicom.write(tmp_path / folder, dicom.datasets(dicom.scan(2)))
    real = os.scandir

    def scandir(path: Any) -> Any:
        if Path(path).name == "shut":
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(DataError, match="shut may not be read"):
        find_series(tmp_path)
    damaged: dict[Path, DataError] = {}
    (one,) = find_series(tmp_path, damaged=damaged)
    assert [path.parent.name for path in one.files] == ["open", "open"]
    assert list(damaged) == [tmp_path / "shut"]


def test_a_file_of_a_damaged_modality_quotes_no_patient(dicom, tmp_path: Path) -> None:
    paths = dicom.write(tmp_path, dicom.datasets(dicom.scan(3)))
    content = bytearray(paths[1].read_bytes())
    content[content.index(b"\x08\x00\x60\x00CS") + 6] = 120  # its length: it swallows the patient's name
    paths[1].write_bytes(content)
    damaged: dict[Path, DataError] = {}
    (one,) = find_series(tmp_path, damaged=damaged)
    assert len(one.files) == 2
    assert "Modality that cannot be understood" in damaged[paths[1]].problem
    for path in (tmp_path, paths[1]):
        with pytest.raises(DataError, match="Modality that cannot be understood") as raised:
            open_volume(path)
        assert "SECRET" not in str(raised.value)


def test_the_study_stands_in_for_a_patient_without_identifier(dicom, tmp_path: Path) -> None:
    sets = [*dicom.datasets(dicom.scan(1)), *dicom.datasets(dicom.scan(1))]
    for ds in sets:
        ds.PatientID = ""
    sets[1].SeriesInstanceUID = generate_uid()
    dicom.write(tmp_path, sets)
    one, other = find_series(tmp_path)
    assert one.patient == other.patient == one.study_uid.replace("study", "patient")
    assert one.uid != other.uid


def _localizer(ds: Dataset) -> None:
    ds.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]


def _screen(ds: Dataset) -> None:
    ds.SOPClassUID = "1.2.840.10008.5.1.4.1.1.7.2"


def _screen_known_by_its_meta_information_only(ds: Dataset) -> None:
    ds.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.7"
    ds.file_meta.MediaStorageSOPInstanceUID = "1.2"
    ds.SOPClassUID = ds.SOPInstanceUID = ""


def _colour(ds: Dataset) -> None:
    ds.SamplesPerPixel = 3


def _magnetic_resonance(ds: Dataset) -> None:
    ds.Modality = "MR"


@pytest.mark.parametrize(
    "change", [_localizer, _screen, _screen_known_by_its_meta_information_only, _colour, _magnetic_resonance]
)
def test_what_holds_no_ct_slice_is_no_scan(dicom, change, tmp_path: Path) -> None:
    sets = dicom.datasets(dicom.scan(1))
    change(sets[0])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        sets[0].save_as(tmp_path / "x.dcm", enforce_file_format=False, implicit_vr=False, little_endian=True)
    (one,) = find_series(tmp_path)
    assert not one.scan


def test_a_segmentation_says_what_it_marks(dicom, tmp_path: Path) -> None:
    hu = dicom.scan()
    sets = dicom.datasets(hu)
    dicom.write(tmp_path / "ct", sets)
    dicom.segmentation(tmp_path / "seg.dcm", sets, (hu > 0).astype("u1"))
    scan, segments = find_series(tmp_path)
    assert scan.scan
    assert (segments.modality, segments.segments, segments.scan) == ("SEG", True, False)
    assert segments.marks == (scan.uid,)
    assert segments.patient == scan.patient


def test_damaged_headers_are_raised_or_collected(dicom, tmp_path: Path) -> None:
    dicom.write(tmp_path / "ct", dicom.datasets(dicom.scan(2)))
    broken = tmp_path / "broken.dcm"
    broken.write_bytes(b"\0" * 128 + b"DICM" + b"\x02\x00\x00\x00UL\x04\x00\xff\xff")
    with pytest.raises(DataError, match=r"broken\.dcm is truncated, or its DICOM header is damaged"):
        find_series(tmp_path)
    damaged: dict[Path, DataError] = {}
    assert len(find_series(tmp_path, damaged=damaged)) == 1
    assert list(damaged) == [broken]
    assert "broken.dcm" in damaged[broken].problem


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_files_that_may_not_be_read(dicom, tmp_path: Path) -> None:
    path = dicom.write(tmp_path, dicom.datasets(dicom.scan(1)))[0]
    path.chmod(0)
    with pytest.raises(DataError, match="may not be read"):
        find_series(tmp_path)
