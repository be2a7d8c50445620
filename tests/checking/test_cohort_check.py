from __future__ import annotations

import csv
import json
import os
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from quiet import Quiet

from cbirbench.checking import cohort_check
from cbirbench.checking.cohort_check import CheckRequest, CohortCheck, check_cohort, default_out
from cbirbench.datasets.scan_options import ScanOptions
from cbirbench.errors import DataError, UsageError

LPS = np.diag((-0.8, -0.8, 2.0, 1.0))


@pytest.fixture(autouse=True)
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, list[str]]]:
    """Each page's title and scans; drawing itself is tested with the figure and the command."""
    pages: list[tuple[str, list[str]]] = []

    def draw(rows: Any, path: Path, *, title: str, organ: str) -> None:
        pages.append((title, [row.title for row in rows]))
        path.parent.mkdir(exist_ok=True)
        path.touch()

    monkeypatch.setattr(cohort_check, "draw_cohort_grid", draw)
    return pages


def write(path: Path, seed: int = 0, affine: np.ndarray = LPS, *, mask: Path | None = None) -> None:
    """A body of 12 slices with its spine at the back; its liver is in slices 0 to 5, on the right."""
    rng = np.random.default_rng(seed)
    hu = np.full((12, 24, 24), -1000, np.int16)
    hu[:, 4:20, 3:21] = rng.integers(20, 60, (12, 16, 18))
    hu[:, 16:19, 10:14] = 700
    liver = np.zeros(hu.shape, np.uint8)
    liver[:6, 6:12, 4:9] = 1
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(hu.transpose(2, 1, 0), affine), path)
    if mask is not None:
        mask.parent.mkdir(parents=True, exist_ok=True)
        nib.save(nib.Nifti1Image(liver.transpose(2, 1, 0), affine), mask)


def task(folder: Path, count: int) -> Path:
    """A folder in the Decathlon's layout."""
    for n in range(count):
        write(folder / f"imagesTr/case_{n}.nii.gz", n, mask=folder / f"labelsTr/case_{n}.nii.gz")
    return folder


def check(folder: Path, out: Path, organ: str = "", masks: Path | None = None) -> CohortCheck:
    return check_cohort(CheckRequest(folder, masks, ScanOptions(), organ, out), Quiet())


def test_a_cohort_in_order(tmp_path: Path) -> None:
    folder, out = task(tmp_path / "Task", 2), tmp_path / "out"
    (folder / "notes.csv").write_text("a,b\n")
    (folder / "dataset.json").write_text(json.dumps({"labels": {"1": "Liver"}, "training": []}))
    cohort = check(folder, out)
    assert [c.scan.volume_id for c in cohort.scans] == ["case_0", "case_1"]
    assert [(c.errors, c.warnings, c.notes, c.organ) for c in cohort.scans] == [([], [], [], "liver")] * 2
    assert cohort.passed(strict=True)
    assert sorted(path.name for path in out.iterdir()) == ["check.json", "grid-01.png", "scans.csv"]
    described = json.loads((out / "check.json").read_text())
    assert described["counts"]["readable"] == 2 and described["counts"]["with_mask"] == 2
    assert [s["mask"]["slices_with"] for s in described["scans"]] == [6, 6]
    assert "notes.csv" in [entry["file"] for entry in described["ignored"]]
    rows = list(csv.DictReader((out / "scans.csv").open()))
    assert [(row["orientation"], row["slices"], row["organ"]) for row in rows] == [("LPS", "12", "liver")] * 2


def test_one_broken_scan_leaves_the_others_checked(tmp_path: Path) -> None:
    folder = task(tmp_path / "d", 3)
    middle = folder / "imagesTr/case_1.nii.gz"
    middle.write_bytes(middle.read_bytes()[:2000])
    cohort = check(folder, tmp_path / "out")
    assert [c.readable for c in cohort.scans] == [True, False, True]
    assert cohort.counts()["unreadable"] == 1
    assert not cohort.passed(strict=False)
    (row,) = [r for r in csv.DictReader((tmp_path / "out/scans.csv").open()) if r["readable"] == "False"]
    assert "truncated" in row["errors"]


def test_warnings_fail_only_the_strict(tmp_path: Path) -> None:
    write(tmp_path / "d/a.nii.gz", affine=np.diag((-1.0, -1.0, 8.0, 1.0)))
    cohort = check(tmp_path / "d", tmp_path / "out")
    assert (cohort.unreadable, cohort.doubtful) == (0, 1)
    assert cohort.passed(strict=False) and not cohort.passed(strict=True)


def test_the_same_voxels_twice(tmp_path: Path) -> None:
    for name, seed in (("a", 0), ("b", 1), ("c", 0)):
        write(tmp_path / f"d/{name}.nii.gz", seed)
    cohort = check(tmp_path / "d", tmp_path / "out")
    found = {c.scan.volume_id: c.warnings for c in cohort.scans}
    assert found["b"] == []
    assert "the same voxels as c:" in found["a"][0] and "the same voxels as a:" in found["c"][0]


def test_what_differs_from_the_majority_is_noted(tmp_path: Path) -> None:
    for n in range(3):
        write(tmp_path / f"d/{n}.nii.gz", n)
    turned = np.diag((-0.8, -0.8, -4.0, 1.0))
    write(tmp_path / "d/3.nii.gz", 3, turned)
    notes = [c.notes for c in check(tmp_path / "d", tmp_path / "out").scans]
    assert notes[:3] == [[], [], []]
    assert notes[3] == [
        "It is stored as LPI, most others as LPS.",
        "Slices lie 4 mm apart, in the cohort 2 mm (median).",
    ]
    (tmp_path / "d/0.nii.gz").unlink()
    (tmp_path / "d/1.nii.gz").unlink()
    assert [c.notes for c in check(tmp_path / "d", tmp_path / "out").scans] == [[], []]  # of two, none is odd


@pytest.mark.parametrize(
    ("where", "description", "organ"),
    [
        ("Task03_Liver/imagesTr", None, "liver"),
        ("cohort/images", {"labels": {"liver": 1, "background": 0}, "training": []}, "liver"),
        ("cohort/images", {"labels": {"1": "spleen"}, "training": []}, "target organ"),
        ("cohort/images", None, "target organ"),
    ],
)
def test_what_the_target_is_called(
    where: str, description: dict[str, Any] | None, organ: str, tmp_path: Path
) -> None:
    whole = tmp_path / "all"
    write(whole / where / "a.nii.gz")
    if description is not None:
        (whole / where).with_name("dataset.json").write_text(json.dumps(description))
    assert [c.organ for c in check(whole, tmp_path / "out").scans] == [organ]
    assert [c.organ for c in check(whole, tmp_path / "out", "spleen").scans] == ["spleen"]


def test_the_folder_above_a_cohort_says_nothing(tmp_path: Path) -> None:
    write(tmp_path / "liver/cohort/a.nii.gz")
    assert check(tmp_path / "liver/cohort", tmp_path / "out").scans[0].organ == "target organ"


def test_what_is_wrong_with_dataset_json_is_a_warning(tmp_path: Path) -> None:
    folder = task(tmp_path / "d", 1)
    listed = {"image": "./imagesTr/case_7.nii.gz", "label": "./labelsTr/case_0.nii.gz"}
    (folder / "dataset.json").write_text(json.dumps({"labels": {}, "training": [listed]}))
    (text,) = check(folder, tmp_path / "out").warnings
    assert "lists 1 file that is not there" in text and "case_7" in text
    (folder / "dataset.json").write_text("{")
    cohort = check(folder, tmp_path / "out")
    assert "no Decathlon dataset.json" in cohort.warnings[0]
    assert cohort.passed(strict=False) and not cohort.passed(strict=True)


def test_masks_from_a_folder_of_their_own(tmp_path: Path) -> None:
    write(tmp_path / "d/a.nii.gz", mask=tmp_path / "m/a.nii.gz")
    cohort = check(tmp_path / "d", tmp_path / "out", masks=tmp_path / "m")
    assert cohort.scans[0].mask is not None and cohort.scans[0].mask.slices_with == 6


def test_many_scans_take_several_pages_and_later_fewer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, drawn: list[tuple[str, list[str]]]
) -> None:
    monkeypatch.setattr(cohort_check, "SCANS_PER_PAGE", 2)
    for n in range(5):
        write(tmp_path / f"d/{n}.nii.gz", n)
    out = tmp_path / "out"
    assert check(tmp_path / "d", out).pictures == ("grid-01.png", "grid-02.png", "grid-03.png")
    assert [rows for _, rows in drawn] == [["0", "1"], ["2", "3"], ["4"]]
    assert drawn[1][0] == "Scans as they are read, page 2 of 3"
    assert len(list(out.glob("grid-*.png"))) == 3
    for n in range(2, 5):
        (tmp_path / f"d/{n}.nii.gz").unlink()
    check(tmp_path / "d", out)
    assert [path.name for path in out.glob("grid-*.png")] == ["grid-01.png"]


def test_other_files_are_not_overwritten(tmp_path: Path) -> None:
    write(tmp_path / "d/a.nii.gz")
    out = tmp_path / "out"
    out.mkdir()
    (out / "thesis.tex").write_text("x")
    with pytest.raises(UsageError, match=r"thesis\.tex"):
        check(tmp_path / "d", out)
    with pytest.raises(UsageError, match="is a file"):
        check(tmp_path / "d", out / "thesis.tex")
    assert [path.name for path in out.iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize("strays", [0, 2])
def test_a_folder_without_scans(strays: int, tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    for n in range(strays):
        (tmp_path / f"d/{n}.csv").write_text("a\n")
    with pytest.raises(DataError, match="no CT scan"):
        check(tmp_path / "d", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["", "masks"])
def test_folders_that_are_not_there(name: str, tmp_path: Path) -> None:
    write(tmp_path / "d/a.nii.gz")
    folder, masks = (tmp_path / "d", tmp_path / name) if name else (tmp_path / "nowhere", None)
    with pytest.raises(UsageError, match="does not exist"):
        check(folder, tmp_path / "out", masks=masks)


def manifest(path: Path, *rows: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(("patient,image,mask,orientation", *rows)) + "\n")
    return path


def test_the_scans_that_a_manifest_names(tmp_path: Path) -> None:
    write(tmp_path / "c/a.nii.gz", 1, mask=tmp_path / "m/a.nii.gz")
    write(tmp_path / "c/b.nii.gz", 2)
    write(tmp_path / "c/left.nii.gz", 3)
    table = manifest(tmp_path / "c/cohort.csv", "P1,a.nii.gz,../m/a.nii.gz,", "P2,b.nii.gz,,RPI")
    cohort = check(table, tmp_path / "out")
    assert [(c.scan.patient_id, c.scan.image.name) for c in cohort.scans] == [
        ("P1", "a.nii.gz"),
        ("P2", "b.nii.gz"),
    ]
    first, second = cohort.scans
    assert first.mask is not None and first.mask.slices_with == 6
    assert first.grid is not None and first.grid.orientation == "LPS"
    assert second.grid is not None and second.grid.orientation == "RPI"  # as the manifest has it
    assert cohort.folder == tmp_path / "c"
    images = [row["image"] for row in json.loads((tmp_path / "out/check.json").read_text())["scans"]]
    assert images == ["a.nii.gz", "b.nii.gz"]


def test_a_mask_is_put_right_with_its_scan(tmp_path: Path) -> None:
    write(tmp_path / "a.nii.gz", mask=tmp_path / "m.nii.gz")
    stated, turned = (
        check(manifest(tmp_path / "c.csv", f"P1,a.nii.gz,m.nii.gz,{codes}"), tmp_path / "out").scans[0]
        for codes in ("", "LPI")
    )
    assert not stated.errors and not turned.errors
    assert turned.mask is not None and stated.mask is not None
    assert turned.mask.histogram.trimmed(10) == stated.mask.histogram.trimmed(10)


def test_folders_outside_a_manifest_s_own_say_liver_only_of_their_own_scans(tmp_path: Path) -> None:
    write(tmp_path / "liver/x/a.nii.gz")
    write(tmp_path / "liver/b.nii.gz")
    table = manifest(tmp_path / "c/cohort.csv", "P1,../liver/x/a.nii.gz,,", "P2,../liver/b.nii.gz,,")
    table.write_text(table.read_text().replace("..", str(tmp_path)))
    assert [c.organ for c in check(table, tmp_path / "out").scans] == ["target organ", "liver"]


def test_a_manifest_without_queries_is_no_benchmark(tmp_path: Path) -> None:
    for number in (1, 2):
        write(tmp_path / f"{number}.nii.gz", number)

    def doubts(*splits: str) -> tuple[str, ...]:
        rows = [f"P{n},{n}.nii.gz,{split}" for n, split in enumerate(splits, 1)]
        table = tmp_path / "c.csv"
        table.write_text("\n".join(("patient,image,split", *rows)))
        return check(table, tmp_path / "out").warnings

    assert any("a run needs queries" in text for text in doubts("gallery", "gallery"))
    assert not any("queries" in text for text in doubts("gallery", "query"))
    assert not any("queries" in text for text in doubts("query", "query"))  # an external cohort


def test_a_manifest_that_is_faulty_writes_nothing(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere\.nii\.gz"):
        check(manifest(tmp_path / "c.csv", "P1,nowhere.nii.gz,,"), tmp_path / "out")
    write(tmp_path / "a.nii.gz")
    with pytest.raises(UsageError, match="names the masks itself"):
        check(manifest(tmp_path / "c.csv", "P1,a.nii.gz,,"), tmp_path / "out", masks=tmp_path)
    (tmp_path / "c.txt").write_text("")
    with pytest.raises(UsageError, match="is no folder") as caught:
        check(tmp_path / "c.txt", tmp_path / "out")
    assert "or a manifest (.csv" in caught.value.remedy
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("folder", "name"),
    [
        ("a/Task03 Liver", "data-check-Task03-Liver"),
        ("a/../b", "data-check-b"),
        ("/", "data-check"),
        ("c/my.csv", "data-check-my"),
    ],
)
def test_where_the_files_go_by_default(folder: str, name: str) -> None:
    assert default_out(Path(folder)) == Path(name)


def test_a_damaged_file_fails_the_check(tmp_path: Path) -> None:
    folder = task(tmp_path / "Task", 1)
    (folder / "imagesTr" / "gone.nii.gz").symlink_to(tmp_path / "nowhere.nii.gz")
    cohort = check(folder, tmp_path / "out")
    assert [path.name for path, _ in cohort.damaged] == ["gone.nii.gz"]
    assert cohort.unreadable == 0 and cohort.counts()["damaged_files"] == 1
    assert not cohort.passed(strict=False)


LEFT_OUT = "It has neither mask nor labels of slices, as others have: a run leaves it out."


def test_labels_of_a_folder_are_read_as_a_run_reads_them(tmp_path: Path) -> None:
    folder = tmp_path / "d"
    write(folder / "images/a.nii.gz", 1, mask=folder / "masks/a.nii.gz")
    for n, name in enumerate("bcd", 2):
        write(folder / f"images/{name}.nii.gz", n)
    rows = ("a,99,1", "images/b.nii.gz,0,1", "b.nii.gz,0,1", "c,3,1", "c,4,0", "c,11,0", "d,2,-1", "z,0,1")
    (folder / "slice_labels.csv").write_text("\n".join(("case,slice_k,label", *rows)) + "\n")
    (folder / "labels.csv").write_text("not read\n")
    cohort = check(folder, tmp_path / "out")
    by_id = {c.scan.volume_id: c for c in cohort.scans}
    # The mask outranks labels; of two names of b the first counts; d's only label is unsure.
    assert {name: dict(c.scan.labels) for name, c in by_id.items()} == {
        "a": {},
        "b": {0: 1},
        "c": {3: 1, 4: 0, 11: 0},
        "d": {},
    }
    assert {name: (c.errors, c.warnings) for name, c in by_id.items()} == {
        "a": ([], []),
        "b": ([], []),
        "c": ([], []),
        "d": ([], [LEFT_OUT]),
    }
    assert by_id["c"].notes == ["Labels: 1 slice shows the target organ, 2 do not."]
    assert [text.replace(str(folder), "") for text in cohort.warnings] == [
        "/slice_labels.csv labels slices of 1 scan that is not here: z."
    ]
    assert [path.name for path, _ in cohort.ignored] == ["labels.csv"]
    assert cohort.passed(strict=False) and not cohort.passed(strict=True)
    described = json.loads((tmp_path / "out/check.json").read_text())
    assert described["counts"]["with_labels"] == 2
    assert {s["volume_id"]: s["labels"] for s in described["scans"]} == {
        "a": None,
        "b": {"with": 1, "without": 0},
        "c": {"with": 1, "without": 2},
        "d": None,
    }


def test_a_label_of_a_slice_that_is_not_there_fails_the_check(tmp_path: Path) -> None:
    write(tmp_path / "d/a.nii.gz", 1)
    write(tmp_path / "d/b.nii.gz", 2)
    rows = "{0},11,1\n{1},99,1\n"
    (tmp_path / "d/slice_labels.csv").write_text("case,slice,label\n" + rows.format("a", "b"))
    table = tmp_path / "d/m.csv"
    table.write_text("patient,split,image,slice,label\n" + rows.format("P,train,a.nii.gz", "Q,test,b.nii.gz"))
    for place in (tmp_path / "d", table):
        cohort = check(place, tmp_path / "out")
        assert [len(c.errors) for c in cohort.scans] == [0, 1]
        assert "has slices 0 to 11, and labels name others: 99." in cohort.scans[1].errors[0]
        assert not cohort.passed(strict=False)
    splits = [row["split"] for row in json.loads((tmp_path / "out/check.json").read_text())["scans"]]
    assert splits == ["gallery", "query"]


def test_a_faulty_table_of_labels_stops_the_check_as_it_stops_a_run(tmp_path: Path) -> None:
    write(tmp_path / "d/a.nii.gz")
    (tmp_path / "d/slice_labels.csv").write_text("case,slice,label\na,0,7\n")
    with pytest.raises(DataError, match="line 2: '7' is no label"):
        check(tmp_path / "d", tmp_path / "out")


def test_a_scan_that_a_run_would_leave_out_is_warned_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    facts: list[str] = []
    monkeypatch.setattr(
        cohort_check, "draw_cohort_grid", lambda rows, *_, **__: facts.extend(r.facts for r in rows)
    )
    write(tmp_path / "c/a.nii.gz", 1, mask=tmp_path / "m/a.nii.gz")
    write(tmp_path / "c/b.nii.gz", 2)
    table = manifest(tmp_path / "c/cohort.csv", "P1,a.nii.gz,../m/a.nii.gz,", "P2,b.nii.gz,,")
    assert [c.warnings for c in check(table, tmp_path / "out").scans] == [[], [LEFT_OUT]]
    assert [text.endswith("1 warning") for text in facts] == [False, True]
    # Without any mask or label, slices can still be asked about one by one.
    manifest(table, "P1,a.nii.gz,,", "P2,b.nii.gz,,")
    assert [c.warnings for c in check(table, tmp_path / "out").scans] == [[], []]


def test_what_is_doubtful_about_a_manifest_is_a_warning_of_the_cohort(tmp_path: Path) -> None:
    write(tmp_path / "a.nii.gz")
    (tmp_path / "m.csv").write_text("patient,image,age\nP,a.nii.gz,40\n")
    (text,) = check(tmp_path / "m.csv", tmp_path / "out").warnings
    assert "columns that are not read: age" in text


def test_the_pictures_count_warnings_as_the_table_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: dict[str, list[str]] = {}
    monkeypatch.setattr(cohort_check, "SCANS_PER_PAGE", 2)

    def draw(rows: Any, path: Path, **_: str) -> None:
        assert all(row.views for row in rows)
        drawn[path.name] = [f"{row.title} · {row.facts}" for row in rows]

    monkeypatch.setattr(cohort_check, "draw_cohort_grid", draw)
    for n, seed in enumerate((0, 1, 2, 3, 0)):
        write(tmp_path / f"d/{n}.nii.gz", seed)
    cohort = check(tmp_path / "d", tmp_path / "out")
    assert [len(c.warnings) for c in cohort.scans] == [1, 0, 0, 0, 1]
    rows = [row for name in sorted(drawn) for row in drawn[name]]
    assert [(row[0], "1 warning" in row) for row in rows] == [
        ("0", True),
        ("1", False),
        ("2", False),
        ("3", False),
        ("4", True),
    ]


def test_a_manifest_s_scans_are_the_same_however_its_path_is_typed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "liver/c/x/a.nii.gz", 1)
    write(tmp_path / "liver/b.nii.gz", 2)
    monkeypatch.chdir(tmp_path / "liver/c")
    here = Path.cwd()
    manifest(Path("m.csv"), f"P1,{here}/x/a.nii.gz,,", f"P2,{here.parent}/b.nii.gz,,")
    manifest(Path("n.csv"), "P1,x/a.nii.gz,,", "P2,../b.nii.gz,,")
    for typed in ("m.csv", "n.csv", f"{here}/m.csv", f"{here}/n.csv", "../c/m.csv", "x/../n.csv"):
        scans = check(Path(typed), tmp_path / "out").scans
        assert [(c.scan.volume_id, c.organ) for c in scans] == [("x_a", "target organ"), ("P2_b", "liver")]
        images = [row["image"] for row in json.loads((tmp_path / "out/check.json").read_text())["scans"]]
        assert images[0] == "x/a.nii.gz"


def test_the_folder_s_own_name_counts_however_it_is_typed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "liver/x/a.nii.gz")
    monkeypatch.chdir(tmp_path / "liver/x")
    for typed in ("..", "../../liver", str(Path.cwd().parent)):
        assert [c.organ for c in check(Path(typed), tmp_path / "out").scans] == ["liver"]


def test_names_of_files_that_are_no_text(tmp_path: Path) -> None:
    write(tmp_path / "d/a.nii.gz")
    try:
        (tmp_path / "d/a.nii.gz").rename(tmp_path / "d" / os.fsdecode(b"\x1b\xff.nii.gz"))
    except OSError:
        pytest.skip("this file system has no such names")
    check(tmp_path / "d", tmp_path / "out")
    assert json.loads((tmp_path / "out/check.json").read_text())["scans"][0]["image"] == "\x1b\udcff.nii.gz"
    assert next(csv.DictReader((tmp_path / "out/scans.csv").open()))["image"] == "??.nii.gz"
