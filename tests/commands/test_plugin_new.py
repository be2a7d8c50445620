from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from cbirbench.cli import app


def new(*arguments: str) -> Result:
    result = CliRunner().invoke(app, ["plugins", "new", *arguments])
    assert "Traceback" not in result.output
    return result


@pytest.mark.parametrize(
    ("kind", "run"),
    [
        ("extractor", "cbirbench run phantom --extractors my-thing,hog,random --metrics map,knn-accuracy"),
        ("augmentation", "cbirbench views phantom --augmentation my-thing"),
        ("metric", "cbirbench run phantom --extractors hog,random --metrics map,my-thing"),
        (
            "benchmark",
            "cbirbench run my-thing --extractors intensity-histogram,random --metrics map,knn-accuracy",
        ),
    ],
)
def test_it_says_what_to_type_next(
    kind: str, run: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = new("my-thing", "--kind", kind)
    assert result.exit_code == 0
    assert result.output.splitlines() == [
        f"Wrote the {kind} my-thing to cbirbench-my-thing",
        "Next:",
        "  pip install -e './cbirbench-my-thing[test]'",
        "  cbirbench plugins check my-thing",
        f"  {run}",
    ]
    assert (tmp_path / "cbirbench-my-thing" / "pyproject.toml").is_file()


def test_elsewhere_and_with_an_author(tmp_path: Path) -> None:
    out = tmp_path / "a folder"
    result = new("my-thing", "--kind", "metric", "--out", str(out), "--author", "Ada\n'L.'")
    assert result.exit_code == 0
    assert f"pip install -e '{out}/cbirbench-my-thing[test]'" in result.output
    assert "Copyright (c) Ada 'L.'" in (out / "cbirbench-my-thing" / "LICENSE").read_text()


def test_a_wrong_name_gets_a_right_one(tmp_path: Path) -> None:
    result = new("[red]../My Net", "--kind", "extractor", "--out", str(tmp_path))
    assert result.exit_code == 2
    assert "Error: '[red]../My Net' cannot be the name of a new extractor" in result.stderr
    assert "What to do: Take 'red-my-net', for example." in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_exit_codes(tmp_path: Path) -> None:
    assert new("my-thing").exit_code == 2  # no kind
    assert new("my-thing", "--kind", "extractors").exit_code == 2
    assert new("--kind", "metric").exit_code == 2  # no name
    (tmp_path / "file").write_text("")
    assert new("my-thing", "--kind", "metric", "--out", str(tmp_path / "file")).exit_code == 1
    assert new("my-thing", "--kind", "metric", "--out", str(tmp_path)).exit_code == 0
    assert new("my-thing", "--kind", "metric", "--out", str(tmp_path)).exit_code == 2  # there already
