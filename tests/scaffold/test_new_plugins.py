"""New plugins at work: written, installed, tested by their own tests, and run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cbirbench import registry
from cbirbench.cli import app
from cbirbench.registry import Kind
from cbirbench.scaffold.writing import new_distribution

NAMES: dict[Kind, str] = {
    "extractor": "my-net",
    "augmentation": "my-views",
    "metric": "my-score",
    "benchmark": "my-cohort",
}


@pytest.fixture
def folders(install, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[Kind, Path]:
    """One new distribution of each kind, written and installed, for other processes as well."""
    made, sites = {}, []
    for kind, name in NAMES.items():
        folder = new_distribution(name, kind, tmp_path / "new")
        project = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
        modules = {file.stem: file.read_text() for file in folder.glob("*.py")}
        entries = project["entry-points"][registry.GROUPS[kind]]
        sites.append(install(project["name"], {kind: entries}, modules))
        made[kind] = folder
    roots = [*map(str, sites), str(Path(registry.__file__).parents[1])]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([*roots, os.environ.get("PYTHONPATH", "")]))
    return made


def command(*arguments: str) -> str:
    result = CliRunner().invoke(app, list(arguments), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_they_load_and_pass_their_own_tests(folders: dict[Kind, Path], tmp_path: Path) -> None:
    for kind, name in NAMES.items():
        assert registry.load(registry.find(kind, name)).interface_version == 1
    alone = tmp_path / "new"
    (alone / "pytest.ini").write_text("[pytest]\n")  # nothing of this repository's settings
    options = ["-q", "-c", "pytest.ini", f"--confcutdir={alone}", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options],
        cwd=alone,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    passed = int(done.stdout.rsplit(" passed", 1)[0].split()[-1])
    # Each has conformance tests, not only its own ones.
    assert passed > 40, done.stdout


def test_they_stand_in_a_leaderboard(folders: dict[Kind, Path], tmp_path: Path) -> None:
    told = command(
        *("run", "my-cohort", "--extractors", "my-net", "--metrics", "map,my-score"),
        *("--set", "my-cohort.patients=3", "--set", "my-net.cell=8", "--device", "cpu"),
        *("--out", str(tmp_path / "results"), "--json"),
    )
    summary = json.loads(told)
    scores = {name: found["mean"] for name, found in summary["scores"][0]["metrics"].items()}
    assert set(scores) == {"map@5", "my-score@10"}
    # The sphere is seen: random order would give about .5 and .69.
    assert scores["my-score@10"] > scores["map@5"] > 0.6
    views = tmp_path / "views.png"
    assert "my-cohort (synthetic): views by my-views" in command(
        *("views", "my-cohort", "--augmentation", "my-views", "--count", "2", "--size", "64"),
        *("--set", "my-cohort.patients=2", "--out", str(views)),
    )
    assert views.stat().st_size > 0
