from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from cbirbench.cases.pair_list import read_pairs
from cbirbench.errors import UsageError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Studies of 4 and of 6 slices in a folder of their own."""
    for name, slices in (("new", 4), ("old", 6), ("one", 1)):
        path = tmp_path / "scans" / f"{name}.nii"
        path.parent.mkdir(exist_ok=True)
        affine = np.diag((-1.0, -1.0, 2.0, 1.0))
        nib.save(nib.Nifti1Image(np.zeros((2, 2, slices), np.int16), affine), path)
    return tmp_path


def write(folder: Path, *lines: str) -> Path:
    path = folder / "pairs.csv"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_pairs_are_read_with_paths_relative_to_the_file(folder: Path) -> None:
    path = write(
        folder,
        "query,slice,previous,expert,query_mask,previous_mask,previous_slice",
        "scans/new.nii,2,scans/old.nii,4 3 5,n.nii,o.nii,3",
        "scans/new.nii,,scans/old.nii,,,,",
        "scans/new.nii,0-1,scans/new.nii,,,,",
        '"scans/one.nii",,scans/old.nii,"1,0",,,5',
    )
    pairs, studies, notes = read_pairs(path, None)
    assert [pair.line for pair in pairs] == [2, 3, 4, 5]
    assert [pair.numbers for pair in pairs] == [[2], [0, 1, 2, 3], [0, 1], [0]]
    assert [pair.picks for pair in pairs] == [[4, 3, 5], [], [], [1, 0]]
    assert [pair.paired for pair in pairs] == [3, None, None, 5]
    assert pairs[0].masks == (folder / "n.nii", folder / "o.nii") and pairs[1].masks is None
    assert {path.name: study.slice_count for path, study in studies.items()} == {
        "new.nii": 4,
        "old.nii": 6,
        "one.nii": 1,
    }
    assert all(pair.query in studies and pair.previous in studies for pair in pairs)
    assert notes == []


def test_a_byte_order_mark_blanks_and_further_columns_do_no_harm(folder: Path) -> None:
    path = write(folder, "﻿query, previous ,comment", " scans/new.nii ,scans/old.nii,follow-up")
    pairs, _, notes = read_pairs(path, None)
    assert pairs[0].query == folder / "scans/new.nii"
    assert notes == [f"{path}: columns not used: comment."]


HEAD = "query,slice,previous,expert,query_mask,previous_mask,previous_slice"


@pytest.mark.parametrize(
    ("lines", "top", "says"),
    [
        (["query,slice", "scans/new.nii,1"], None, "has no column previous"),
        ([""], None, "has no column query"),
        ([HEAD], None, "has no pairs"),
        ([HEAD, "scans/new.nii,1,,,,,"], None, "line 2 lacks the query or the previous study"),
        ([HEAD, "scans/new.nii"], None, "line 2 lacks the query or the previous study"),
        ([HEAD, "scans/new.nii,1,scans/old.nii,,,,,9"], None, "line 2 has more cells than columns"),
        ([HEAD, "scans/new.nii,4,scans/old.nii,,,,"], None, "has slices 0 to 3, no slice 4"),
        ([HEAD, "scans/new.nii,x,scans/old.nii,,,,"], None, "line 2: slice takes slice numbers, got 'x'"),
        ([HEAD, "scans/new.nii,,scans/old.nii,1 2,,,"], None, "line 2 has 4 query slices; expert and"),
        ([HEAD, "scans/new.nii,,scans/old.nii,,,,3"], None, "previous_slice belong to one"),
        ([HEAD, "scans/new.nii,1,scans/old.nii,1 6,,,"], None, "no slice for the expert's pick 6"),
        ([HEAD, "scans/new.nii,1,scans/old.nii,1 1,,,"], None, "line 2: expert names slice 1 twice"),
        ([HEAD, "scans/new.nii,1,scans/old.nii,,m.nii,,"], None, "has a mask of one study only"),
        ([HEAD, "scans/new.nii,1,scans/old.nii,,,,1-2"], None, "pairs one slice with 2"),
        ([HEAD, "scans/new.nii,1,scans/old.nii,,,,6"], None, "no slice 6"),
        ([HEAD, "scans/old.nii,1,scans/new.nii,,m.nii,m.nii,"], None, "the 5 nearest slices are scored"),
        ([HEAD, "scans/old.nii,1,scans/new.nii,,,,"], 5, "Give --top 4 or less"),
    ],
)
def test_a_mistake_is_a_usage_error_with_its_line(
    folder: Path, lines: list[str], top: int | None, says: str
) -> None:
    with pytest.raises(UsageError) as caught:
        read_pairs(write(folder, *lines), top)
    assert says in str(caught.value)


def test_a_file_that_is_no_list(folder: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read"):
        read_pairs(folder / "nowhere.csv", None)
    (folder / "pairs.csv").write_bytes(b"query,previous\n\xff\xfe,\x00")
    with pytest.raises(UsageError, match="is no CSV file"):
        read_pairs(folder / "pairs.csv", None)


def test_a_scan_that_is_missing(folder: Path) -> None:
    with pytest.raises(UsageError, match=r"pairs\.csv, line 2: .*nowhere\.nii does not exist"):
        read_pairs(write(folder, "query,previous", "scans/new.nii,scans/nowhere.nii"), None)
