"""The main job, end to end, on a small phantom: what a user types, and what lies in the folder afterwards."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from cbirbench_simsiam import training
from typer.testing import CliRunner

from cbirbench import evaluation, scoring
from cbirbench.cli import app
from cbirbench.store import read_arrays, slices_from_arrays

SMALL = [
    *("--set", "phantom.gallery_volumes=4", "--set", "phantom.query_volumes=2", "--set", "phantom.size=64"),
    *(
        "--set",
        "simsiam.backbone=test_resnet",
        "--set",
        "simsiam.weights=random",
        "--set",
        "simsiam.image_size=32",
    ),
    *("--set", "simsiam.epochs=2", "--set", "simsiam.batch_size=10"),
    *("--set", "hog.image_size=45", "--set", "relax.masks=40", "--set", "relax.batch_size=20"),
]
NO_FIGURES = ("--explain-queries", "none")
"""Figures take most of a small run's time."""

HEADS = {"PROJECTION": 64, "BOTTLENECK": 16}
"""Checkpoints of the real heads are 100 MB each."""


def command(out: Path, *more: str, extractors: str = "ours,hog") -> list[str]:
    return ["run", "phantom", "--extractors", extractors, "--device", "cpu", "--out", str(out), *SMALL, *more]


def run(out: Path, *more: str, extractors: str = "ours,hog", code: int = 0) -> str:
    result = CliRunner().invoke(app, command(out, *more, extractors=extractors))
    assert result.exit_code == code, result.output
    return result.output


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def shared_cache(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CBIRBENCH_CACHE", str(cache))


@pytest.fixture(scope="module", autouse=True)
def narrow_heads() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for name, width in HEADS.items():
            patch.setattr(training, name, width)
        yield


@pytest.fixture(scope="module")
def finished(cache: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CBIRBENCH_CACHE", str(cache))
        out = tmp_path_factory.mktemp("results") / "run"
        return out, run(out, "--runs", "2")


def test_the_table_is_printed(finished: tuple[Path, str]) -> None:
    _, output = finished
    assert "simsiam-hu-clip" in output and "ours" in output and "hog" in output
    assert "MAP" in output and "ACC" in output and "RR" in output


def test_the_folder_holds_what_was_promised(finished: tuple[Path, str]) -> None:
    out, _ = finished
    summary = json.loads((out / "summary.json").read_text())
    assert summary["benchmark"]["synthetic"] is True
    assert summary["profile"] == "paper"
    assert {d["option"] for d in summary["departures"]} >= {"backbone", "epochs", "masks", "runs"}
    assert [run["resumed_from_epoch"] for run in summary["extractors"][0]["training"]] == [None, None]
    # Half of the slices show the liver; maps have a chance level of their own.
    assert summary["benchmark"]["chance"] == {
        "map@5": 0.5,
        "knn-accuracy@5": 0.5,
    }
    assert {path.name for path in out.iterdir()} == {*summary["files"], "run.json"}
    assert (out / "report.md").read_text().startswith("#")
    scores = pd.read_parquet(out / "scores.parquet")
    expected = ["benchmark", "cohort", "extractor", "run", "metric", "query_id", "patient_id", "value"]
    assert list(scores.columns) == expected
    assert set(scores["metric"]) == {"map@5", "knn-accuracy@5", "relevance-rank"}
    assert set(scores.loc[scores["extractor"] == "simsiam-hu-clip", "run"]) == {0, 1}
    assert set(scores.loc[scores["extractor"] == "hog", "run"]) == {0}
    slices = pd.read_parquet(out / "slices.parquet")
    needed = {"slice_id", "split", "patient_id", "volume_id", "z_index", "label", "mask_fraction"}
    assert needed <= set(slices.columns)
    assert slices["split"].value_counts().to_dict() == {"gallery": 40, "query": 20}


def test_training_changed_the_weights_and_runs_differ(finished: tuple[Path, str]) -> None:
    out, _ = finished
    first, _ = read_arrays(out / "weights" / "simsiam-hu-clip" / "run-000.safetensors")
    second, _ = read_arrays(out / "weights" / "simsiam-hu-clip" / "run-001.safetensors")
    assert any(not np.array_equal(first[name], second[name]) for name in first)
    training = pd.read_parquet(out / "training.parquet")
    assert training.groupby(["extractor", "run"]).size().tolist() == [2, 2]


def test_every_score_follows_from_the_files(finished: tuple[Path, str]) -> None:
    """MAP, 5-NN and RR anew from embeddings, maps and masks, without cbirbench's ranking or metrics."""
    out, _ = finished
    slices = pd.read_parquet(out / "slices.parquet")
    label = dict(zip(slices["slice_id"], slices["label"], strict=True))
    gallery = slices.loc[slices["split"] == "gallery", "slice_id"].tolist()
    queries = slices.loc[slices["split"] == "query", "slice_id"].tolist()
    scores = pd.read_parquet(out / "scores.parquet")
    neighbours = pd.read_parquet(out / "neighbours.parquet")
    masks = {
        s.slice_id: np.isin(s.mask, (1, 2))
        for s in slices_from_arrays(*read_arrays(out / "slices/query.safetensors"))
    }
    for extractor, run_number in (("simsiam-hu-clip", 0), ("simsiam-hu-clip", 1), ("hog", 0)):
        arrays, _ = read_arrays(out / "embeddings" / extractor / f"run-{run_number:03d}.safetensors")
        maps, _ = read_arrays(out / "maps" / extractor / f"run-{run_number:03d}.safetensors")
        of_run = scores[(scores["extractor"] == extractor) & (scores["run"] == run_number)]
        values = of_run.set_index(["metric", "query_id"])["value"]
        listed = neighbours[(neighbours["extractor"] == extractor) & (neighbours["run"] == run_number)]
        for row, query in enumerate(queries):
            difference = arrays["query"][row].astype(float) - arrays["gallery"].astype(float)
            distance = np.sqrt((difference**2).sum(axis=1))
            nearest = sorted(range(len(gallery)), key=lambda i: (distance[i], gallery[i]))[:5]
            of_query = listed[listed["query_id"] == query].sort_values("rank")
            assert of_query["gallery_id"].tolist() == [gallery[i] for i in nearest]
            np.testing.assert_allclose(of_query["distance"], distance[nearest], rtol=1e-9)
            right = [label[gallery[i]] == label[query] for i in nearest]
            precision = [sum(right[:k]) / k for k in range(1, 6)]
            assert values["map@5", query] == pytest.approx(sum(precision) / 5, abs=1e-9)
            assert values["knn-accuracy@5", query] == float(sum(right) >= 3)
            if label[query] == 0:
                assert np.isnan(values["relevance-rank", query])
                continue
            rank = independent_relevance_rank(maps[query], masks[query])
            assert values["relevance-rank", query] == pytest.approx(rank, abs=1e-9)


def independent_relevance_rank(importance: np.ndarray, mask: np.ndarray) -> float:
    """Eq. 7 at native size, for square slices: pixels sorted one by one."""
    import torch

    size = torch.from_numpy(importance)[None, None]
    native = torch.nn.functional.interpolate(size, size=mask.shape, mode="bilinear", align_corners=False)
    flat = native[0, 0].numpy().ravel()
    order = sorted(range(flat.size), key=lambda i: -flat[i])[: int(mask.sum())]
    return float(mask.ravel()[order].sum() / mask.sum())


def test_the_same_command_again_computes_nothing_and_agrees(
    finished: tuple[Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, _ = finished

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("computed anew what the cache holds")

    monkeypatch.setattr("cbirbench.embedding.embed_slices", refuse)
    monkeypatch.setattr("cbirbench.scoring.masked_embed", lambda extractor, relax: refuse)
    monkeypatch.setattr("cbirbench_simsiam.extractor.SimSiamHUClip.fit", refuse)
    monkeypatch.setattr("cbirbench.datasets.phantom.Phantom.read", refuse)
    again = tmp_path / "again"
    run(again, "--runs", "2")
    for name in ("scores.parquet", "neighbours.parquet", "slices.parquet", "training.parquet"):
        first, second = pd.read_parquet(out / name), pd.read_parquet(again / name)
        pd.testing.assert_frame_equal(first, second, check_exact=True)


def test_a_fresh_cache_gives_the_same_numbers(
    finished: tuple[Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, _ = finished
    monkeypatch.setenv("CBIRBENCH_CACHE", str(tmp_path / "cache"))
    run(tmp_path / "fresh", "--runs", "2", *NO_FIGURES)
    assert (tmp_path / "fresh/scores.parquet").read_bytes() == (out / "scores.parquet").read_bytes()


def test_an_interrupted_run_goes_on_to_the_same_numbers(
    finished: tuple[Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, _ = finished
    monkeypatch.setenv("CBIRBENCH_CACHE", str(tmp_path / "cache"))
    continued = tmp_path / "continued"
    real = evaluation.run_once
    calls = []

    def interrupted(*arguments: object) -> object:
        calls.append(arguments)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(*arguments)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr("cbirbench.runner.run_once", interrupted)
        output = run(continued, "--runs", "2", *NO_FIGURES, code=1)
    assert "goes on from there" in output
    assert not (continued / "scores.parquet").exists()
    run(continued, "--runs", "2", *NO_FIGURES)
    assert (continued / "scores.parquet").read_bytes() == (out / "scores.parquet").read_bytes()


KILLED = f"""
import os, signal, sys
from cbirbench.cli import app
from cbirbench_simsiam import training

fatal = sys.argv.pop(1)
vars(training).update({HEADS})

def kill(event, arguments):
    if event == "os.rename" and str(arguments[1]).endswith(fatal):
        os.kill(os.getpid(), signal.SIGKILL)

sys.addaudithook(kill)
app()
"""


def killed_before(file: str, arguments: list[str]) -> None:
    """Run the command in a process of its own, killed, as no program can prevent, before `file` is there."""
    line = [sys.executable, "-c", KILLED, file, *arguments]
    done = subprocess.run(line, check=False, capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stdout + done.stderr


def test_a_run_that_is_killed_goes_on_to_the_same_numbers(
    finished: tuple[Path, str], cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, _ = finished
    own, continued = tmp_path / "cache", tmp_path / "continued"
    monkeypatch.setenv("CBIRBENCH_CACHE", str(own))
    shutil.copytree(cache / "slices", own / "slices")
    more = ("--runs", "2", "--set", "simsiam.checkpoint_every=1", *NO_FIGURES)
    killed_before("epoch-00002.ckpt", command(continued, *more))
    assert len(list(own.glob("workspaces/*/epoch-00001.ckpt"))) == 1
    assert not list(own.glob("weights/**/*.safetensors"))
    killed_before("maps/simsiam-hu-clip/run-000.safetensors", command(continued, *more))
    assert (continued / "maps").exists() and not (continued / "scores.parquet").exists()
    run(continued, *more)
    for name in ("scores.parquet", "neighbours.parquet", "training.parquet"):
        assert (continued / name).read_bytes() == (out / name).read_bytes()
    trained = json.loads((continued / "summary.json").read_text())["extractors"][0]["training"]
    assert trained[0]["resumed_from_epoch"] == 1
    assert not list(own.glob("workspaces/*"))


def test_a_folder_with_another_run_is_left_alone(finished: tuple[Path, str]) -> None:
    out, _ = finished
    before = (out / "summary.json").read_bytes()
    output = run(out, "--runs", "2", "--seed", "7", code=2)
    assert "holds another run" in output
    assert (out / "summary.json").read_bytes() == before


def test_the_report_is_made_again_from_the_folder_alone(
    finished: tuple[Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, _ = finished
    moved = tmp_path / "moved"
    shutil.copytree(out, moved)
    (moved / "report.md").unlink()
    monkeypatch.setenv("CBIRBENCH_CACHE", str(tmp_path / "empty"))
    result = CliRunner().invoke(app, ["report", str(moved)])
    assert result.exit_code == 0, result.output
    assert (moved / "report.md").read_text() == (out / "report.md").read_text()
    as_json = CliRunner().invoke(app, ["report", str(moved), "--json"])
    assert json.loads(as_json.stdout)["scores"][0]["extractor"] == "simsiam-hu-clip"


def test_no_pixels_leaves_the_scans_out(finished: tuple[Path, str], tmp_path: Path) -> None:
    out, _ = finished
    run(tmp_path / "bare", "--runs", "2", "--no-pixels", *NO_FIGURES)
    kept, _ = read_arrays(out / "slices/query.safetensors")
    left, _ = read_arrays(tmp_path / "bare/slices/query.safetensors")
    assert any(name.startswith("hu/") for name in kept)
    assert left and all(name.startswith("mask/") for name in left)


def test_the_released_codes_profile_names_what_it_computes(tmp_path: Path) -> None:
    run(tmp_path / "released", "--profile", "released-code", "--runs", "1", *NO_FIGURES, extractors="hog")
    scores = pd.read_parquet(tmp_path / "released/scores.parquet")
    assert set(scores["metric"]) == {"map@4", "knn-accuracy@5", "relevance-rank"}


def test_the_explanations_are_there_and_any_query_can_be_explained_later(
    finished: tuple[Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, _ = finished
    summary = json.loads((out / "summary.json").read_text())
    table = pd.read_parquet(out / "explanations.parquet")
    assert len(table) == 3 * 10 and set(table["masks"]) == {40} and set(table["problem"]) == {""}
    assert table["reliability"].between(0, 1).all()
    np.testing.assert_allclose(table["over_chance"], table["relevance-rank"] / table["chance"])
    scores = pd.read_parquet(out / "scores.parquet").set_index(["extractor", "run", "metric", "query_id"])
    for row in table.itertuples():
        value = scores.loc[(row.extractor, row.run, "relevance-rank", row.query_id), "value"]
        assert value == table.loc[row.Index, "relevance-rank"]
    attention = pd.read_parquet(out / "attention.parquet")
    assert {"liver", "soft tissue", "air or lung"} <= set(attention["tissue"])
    shares = attention.groupby(["extractor", "run", "query_id"])[["area", "importance", "top_tenth"]].sum()
    np.testing.assert_allclose(shares, 1.0)
    assert set(summary["explanations"]["controls"]) == {"random-map", "center-map"}
    figures = {figure["file"] for figure in summary["figures"]}
    assert len(figures) == 2 * 3 and all((out / file).read_bytes().startswith(b"\x89PNG") for file in figures)

    listed = pd.read_parquet(out / "neighbours.parquet").set_index(["extractor", "run", "query_id"])
    drawn = {figure["extractor"]: figure["query_id"] for figure in summary["figures"]}
    asked: list[str] = []
    real = scoring.masked_embed

    def counted(extractor: Any, relax: Any) -> Any:
        embed = real(extractor, relax)
        return lambda images: (asked.append(type(extractor).__name__), embed(images))[1]

    monkeypatch.setattr(scoring, "masked_embed", counted)
    for name, run_number, computed in (
        ("simsiam-hu-clip", 0, False),
        ("hog", 0, False),
        ("simsiam-hu-clip", 1, True),  # of which the run drew nothing: its retrieved slices are explained now
    ):
        picture = tmp_path / f"{name}-{run_number}.png"
        arguments = ["explain", str(out), "--query", drawn[name], "--extractor", name]
        arguments += ["--run", str(run_number), "--device", "cpu", "--out", str(picture)]
        result = CliRunner().invoke(app, arguments)
        assert result.exit_code == 0, result.output
        assert picture.read_bytes().startswith(b"\x89PNG")
        expected = listed.loc[(name, run_number, drawn[name])].sort_values("rank")["gallery_id"].tolist()
        assert re.findall(r"^ +\d  ([^,]+),", result.output, flags=re.MULTILINE) == expected
        assert bool(asked) is computed
