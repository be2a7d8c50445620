from __future__ import annotations

import errno
from pathlib import Path

import pytest

from cbirbench.errors import MissingError, UsageError
from cbirbench.scaffold.names import PluginName
from cbirbench.scaffold.rendering import rendered
from cbirbench.scaffold.writing import new_distribution


def contents(folder: Path) -> dict[str, str]:
    files = (file for file in folder.rglob("*") if file.is_file())
    return {file.relative_to(folder).as_posix(): file.read_text(encoding="utf-8") for file in files}


def test_all_files_are_there_and_nothing_besides(tmp_path: Path) -> None:
    out = tmp_path / "new" / "folder"
    folder = new_distribution("my-net", "extractor", out, "Ada")
    assert folder == out / "cbirbench-my-net"
    assert contents(folder) == rendered("extractor", PluginName("my-net"), "Ada")
    assert list(out.iterdir()) == [folder]


def test_an_empty_folder_is_taken(tmp_path: Path) -> None:
    (tmp_path / "cbirbench-my-net").mkdir()
    assert contents(new_distribution("my-net", "metric", tmp_path))


def test_what_is_there_is_not_touched(tmp_path: Path) -> None:
    folder = tmp_path / "cbirbench-my-net"
    folder.mkdir()
    (folder / "mine.txt").write_text("mine")
    with pytest.raises(UsageError, match=r"already there, and not empty.*Nothing was changed"):
        new_distribution("my-net", "metric", tmp_path)
    assert contents(tmp_path) == {"cbirbench-my-net/mine.txt": "mine"}


def test_neither_a_file_nor_a_link_is_replaced(tmp_path: Path) -> None:
    place = tmp_path / "cbirbench-my-net"
    place.write_text("mine")
    with pytest.raises(UsageError, match="no folder"):
        new_distribution("my-net", "metric", tmp_path)
    assert place.read_text() == "mine"
    place.unlink()
    place.symlink_to(tmp_path / "nowhere")
    with pytest.raises(UsageError, match="no folder"):
        new_distribution("my-net", "metric", tmp_path)
    assert place.is_symlink()


def test_a_folder_that_cannot_be_made_is_said_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(MissingError, match="could not be written") as caught:
        new_distribution("my-net", "metric", tmp_path / "file" / "folder")
    assert caught.value.exit_code == 1


def test_nothing_is_left_of_what_was_not_finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write, written = Path.write_text, []

    def full(self: Path, *arguments: str, **options: str) -> int:
        written.append(self)
        if len(written) == 4:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(self, *arguments, **options)

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(MissingError, match=r"No space left on device.*Free some space"):
        new_distribution("my-net", "metric", tmp_path / "out")
    assert len(written) == 4
    assert list((tmp_path / "out").iterdir()) == []


def test_a_wrong_name_writes_nothing(tmp_path: Path) -> None:
    for name in ("../my-net", "My-Net", "first/hit", "map"):
        with pytest.raises(UsageError):
            new_distribution(name, "metric", tmp_path)
    with pytest.raises(UsageError, match="would hide another"):  # imported by the module
        new_distribution("slices", "benchmark", tmp_path)
    with pytest.raises(UsageError, match="would hide another"):  # by its tests
        new_distribution("metric-conformance", "metric", tmp_path)
    with pytest.raises(UsageError, match="--author"):
        new_distribution("my-net", "metric", tmp_path, "a\x00b")
    assert list(tmp_path.iterdir()) == []
