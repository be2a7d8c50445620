"""`cbirbench paper` on folders of real small runs on the phantom: files, figures, and what is refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from cbirbench.cli import app
from cbirbench.errors import DataError, UsageError
from cbirbench.paper import read_run, windows_of, write_paper
from cbirbench.store import write_arrays

SMALL = ["--set", "phantom.gallery_volumes=1", "--set", "phantom.query_volumes=1", "--set", "phantom.size=64"]
RUN = ["run", "phantom", "--metrics", "map,knn-accuracy", *SMALL, "--quiet", "--extractors"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with the runs `hog` (with pixels) and `gabor` (without), on the same slices; not to change."""
    folder = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("CBIRBENCH_CACHE", str(folder / "cache"))
        for name, more in (("hog", []), ("gabor", ["--no-pixels"])):
            result = CliRunner().invoke(app, [*RUN, name, *more, "--out", str(folder / name)])
            assert result.exit_code == 0, result.output
        yield folder


@pytest.fixture
def runs(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Copies of those runs, in the working folder."""
    shutil.copytree(finished, tmp_path / "here")
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here"


def change_summary(folder: Path, **changed: object) -> None:
    summary = json.loads((folder / "summary.json").read_text())
    for key, value in changed.items():
        where = summary["benchmark"] if key in summary["benchmark"] else summary
        where[key] = value
    (folder / "summary.json").write_text(json.dumps(summary))


def written(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_tables_and_figures_from_two_folders(runs: Path) -> None:
    result = CliRunner().invoke(app, ["paper", "hog", "gabor", "--out", "made"])
    assert result.exit_code == 0, result.output
    names = ["tables.md", "tables.tex", "figure-2.png", "figure-3.png"]
    assert result.output.splitlines() == [f"Wrote {Path('made') / name}" for name in names]
    assert written(runs / "made") == set(names)
    text = (runs / "made" / "tables.md").read_text(encoding="utf-8")
    scores = pd.concat(pd.read_parquet(runs / name / "scores.parquet") for name in ("hog", "gabor"))
    for extractor, label in (("hog", "HOG"), ("gabor", "Gabor")):
        chosen = scores[(scores["extractor"] == extractor) & (scores["metric"] == "map@5")]
        (line,) = [line for line in text.splitlines() if line.startswith(f"| {label} |") and "± –" in line]
        assert f"| {label} | {100 * chosen['value'].mean():.1f} ± – |" in line
    assert "- hog: phantom, profile paper (changed: gallery\\_volumes, query\\_volumes, size), hog;" in text
    (figure,) = [line for line in text.splitlines() if "Figure 3:" in line]
    shown = "(phantom, synthetic data, 5 slices of 1 patient)"
    assert figure.endswith(f"![Figure 3: HU of the liver, with both windows {shown}](figure-3.png)")
    assert "Figures 6 and 7: scores over the epochs of training: left out." in text
    for name in ("figure-2.png", "figure-3.png"):
        assert (runs / "made" / name).read_bytes().startswith(b"\x89PNG")


def test_by_default_a_folder_of_its_own(runs: Path) -> None:
    assert CliRunner().invoke(app, ["paper", "hog"]).exit_code == 0
    assert {"tables.md", "tables.tex"} <= written(runs / "paper-tables")


def test_the_same_runs_give_the_same_tables(runs: Path) -> None:
    for out in ("one", "two"):
        write_paper([Path("hog"), Path("gabor")], Path(out))
    for name in ("tables.md", "tables.tex"):
        assert (runs / "one" / name).read_bytes() == (runs / "two" / name).read_bytes()


def test_without_pixels_the_figures_are_left_out_and_it_says_why(runs: Path) -> None:
    made = write_paper([Path("gabor")], Path("made"))
    assert [path.name for path in made] == ["tables.md", "tables.tex"]
    text = made[0].read_text(encoding="utf-8")
    for number in (2, 3):
        (line,) = [line for line in text.splitlines() if line.startswith(f"- Figure {number}:")]
        assert "left out" in line and "(--no-pixels)" in line
    assert written(runs / "made") == {"tables.md", "tables.tex"}


def test_another_runs_pixels_serve(runs: Path) -> None:
    names = [path.name for path in write_paper([Path("gabor"), Path("hog")], Path("made"))]
    assert "figure-2.png" in names


def test_a_damaged_file_of_slices_costs_the_figures_alone(runs: Path) -> None:
    path = runs / "hog" / "slices" / "gallery.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    made = write_paper([Path("hog")], Path("made"))
    assert [path.name for path in made] == ["tables.md", "tables.tex"]
    assert "cannot be read" in made[0].read_text(encoding="utf-8")


def test_curves_become_figure_6_and_an_external_cohorts_figure_7(runs: Path) -> None:
    rows = [
        ("hog", run, epoch, "map@5", cohort, 0.5 + 0.1 * epoch)
        for run in range(2)
        for epoch in range(3)
        for cohort in ("phantom", "clinic")
    ]
    columns = ["extractor", "run", "epoch", "metric", "cohort", "value"]
    curves = pd.DataFrame(rows, columns=columns)
    curves.to_parquet(runs / "hog" / "curves.parquet")
    names = [path.name for path in write_paper([Path("hog")], Path("made"))]
    assert names[-2:] == ["figure-6-paper.png", "figure-7-paper.png"]
    curves[curves["cohort"] == "phantom"].drop(columns="cohort").to_parquet(runs / "hog" / "curves.parquet")
    names = [path.name for path in write_paper([Path("hog")], Path("again"))]
    assert names[-1] == "figure-6-paper.png"
    curves.assign(value=np.nan).to_parquet(runs / "hog" / "curves.parquet")
    names = [path.name for path in write_paper([Path("hog")], Path("empty"))]
    assert names[:2] == ["tables.md", "tables.tex"] and not any("figure-6" in name for name in names)
    assert "no value to draw" in (runs / "empty" / "tables.md").read_text(encoding="utf-8")
    assert "(--eval-every)" not in (runs / "again" / "tables.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda r: None, ["hog and hog both evaluate hog under profile paper"]),
        (
            lambda r: change_summary(r / "gabor", data_fingerprint="0" * 64),
            ["hog and gabor", "different slices"],
        ),
        (
            lambda r: change_summary(r / "gabor", name="decathlon"),
            ["hog is of the benchmark phantom, gabor of"],
        ),
        (lambda r: (r / "gabor" / "summary.json").unlink(), ["gabor holds a run that is not finished"]),
        (lambda r: shutil.rmtree(r / "gabor"), ["gabor holds no run of cbirbench"]),
        (lambda r: (r / "made").write_text(""), ["--out made is a file"]),
    ],
)
def test_what_cannot_be_is_answered_in_words_and_nothing_is_written(
    spoil, says: list[str], runs: Path
) -> None:  # type: ignore[no-untyped-def]
    spoil(runs)
    other = "hog" if "hog and hog" in says[0] else "gabor"
    before = sorted(runs.rglob("*"))
    result = CliRunner().invoke(app, ["paper", "hog", other, "--out", "made"])
    assert result.exit_code == 2, result.output
    for words in says:
        assert words in result.output
    assert "What to do:" in result.output
    assert "Traceback" not in result.output
    assert sorted(runs.rglob("*")) == before


def test_a_damaged_table_of_scores_is_named(runs: Path) -> None:
    (runs / "hog" / "scores.parquet").write_bytes(b"PAR1")
    result = CliRunner().invoke(app, ["paper", "hog", "--out", "made"])
    assert result.exit_code == 1
    assert "scores.parquet cannot be read" in result.output and "Traceback" not in result.output
    assert not (runs / "made").exists()


def test_a_folder_must_be_given() -> None:
    assert CliRunner().invoke(app, ["paper"]).exit_code == 2


def test_parameters_are_counted_without_running_statistics(runs: Path) -> None:
    weights = {
        "conv.weight": np.zeros((4, 3, 2, 2), dtype=np.float32),
        "bn.weight": np.zeros(4, dtype=np.float32),
        "bn.running_mean": np.zeros(4, dtype=np.float32),
        "bn.running_var": np.zeros(4, dtype=np.float32),
        "bn.num_batches_tracked": np.zeros((), dtype=np.int64),
    }
    for run in ("run-000", "run-001"):
        write_arrays(runs / "hog" / "weights" / "simsiam-hu-clip" / f"{run}.safetensors", weights, {})
    assert read_run(runs / "hog").parameters == {"simsiam-hu-clip": 48 + 4}


def test_damaged_weights_are_named(runs: Path) -> None:
    path = runs / "hog" / "weights" / "simsiam-hu-clip" / "run-000.safetensors"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"no weights")
    with pytest.raises(DataError, match="run-000"):
        read_run(runs / "hog")


def test_windows_are_those_that_ours_was_trained_with() -> None:
    def summary(name: str, views: object) -> dict[str, object]:
        return {"extractors": [{"name": name, "fingerprint": {"views": views}}]}

    views = {"wide": [-100, 250], "narrow": [0, 80]}
    assert windows_of([summary("hog", views)]) == ((-200.0, 300.0), (50.0, 150.0))
    assert windows_of([summary("hog", None), summary("simsiam-hu-clip", views)]) == (
        (-100.0, 250.0),
        (0.0, 80.0),
    )
    assert windows_of([{"extractors": [{"name": "simsiam-hu-clip"}]}]) == ((-200.0, 300.0), (50.0, 150.0))


def test_a_folder_that_cannot_be_written_to_is_a_users_matter(runs: Path) -> None:
    with pytest.raises(UsageError, match="is a file"):
        write_paper([Path("hog")], Path("hog/summary.json"))
