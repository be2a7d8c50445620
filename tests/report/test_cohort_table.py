from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from cbirbench.checking.cohort_check import CohortCheck
from cbirbench.checking.hu_counts import HUCounts
from cbirbench.checking.scan_facts import GridFacts, HUFacts, MaskFacts, ScanCheck
from cbirbench.datasets.discovery import FoundScan
from cbirbench.report.cohort_records import flat, record
from cbirbench.report.cohort_table import MOST_LINES, print_cohort, summary

GRID = GridFacts((129, 512, 512), (1.6, 0.57, 0.57), "LPS", True, 0.0, 0.0)
HU = HUFacts(-3024, 1023, {1: -1024, 50: -109, 99: 369}, -3024, 0.21)


def organ(*values: int) -> HUCounts:
    counts = HUCounts()
    counts.add(np.array(values, np.int16))
    return counts


def masked(histogram: HUCounts, **voxels: int) -> MaskFacts:
    counts = {int(value[1:]): count for value, count in voxels.items()}
    return MaskFacts(
        counts,
        {value: count / 1000 for value, count in counts.items()},
        sum(counts.values()) / 1000,
        98,
        31,
        {q: histogram.percentile(q) for q in (1, 5, 50, 95, 99)} if histogram.total else {},
        histogram,
    )


def scan(name: str, *, patient: str = "", mask: MaskFacts | None = None, **others: Any) -> ScanCheck:
    found = FoundScan(
        name, patient or name, name, Path("d") / f"{name}.nii.gz", mask=Path("d/m") if mask else None
    )
    facts = {"grid": GRID, "hu": HU, "mask": mask, **others}
    return ScanCheck(
        found, "NIfTI", others.pop("organ", "liver"), **{k: facts[k] for k in facts if k != "organ"}
    )


def cohort(*scans: ScanCheck, ignored: int = 0, warnings: tuple[str, ...] = ()) -> CohortCheck:
    files = tuple((Path("d") / f"stray{n}.csv", "no volume") for n in range(ignored))
    return CohortCheck(Path("d"), scans, files, warnings, ("grid-01.png",))


def printed(checked: CohortCheck, width: int = 140) -> str:
    console = Console(file=io.TextIOWrapper(io.BytesIO(), encoding="utf-8"), width=width)
    print_cohort(checked, console)
    console.file.flush()
    return console.file.buffer.getvalue().decode()  # type: ignore[attr-defined]


def line_of(text: str, name: str) -> list[str]:
    return next(line for line in text.splitlines() if line.startswith(name)).split()


def test_a_row_a_scan() -> None:
    text = printed(cohort(scan("one"), scan("two", grid=None, hu=None, errors=["It is truncated. Copy it."])))
    expected = "one NIfTI 129×512×512 1.6, 0.57 LPS −3024 −1024 −109 369 1023 −3024 (21%) ok"
    assert " ".join(line_of(text, "one")) == expected
    assert line_of(text, "two")[-1] == "error"
    assert "Errors:\n  two: It is truncated. Copy it.\n" in text
    assert "mask of" not in text


def test_pixels_that_are_not_square_and_axes_that_are_not_stated() -> None:
    grid = GridFacts((3, 4, 5), (5.0, 0.5, 0.75), "RAS", False, 0.0, 0.0)
    assert "5, 0.5×0.75  RAS?" in printed(cohort(scan("one", grid=grid)))


def test_patients_have_a_column_where_they_are_not_the_scans() -> None:
    assert "patient " not in printed(cohort(scan("one"))).splitlines()[0]
    text = printed(cohort(scan("one", patient="p7"), scan("two", patient="p7")))
    assert line_of(text, "two")[:2] == ["two", "p7"]
    assert "2 scans of 1 patient, 0 with a mask: 2 readable, 0 not; 0 with warnings." in text


def test_masks_and_their_organs() -> None:
    # Bins of 10 HU from 40: 90 voxels in the first, 10 in the last.
    first = masked(organ(*[40] * 50, *[49] * 40, *[151] * 10), v1=1490000, v2=12000)
    many = masked(organ(100), **{f"v{n}": 1000 for n in range(3, 9)})
    text = printed(cohort(scan("one", mask=first), scan("two", mask=many)))
    head = next(line for line in text.splitlines() if line.startswith("mask of"))
    assert "liver, ml" in head and head.rstrip().endswith("40 to 160")
    row = next(line for line in text.splitlines() if line.startswith("one") and "1490" in line)
    assert "1: 1490, 2: 12" in row and "40 (40 to 151)" in row
    assert row.endswith("█          ▁")
    assert "6 values, 3 to 8" in text


def test_several_organs_have_a_column() -> None:
    mask = masked(organ(100), v1=1000)
    text = printed(cohort(scan("one", mask=mask), scan("two", mask=mask, organ="target organ")))
    assert "liver, ml" not in text and "target organ" in text


def test_a_mask_without_organ_or_hu() -> None:
    text = printed(cohort(scan("one", mask=masked(organ()), hu=None)))
    assert "0 alone" in text and "–" in text


def test_consoles_without_blocks_get_no_bars() -> None:
    console = Console(file=io.TextIOWrapper(io.BytesIO(), encoding="cp1252", errors="replace"), width=140)
    print_cohort(cohort(scan("one", mask=masked(organ(*range(60)), v1=1000))), console)
    console.file.flush()
    text = console.file.buffer.getvalue().decode("cp1252")  # type: ignore[attr-defined]
    assert "mask of" in text and "to 120" not in text


def test_doubts_and_notes_are_listed_to_a_limit() -> None:
    doubtful = scan(
        "one", warnings=[f"doubt {n}" for n in range(MOST_LINES + 5)], notes=["It is stored as RAS."]
    )
    text = printed(cohort(doubtful, warnings=("dataset.json lists 2 files that are not there.",)))
    assert f"{MOST_LINES + 5} warnings" in line_of_text(text, "one")
    assert f"  one: doubt {MOST_LINES - 1}\n" in text and f"doubt {MOST_LINES}\n" not in text
    assert "  and 6 more, in check.json" in text
    assert "Notes:\n  one: It is stored as RAS.\n" in text


def line_of_text(text: str, name: str) -> str:
    return next(line for line in text.splitlines() if line.startswith(name))


def test_names_are_no_markup() -> None:
    text = printed(cohort(scan("[red]x[/]", errors=["[bold]b[/nothing]"])))
    assert "[red]x[/]" in text and "[bold]b[/nothing]" in text


@pytest.mark.parametrize("width", [80, 60])
def test_eighty_columns_take_two_tables_and_lose_nothing(width: int) -> None:
    mask = masked(organ(*range(40, 160)), v1=1490000)
    text = printed(cohort(scan("liver_0", mask=mask), scan("liver_10", mask=mask)), width)
    assert max(map(len, text.splitlines())) <= width
    assert "…" not in text
    if width == 80:
        assert [line.split()[0] for line in text.splitlines()][:9:3] == ["scan", "scan", "mask"]
        assert "129×512×512" in text and "−3024 (21%)" in text


def test_stray_files_are_counted() -> None:
    assert len(summary(cohort(scan("one")))) == 1
    assert summary(cohort(scan("one"), ignored=2))[1].endswith("2 files (stray0.csv, stray1.csv).")
    assert summary(cohort(scan("one"), ignored=5))[1].endswith(
        "5 files (stray0.csv, stray1.csv, stray2.csv, ...)."
    )


def test_rows_of_the_csv_have_the_same_columns_whatever_was_read() -> None:
    whole = scan("one", mask=masked(organ(*[100] * 9, 120), v1=9, v2=1), warnings=["a", "b"])
    broken = scan("two", grid=None, hu=None, errors=["no"])
    rows = [flat(record(check, Path("d"))) for check in (whole, broken)]
    assert list(rows[0]) == list(rows[1])
    assert rows[0]["image"] == "one.nii.gz" and rows[0]["mask_file"] == "m"
    assert (rows[0]["slices"], rows[0]["slice_mm"], rows[0]["orientation"]) == (129, 1.6, "LPS")
    assert (rows[0]["hu_p50"], rows[0]["padding_hu"]) == (-109, -3024)
    assert (rows[0]["mask_values"], rows[0]["organ_hu_p50"]) == ("1:9 2:1", 100)
    assert rows[0]["warnings"] == "a | b" and rows[0]["readable"] is True
    assert (rows[1]["slices"], rows[1]["hu_p50"], rows[1]["organ_ml"], rows[1]["errors"]) == (
        "",
        "",
        "",
        "no",
    )


def test_the_json_keeps_the_whole_histogram() -> None:
    described = record(scan("one", mask=masked(organ(-5, 3, 4, 25), v1=4)), Path("elsewhere"))
    assert described["image"] == str(Path("d/one.nii.gz"))
    assert described["mask"]["organ_hu_histogram"] == {"from_hu": -10, "bin_hu": 10, "counts": [1, 2, 0, 1]}


def labelled(name: str, split: str = "", **labels: int) -> ScanCheck:
    found = FoundScan(
        name, name, name, Path("d/a.nii"), labels={int(z[1:]): n for z, n in labels.items()}, split=split
    )
    return ScanCheck(found, "NIfTI", "liver", grid=GRID, hu=HU)


def test_labels_and_split_in_the_records() -> None:
    described = record(labelled("one", "query", z0=1, z4=0, z5=1), Path("d"))
    assert described["labels"] == {"with": 2, "without": 1} and described["split"] == "query"
    row = flat(described)
    assert (row["labels_with"], row["labels_without"], row["split"]) == (2, 1, "query")
    bare = record(labelled("two"), Path("d"))
    assert bare["labels"] is None
    assert list(flat(bare)) == list(row) and flat(bare)["labels_with"] == ""


def test_labels_and_split_in_the_terminal() -> None:
    checked = cohort(labelled("one", "query", z0=1), labelled("two", "gallery"))
    assert "0 with a mask, 1 with labels of slices: 2 readable" in summary(checked)[0]
    text = printed(checked)
    assert line_of(text, "scan")[:3] == ["scan", "split", "format"]
    assert line_of(text, "one")[1] == "query" and line_of(text, "two")[1] == "gallery"
    assert "split" not in printed(cohort(labelled("one")))


def test_the_csv_holds_no_control_characters() -> None:
    row = flat(record(scan("a\x1b[31m\udcff", errors=["a\x1b: no"]), Path("d")))
    assert (row["volume_id"], row["image"], row["errors"]) == ("a?[31m?", "a?[31m?.nii.gz", "a?: no")


def test_paths_are_told_alike_however_the_folder_is_typed() -> None:
    for folder in (Path("d"), Path("d").absolute(), Path("d/../d")):
        assert record(scan("one"), folder)["image"] == "one.nii.gz"
