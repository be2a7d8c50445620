"""`cbirbench query` and `cross-exam` from the command line."""

from __future__ import annotations

import json
import re
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from typer.testing import CliRunner

from cbirbench.cli import app

pytestmark = pytest.mark.usefixtures("fake_plugins")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("kept") / "run"


@pytest.fixture(autouse=True)
def here(folder: Path, fake_plugins: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run, made once, and two studies in the working folder."""
    place = tmp_path / "here"
    place.mkdir()
    monkeypatch.chdir(place)
    if not folder.is_dir():
        settings = ["--set", "learned.epochs=1", "--set", "relax.masks=20", "--set", "relax.grid=3"]
        more = [
            "--extractors",
            "brightness,learned-offset",
            "--metrics",
            "purity@1",
            "--runs",
            "1",
            *settings,
        ]
        told("run", "blobs", "--out", str(folder), "--device", "cpu", "--quiet", *more)
    generator = np.random.default_rng(1)
    for name in ("new", "old"):
        stored = generator.integers(-900, 400, (10, 12, 6)).astype(np.int16)
        nib.save(nib.Nifti1Image(stored, np.diag((-1.0, -1.0, 5.0, 1.0))), place / f"{name}.nii.gz")
    return place


def told(*arguments: str, code: int = 0) -> str:
    result = CliRunner().invoke(app, list(arguments))
    output = re.sub(r"\x1b\[[0-9;]*m", "", result.output)
    assert result.exit_code == code, output
    assert "Traceback" not in output
    return output


def standard_output(*arguments: str) -> str:
    result = CliRunner().invoke(app, list(arguments))
    assert result.exit_code == 0, result.output
    return result.stdout


CROSS = ["--query", "new.nii.gz", "--slice", "2", "--previous", "old.nii.gz"]


def test_query_shows_and_draws(folder: Path) -> None:
    output = told("query", str(folder), "new.nii.gz", "--slice", "2", "--top", "2")
    assert "new, slice 2: the nearest of 4 gallery slices (blobs), by brightness-mean" in output
    assert "Wrote brightness-mean-new_z0002.png" in output
    assert Path("brightness-mean-new_z0002.png").is_file()


def test_query_takes_every_option(folder: Path) -> None:
    options = ["--slice", "1-2", "--extractor", "learned-offset", "--run", "0", "--top", "2", "--explain"]
    options += ["--until-reliable", "0.1", "--uncertainty", "--set", "relax.masks=24", "--device", "cpu"]
    options += ["--orientation", "LPI", "--unstated-orientation", "LPS", "--out", "a.svg"]
    output = told("query", str(folder), "new.nii.gz", *options)
    assert output.count("Wrote a-z000") == 2 and Path("a-z0001.svg").is_file()


def test_json_is_all_that_stands_on_standard_output(folder: Path, here: Path) -> None:
    path = here / "vague.nii"
    stored = np.random.default_rng(0).integers(-900, 400, (10, 12, 1)).astype(np.int16)
    nib.save(nib.Nifti1Image(stored, np.eye(4)), path)
    document = json.loads(standard_output("query", str(folder), "vague.nii", "--json"))
    assert document["command"] == "query" and "states no orientation" in document["notes"][0]
    assert document["queries"][0]["slice"] == 0
    assert "Note: vague.nii states no orientation" in told("query", str(folder), "vague.nii")
    document = json.loads(standard_output("cross-exam", str(folder), *CROSS, "--json", "--smooth"))
    assert document["command"] == "cross-exam" and document["reach_mm"] == 20.0
    assert len(document["ranking"]) == 6


def test_cross_exam_shows_and_draws(folder: Path) -> None:
    output = told("cross-exam", str(folder), *CROSS, "--expert", "3,2", "--smooth")
    assert "smoothed: with neighbours within 20 mm" in output and "overlap@2" in output
    assert Path("brightness-mean-new_z0002-in-old.png").is_file()
    output = told("cross-exam", str(folder), *CROSS)
    assert "smoothed" not in output and "overlap" not in output


def test_cross_exam_takes_every_option(folder: Path) -> None:
    options = ["--extractor", "learned-offset", "--run", "0", "--top", "2", "--reach", "1", "--explain"]
    options += ["--until-reliable", "0.1", "--uncertainty", "--set", "relax.masks=24", "--device", "cpu"]
    options += ["--orientation", "LPI", "--previous-orientation", "LPS", "--out", "a.svg"]
    output = told("cross-exam", str(folder), *CROSS, *options)
    assert "with neighbours within 1 slice" in output
    assert Path("a.svg").is_file() and Path("a-explained.svg").is_file()


def test_cross_exam_of_many_pairs(folder: Path) -> None:
    Path("pairs.csv").write_text(
        "query,slice,previous,previous_slice\nnew.nii.gz,2,old.nii.gz,3\nnew.nii.gz,,old.nii.gz,\n"
    )
    output = told("cross-exam", str(folder), "--pairs", "pairs.csv", "--tolerance", "5", "--reach", "5mm")
    assert "7 query slices of 2 pairs" in output and "hit@5mm" in output
    assert Path("cross-exam-pairs/queries.parquet").is_file()
    arguments = ["cross-exam", str(folder), "--pairs", "pairs.csv", "--out", "there", "--json"]
    document = json.loads(standard_output(*arguments))
    assert json.loads(Path("there/summary.json").read_text()) == document
    assert document["tolerance_mm"] == 10.0 and document["reach"] == "20 mm"


MISTAKES = [
    (["query", "RUN", "new.nii.gz"], 2, ["slices 0 to 5", "--slice"]),
    (["query", "RUN", "new.nii.gz", "--slice", "6"], 2, ["no slice 6"]),
    (["query", "RUN", "new.nii.gz", "--slice", "2", "--top", "5"], 2, ["--top 5", "4"]),
    (["query", "RUN", "nowhere.nii", "--slice", "2"], 2, ["nowhere.nii does not exist"]),
    (["query", ".", "new.nii.gz", "--slice", "2"], 2, ["no run of cbirbench"]),
    (["query", "RUN", "new.nii.gz", "--slice", "2", "--set", "relax.masks=5"], 2, ["Add --explain"]),
    (["cross-exam", "RUN"], 2, ["A new and a previous study", "--pairs"]),
    (["cross-exam", "RUN", "--query", "new.nii.gz", "--slice", "2"], 2, ["A new and a previous study"]),
    (["cross-exam", "RUN", "--pairs", "a.csv", "--slice", "2"], 2, ["--pairs and --slice"]),
    (["cross-exam", "RUN", "--pairs", "a.csv", "--explain"], 2, ["--pairs and --explain"]),
    (["cross-exam", "RUN", "--pairs", "a.csv", "--set", "relax.masks=5"], 2, ["--pairs and --set"]),
    (["cross-exam", "RUN", "--pairs", "a.csv"], 2, ["a.csv cannot be read"]),
    (["cross-exam", "RUN", *CROSS, "--tolerance", "3"], 2, ["--tolerance is for --pairs"]),
    (["cross-exam", "RUN", *CROSS, "--reach", "near"], 2, ["'near'", "20mm"]),
    (["cross-exam", "RUN", *CROSS, "--expert", "1,7"], 2, ["pick 7"]),
    (["cross-exam", "RUN", *CROSS, "--expert", ""], 2, ["--expert names no slice"]),
]


@pytest.mark.parametrize(("arguments", "code", "says"), MISTAKES)
def test_a_mistake_is_answered_in_words(
    folder: Path, here: Path, arguments: list[str], code: int, says: list[str]
) -> None:
    before = sorted(path.name for path in here.iterdir())
    output = told(*(str(folder) if one == "RUN" else one for one in arguments), code=code)
    assert "Error: " in output and "What to do: " in output
    for words in says:
        assert words in output
    assert sorted(path.name for path in here.iterdir()) == before


def test_a_run_without_pixels_is_answered_in_words(tmp_path: Path) -> None:
    out = str(tmp_path / "bare")
    told("run", "blobs", "--out", out, "--device", "cpu", "--quiet", "--no-pixels",
         "--extractors", "brightness", "--metrics", "purity@1")  # fmt: skip
    output = told("query", out, "new.nii.gz", "--slice", "2", code=1)
    assert "were not kept (--no-pixels)" in output
