from __future__ import annotations

from pathlib import Path

import pytest

from cbirbench.datasets.slice_labels import find_labels, labels_by_scan, names_of, read_slice_labels
from cbirbench.errors import DataError, DataWarning


def table(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "slice_labels.csv"
    path.write_text(text)
    return path


def test_labels_by_case_without_the_unsure(tmp_path: Path) -> None:
    path = table(tmp_path, "case,slice,label\na,0,0\na,2,1\nb,3,1\na,1,-1\nc,0,-1\n")
    assert read_slice_labels(path) == {"a": {0: 0, 2: 1}, "b": {3: 1}, "c": {}}


@pytest.mark.parametrize(
    ("header", "organ"),
    [
        ("case,slice_k,liver", ""),
        ("volume,z,label", ""),
        ("Image,slice,Spleen", "spleen"),
        ("case,z,liver", "target organ"),
        ("case,z,Liver", "liver"),
        ("case,z,label", "spleen"),
    ],
)
def test_columns_of_other_names(header: str, organ: str, tmp_path: Path) -> None:
    assert read_slice_labels(table(tmp_path, f"{header}\n007,4,1\n"), organ) == {"007": {4: 1}}


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("a,0,2\n", r"line 2: '2' is no label"),
        ("a,0,\n", r"line 2: '' is no label"),
        ("a,0,1\na,-1,1\n", r"line 3: '-1' is no slice"),
        ("a,1.5,1\n", r"line 2: '1\.5' is no slice"),
        ("a,²,1\n", r"line 2: '²' is no slice"),
        pytest.param(f"a,{'9' * 5000},1\n", r"line 2: '9+\.* is no slice", id="endless"),
        (",0,1\n", r"line 2, names no case"),
        ("a,3,1\nb,3,1\na,03,-1\n", r"slice 3 of one scan twice, lines 2, 4"),
    ],
)
def test_faulty_rows_are_named_by_their_line(rows: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message):
        read_slice_labels(table(tmp_path, f"case,slice,label\n{rows}"))


def test_missing_columns(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no column 'slice'"):
        read_slice_labels(table(tmp_path, "case,x\na,1\n"))
    with pytest.raises(DataError, match=r"no column 'label', nor one called .* 'target organ'"):
        read_slice_labels(table(tmp_path, "case,slice\na,1\n"))
    # Another organ's labels are not the target's.
    path = table(tmp_path, "case,slice,liver\na,1,1\n")
    with pytest.raises(DataError, match=r"'spleen'"), pytest.warns(DataWarning, match="not read: liver"):
        read_slice_labels(path, "spleen")


def test_the_column_called_as_the_organ_is_outranks_the_others(tmp_path: Path) -> None:
    path = table(tmp_path, "case,z,liver,spleen\na,0,1,0\n")
    for organ, label, unread in (("spleen", 0, "spleen"), ("Liver", 1, "spleen"), ("", 1, "spleen")):
        with pytest.warns(
            DataWarning, match="not read: liver" if organ == "spleen" else f"not read: {unread}"
        ):
            assert read_slice_labels(path, organ) == {"a": {0: label}}
    path = table(tmp_path, "case,z,label,spleen\na,0,1,0\n")
    with pytest.warns(DataWarning, match="labels are those of the column spleen, not of label"):
        assert read_slice_labels(path, "spleen") == {"a": {0: 0}}


def test_tables_beside_scans(tmp_path: Path) -> None:
    assert find_labels(tmp_path) is None
    (tmp_path / "labels.csv").touch()
    assert find_labels(tmp_path) == tmp_path / "labels.csv"
    table(tmp_path, "")
    assert find_labels(tmp_path) == tmp_path / "slice_labels.csv"


def test_what_a_table_may_call_a_scan() -> None:
    assert names_of("x_a", Path("d/x/a.nii.gz"), Path("d")) == ("x_a", "x/a.nii.gz", "a.nii.gz", "a")
    assert names_of("x_a", Path("d/x/a.nii.gz").absolute(), Path("d"))[1] == "x/a.nii.gz"
    assert names_of("a", Path("e/a.nii.gz"), Path("d")) == ("a", "a.nii.gz")


def test_labels_go_to_the_only_scan_of_their_name(tmp_path: Path) -> None:
    path = table(tmp_path, "case,slice,label\nx_a,0,1\nb.nii,1,0\nc,2,1\n")
    scans = [("x_a", "a"), ("b", "b.nii"), ("d",)]
    with pytest.warns(DataWarning, match=r"labels slices of 1 scan that is not here: c\."):
        assert labels_by_scan(path, "", scans) == [{0: 1}, {1: 0}, {}]
    path.write_text("case,slice,label\na,0,1\nc,2,1\n")
    with pytest.warns(DataWarning, match=r"of 2 scans that are not here: a, c\."):
        assert labels_by_scan(path, "", [("x_a", "a"), ("y_a", "a")]) == [{}, {}]
