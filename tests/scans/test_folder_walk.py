from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from cbirbench.scans.folder_walk import walked


def test_folders_and_names_come_in_order(tmp_path: Path) -> None:
    for name in ("b/2", "b/1", "a/deep/x", "z", ".git/config", ".hidden", "b/.trash/y"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "again").symlink_to(tmp_path, target_is_directory=True)
    assert [
        (path.relative_to(tmp_path).as_posix(), names) for path, names in walked(tmp_path, pytest.fail)
    ] == [
        (".", [".git", ".hidden", "z"]),
        ("a", []),
        ("a/deep", ["x"]),
        ("b", [".trash", "1", "2"]),
    ]
    assert [path.name for path, _ in walked(tmp_path, pytest.fail, apart=tmp_path / "b")][1:] == ["a", "deep"]


def test_a_hidden_folder_that_was_asked_for_is_searched(tmp_path: Path) -> None:
    (tmp_path / ".data").mkdir()
    (tmp_path / ".data" / "x").touch()
    assert list(walked(tmp_path / ".data", pytest.fail)) == [(tmp_path / ".data", ["x"])]


def test_folders_that_cannot_be_listed_are_handed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("open", "shut"):
        (tmp_path / name).mkdir()
    real = os.scandir

    def scandir(path: Any) -> Any:
        if Path(path).name == "shut":
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    failed: list[tuple[Path, OSError]] = []
    found = [path for path, _ in walked(tmp_path, lambda path, error: failed.append((path, error)))]
    assert found == [tmp_path, tmp_path / "open"]
    assert [(path, type(error)) for path, error in failed] == [(tmp_path / "shut", PermissionError)]
