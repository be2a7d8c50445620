from __future__ import annotations

import warnings
from pathlib import Path

import pandas as pd
import pytest

from cbirbench.datasets.text_tables import at_lines, listing, read_table
from cbirbench.errors import DataError, DataWarning


def write(path: Path, text: str, encoding: str = "utf-8") -> Path:
    path.write_bytes(text.encode(encoding))
    return path


def cells(
    path: Path, required: tuple[str, ...] = ("id",), optional: tuple[str, ...] = ("note",)
) -> list[tuple]:
    rows = read_table(path, required=required, optional=optional)
    return [(row.line, *row.cells.values()) for row in rows]


def test_everything_is_text_and_keeps_its_line(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", 'id,note\n007, x \n\nNA,"a, b"\n1e3,\n')
    assert cells(path) == [(2, "007", "x"), (4, "NA", "a, b"), (5, "1e3", "")]


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_as_spreadsheets_save_it(separator: str, encoding: str, end: str, tmp_path: Path) -> None:
    text = end.join([f"ID{separator} Note ", f"007{separator}é", ""])
    assert cells(write(tmp_path / "t.csv", text, encoding)) == [(2, "007", "é")]


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
def test_excel_s_own_first_line_names_the_separator_and_is_no_header(separator: str, tmp_path: Path) -> None:
    text = f"sep={separator}\r\nid{separator}note\r\n007{separator}a\r\n8{separator}b\r\n"
    assert cells(write(tmp_path / "t.csv", text, "utf-8-sig")) == [(3, "007", "a"), (4, "8", "b")]
    with pytest.raises(DataError, match="line 5"):
        cells(write(tmp_path / "t.csv", f"{text}9{separator}c{separator}d\r\n"))


def test_parquet_says_the_same(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    pd.DataFrame({"id": ["007", "8"], "note": [3.0, None]}).to_parquet(path)
    assert cells(path) == [(1, "007", "3"), (2, "8", "")]
    pd.DataFrame({"id": [7, 8], "note": [0.5, 1.0]}, index=[5, 5]).to_parquet(path)
    assert cells(path) == [(1, "7", "0.5"), (2, "8", "1")]


def test_columns_of_other_names(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", "case,z\na,1\n")
    rows = read_table(path, required=("id",), optional=("slice",), aliases={"case": "id", "z": "slice"})
    assert dict(rows[0].cells) == {"id": "a", "slice": "1"}
    write(path, "case,id\na,b\n")
    with pytest.warns(DataWarning, match=r"not read: case"):
        rows = read_table(path, required=("id",), optional=(), aliases={"case": "id"})
    assert dict(rows[0].cells) == {"id": "b"}


def test_unknown_columns_are_warned_of(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", "id,age,sex\na,3,f\n")
    with pytest.warns(DataWarning, match=r"not read: age, sex\. Columns that are read: id, note"):
        assert cells(path) == [(2, "a")]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        cells(write(path, "id,note\na,b\n"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("\n\nid\n", "is empty, or its first line is"),
        ("id,note\n", "has no rows"),
        ("id,note\n,\n\n", "has no rows"),
        ("note\na\n", "has no column 'id'; its columns are note"),
        ("id,ID\na,b\n", "two columns 'id'"),
        ("id,note\na,b\nc,d,e,f\n", "cannot be read as a table: .* more cells than the 2 columns on line 3"),
        ("id,note\na,b,c\nd,e\nf,,,g\n", "more cells than the 2 columns on lines 2, 4"),
        ("id;note\na;b,c\nd;e;f\n", "more cells than the 2 columns on line 3"),
        ("id\na\nb,c\n", "more cells than the 1 column on line 3"),
        ('id,note\n"a\nb",c\nd,e,f\n', "on line 4"),
        ('id,note\na,b\n"c,d\ne,f\n', "line 3: a quotation mark opens and is never closed"),
    ],
)
def test_faulty_tables(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message) as raised:
        cells(write(tmp_path / "t.csv", text))
    assert "t.csv" in raised.value.problem and raised.value.remedy


def test_another_encoding_names_the_line(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"not in UTF-8: line 3 holds the byte 0xe9") as raised:
        cells(write(tmp_path / "t.csv", "id,note\na,b\nc,é\n", "latin-1"))
    assert "CSV UTF-8" in raised.value.remedy


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    for name in ("no.csv", "no.parquet"):
        with pytest.raises(DataError, match="cannot be read as a table"):
            cells(tmp_path / name)
    with pytest.raises(DataError, match="cannot be read as a table"):
        cells(write(tmp_path / "t.parquet", "id\n1\n"))


def test_long_lists_are_cut() -> None:
    assert (at_lines([3]), at_lines([3, 5])) == ("line 3", "lines 3, 5")
    assert at_lines(range(2, 9)) == "lines 2, 3, 4, 5, 6 and 2 more"
    assert listing("abc") == "a, b, c"
    assert listing("abcdefg") == "a, b, c, d, e and 2 more"


def test_a_misspelt_column_is_named_and_no_other(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_text("pacient,split\np,query\n")
    with pytest.raises(DataError) as raised:
        read_table(path, required=("patient",), optional=("split",))
    assert "If 'pacient' is meant, call it 'patient'." in raised.value.remedy
    path.write_text("subject,split\np,query\n")
    with pytest.raises(DataError) as raised:
        read_table(path, required=("patient",), optional=("split",))
    assert "split' is meant" not in raised.value.remedy


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
@pytest.mark.parametrize("header", ["id;note;", "id;note"])
def test_a_separator_at_the_ends_of_rows_says_nothing(header: str, encoding: str, tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", f'{header}\n"a;b";c,d;\ne;;\nf\n', encoding)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert cells(path) == [(2, "a;b", "c,d"), (3, "e", ""), (4, "f", "")]


def test_rows_are_numbered_by_the_line_that_they_begin_on(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", 'id,note\r\n"a\r\nb",c\r\n\r\nd,"e ""f"""\r\n')
    assert cells(path) == [(2, "a\r\nb", "c"), (5, "d", 'e "f"')]


def test_a_column_without_a_name_is_warned_of_like_any_other(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", ",id\n0,a\n1,b\n")
    with pytest.warns(DataWarning, match="columns that are not read: one without a name"):
        assert cells(path) == [(2, "a"), (3, "b")]


def test_all_names_that_a_column_may_bear_are_told(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", "id,slicek\na,1\n")
    aliases = {"case": "id", "z": "slice", "slice_k": "slice"}
    told = r"Columns that are read: id \(or case\), slice \(or z, slice_k\), note\."
    with pytest.warns(DataWarning, match=told):
        read_table(path, required=("id",), optional=("slice", "note"), aliases=aliases)
    with pytest.raises(DataError, match=told):
        read_table(path, required=("id", "slice"), optional=("note",), aliases=aliases)
