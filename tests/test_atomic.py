from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from cbirbench.atomic import replacing, write_text
from cbirbench.errors import MissingError


def test_writes_whole_and_makes_parents(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "Ergebnis ü.md"
    write_text(path, "größer\n")
    assert path.read_bytes() == "größer\n".encode()
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_gives_a_name_beside_the_file_with_its_ending(tmp_path: Path) -> None:
    path = tmp_path / "scores.parquet"
    with replacing(path) as temporary:
        assert temporary.parent == path.parent
        assert temporary.suffix == ".parquet"
        assert temporary != path
        temporary.write_bytes(b"new")
        assert not path.exists()
    assert path.read_bytes() == b"new"


@pytest.mark.parametrize("failure", [RuntimeError("a bug"), KeyboardInterrupt()])
def test_a_failure_leaves_no_new_file(tmp_path: Path, failure: BaseException) -> None:
    path = tmp_path / "summary.json"
    with pytest.raises(type(failure)), replacing(path) as temporary:
        temporary.write_text("half")
        raise failure
    assert list(tmp_path.iterdir()) == []


def test_a_failure_keeps_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "summary.json"
    write_text(path, "old")
    with pytest.raises(RuntimeError), replacing(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("number", "remedy"),
    [
        (errno.ENOSPC, "Free some space"),
        (errno.EDQUOT, "quota"),
        (errno.EACCES, "may write to"),
        (errno.EROFS, "can be written to"),
        (errno.EIO, "Check the disk"),
    ],
)
def test_says_what_the_system_refused_and_what_to_do(tmp_path: Path, number: int, remedy: str) -> None:
    path = tmp_path / "summary.json"
    with pytest.raises(MissingError) as caught, replacing(path) as temporary:
        temporary.write_text("half")
        raise OSError(number, os.strerror(number))
    assert str(path) in caught.value.problem
    assert os.strerror(number) in caught.value.problem
    assert remedy in caught.value.remedy
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("below", ["summary.json", "deeper/summary.json"])
def test_a_file_where_a_folder_should_be(tmp_path: Path, below: str) -> None:
    file = tmp_path / "results"
    file.write_text("not a folder")
    with pytest.raises(MissingError, match="part of that path is a file"):
        write_text(file / below, "text")
    assert file.read_text() == "not a folder"


def test_a_folder_in_the_files_place(tmp_path: Path) -> None:
    (tmp_path / "summary.json").mkdir()
    with pytest.raises(MissingError, match=r"summary\.json could not be written"):
        write_text(tmp_path / "summary.json", "text")
    assert [file.name for file in tmp_path.iterdir()] == ["summary.json"]
