from __future__ import annotations

import warnings
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from cbirbench.cases import studies
from cbirbench.cases.studies import ScanFile, open_study, study_name
from cbirbench.errors import DataError, DataWarning, UsageError

SPACING = (2.5, 0.7, 0.7)  # slices, rows, columns


def scan(path: Path, slices: int = 5, affine: np.ndarray | None = None) -> Path:
    """Slice z of the view is -1000 but for its first pixels, which are z."""
    view = np.full((slices, 4, 3), -1000, np.int16)
    view[:, 0, :] = np.arange(slices)[:, None]
    stored = view.transpose(2, 1, 0)  # left, posterior, superior
    placed = np.diag((-SPACING[2], -SPACING[1], SPACING[0], 1.0)) if affine is None else affine
    nib.save(nib.Nifti1Image(stored, placed), path)
    return path


def test_slices_are_read_by_number_from_the_most_inferior_up(tmp_path: Path) -> None:
    study = open_study(ScanFile(scan(tmp_path / "patient.nii.gz")))
    assert (study.name, study.slice_count, study.notes) == ("patient", 5, [])
    assert study.spacing_mm == pytest.approx(2.5) and study.z_mm(3) == pytest.approx(7.5)
    found = study.read([3, 1])
    assert [(s.z_index, int(s.hu[0, 0]), s.hu.shape) for s in found] == [(1, 1, (4, 3)), (3, 3, (4, 3))]
    assert found.ids == ["query/patient_z0001", "query/patient_z0003"]
    assert found.labels.tolist() == [0, 0] and all(s.mask is None for s in found)
    labelled = study.read([0, 4], "previous", {0: 0, 4: 1})
    assert labelled.ids == ["previous/patient_z0000", "previous/patient_z0004"]
    assert labelled.labels.tolist() == [0, 1]


def test_an_orientation_outranks_the_file(tmp_path: Path) -> None:
    path = scan(tmp_path / "a.nii")
    upside_down = open_study(ScanFile(path, orientation="lpi"))
    assert upside_down.read([0])[0].hu[0, 0] == 4
    with pytest.raises(UsageError, match="three letters"):
        open_study(ScanFile(path, orientation="LPX"))
    with pytest.raises(UsageError, match="three letters"):
        open_study(ScanFile(path, unstated="up"))


def test_what_is_doubtful_is_noted_and_other_warnings_pass(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = scan(tmp_path / "a.nii", affine=np.eye(4))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        study = open_study(ScanFile(path))
    assert len(study.notes) == 1 and "states no orientation" in study.notes[0]
    assert open_study(ScanFile(path, unstated="LPS")).notes == []

    plain = studies.slices_at

    def doubtful(*arguments: object) -> object:
        warnings.warn("tilted", DataWarning, stacklevel=1)
        warnings.warn("old", DeprecationWarning, stacklevel=1)
        return plain(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(studies, "slices_at", doubtful)
    with pytest.warns(DeprecationWarning, match="old"):
        study.read([0])
    with pytest.warns(DeprecationWarning, match="old"):
        study.read([1])
    assert study.notes[1:] == ["tilted"], "once, however often it is read"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("3", [3]),
        ("3,1", [3, 1]),
        ("1-3", [1, 2, 3]),
        ("4, 0-2;1", [4, 0, 1, 2]),
        ("2 2", [2]),
        ("0-4", [0, 1, 2, 3, 4]),
    ],
)
def test_slice_numbers(tmp_path: Path, text: str, found: list[int]) -> None:
    assert open_study(ScanFile(scan(tmp_path / "a.nii"))).numbers(text) == found


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "has slices 0 to 4, and --slice does not say which"),
        ("5", "has slices 0 to 4, no slice 5"),
        ("3-5", "no slice 5"),
        ("0-999999999", "no slice 999999999"),
        ("-1", "got '-1'"),
        ("3-1", "got '3-1'"),
        ("middle", "got 'middle'"),
        ("1.5", "got '1.5'"),
        ("²", "got '²'"),
    ],
)
def test_any_other_slice_is_a_usage_error(tmp_path: Path, text: str, says: str) -> None:
    study = open_study(ScanFile(scan(tmp_path / "a.nii")))
    with pytest.raises(UsageError) as caught:
        study.numbers(text)
    assert says in str(caught.value)


def test_a_single_slice_needs_no_number(tmp_path: Path) -> None:
    study = open_study(ScanFile(scan(tmp_path / "a.nii", slices=1)))
    assert study.numbers("") == [0]
    with pytest.raises(UsageError, match="has one slice, 0, no slice 1"):
        study.numbers("1")


def test_no_slice_is_read_of_what_is_no_scan(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"\x89PNG")
    with pytest.raises(DataError, match="no Hounsfield units"):
        open_study(ScanFile(tmp_path / "a.png"))
    with pytest.raises(UsageError, match="does not exist"):
        open_study(ScanFile(tmp_path / "a.nii.gz"))


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("x/scan.nii.gz", "scan"),
        ("scan.NII.GZ", "scan"),
        ("scan.v2.nii", "scan.v2"),
        ("scan.nrrd", "scan"),
        ("scan", "scan"),
        ("1.2.840.55", "1.2.840.55"),
        ("scan.dcm", "scan"),
        (".nii", ".nii"),
    ],
)
def test_a_study_is_called_as_its_file(path: str, name: str) -> None:
    assert study_name(Path(path)) == name


def test_a_series_is_called_as_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "series.1.2").mkdir()
    assert study_name(tmp_path / "series.1.2") == "series.1.2"
    monkeypatch.chdir(tmp_path / "series.1.2")
    assert study_name(Path()) == "series.1.2"
