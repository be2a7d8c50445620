from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from typer.testing import CliRunner

from cbirbench.cli import app


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def scan(path: Path, slice_mm: float = 2.0, seed: int = 0) -> None:
    hu = np.random.default_rng(seed).integers(-1000, 60, (16, 16, 10)).astype(np.int16)
    path.parent.mkdir(exist_ok=True)
    nib.save(nib.Nifti1Image(hu, np.diag((-1.0, -1.0, slice_mm, 1.0))), path)


def called(*arguments: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, ["data", "check", *arguments], env={"COLUMNS": "100"})
    assert "Traceback" not in result.output
    return result.exit_code, result.stdout, result.stderr


def test_everything_readable_is_0_and_warnings_are_1_when_strict(here: Path) -> None:
    scan(here / "cohort/a.nii.gz")
    code, said, _ = called("cohort", "--strict")
    assert code == 0
    assert "1 scan of 1 patient, 0 with a mask: 1 readable, 0 not; 0 with warnings." in said
    assert "data-check-cohort/grid-01.png" in said
    scan(here / "cohort/b.nii.gz", slice_mm=9.0, seed=1)
    assert called("cohort")[0] == 0
    code, said, _ = called("cohort", "--strict")
    assert code == 1 and "b: Slices lie 9 mm apart" in " ".join(said.split())


def test_anything_unreadable_is_1_and_still_shown(here: Path) -> None:
    scan(here / "cohort/a.nii.gz")
    (here / "cohort/b.nii.gz").write_bytes(b"no scan")
    code, said, _ = called("cohort", "--out", "found")
    assert code == 1 and "1 readable, 1 not" in said
    assert (here / "found/grid-01.png").is_file() and not (here / "data-check-cohort").exists()


def test_json_is_the_file_and_nothing_else(here: Path) -> None:
    scan(here / "cohort/a.nii.gz")
    (here / "cohort/b.nii.gz").write_bytes(b"no scan")
    code, said, _ = called("cohort", "--json")
    assert code == 1
    assert json.loads(said)["counts"]["unreadable"] == 1
    assert said == (here / "data-check-cohort/check.json").read_text(encoding="utf-8")


def test_options_reach_the_reading(here: Path) -> None:
    scan(here / "cohort/a.nii.gz")
    nib.save(nib.Nifti1Image(np.zeros((16, 16, 10), np.int16) - 9, np.eye(4)), here / "cohort/b.nii.gz")
    values = np.zeros((16, 16, 10), np.uint8)
    values[4:8, 4:8, 5:] = 3
    (here / "m").mkdir()
    nib.save(nib.Nifti1Image(values, np.eye(4)), here / "m/a.nii.gz")
    options = ("--masks", "m", "--organ", "spleen", "--targets", "3,7", "--mask-grid", "image")
    _, said, _ = called("cohort", *options, "--unstated-orientation", "las", "--json")
    first, second = json.loads(said)["scans"]
    assert (first["mask"]["organ"], first["mask"]["slices_with"]) == ("spleen", 5)
    assert second["grid"]["orientation"] == "LAS"
    assert called("cohort", "--masks", "m", "--json")[0] == 1  # the mask's own affine is another


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["nowhere"], "nowhere does not exist"),
        (["cohort", "--masks", "nowhere"], "nowhere does not exist"),
        (["cohort/a.nii.gz"], "is no folder"),
        (["cohort", "--targets", "1,x"], "'x'"),
        (["cohort", "--targets", "0"], "'0'"),
        (["cohort", "--mask-grid", "mine"], "'mine'"),
        (["cohort", "--unstated-orientation", "LPX"], "'LPX'"),
        (["cohort", "--out", "cohort"], "a.nii.gz"),
    ],
)
def test_a_users_mistake_is_2_and_writes_nothing(arguments: list[str], says: str, here: Path) -> None:
    scan(here / "cohort/a.nii.gz")
    code, said, error = called(*arguments)
    assert code == 2 and says in error and said == ""
    assert [path.name for path in here.iterdir()] == ["cohort"]


def test_an_empty_folder_is_1_in_words(here: Path) -> None:
    (here / "cohort").mkdir()
    code, said, error = called("cohort")
    assert code == 1 and "holds no CT scan" in error and said == ""


@pytest.mark.parametrize("cell", ["a\0b.nii.gz", "x" * 5000], ids=["NUL", "long"])
def test_a_cell_that_is_no_path_is_1_in_words(cell: str, here: Path) -> None:
    (here / "m.csv").write_text(f"patient,image\nP,{cell}\n")
    code, said, error = called("m.csv")
    assert code == 1 and "m.csv, line 2: the image" in error and said == ""


def test_a_label_of_a_slice_that_is_not_there_is_1(here: Path) -> None:
    scan(here / "cohort/a.nii.gz")
    (here / "cohort/slice_labels.csv").write_text("case,slice_k,label\na,9,1\n")
    code, said, _ = called("cohort")
    assert code == 0 and "Labels: 1 slice shows" in said and "Neither scan nor mask" not in said
    (here / "cohort/slice_labels.csv").write_text("case,slice_k,label\na,10,1\n")
    code, said, _ = called("cohort")
    assert code == 1 and "has slices 0 to 9, and labels name others: 10." in " ".join(said.split())
