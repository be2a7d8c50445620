"""Mistakes at the command line: each is answered in words, and nothing is written."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

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
        (["run", "phantom", "--extractors", "HOG"], ["'HOG'", "Did you mean 'hog'?"]),
        (["run", "phantom", "--extractors", "hog", "--metrics", "map5"], ["'map5'", "--metrics map@5"]),
        (
            ["run", "phantom", "--extractors", "imagenet", "--set", f"imagenet.weights={'a' * 5000}"],
            ["A path is too long"],
        ),
        (["report", "a" * 5000], ["A path is too long: it begins with 'aaa"]),
        (["report", "a\0b"], ["null"]),
        (["report", "nowhere"], ["nowhere", "cbirbench run"]),
        (["cache", "--clear", "--kinds", "maps"], ["'maps'", "similarities"]),
        (["cache", "--kinds", "scores"], ["--clear"]),
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


@pytest.mark.parametrize(
    ("arguments", "flag", "given"),
    [
        (["run", "phantom", "--seed", "abc"], "--seed", "abc"),
        (["run", "phantom", "--seed", "1.5"], "--seed", "1.5"),
        (["run", "phantom", "--eval-every", "-1"], "--eval-every", "-1"),
        (["run", "phantom", "--until-reliable", "often"], "--until-reliable", "often"),
        (["run", "phantom", "--device", "tpu"], "--device", "tpu"),
        (["data", "phantom", "--out", "x", "--size", "9999"], "--size", "9999"),
    ],
)
def test_an_option_of_the_wrong_type_is_answered_without_a_librarys_text(
    arguments: list[str], flag: str, given: str, empty_folder: Path
) -> None:
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 2, result.output
    assert flag in result.output and given in result.output
    assert "Input should" not in result.output and "Value error" not in result.output
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
    small += ["--set", "phantom.size=64"]
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
    small += ["--set", "phantom.size=64"]
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
    small += ["--set", "phantom.size=64", "--set", "relax.masks=20", "--explain-queries", "none"]
    table = cbirbench("run", "phantom", "--extractors", "band-means,hog", *small)
    assert "band-means" in table and "RR" in table


# Explaining ---------------------------------------------------------------------------------------------

BLOBS = ["--metrics", "purity@1,relevance-rank", "--runs", "1", "--device", "cpu"]
BLOBS += [
    "--set",
    "learned-offset.epochs=2",
    "--set",
    "relax.masks=20",
    "--set",
    "relax.grid=3",
    "--set",
    "blobs.scans=4",
]


def invoked(*arguments: str, code: int = 0) -> str:
    result = CliRunner().invoke(app, list(arguments))
    assert result.exit_code == code, result.output
    assert "Traceback" not in result.output
    return result.output


def run_blobs(*more: str, extractors: str = "learned-offset,brightness", code: int = 0) -> str:
    return invoked("run", "blobs", "--extractors", extractors, "--out", "out", *BLOBS, *more, code=code)


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("kept")


@pytest.fixture
def finished_run(kept: Path, tmp_path: Path, fake_plugins: None) -> Path:
    """A run without figures in the folder `out`, and its cache: made once and copied for each test."""
    if not (kept / "out").is_dir():
        run_blobs("--explain-queries", "none")
        shutil.copytree("out", kept / "out")
        shutil.copytree(tmp_path / "cache", kept / "cache")
    else:
        shutil.copytree(kept / "out", "out")
        shutil.copytree(kept / "cache", tmp_path / "cache")
    return Path("out")


def figures_of(folder: Path) -> list[dict[str, Any]]:
    """The figures that a run's summary lists: all of them there, and no other."""
    found: list[dict[str, Any]] = json.loads((folder / "summary.json").read_text())["figures"]
    written = {path.relative_to(folder).as_posix() for path in folder.glob("figures/retrieval/**/*.*")}
    assert {figure["file"] for figure in found} == written
    report = (folder / "report.md").read_text()
    assert all(f"]({figure['file']})" in report for figure in found)
    assert ("Explained retrievals" in report) is bool(found)
    return found


@pytest.mark.usefixtures("fake_plugins")
def test_a_run_draws_the_best_the_median_and_the_worst_query_of_each_extractor() -> None:
    run_blobs()
    figures = figures_of(Path("out"))
    assert [(figure["extractor"], figure["run"], figure["why"]) for figure in figures] == [
        (name, 0, why)
        for name in ("learned-offset", "brightness-mean")
        for why in ("best", "median", "worst")
    ]
    assert all(figure["query_id"].endswith("-1") for figure in figures), "they show the organ"
    scores = [figure["map"] for figure in figures[:3]]
    assert scores == sorted(scores, reverse=True)
    before = Path("out/report.md").read_text()
    invoked("report", "out")
    assert Path("out/report.md").read_text() == before


@pytest.mark.usefixtures("fake_plugins")
@pytest.mark.parametrize("metrics", ["purity@1,relevance-rank", "purity@1"])
def test_a_run_draws_the_queries_that_were_asked_for(metrics: str) -> None:
    run_blobs("--explain-queries", "q1-1, q0-0,q1-1", "--metrics", metrics, extractors="brightness")
    figures = figures_of(Path("out"))
    assert [(figure["query_id"], figure["why"]) for figure in figures] == [
        ("q1-1", "asked for"),
        ("q0-0", "asked for"),
    ]


@pytest.mark.usefixtures("fake_plugins")
@pytest.mark.parametrize("more", [["--explain-queries", "none"], ["--metrics", "purity@1"]])
def test_a_run_draws_no_query_where_none_is_wanted(more: list[str]) -> None:
    run_blobs(*more, extractors="brightness")
    assert figures_of(Path("out")) == []
    assert not Path("out/figures").exists()
    assert Path("out/explanations.parquet").exists() is (more[0] == "--explain-queries")


@pytest.mark.usefixtures("fake_plugins")
def test_a_gallery_smaller_than_a_figure_is_shown_whole() -> None:
    run_blobs("--set", "blobs.scans=1", extractors="brightness")
    assert [figure["why"] for figure in figures_of(Path("out"))] == ["best"]


@pytest.mark.usefixtures("fake_plugins")
def test_a_query_that_is_not_there_fails_before_anything_is_trained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cbirbench_fake.LearnedOffset.fit", lambda *_, **__: pytest.fail("trained"))
    output = run_blobs("--explain-queries", "q0-1,q9-1", code=2)
    assert "No query is called 'q9-1'" in output and "slices such as q" in output
    assert not Path("out").exists()


@pytest.mark.usefixtures("fake_plugins")
@pytest.mark.parametrize("value", ["2", "1", "0", "-1", "nan", "inf"])
def test_a_reliability_that_no_map_reaches_is_refused(value: str) -> None:
    output = run_blobs("--until-reliable", value, code=2)
    assert "relax.until_reliable" in output
    assert not Path("out").exists()


@pytest.mark.usefixtures("fake_plugins")
def test_until_reliable_spares_masks_and_says_how_many_there_were() -> None:
    pd = pytest.importorskip("pandas")
    sparing = ["--until-reliable", "0.3", "--set", "relax.masks=5000"]
    run_blobs(*sparing, "--explain-queries", "none", extractors="brightness")
    masks = pd.read_parquet("out/explanations.parquet")["masks"]
    assert (masks < 5000).all() and (masks % 250 < 64).all()
    summary = json.loads(Path("out/summary.json").read_text())
    found = summary["explanations"]["extractors"]["brightness-mean"]["masks"]
    assert (found["lowest"], found["highest"]) == (masks.min(), masks.max())
    assert summary["relax"]["until_reliable"] == 0.3


@pytest.mark.usefixtures("finished_run")
def test_a_query_of_a_finished_run_is_explained(tmp_path: Path) -> None:
    output = invoked("explain", "out", "--query", "q2-0")
    assert "query  q2-0, label 0: reliability" in output
    assert "Wrote learned-offset-q2-0.png" in output and Path("learned-offset-q2-0.png").is_file()
    options = ["--extractor", "brightness", "--top", "2", "--until-reliable", "0.5", "--uncertainty"]
    options += ["--set", "relax.masks=500", "--set", "relax.estimator=regression", "--device", "cpu"]
    options += ["--out", "figure.svg", "--arrays", str(tmp_path / "maps.safetensors")]
    output = invoked("explain", "out", "--query", "q2-0", *options)
    assert "Wrote figure.svg" in output and "maps.safetensors" in output
    assert Path("figure.svg").is_file() and (tmp_path / "maps.safetensors").is_file()


MISTAKES: list[tuple[list[str], list[str]]] = [
    (["--query", "q2-2"], ["No query is called 'q2-2'", "q2-"]),
    (["--query", "q2-1", "--extractor", "hog"], ["has no extractor 'hog'", "learned-offset"]),
    (["--query", "q2-1", "--run", "1"], ["has no run 1", "from 0 to 0"]),
    (["--query", "q2-1", "--run", "-1"], ["--run"]),
    (["--query", "q2-1", "--top", "9"], ["--top 9", "8"]),
    (["--query", "q2-1", "--top", "0"], ["--top"]),
    (["--query", "q2-1", "--until-reliable", "2"], ["relax.until_reliable"]),
    (["--query", "q2-1", "--set", "learned.epochs=9"], ["relax only"]),
    (["--query", "q2-1", "--set", "relax.mask=9"], ["Did you mean 'masks'?"]),
    (["--query", "q2-1", "--out", "figure.bmp"], ["figure.bmp", ".png"]),
    (["--query", "q2-1", "--device", "tpu"], ["--device"]),
    ([], ["--query"]),
]


@pytest.mark.usefixtures("finished_run")
def test_mistakes_in_explaining_are_answered_in_words(empty_folder: Path) -> None:
    for arguments, says in MISTAKES:
        output = re.sub(r"\x1b\[[0-9;]*m", "", invoked("explain", "out", *arguments, code=2))
        for words in says:
            assert words in output, arguments
    for name in ("weights", "run.json", "summary.json"):
        assert (empty_folder / "out" / name).exists()
    assert [path.name for path in empty_folder.iterdir()] == ["out"]


@pytest.mark.usefixtures("fake_plugins")
def test_a_run_that_cannot_be_explained_is_answered_in_words(empty_folder: Path) -> None:
    assert "no run of cbirbench" in invoked("explain", ".", "--query", "q2-1", code=2)
    run_blobs("--no-pixels", "--explain-queries", "none")
    output = invoked("explain", "out", "--query", "q2-1", code=1)
    assert "--no-pixels" in output and "What to do: " in output
    Path("out/slices/gallery.safetensors").unlink()
    assert "gallery.safetensors is missing" in invoked("explain", "out", "--query", "q2-1", code=1)
    assert [path.name for path in empty_folder.iterdir()] == ["out"]
