from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def build() -> ModuleType:
    spec = importlib.util.spec_from_file_location("docs_build", ROOT / "docs" / "build.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_folder_with_something_else_is_left_alone(
    build: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    monkeypatch.setattr(sys, "argv", ["build.py", "--out", str(tmp_path)])

    assert build.main() == 2
    assert (tmp_path / "thesis.txt").read_text() == "mine"
    assert "--out" in capsys.readouterr().err


def test_problems_are_told_and_leave_the_last_site(
    build: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "search.json").write_text("{}")
    monkeypatch.setattr(sys, "argv", ["build.py", "--out", str(tmp_path)])
    monkeypatch.setattr(build, "build", lambda folder: ["docs/a.md:1: wrong"])

    assert build.main() == 1
    assert "docs/a.md:1: wrong" in capsys.readouterr().err
    assert (tmp_path / "search.json").is_file()


@pytest.mark.parametrize(
    ("said", "code", "problems"),
    [
        ("Build started\nBuild finished in 3.81s\nNo issues found\n", 0, []),
        ("Build started\nWarning: page does not exist\n", 0, ["Warning: page does not exist"]),
        ("Build started\n", 1, ["zensical ended with 1"]),
    ],
)
def test_whatever_zensical_says_beyond_the_usual_is_a_problem(
    build: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    said: str,
    code: int,
    problems: list[str],
) -> None:
    done = subprocess.CompletedProcess([], code, stdout=said, stderr="")
    monkeypatch.setattr(subprocess, "run", lambda *args, **kwargs: done)

    assert build.zensical(tmp_path) == problems
