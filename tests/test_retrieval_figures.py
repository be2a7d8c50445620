from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cbirbench import retrieval_figures
from cbirbench.errors import UsageError
from cbirbench.explain.relax import Explanation, RelaxOptions
from cbirbench.ranking import Ranking
from cbirbench.retrieval_figures import (
    Captioned,
    Chosen,
    asked_for,
    choose,
    draw_retrieval,
    figure_file,
    map_note,
    neighbours_of,
    precision_of_each,
)
from cbirbench.slices import CTSlice, Slices


def a_slice(name: str, label: int = 1, organ: bool = True, **changed: Any) -> CTSlice:
    mask = np.zeros((12, 10), np.uint8)
    mask[3:8, 2:7] = organ
    hu = np.random.default_rng(list(name.encode())).integers(-200, 300, mask.shape).astype(np.int16)
    return CTSlice(hu, mask, name, "p", "s", "v", 0, label, **changed)


def slices(*names: str, **changed: Any) -> Slices:
    return Slices(tuple(a_slice(name, **changed) for name in names))


def ranking_of(neighbours: list[list[int]]) -> Ranking:
    places = np.array(neighbours)
    return Ranking(places, np.linspace(0, 1, places.size).reshape(places.shape))


def explanation(**changed: Any) -> Explanation:
    given: dict[str, Any] = {
        "importance": np.random.default_rng(0).random((12, 12), dtype=np.float32),
        "uncertainty": np.random.default_rng(1).random((12, 12), dtype=np.float32),
        "reliability": 0.754,
        "similarities": np.linspace(0, 1, 40),
    }
    return Explanation(**{**given, **changed})


# Which queries ------------------------------------------------------------------------------------------


def test_the_precision_of_each_query_by_hand() -> None:
    gallery = Slices((a_slice("g0", 0), a_slice("g1", 1), a_slice("g2", 1)))
    queries = Slices((a_slice("q0", 1), a_slice("q1", 0)))
    found = precision_of_each(queries, gallery, ranking_of([[1, 0, 2], [2, 1, 0]]), 3)
    assert found.tolist() == pytest.approx([(1 + 1 / 2 + 2 / 3) / 3, (0 + 0 + 1 / 3) / 3])
    assert precision_of_each(queries, gallery, ranking_of([[1, 0, 2], [2, 1, 0]]), 1).tolist() == [1, 0]


def test_best_median_and_worst_are_chosen() -> None:
    queries = slices("a", "b", "c", "d", "e")
    found = choose(queries, np.array([0.5, 0.1, 0.9, 0.3, 0.7]))
    assert found == [Chosen(2, "best"), Chosen(0, "median"), Chosen(1, "worst")]


def test_of_equals_the_first_by_id() -> None:
    queries = slices("d", "c", "b", "a", "e")
    found = choose(queries, np.ones(5))
    assert [(queries[one.position].slice_id, one.why) for one in found] == [
        ("a", "best"),
        ("c", "median"),
        ("e", "worst"),
    ]


def test_queries_that_do_not_show_the_organ_are_not_chosen() -> None:
    queries = Slices((a_slice("a", organ=False), a_slice("b"), a_slice("c"), a_slice("d", organ=False)))
    assert [one.position for one in choose(queries, np.array([1.0, 0.2, 0.6, 0.0]))] == [2, 1]
    assert choose(queries[:1], np.array([1.0])) == []


@pytest.mark.parametrize(
    ("count", "expected"),
    [
        (1, ["best"]),
        (2, ["best", "worst"]),
        (3, ["best", "median", "worst"]),
        (4, ["best", "median", "worst"]),
    ],
)
def test_of_few_queries_none_is_chosen_twice(count: int, expected: list[str]) -> None:
    found = choose(slices(*"abcd"[:count]), np.linspace(1, 0, count))
    assert [one.why for one in found] == expected
    assert len({one.position for one in found}) == len(found)


def test_queries_asked_for_come_in_that_order_and_once() -> None:
    found = asked_for(slices("a", "b", "c"), ["c", "a", "c"])
    assert found == [Chosen(2, "asked for"), Chosen(0, "asked for")]
    assert asked_for(slices("a"), []) == []


def test_a_query_that_is_not_there_gets_the_nearest_ids() -> None:
    queries = slices("liver_101:z34", "liver_102:z7", "liver_103:z5", "other")
    with pytest.raises(UsageError) as caught:
        asked_for(queries, ["liver_101:z34", "liver_101:z35"])
    assert caught.value.problem == "No query is called 'liver_101:z35'."
    assert "such as liver_101:z34, " in caught.value.remedy and "slices.parquet" in caught.value.remedy
    with pytest.raises(UsageError) as caught:
        asked_for(queries, ["%"])
    assert "such as liver_101:z34, liver_102:z7, liver_103:z5;" in caught.value.remedy


def test_the_slices_that_figures_show_each_once() -> None:
    gallery = slices("g0", "g1", "g2", "g3")
    ranking = ranking_of([[3, 1, 0], [2, 1, 0], [1, 3, 0]])
    found = neighbours_of([Chosen(0, ""), Chosen(2, "")], gallery, ranking, 2)
    assert [item.slice_id for item in found] == ["g1", "g3"]
    assert neighbours_of([], gallery, ranking, 2) == []


# Names of files -----------------------------------------------------------------------------------------

HOSTILE = [
    "../x",
    "..",
    ".",
    ".hidden",
    "a/b",
    "a\\b",
    "/etc/passwd",
    "C:\\scans",
    "con",
    "CON",
    "nul.txt",
    "lpt1",
    "x" * 300,
    "y" * 300,
    "Leber größer",
    "leber gr__er",
    "肝臓",
    "a b",
    "a:b",
    "a\nb",
    "a\x00b",
    "*?<>|\"'",
    "-rf",
    "%2e%2e%2f",
    "",
]


def assert_safe(file: str) -> None:
    assert file.startswith("figures/retrieval/hog/")
    name = file.removeprefix("figures/retrieval/hog/")
    assert re.fullmatch(r"[A-Za-z0-9_-][A-Za-z0-9._-]*\.png", name), name
    assert len(name) < 150
    assert name.partition(".")[0].lower() not in {"con", "prn", "aux", "nul", "com1", "lpt1"}


@pytest.mark.parametrize("slice_id", HOSTILE)
def test_a_hostile_id_has_a_name_that_every_system_takes(slice_id: str) -> None:
    assert_safe(figure_file("hog", slice_id))
    assert figure_file("hog", slice_id) == figure_file("hog", slice_id)


def test_hostile_ids_have_different_names() -> None:
    assert len({figure_file("hog", slice_id) for slice_id in HOSTILE}) == len(HOSTILE)


@given(st.lists(st.text(st.characters(codec="utf-8"), max_size=400), unique=True, max_size=5))
def test_any_id_has_a_safe_name_of_its_own(ids: list[str]) -> None:
    files = [figure_file("hog", slice_id) for slice_id in ids]
    for file in files:
        assert_safe(file)
    assert len(set(files)) == len(files)


def test_a_plain_id_is_its_files_name() -> None:
    assert figure_file("hog", "liver_101-z034.5") == "figures/retrieval/hog/liver_101-z034.5.png"


# Drawing ------------------------------------------------------------------------------------------------


def drawn(path: Path, monkeypatch: pytest.MonkeyPatch, **changed: Any) -> dict[str, Any]:
    """What the figure was asked to show."""
    seen: dict[str, Any] = {}

    def draw(query: Any, retrieved: Any, path: Path, **given: Any) -> None:
        seen.update(query=query, retrieved=retrieved, path=path, **given)

    monkeypatch.setattr(retrieval_figures, "draw_explained_retrieval", draw)
    retrieved = [a_slice("g0", 1), a_slice("g1", 0, organ=False)]
    found = {
        "q": explanation(),
        "g0": explanation(reliability=0.5),
        "g1": explanation(problem="the prepared image is blank", reliability=np.nan),
    }
    captioned = Captioned("blobs", True, "hog", {1: "liver"})
    draw_retrieval(
        path,
        changed.pop("captioned", captioned),
        changed.pop("query", a_slice("q")),
        retrieved,
        [0.25, 1.5],
        found,
        relax=changed.pop("relax", RelaxOptions()),
        title="q, the best",
        **changed,
    )
    return seen


def test_a_figure_shows_labels_distances_and_how_sure_the_maps_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = drawn(tmp_path / "q.png", monkeypatch)
    query, (first, second) = seen["query"], seen["retrieved"]
    assert (query.title, query.label, query.distance, query.right) == ("q", "liver", None, None)
    assert query.note == "reliability 0.75, 40 masks"
    assert (first.title, first.label, first.distance, first.right) == ("g0", "liver", 0.25, True)
    assert (second.title, second.label, second.distance, second.right) == ("g1", "no liver", 1.5, False)
    assert second.note == "the prepared image is blank"
    for shown in (query, first, second):
        assert shown.importance.shape == shown.hu.shape == shown.outline.shape == (12, 10)
        assert shown.uncertainty is None
    assert seen["title"] == "q, the best\nblobs, hog"
    assert seen["organ"] == "liver"
    assert seen["caption"].startswith(
        "Synthetic data: scans made by a program. Importance by RELAX (ratio): "
    )


def test_the_caption_says_how_the_maps_were_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    relax = RelaxOptions(estimator="regression", antithetic=True, uncertainty_filter="median")
    seen = drawn(tmp_path / "q.png", monkeypatch, relax=relax)
    assert "RELAX (regression, antithetic masks, U-RELAX by the median): " in seen["caption"]


def test_uncertainty_is_shown_where_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = drawn(tmp_path / "q.png", monkeypatch, uncertainty=True)
    for shown in (seen["query"], *seen["retrieved"]):
        assert shown.uncertainty.shape == (12, 10)
        assert not np.array_equal(shown.uncertainty, shown.importance)


def test_real_scans_are_not_called_synthetic(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = drawn(tmp_path / "q.png", monkeypatch, captioned=Captioned("blobs", False, "hog", {}))
    assert "ynthetic" not in seen["caption"]
    assert seen["query"].label == "target organ"


@pytest.mark.parametrize(
    ("structures", "target_values", "organ"),
    [
        ({1: "liver", 2: "tumour"}, (1, 2), "liver"),
        ({1: "spleen", 3: "kidney"}, (3,), "kidney"),
        ({1: "liver"}, (), "liver"),
        ({2: "tumour"}, (1, 2), "tumour"),
        ({}, (1,), "target organ"),
    ],
)
def test_the_organs_name(structures: dict[int, str], target_values: tuple[int, ...], organ: str) -> None:
    assert Captioned("blobs", True, "hog", structures).organ(target_values) == organ


@pytest.mark.parametrize("slice_id", ["q", "../x", "x" * 300])
def test_a_figure_is_written(tmp_path: Path, slice_id: str) -> None:
    file = tmp_path / figure_file("hog", slice_id)
    draw_retrieval(
        file,
        Captioned("blobs", True, "hog", {1: "liver"}),
        a_slice(slice_id),
        [a_slice("g0")],
        [0.5],
        {slice_id: explanation(), "g0": explanation(importance=np.full((12, 12), np.nan, np.float32))},
        relax=RelaxOptions(),
        title="a title",
        uncertainty=True,
    )
    assert file.read_bytes().startswith(b"\x89PNG")
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [file]


def test_the_note_of_a_map() -> None:
    assert map_note(explanation()) == "reliability 0.75, 40 masks"
    assert map_note(explanation(problem="no mask shows some of the pixels")) == (
        "no mask shows some of the pixels"
    )
