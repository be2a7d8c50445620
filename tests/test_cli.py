"""Mistakes at the command line: each is answered in words, and nothing is written."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cbirbench import __version__
from cbirbench.cli import app


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CBIRBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("CBIRBENCH_DATA", raising=False)
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["run", "fantom", "--extractors", "hog"], ["'fantom'", "Did you mean 'phantom'?"]),
        (["run", "phantom", "--extractors", "hogg"], ["'hogg'", "Did you mean 'hog'?", "pip install"]),
        (["run", "phantom", "--extractors", ""], ["No extractor", "--extractors"]),
        (["run", "phantom", "--extractors", "hog,hog"], ["twice"]),
        (["run", "phantom", "--extractors", "hog", "--metrics", "mapp"], ["'mapp'", "'map'"]),
        (["run", "phantom", "--extractors", "hog", "--metrics", "map@x"], ["map@x", "map@5"]),
        (["run", "phantom", "--extractors", "hog", "--metrics", "map@0"], ["map.k", "0"]),
        (["run", "phantom", "--extractors", "hog", "--metrics", "relevance-rank@5"], ["no @K"]),
        (["run", "phantom", "--extractors", "hog", "--runs", "0"], ["--runs", "0"]),
        (["run", "phantom", "--extractors", "hog", "--set", "hog.cel=9"], ["'cel'", "Did you mean 'cell'?"]),
        (["run", "phantom", "--extractors", "hog", "--set", "hog.cell=nine"], ["hog.cell", "'nine'"]),
        (["run", "phantom", "--extractors", "hog", "--set", "hog.cell=0"], ["hog.cell", "'0'"]),
        (["run", "phantom", "--extractors", "hog", "--set", "hgo.cell=9"], ["'hgo'", "Did you mean 'hog'?"]),
        (["run", "phantom", "--extractors", "hog", "--set", "hog"], ["NAME.OPTION=VALUE", "'hog'"]),
        (["run", "phantom", "--extractors", "hog", "--set", "gabor.sise=9"], ["'sise'"]),
        (["run", "phantom", "--extractors", "hog", "--set", "relax.masks=0"], ["relax.masks"]),
        (["run", "phantom", "--extractors", "hog", "--data", "."], ["reads no scans"]),
        (["run", "decathlon", "--extractors", "hog"], ["--data", "CBIRBENCH_DATA"]),
        (["run", "decathlon", "--extractors", "hog", "--data", "nowhere"], ["nowhere"]),
        (["run", "decathlon", "--extractors", "hog", "--data", "."], ["imagesTr"]),
        (["report", "nowhere"], ["nowhere", "cbirbench run"]),
        (["cache", "--clear", "--kinds", "mapps"], ["'mapps'", "maps"]),
        (["cache", "--kinds", "maps"], ["--clear"]),
    ],
)
def test_a_users_mistake_is_answered_in_words(
    arguments: list[str], says: list[str], empty_folder: Path
) -> None:
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 2, result.output
    for words in says:
        assert words in result.output
    assert "Traceback" not in result.output
    assert list(empty_folder.iterdir()) == []


def test_an_extractor_without_its_weights_fails_before_anything_is_computed(empty_folder: Path) -> None:
    arguments = ["run", "phantom", "--extractors", "imagenet", "--set", "imagenet.weights=none.pth"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code in (1, 2), result.output
    assert "none.pth" in result.output and "imagenet.weights" in result.output
    assert list(empty_folder.iterdir()) == []


@pytest.mark.parametrize("metric", ["map@11", "knn-accuracy@11"])
def test_a_metric_that_looks_further_than_the_gallery_reaches(metric: str, empty_folder: Path) -> None:
    arguments = ["run", "phantom", "--extractors", "hog", "--metrics", metric, "--set", "phantom.size=64"]
    small = ["--set", "phantom.gallery_volumes=1", "--set", "phantom.query_volumes=1"]
    result = CliRunner().invoke(app, [*arguments, *small])
    assert result.exit_code == 2, result.output
    assert metric in result.output and "the gallery has 10 slices" in result.output
    assert list(empty_folder.iterdir()) == []


def test_a_failed_run_leaves_no_folder_that_was_named_by_the_time(
    empty_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("cbirbench.runner.run_once", interrupted)
    arguments = ["run", "phantom", "--extractors", "hog", "--metrics", "map", "--set", "phantom.size=64"]
    small = ["--set", "phantom.gallery_volumes=1", "--set", "phantom.query_volumes=1"]
    assert CliRunner().invoke(app, [*arguments, *small]).exit_code == 1
    assert [path for path in empty_folder.rglob("*") if path.is_file()] == []


def test_version() -> None:
    result = CliRunner().invoke(app, ["--version"])
    assert result.output.strip() == f"cbirbench {__version__}"


def test_an_unused_set_is_pointed_out(tmp_path: Path) -> None:
    arguments = ["run", "phantom", "--extractors", "hog", "--set", "gabor.image_size=64", "--metrics", "map"]
    small = ["--set", "phantom.gallery_volumes=2", "--set", "phantom.query_volumes=1"]
    result = CliRunner().invoke(app, [*arguments, *small, "--out", str(tmp_path / "out")])
    assert result.exit_code == 0, result.output
    assert "gabor.image_size=64 has no effect" in result.output


def test_plugins_list_shows_kind_name_distribution_and_version() -> None:
    result = CliRunner().invoke(app, ["plugins", "list"], env={"COLUMNS": "120"})
    assert result.exit_code == 0
    rows = [line.split() for line in result.output.splitlines()]
    assert ["extractor", "hog", "cbirbench-hog", "0.1.0"] in rows
    assert ["extractor", "simsiam-hu-clip", "ours", "cbirbench-simsiam", "0.1.0"] in rows
    assert ["benchmark", "phantom", "cbirbench", __version__] in rows
    checked = CliRunner().invoke(app, ["plugins", "list", "--check"], env={"COLUMNS": "120"})
    assert "Broken" not in checked.output


def test_the_cache_is_shown_and_cleared(tmp_path: Path) -> None:
    arguments = ["run", "phantom", "--extractors", "hog", "--metrics", "map", "--quiet", "--out", "out"]
    small = ["--set", "phantom.gallery_volumes=2", "--set", "phantom.query_volumes=1"]
    assert CliRunner().invoke(app, [*arguments, *small]).exit_code == 0
    shown = {
        line.split()[0]: line.split()[1] for line in CliRunner().invoke(app, ["cache"]).output.splitlines()
    }
    assert shown["slices"] == "3" and shown["embeddings"] == "2"
    assert CliRunner().invoke(app, ["cache", "--clear"]).exit_code == 0
    assert not any((tmp_path / "cache").rglob("*.safetensors"))


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; from typer.testing import CliRunner; from cbirbench.cli import app;"
        "assert CliRunner().invoke(app, ['run', '--help']).exit_code == 0;"
        "print(sorted({'torch', 'numpy', 'pandas', 'quantus', 'skimage', 'faiss'} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def readme_block(language: str, containing: str) -> str:
    """The fenced block of the README that holds a text: what a reader would paste."""
    text = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")
    blocks = re.findall(rf"```{language}\n(.*?)```", text, flags=re.DOTALL)
    (block,) = [block for block in blocks if containing in block]
    return block


def test_a_plugin_from_outside_the_repository_is_listed_and_runs(tmp_path: Path) -> None:
    project = tmp_path / "band-means"
    project.mkdir()
    (project / "pyproject.toml").write_text(readme_block("toml", "band-means"))
    (project / "cbirbench_band_means.py").write_text(readme_block("python", "class BandMeans"))
    site = tmp_path / "site"
    pip = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-build-isolation",
        "--no-deps",
        "--no-index",
    ]
    subprocess.run([*pip, "--target", str(site), str(project)], check=True, capture_output=True)
    environment = {**os.environ, "PYTHONPATH": str(site), "COLUMNS": "120"}

    def cbirbench(*arguments: str) -> str:
        code = "from cbirbench.cli import app; app()"
        line = [sys.executable, "-c", code, *arguments]
        return subprocess.run(line, check=True, capture_output=True, text=True, env=environment).stdout

    rows = [line.split() for line in cbirbench("plugins", "list").splitlines()]
    assert ["extractor", "band-means", "cbirbench-band-means", "0.1.0"] in rows
    small = ["--set", "phantom.gallery_volumes=2", "--set", "phantom.query_volumes=1"]
    small += ["--set", "phantom.size=64", "--set", "relax.masks=20"]
    table = cbirbench("run", "phantom", "--extractors", "band-means,hog", *small)
    assert "band-means" in table and "RR" in table
