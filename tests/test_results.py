from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from cbirbench.errors import DataError, MissingError, UsageError
from cbirbench.query_sets import QuerySet
from cbirbench.results import (
    RunOutcome,
    check_free,
    claim,
    finish,
    neighbours_table,
    read_summary,
    read_table,
    release,
    scores_table,
    slices_table,
    training_table,
    write_outcome_arrays,
    write_slices,
    write_summary,
    write_tables,
)
from cbirbench.slices import CTSlice, Slices
from cbirbench.store import read_arrays, slices_from_arrays

COMMAND = "cbirbench run blobs --extractors brightness"


def ct_slices(split: str, count: int) -> Slices:
    mask = np.zeros((2, 4), np.uint8)
    mask[0, :2] = 1
    return Slices(
        tuple(
            CTSlice(
                hu=np.full((2, 4), i, np.int16),
                mask=mask if i % 2 else None,
                slice_id=f"{split}-{i}",
                patient_id=f"patient-{split}",
                study_id=f"study-{split}",
                volume_id=f"volume-{split}",
                z_index=10 + i,
                label=i % 2,
                spacing_mm=(0.7, 0.8),
            )
            for i in range(count)
        )
    )


GALLERY, QUERIES = ct_slices("g", 3), ct_slices("q", 2)
SETS = [QuerySet("blobs", GALLERY, QUERIES)]


def outcome(extractor: str = "brightness-mean", run: int = 0, **changed: Any) -> RunOutcome:
    given: dict[str, Any] = {
        "extractor": extractor,
        "run": run,
        "seed": None,
        "gallery_embeddings": np.ones((3, 5), np.float32),
        "query_embeddings": np.zeros((2, 5), np.float32),
        "neighbours": np.array([[2, 0], [1, 2]]),
        "distances": np.array([[0.25, 0.5], [0.0, 1.5]]),
        "values": {"map@5": np.array([0.5, 1.0]), "relevance-rank": np.array([np.nan, 0.25])},
        "maps": {},
        "similarities": {},
        "explained": [],
        "attention": [],
        "figures": [],
        "weights": {},
        "training": [],
        "cohort": "blobs",
    }
    return RunOutcome(**{**given, **changed})


TRAINED = outcome(
    "learned-offset",
    1,
    seed=11,
    values={"map@5": np.array([0.0, 0.1])},
    maps={"q-1": np.full((4, 4), 0.5, np.float32)},
    similarities={"q-1": np.linspace(0, 1, 9)},
    explained=[{"query_id": "q-1", "masks": 9, "problem": ""}],
    attention=[{"query_id": "q-1", "tissue": "fat", "target": False, "area": 0.25}],
    weights={"offset": np.array(0.5, np.float32), "steps": np.array(3)},
    training=[{"epoch": 1.0, "loss": -0.5}, {"epoch": 2.0, "loss": -0.75, "deviation": 0.1}],
)


def state(out: Path) -> Any:
    return json.loads((out / "run.json").read_text())


@pytest.mark.parametrize("prepare", [lambda out: None, Path.mkdir], ids=["new", "empty"])
def test_a_new_or_empty_folder_is_taken(tmp_path: Path, prepare: Callable[[Path], None]) -> None:
    out = tmp_path / "run"
    prepare(out)
    claim(out, "key", COMMAND)
    assert state(out) == {"key": "key", "command": COMMAND, "finished": False}


@pytest.mark.parametrize("finished", [False, True])
def test_the_same_command_takes_its_folder_again(tmp_path: Path, finished: bool) -> None:
    claim(tmp_path / "run", "key", COMMAND)
    if finished:
        finish(tmp_path / "run", "key", COMMAND)
        assert state(tmp_path / "run")["finished"] is True
    claim(tmp_path / "run", "key", COMMAND + " --quiet")
    assert state(tmp_path / "run") == {"key": "key", "command": COMMAND + " --quiet", "finished": False}


def test_another_runs_folder_is_left_alone(tmp_path: Path) -> None:
    claim(tmp_path, "key", COMMAND)
    before = state(tmp_path)
    with pytest.raises(UsageError) as caught:
        claim(tmp_path, "another key", "cbirbench run other")
    assert f"{tmp_path} holds another run that was not finished ({COMMAND})" in caught.value.problem
    assert "same command" in caught.value.remedy
    assert state(tmp_path) == before


def test_a_foreign_folder_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(UsageError, match=r"is not empty and holds no run.*new or an empty"):
        claim(tmp_path, "key", COMMAND)
    assert [file.name for file in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("")
    with pytest.raises(UsageError, match=r"--out .* is a file\. Name a folder\."):
        claim(tmp_path / "out", "key", COMMAND)
    with pytest.raises(MissingError, match="part of that path is a file"):
        claim(tmp_path / "out" / "run", "key", COMMAND)


@pytest.mark.parametrize("content", ["{", "[1, 2]", "3", "\0"])
def test_a_damaged_state_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "run.json").write_text(content)
    with pytest.raises(DataError, match=r"run\.json is damaged.*Remove the folder"):
        claim(tmp_path, "key", COMMAND)


def test_the_columns_of_the_slices() -> None:
    table = slices_table(SETS)
    assert list(table.columns) == [
        "cohort",
        "slice_id",
        "split",
        "patient_id",
        "volume_id",
        "z_index",
        "label",
        "mask_fraction",
    ]
    assert table["split"].tolist() == ["gallery"] * 3 + ["query"] * 2
    assert table["slice_id"].tolist() == GALLERY.ids + QUERIES.ids
    assert table["z_index"].tolist() == [10, 11, 12, 10, 11]
    np.testing.assert_array_equal(table["mask_fraction"], [np.nan, 0.25, np.nan, np.nan, 0.25])


def test_the_columns_of_the_scores() -> None:
    table = scores_table("blobs", SETS, [outcome(), TRAINED])
    assert list(table.columns) == [
        "benchmark",
        "cohort",
        "extractor",
        "run",
        "metric",
        "query_id",
        "patient_id",
        "value",
    ]
    assert len(table) == 6
    assert set(table["benchmark"]) == {"blobs"}
    assert pd.api.types.is_integer_dtype(table["run"])
    assert table["value"].dtype == np.float64
    assert table.iloc[1].tolist() == [
        "blobs",
        "blobs",
        "brightness-mean",
        0,
        "map@5",
        "q-1",
        "patient-q",
        1.0,
    ]
    assert table["value"].isna().tolist() == [False, False, True, False, False, False]
    assert table.iloc[4].tolist() == ["blobs", "blobs", "learned-offset", 1, "map@5", "q-0", "patient-q", 0.0]


def test_the_columns_of_the_neighbours() -> None:
    table = neighbours_table(SETS, [outcome(), TRAINED])
    assert list(table.columns) == [
        "cohort",
        "extractor",
        "run",
        "query_id",
        "rank",
        "gallery_id",
        "distance",
    ]
    assert table.iloc[:4].to_numpy().tolist() == [
        ["blobs", "brightness-mean", 0, "q-0", 1, "g-2", 0.25],
        ["blobs", "brightness-mean", 0, "q-0", 2, "g-0", 0.5],
        ["blobs", "brightness-mean", 0, "q-1", 1, "g-1", 0.0],
        ["blobs", "brightness-mean", 0, "q-1", 2, "g-2", 1.5],
    ]
    assert set(table["extractor"][4:]) == {"learned-offset"}
    assert pd.api.types.is_integer_dtype(table["rank"])


def test_the_training_has_one_row_an_epoch() -> None:
    table = training_table([outcome(), TRAINED])
    assert table[["extractor", "run", "epoch", "loss"]].to_numpy().tolist() == [
        ["learned-offset", 1, 1.0, -0.5],
        ["learned-offset", 1, 2.0, -0.75],
    ]
    assert len(training_table([outcome()])) == 0


def test_tables_come_back_from_their_files(tmp_path: Path) -> None:
    controls = [{"control": "center-map", "metric": "relevance-rank", "query_id": "q-1", "value": 0.5}]
    write_tables(tmp_path, "blobs", SETS, [outcome(), TRAINED], controls)
    assert sorted(file.name for file in tmp_path.iterdir()) == [
        "attention.parquet",
        "controls.parquet",
        "explanations.parquet",
        "neighbours.parquet",
        "scores.parquet",
        "slices.parquet",
        "training.parquet",
    ]
    scores = scores_table("blobs", SETS, [outcome(), TRAINED])
    pd.testing.assert_frame_equal(read_table(tmp_path, "scores.parquet"), scores, check_dtype=False)
    slices = slices_table(SETS)
    pd.testing.assert_frame_equal(read_table(tmp_path, "slices.parquet"), slices, check_dtype=False)


def test_tables_on_explanations_say_whose_they_are(tmp_path: Path) -> None:
    controls = [{"control": "center-map", "metric": "relevance-rank", "query_id": "q-1", "value": 0.5}]
    write_tables(tmp_path, "blobs", SETS, [outcome(), TRAINED], controls)
    of_run = {"cohort": "blobs", "extractor": "learned-offset", "run": 1}
    assert read_table(tmp_path, "explanations.parquet").to_dict("records") == [
        {**of_run, **TRAINED.explained[0]}
    ]
    assert read_table(tmp_path, "attention.parquet").to_dict("records") == [
        {**of_run, **TRAINED.attention[0]}
    ]
    assert read_table(tmp_path, "controls.parquet").to_dict("records") == controls


def test_what_a_run_did_not_do_has_no_table(tmp_path: Path) -> None:
    write_tables(tmp_path, "blobs", SETS, [outcome()])
    written = {file.name for file in tmp_path.iterdir()}
    assert written == {"neighbours.parquet", "scores.parquet", "slices.parquet"}


def test_what_is_written_is_let_go_of() -> None:
    kept = TRAINED.without_arrays()
    assert not (kept.maps or kept.similarities or kept.weights)
    assert kept.gallery_embeddings.size == kept.query_embeddings.size == 0
    assert (kept.explained, kept.attention, kept.values) == (
        TRAINED.explained,
        TRAINED.attention,
        TRAINED.values,
    )


def test_arrays_of_a_run(tmp_path: Path) -> None:
    write_outcome_arrays(tmp_path, outcome())
    write_outcome_arrays(tmp_path, TRAINED)
    files = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file())
    assert files == [
        "embeddings/brightness-mean/run-000.safetensors",
        "embeddings/learned-offset/run-001.safetensors",
        "maps/learned-offset/run-001.safetensors",
        "similarities/learned-offset/run-001.safetensors",
        "weights/learned-offset/run-001.safetensors",
    ]
    embeddings, label = read_arrays(tmp_path / files[1])
    assert embeddings["gallery"].shape == (3, 5)
    assert embeddings["query"].shape == (2, 5)
    assert label == {"extractor": "learned-offset", "run": 1, "seed": 11}
    maps, _ = read_arrays(tmp_path / files[2])
    np.testing.assert_array_equal(maps["q-1"], TRAINED.maps["q-1"])
    similarities, _ = read_arrays(tmp_path / files[3])
    np.testing.assert_array_equal(similarities["q-1"], TRAINED.similarities["q-1"])
    weights, _ = read_arrays(tmp_path / files[4])
    assert weights["steps"].shape == weights["offset"].shape == ()
    assert weights["steps"] == 3


@pytest.mark.parametrize("pixels", [True, False])
def test_scans_are_in_the_folder_only_with_pixels(tmp_path: Path, pixels: bool) -> None:
    write_slices(tmp_path, SETS, pixels=pixels)
    arrays, metadata = read_arrays(tmp_path / "slices" / "gallery.safetensors")
    assert metadata["pixels"] is pixels
    assert "mask/g-1" in arrays
    assert ("hu/g-1" in arrays) is pixels
    if pixels:
        assert slices_from_arrays(arrays, metadata).fingerprint() == GALLERY.fingerprint()
        arrays, metadata = read_arrays(tmp_path / "slices" / "query.safetensors")
        assert slices_from_arrays(arrays, metadata).fingerprint() == QUERIES.fingerprint()


def test_the_summary_comes_back(tmp_path: Path) -> None:
    write_summary(tmp_path, json.dumps({"profile": "paper"}))
    assert read_summary(tmp_path) == {"profile": "paper"}


def test_a_folder_without_a_finished_run(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="holds no run of cbirbench"):
        read_summary(tmp_path)
    claim(tmp_path, "key", COMMAND)
    with pytest.raises(UsageError, match=r"not finished.*same command has continued it"):
        read_summary(tmp_path)


def test_a_damaged_summary_is_named(tmp_path: Path) -> None:
    write_summary(tmp_path, '{"profile": ')
    with pytest.raises(DataError, match=r"summary\.json is damaged"):
        read_summary(tmp_path)


@pytest.mark.parametrize("content", [None, b"", b"PAR1 and then nothing"])
def test_a_missing_or_damaged_table_is_named(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "scores.parquet").write_bytes(content)
    with pytest.raises(DataError) as caught:
        read_table(tmp_path, "scores.parquet")
    fault = "is missing" if content is None else "cannot be read"
    assert f"scores.parquet {fault}" in caught.value.problem
    assert "same command again with the same --out" in caught.value.remedy


def test_a_folder_is_checked_without_being_taken(tmp_path: Path) -> None:
    check_free(tmp_path / "new", "key")
    assert not (tmp_path / "new").exists()
    claim(tmp_path / "taken", "key", COMMAND)
    check_free(tmp_path / "taken", "key")
    with pytest.raises(UsageError, match="holds another run"):
        check_free(tmp_path / "taken", "another key")


def test_what_a_run_that_was_cut_off_left_is_released_and_nothing_else(tmp_path: Path) -> None:
    for name in ("begun", "used", "whole"):
        claim(tmp_path / name, "key", COMMAND)
        (tmp_path / name / "maps" / "hog").mkdir(parents=True)
        (tmp_path / name / "maps" / "hog" / "run-000.safetensors").write_bytes(b"half of a run")
        (tmp_path / name / "scores.parquet").write_bytes(b"scores")
    (tmp_path / "used" / "notes.txt").write_text("mine")
    finish(tmp_path / "whole", "key", COMMAND)
    for name in ("begun", "used", "whole", "never"):
        release(tmp_path / name)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["used", "whole"]
    assert sorted(path.name for path in (tmp_path / "used").iterdir()) == ["notes.txt", "run.json"]
    assert sorted(path.name for path in (tmp_path / "whole").iterdir()) == [
        "maps",
        "run.json",
        "scores.parquet",
    ]


def test_a_missing_table_is_called_missing(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"scores\.parquet is missing"):
        read_table(tmp_path, "scores.parquet")
