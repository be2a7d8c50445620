from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from quiet import Quiet

from cbirbench import results
from cbirbench.cases.reopening import FinishedRun, open_run
from cbirbench.errors import DataError, UsageError
from cbirbench.extraction import embed_slices
from cbirbench.interfaces import Trainable
from cbirbench.plan import Request
from cbirbench.planning import build
from cbirbench.runner import execute
from cbirbench.store import Store, read_arrays, write_arrays

pytestmark = pytest.mark.usefixtures("fake_plugins")


def finished(tmp_path: Path, *assignments: str, pixels: bool = True) -> Path:
    settings = ("learned.epochs=2", "brightness.window=-100,250", *assignments)
    request = Request(
        "blobs",
        ("learned-offset", "brightness"),
        ("purity@1",),
        runs=2,
        device="cpu",
        assignments=settings,
        pixels=pixels,
    )
    out = tmp_path / "run"
    execute(build(request), out, Store(tmp_path / "cache"), Quiet(), "cbirbench run blobs")
    return out


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("kept")


@pytest.fixture
def folder(kept: Path, tmp_path: Path) -> Path:
    """A run, made once and copied for each test."""
    if not (kept / "run").is_dir():
        finished(kept)
    return Path(shutil.copytree(kept / "run", tmp_path / "run"))


def change_summary(folder: Path, change: Callable[[dict[str, Any]], None]) -> FinishedRun:
    summary = json.loads((folder / "summary.json").read_text())
    change(summary)
    (folder / "summary.json").write_text(json.dumps(summary))
    return open_run(folder)


def vectors_of(run: FinishedRun, name: str, number: int) -> list[Any]:
    _, extractor = run.extractor(name, number, "cpu")
    return [
        embed_slices(extractor, slices, batch_size=32, device="cpu", name=name, advance=lambda done: None)
        for slices in (run.gallery, run.queries)
    ]


def test_the_slices_are_those_of_the_run(folder: Path) -> None:
    run = open_run(folder)
    request = Request("blobs", ("brightness",), ("purity@1",), device="cpu")
    plan = build(request)
    items = [item for source in plan.sources for item in plan.benchmark.read(source)]
    assert [*run.gallery.ids, *run.queries.ids] == [item.slice_id for item in items]
    for found, item in zip([*run.gallery, *run.queries], items, strict=True):
        np.testing.assert_array_equal(found.hu, item.hu)
    assert run.folder == folder and run.summary["profile"] == "paper"


@pytest.mark.parametrize(
    ("name", "number"), [("brightness-mean", 0), ("learned-offset", 0), ("learned-offset", 1)]
)
def test_extractors_embed_as_they_did(folder: Path, name: str, number: int) -> None:
    kept, _ = read_arrays(folder / f"embeddings/{name}/run-{number:03d}.safetensors")
    gallery, queries = vectors_of(open_run(folder), name, number)
    np.testing.assert_array_equal(gallery, kept["gallery"])
    np.testing.assert_array_equal(queries, kept["query"])


def test_each_training_run_has_its_own_weights(folder: Path) -> None:
    run = open_run(folder)
    first, second = (vectors_of(run, "learned-offset", number)[1] for number in (0, 1))
    assert not np.array_equal(first, second)


def test_a_contender_is_as_it_was_in_the_run(tmp_path: Path) -> None:
    run = open_run(finished(tmp_path, "mirroring.chance=1"))
    contender, extractor = run.extractor("learned-offset", 0, "cpu")
    assert isinstance(extractor, Trainable) and extractor.epochs == 2
    assert extractor.fingerprint() == {"views": {"chance": 1.0}}
    assert [used.name for used in contender.augmentations] == ["mirroring"]
    assert {name: chosen.model_dump() for name, chosen in contender.augmentation_options.items()} == {
        "mirroring": {"chance": 1.0}
    }
    assert (contender.trained, contender.runs, contender.context.device) == (True, 2, "cpu")
    plain, _ = run.extractor("brightness-mean", 0, "cpu")
    assert plain.options.model_dump()["window"] == (-100, 250)
    assert (plain.trained, plain.runs, plain.alias) == (False, 1, "brightness")


def test_an_alias_is_a_name(folder: Path) -> None:
    run = open_run(folder)
    assert run.entry("brightness") is run.entry("brightness-mean")
    assert run.extractor("brightness", 0, "cpu")[0].name == "brightness-mean"
    assert run.entry() is run.entry("learned-offset"), "the first, where none is named"


def test_an_extractor_is_made_once_and_given_its_weights(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import cbirbench_fake

    made = []
    plain = cbirbench_fake.LearnedOffset.__init__

    def counted(self: Any, *arguments: Any) -> None:
        made.append(self)
        plain(self, *arguments)

    monkeypatch.setattr(cbirbench_fake.LearnedOffset, "__init__", counted)
    _, extractor = open_run(folder).extractor("learned-offset", 1, "cpu")
    assert made == [extractor]
    weights, _ = read_arrays(folder / "weights/learned-offset/run-001.safetensors")
    assert isinstance(extractor, Trainable)
    assert float(extractor.weights()["offset"]) == float(weights["offset"]) > 0


def test_a_reopened_extractor_holds_what_the_run_recorded(folder: Path, tmp_path: Path) -> None:
    run = open_run(folder)
    kept, _ = read_arrays(folder / "embeddings/learned-offset/run-001.safetensors")
    reopened = run.reopened("learned-offset", 1, "cpu", position=2)
    np.testing.assert_array_equal(reopened.gallery_vectors, kept["gallery"])
    np.testing.assert_array_equal(reopened.query_vectors, kept["query"])
    embedded = reopened.embed(run.queries, Store(tmp_path / "another cache"), Quiet(), "embedding")
    np.testing.assert_array_equal(embedded, kept["query"])


def test_an_extractor_that_embeds_otherwise_is_not_reopened(folder: Path) -> None:
    one, other = (folder / f"weights/learned-offset/run-{run:03d}.safetensors" for run in (0, 1))
    shutil.copy(other, one)
    with pytest.raises(DataError, match="learned-offset no longer embeds q0-0 as it did"):
        open_run(folder).reopened("learned-offset", 0, "cpu")


def test_embeddings_come_from_the_cache_the_second_time(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import cbirbench_fake

    store, run = Store(tmp_path / "another cache"), open_run(folder)
    first = run.reopened("brightness", 0, "cpu")
    found = first.embed(run.gallery, store, Quiet(), "embedding")

    def fails(*_: Any) -> None:
        raise AssertionError

    monkeypatch.setattr(cbirbench_fake.BrightnessMean, "embed", fails)
    np.testing.assert_array_equal(first.embed(run.gallery, store, Quiet(), "embedding"), found)


def test_an_extractor_that_took_no_part(folder: Path) -> None:
    with pytest.raises(UsageError) as caught:
        open_run(folder).entry("brightnes")
    assert f"{folder} has no extractor 'brightnes'" in caught.value.problem
    assert "Did you mean 'brightness-mean'? It has: learned-offset, brightness-mean." in caught.value.remedy


@pytest.mark.parametrize(("name", "number", "last"), [("learned-offset", 2, 1), ("brightness-mean", 1, 0)])
def test_a_training_run_that_was_not_made(folder: Path, name: str, number: int, last: int) -> None:
    run = open_run(folder)
    for beyond in (number, -1):
        with pytest.raises(UsageError) as caught:
            run.extractor(name, beyond, "cpu")
        assert f"{name} has no run {beyond}" in caught.value.problem
        assert f"from 0 to {last}" in caught.value.remedy


@pytest.mark.parametrize("file", ["slices/gallery.safetensors", "slices/query.safetensors"])
@pytest.mark.parametrize("content", [None, b"half of a file"])
def test_missing_or_damaged_slices_are_named(folder: Path, file: str, content: bytes | None) -> None:
    (folder / file).unlink()
    if content is not None:
        (folder / file).write_bytes(content)
    with pytest.raises(DataError, match="is missing" if content is None else "cannot be read") as caught:
        open_run(folder)
    assert file in caught.value.problem and "same command again" in caught.value.remedy


def test_slices_of_another_program_are_named(folder: Path) -> None:
    file = folder / "slices/query.safetensors"
    arrays, _ = read_arrays(file)
    write_arrays(file, arrays, {"rows": []})
    with pytest.raises(DataError, match=r"query\.safetensors lacks 'slices'"):
        open_run(folder)


def test_missing_weights_are_named(folder: Path) -> None:
    (folder / "weights/learned-offset/run-001.safetensors").unlink()
    run = open_run(folder)
    run.extractor("learned-offset", 0, "cpu")
    with pytest.raises(DataError, match=r"weights/learned-offset/run-001\.safetensors is missing"):
        run.extractor("learned-offset", 1, "cpu")


def test_a_run_without_pixels_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        open_run(finished(tmp_path, pixels=False))
    assert "were not kept (--no-pixels)" in caught.value.problem
    assert "without --no-pixels" in caught.value.remedy


def test_a_folder_without_a_finished_run(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="holds no run of cbirbench"):
        open_run(tmp_path)
    results.claim(tmp_path / "begun", "key", "cbirbench run")
    with pytest.raises(UsageError, match="not finished"):
        open_run(tmp_path / "begun")


def test_a_run_of_before_there_were_variants(folder: Path) -> None:
    def forget(summary: dict[str, Any]) -> None:
        for item in summary["extractors"]:
            del item["plugin"]

    contender, _ = change_summary(folder, forget).extractor("brightness", 0, "cpu")
    assert (contender.name, contender.variant) == ("brightness-mean", "")


def test_a_plugin_that_is_gone_or_has_other_options_now(folder: Path) -> None:
    def rename(summary: dict[str, Any]) -> None:
        summary["extractors"][1]["plugin"] = "brightness-median"

    def option(summary: dict[str, Any]) -> None:
        summary["extractors"][0]["options"]["tempo"] = 3

    run = change_summary(folder, rename)
    with pytest.raises(UsageError, match=r"no extractor called 'brightness-median'.*pip install"):
        run.extractor("brightness", 0, "cpu")
    run = change_summary(folder, option)
    with pytest.raises(UsageError, match="tempo"):
        run.extractor("learned-offset", 0, "cpu")
