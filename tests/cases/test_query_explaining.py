from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from quiet import Quiet

from cbirbench import retrieval_figures
from cbirbench.cases.query_explaining import QueryRequest, explain_query, relax_options
from cbirbench.errors import DataError, MissingError, UsageError
from cbirbench.explain.native import to_native
from cbirbench.plan import Request
from cbirbench.planning import build
from cbirbench.runner import execute
from cbirbench.store import Store, read_arrays

pytestmark = pytest.mark.usefixtures("fake_plugins")

BOTH = ("learned-offset", "brightness-mean")


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    place = tmp_path / "here"
    place.mkdir()
    monkeypatch.chdir(place)
    return place


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("kept")


@pytest.fixture
def folder(kept: Path, tmp_path: Path, store: Store) -> Path:
    """A run and its cache, made once and copied for each test."""
    if not (kept / "run").is_dir():
        make_run(kept / "run", Store(kept / "cache"))
    shutil.copytree(kept / "cache", store.folder)
    return Path(shutil.copytree(kept / "run", tmp_path / "run"))


def make_run(out: Path, store: Store) -> None:
    """Six gallery slices, six queries of which three show the organ; only one neighbour of each is kept."""
    settings = ("blobs.scans=3", "learned.epochs=2", "relax.masks=20", "relax.grid=3", "relax.batch_size=8")
    request = Request(
        "blobs",
        BOTH,
        ("purity@1", "coverage"),
        runs=2,
        explain_queries=(),
        device="cpu",
        assignments=settings,
    )
    execute(build(request), out, store, Quiet(), "cbirbench run blobs")


class Embedded:
    """Counts the images that extractors embed, and remembers the sizes of the batches."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        import cbirbench_fake

        self.sizes: list[int] = []
        plain = cbirbench_fake.BrightnessMean.embed

        def embed(extractor: Any, images: torch.Tensor) -> torch.Tensor:
            self.sizes.append(len(images))
            found: torch.Tensor = plain(extractor, images)
            return found

        monkeypatch.setattr(cbirbench_fake.BrightnessMean, "embed", embed)


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures are empty files, for tests that look at something else: to draw takes longest."""
    monkeypatch.setattr(
        retrieval_figures, "draw_explained_retrieval", lambda query, others, path, **_: path.touch()
    )


def explained(folder: Path, store: Store, query: str = "q0-1", **changed: Any) -> list[str]:
    return explain_query(QueryRequest(folder, query, device="cpu", **changed), store, Quiet())


def nearest(folder: Path, name: str, run: int, query: str, count: int) -> list[tuple[str, float]]:
    """Ids and distances anew, from the run's files."""
    arrays, _ = read_arrays(folder / f"embeddings/{name}/run-{run:03d}.safetensors")
    slices = pd.read_parquet(folder / "slices.parquet")
    gallery = slices.loc[slices["split"] == "gallery", "slice_id"].tolist()
    queries = slices.loc[slices["split"] == "query", "slice_id"].tolist()
    difference = arrays["gallery"].astype(float) - arrays["query"][queries.index(query)].astype(float)
    distances = np.sqrt((difference**2).sum(axis=1))
    order = sorted(range(len(gallery)), key=lambda i: (distances[i], gallery[i]))[:count]
    return [(gallery[i], distances[i]) for i in order]


@pytest.mark.parametrize(
    ("name", "run"), [("learned-offset", 0), ("learned-offset", 1), ("brightness-mean", 0)]
)
def test_says_what_is_retrieved_how_far_and_how_sure_the_maps_are(
    folder: Path, store: Store, here: Path, name: str, run: int
) -> None:
    lines = explained(folder, store, extractor=name, run=run, top=3)
    assert lines[0].startswith("query  q0-1, label 1: reliability ")
    assert lines[0].endswith(", 20 masks")
    for line, place, (slice_id, distance) in zip(
        lines[1:4], (1, 2, 3), nearest(folder, name, run, "q0-1", 3), strict=True
    ):
        verdict = "same label" if slice_id.endswith("-1") else "OTHER label"
        assert line.startswith(f"{place:>5}  {slice_id}, distance {distance:.4g}, {verdict}: reliability ")
    assert lines[4:] == [f"Wrote {name}-q0-1.png"]
    assert (here / f"{name}-q0-1.png").read_bytes().startswith(b"\x89PNG")


def test_a_query_without_the_organ_is_explained_as_well(folder: Path, store: Store) -> None:
    lines = explained(folder, store, query="q1-0", top=1)
    assert lines[0].startswith("query  q1-0, label 0: reliability ")


def test_the_first_extractor_is_the_default_and_an_alias_a_name(folder: Path, store: Store) -> None:
    assert explained(folder, store, top=1)[-1] == "Wrote learned-offset-q0-1.png"
    assert explained(folder, store, top=1, extractor="brightness")[-1] == "Wrote brightness-mean-q0-1.png"


@pytest.mark.parametrize("ending", ["png", "svg", "pdf"])
def test_the_figure_goes_where_it_is_wanted(
    folder: Path, store: Store, tmp_path: Path, here: Path, ending: str
) -> None:
    out = tmp_path / "new" / f"figure.{ending}"
    assert explained(folder, store, out=out, uncertainty=True)[-1] == f"Wrote {out}"
    assert out.stat().st_size > 1000
    assert list(here.iterdir()) == []


def test_the_figures_title_has_the_score_of_the_slices_shown(
    folder: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    titles = []
    monkeypatch.setattr(
        retrieval_figures, "draw_explained_retrieval", lambda *_, title, **__: titles.append(title)
    )
    explained(folder, store, top=2)
    right = [name.endswith("-1") for name, _ in nearest(folder, "learned-offset", 0, "q0-1", 2)]
    score = 100 * (right[0] + sum(right) / 2) / 2
    assert titles == [f"q0-1 (MAP@2 {score:.0f} %)\nblobs, learned-offset"]


@pytest.mark.usefixtures("undrawn")
def test_a_reliability_that_is_not_reached_is_said(folder: Path, store: Store) -> None:
    lines = explained(folder, store, until_reliable=0.999, assignments=("relax.masks=20",))
    (said,) = [line for line in lines if "below a reliability of 0.999 with 20 masks" in line]
    assert said.endswith("--set relax.masks=N allows more.")
    assert not any("below a reliability" in line for line in explained(folder, store))


@pytest.mark.usefixtures("undrawn")
def test_arrays_hold_the_maps_at_native_size(folder: Path, store: Store, tmp_path: Path) -> None:
    file = tmp_path / "maps.safetensors"
    lines = explained(folder, store, top=2, arrays=file)
    assert lines[-2:] == [f"Wrote {file}", "Wrote learned-offset-q0-1.png"]
    arrays, metadata = read_arrays(file)
    shown = ["q0-1", *(name for name, _ in nearest(folder, "learned-offset", 0, "q0-1", 2))]
    assert sorted(arrays) == sorted(
        f"{kind}/{name}" for kind in ("importance", "uncertainty") for name in shown
    )
    assert all(array.shape == (12, 10) for array in arrays.values())
    kept, _ = read_arrays(folder / "maps/learned-offset/run-000.safetensors")
    np.testing.assert_array_equal(arrays["importance/q0-1"], to_native(kept["q0-1"], (12, 10)))
    assert metadata["relax"]["masks"] == 20


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize(
    ("name", "run"), [("learned-offset", 0), ("learned-offset", 1), ("brightness-mean", 0)]
)
def test_what_the_run_explained_is_not_computed_again(
    folder: Path, store: Store, monkeypatch: pytest.MonkeyPatch, name: str, run: int
) -> None:
    counted = Embedded(monkeypatch)
    explained(folder, store, extractor=name, run=run, top=1)
    # Whether it embeds the query as it did; then the one retrieved slice, whole and under 20 masks.
    assert counted.sizes == [1, 1, 8, 8, 4]
    counted.sizes.clear()
    explained(folder, store, extractor=name, run=run, top=1)
    assert counted.sizes == [1]
    explained(folder, store, query="q1-1", extractor=name, run=run, top=1, assignments=("relax.masks=24",))
    assert sum(counted.sizes[1:]) > 8, "more masks were asked for"


@pytest.mark.usefixtures("undrawn")
def test_another_cache_gives_the_same(folder: Path, store: Store, tmp_path: Path) -> None:
    one, other = tmp_path / "one.safetensors", tmp_path / "other.safetensors"
    first = explained(folder, store, arrays=one)
    shutil.rmtree(store.folder)
    second = explained(folder, Store(tmp_path / "elsewhere"), arrays=other)
    assert [line for line in first if "Wrote" not in line] == [line for line in second if "Wrote" not in line]
    for name, array in read_arrays(one)[0].items():
        np.testing.assert_array_equal(read_arrays(other)[0][name], array)


@pytest.mark.usefixtures("undrawn")
def test_weights_of_another_training_do_not_share_the_runs_cache(
    folder: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run whose training would be made otherwise today: its maps are its weights', not its seed's."""
    summary = json.loads((folder / "summary.json").read_text())
    for record in summary["extractors"][0]["training"]:
        record["weights_key"] = "of another version"
    (folder / "summary.json").write_text(json.dumps(summary))
    counted = Embedded(monkeypatch)
    explained(folder, store, top=1)
    assert sum(counted.sizes) == 1 + 2 * (1 + 20)
    explained(folder, store, top=1)
    assert sum(counted.sizes) == 2 + 2 * (1 + 20), "it has a place of its own in the cache"
    explained(folder, store, top=1, run=1)
    assert sum(counted.sizes) == 3 + 4 * (1 + 20), "and so has every training run"


@pytest.mark.usefixtures("undrawn")
def test_more_neighbours_than_the_run_kept_are_shown(folder: Path, store: Store) -> None:
    assert pd.read_parquet(folder / "neighbours.parquet")["rank"].max() == 1
    assert len(explained(folder, store, top=6)) == 1 + 6 + 1
    with pytest.raises(UsageError) as caught:
        explained(folder, store, top=7)
    assert "--top 7 slices cannot be shown: the gallery has 6" in caught.value.problem
    assert "from 1 to 6" in caught.value.remedy


# Options ------------------------------------------------------------------------------------------------


def test_relax_is_as_in_the_run_but_for_what_is_set(folder: Path) -> None:
    summary = json.loads((folder / "summary.json").read_text())
    plain = relax_options(summary, (), None, "cpu")
    assert plain.model_dump() == summary["relax"]
    assignments = ("relax.estimator=regression", "relax.masks=40", "relax.precision=float32")
    changed = relax_options(summary, assignments, 0.8, "cpu")
    assert changed.model_dump() == {
        **summary["relax"],
        "until_reliable": 0.8,
        "estimator": "regression",
        "masks": 40,
        "precision": "float32",
    }


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        (
            {"assignments": ("brightness.window=0,1",)},
            "--set brightness.window=0,1: this command changes options of relax only",
        ),
        ({"assignments": ("run.distance=cosine",)}, "options of relax only"),
        ({"assignments": ("relax.mask=3",)}, "Did you mean 'masks'?"),
        ({"assignments": ("relax.masks=few",)}, "relax.masks does not take 'few'"),
        ({"assignments": ("relax.masks=0",)}, "relax.masks does not take '0'"),
        ({"assignments": ("relax.grid=13",)}, "grid of 13 cells over images of 12 pixels"),
        ({"assignments": ("masks=3",)}, "NAME.OPTION=VALUE"),
        ({"assignments": ("relax.antithetic=yes", "relax.keep=.4")}, "antithetic masks keep half"),
        ({"until_reliable": 2.0}, "relax.until_reliable does not take 2.0"),
        ({"query": "q0-2"}, "No query is called 'q0-2'. Queries are slices such as q0-"),
        ({"query": "g0-1"}, "No query is called 'g0-1'"),
        ({"extractor": "hog"}, "has no extractor 'hog'"),
        ({"run": 2}, "learned-offset has no run 2"),
        ({"extractor": "brightness", "run": 1}, "brightness-mean has no run 1"),
        ({"out": Path("figure.jpg")}, "figure.jpg has the ending '.jpg'"),
        ({"arrays": Path("maps.npz")}, "--arrays writes a .safetensors file, got maps.npz. Name it maps.saf"),
        ({"top": 0}, "--top 0 slices cannot be shown"),
    ],
)
def test_a_mistake_is_a_usage_error_and_writes_nothing(
    folder: Path, store: Store, here: Path, changed: dict[str, Any], says: str
) -> None:
    with pytest.raises(UsageError) as caught:
        explained(folder, store, **changed)
    assert says in str(caught.value)
    assert list(here.iterdir()) == []


# An extractor that is another now -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "apart"),
    [
        (lambda vectors: vectors * 1.01, "0.01"),
        (lambda vectors: vectors[:, :-1], "inf"),
        (lambda vectors: vectors + 1, ""),
    ],
)
def test_an_extractor_that_no_longer_embeds_as_it_did_is_refused(
    folder: Path, store: Store, here: Path, monkeypatch: pytest.MonkeyPatch, change: Any, apart: str
) -> None:
    import cbirbench_fake

    plain = cbirbench_fake.BrightnessMean.embed
    monkeypatch.setattr(
        cbirbench_fake.BrightnessMean, "embed", lambda self, images: change(plain(self, images))
    )
    with pytest.raises(DataError) as caught:
        explained(folder, store, extractor="brightness")
    assert "brightness-mean no longer embeds q0-1 as it did" in caught.value.problem
    assert f"(relative distance {apart}" in caught.value.problem
    versions = json.loads((folder / "summary.json").read_text())["versions"]
    assert f"torch {versions['torch']}" in caught.value.remedy
    assert list(here.iterdir()) == []


@pytest.mark.usefixtures("undrawn")
def test_a_rounding_error_is_no_other_extractor(
    folder: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    import cbirbench_fake

    plain = cbirbench_fake.BrightnessMean.embed
    monkeypatch.setattr(
        cbirbench_fake.BrightnessMean, "embed", lambda self, images: plain(self, images) * (1 + 1e-5)
    )
    assert explained(folder, store, extractor="brightness", top=1)


@pytest.mark.usefixtures("undrawn")
def test_other_weights_are_refused(folder: Path, store: Store) -> None:
    one, other = (folder / f"weights/learned-offset/run-{run:03d}.safetensors" for run in (0, 1))
    shutil.copy(other, one)
    with pytest.raises(DataError, match="learned-offset no longer embeds q0-1"):
        explained(folder, store)
    assert explained(folder, store, run=1, top=1)


def test_missing_embeddings_are_named(folder: Path, store: Store) -> None:
    shutil.rmtree(folder / "embeddings")
    with pytest.raises(DataError, match=r"embeddings/learned-offset/run-000\.safetensors is missing"):
        explained(folder, store)


def test_a_gpu_that_is_not_there(folder: Path, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(MissingError, match="sees no CUDA device"):
        explain_query(QueryRequest(folder, "q0-1", device="cuda"), store, Quiet())


def test_a_place_that_cannot_be_written_to(folder: Path, store: Store, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(MissingError, match="part of that path is a file"):
        explained(folder, store, top=1, out=tmp_path / "file" / "figure.png")
    with pytest.raises(MissingError, match="part of that path is a file"):
        explained(folder, store, top=1, arrays=tmp_path / "file" / "maps.safetensors")
