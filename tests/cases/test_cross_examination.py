from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from quiet import Quiet
from scipy.stats import kendalltau

from cbirbench.cases import cross_examination
from cbirbench.cases.asking import Answer, Asked
from cbirbench.cases.cross_examination import ExamRequest, cross_examine
from cbirbench.cases.spatial_coherence import parse_reach
from cbirbench.cases.studies import ScanFile
from cbirbench.errors import DataError, UsageError
from cbirbench.plan import Request
from cbirbench.planning import build
from cbirbench.runner import execute
from cbirbench.slices import AIR_HU
from cbirbench.store import Store

pytestmark = pytest.mark.usefixtures("fake_plugins")


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    place = tmp_path / "here"
    place.mkdir()
    monkeypatch.chdir(place)
    return place


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where a run is, made by the first test that needs it; none changes it."""
    return tmp_path_factory.mktemp("kept") / "run"


@pytest.fixture(autouse=True)
def made(folder: Path, fake_plugins: None) -> None:
    if not folder.is_dir():
        request = Request(
            "blobs",
            ("brightness", "learned-offset"),
            ("purity@1",),
            runs=1,
            device="cpu",
            assignments=("learned.epochs=1", "relax.masks=20", "relax.grid=3"),
        )
        execute(build(request), folder, Store(folder.parent / "cache"), Quiet(), "cbirbench run blobs")


NEW_MM, OLD_MM = 4.0, 3.0


def studies(tmp_path: Path, new_slices: int = 7, old_slices: int = 9) -> tuple[np.ndarray, np.ndarray]:
    """A new and a previous study of one name in two folders; returns both in radiological view."""
    generator = np.random.default_rng(3)
    found = []
    for name, count, spacing in (("new", new_slices, NEW_MM), ("old", old_slices, OLD_MM)):
        view = generator.integers(-900, 400, (count, 12, 10)).astype(np.int16)
        (tmp_path / name).mkdir(exist_ok=True)
        affine = np.diag((-1.0, -1.0, spacing, 1.0))
        nib.save(nib.Nifti1Image(view.transpose(2, 1, 0), affine), tmp_path / name / "ct.nii")
        found.append(view)
    return found[0], found[1]


def examined(folder: Path, tmp_path: Path, store: Store, number: str = "3", **changed: Any) -> Answer:
    own = {name: changed.pop(name) for name in ("expert", "out") if name in changed}
    reach = changed.pop("reach", None)
    request = ExamRequest(
        asked=Asked(folder, device="cpu", **changed),
        query=ScanFile(tmp_path / "new/ct.nii"),
        slice=number,
        previous=ScanFile(tmp_path / "old/ct.nii"),
        reach=None if reach is None else parse_reach(reach),
        **own,
    )
    return cross_examine(request, store, Quiet())


def distance(one: np.ndarray, other: np.ndarray) -> float:
    """Between the brightness-mean embeddings of two slices of 12 x 10 pixels, anew."""

    def embedding(hu: np.ndarray) -> np.ndarray:
        square = np.full((12, 12), AIR_HU)
        square[:, 1:11] = hu
        return np.clip((square.astype(np.float32) + 200) / 500, 0, 1).mean(axis=1)

    return float(np.linalg.norm(embedding(one) - embedding(other)))


def test_all_slices_of_the_previous_study_are_ranked(
    folder: Path, tmp_path: Path, store: Store, here: Path
) -> None:
    new, old = studies(tmp_path)
    answer = examined(folder, tmp_path, store, top=4)
    expected = sorted((distance(new[3], hu), z) for z, hu in enumerate(old))
    rows = answer.document["ranking"]
    assert [(row["rank"], row["slice"]) for row in rows] == [
        (place, z) for place, (_, z) in enumerate(expected, start=1)
    ]
    for row, (far, z) in zip(rows, expected, strict=True):
        assert row["distance"] == pytest.approx(far, abs=1e-5)
        assert row["z_mm"] == pytest.approx(z * OLD_MM) and row["map"] is None
        assert set(row) == {"rank", "slice", "z_mm", "distance", "map"}
    assert answer.lines[0] == ("ct, slice 3, 12.0 mm: the nearest 4 of 9 slices of ct, by brightness-mean")
    assert answer.lines[1].split() == ["rank", "slice", "z", "mm", "distance"]
    for line, (far, z) in zip(answer.lines[2:6], expected[:4], strict=True):
        assert line.split()[1:3] == [str(z), f"{z * OLD_MM:.1f}"]
        assert float(line.split()[3]) == pytest.approx(far, rel=1e-3)
    assert answer.lines[6:] == ["Wrote brightness-mean-ct_z0003-in-ct.png"]
    assert [path.name for path in here.iterdir()] == ["brightness-mean-ct_z0003-in-ct.png"]
    document = answer.document
    assert json.loads(json.dumps(document, allow_nan=False)) == document
    assert (document["command"], document["top"], document["reach_mm"]) == ("cross-exam", 4, None)
    assert (document["query"]["slice"], document["query"]["z_mm"]) == (3, 12.0)
    assert (document["previous"]["slices"], document["expert"]) == (9, None)


def test_smoothed_and_plain_stand_side_by_side(folder: Path, tmp_path: Path, store: Store) -> None:
    """The formula anew: new slices 4 mm apart, old ones 3 mm, within 9 mm: two neighbours on either side."""
    new, old = studies(tmp_path)
    answer = examined(folder, tmp_path, store, "1", reach="9mm", top=3)
    expected = []
    for z in range(9):
        total = weights = 0.0
        for step in (-1, 0, 1, 2):  # new slice -1 does not exist
            place = z + step * NEW_MM / OLD_MM
            if not 0 <= place <= 8:
                continue
            lower = min(math.floor(place), 7)
            part = place - lower
            far = (1 - part) * distance(new[1 + step], old[lower])
            far += part * distance(new[1 + step], old[lower + 1])
            weight = math.exp(-2 * (step * NEW_MM / 9) ** 2)
            total, weights = total + weight * far, weights + weight
        expected.append((total / weights, z))
    order = [z for _, z in sorted(expected)]
    rows = {row["slice"]: row for row in answer.document["ranking"]}
    for far, z in expected:
        assert rows[z]["smoothed_distance"] == pytest.approx(far, abs=1e-5)
        assert rows[z]["smoothed_rank"] == order.index(z) + 1
        assert rows[z]["distance"] == pytest.approx(distance(new[1], old[z]), abs=1e-5)
    assert answer.document["reach_mm"] == 9.0
    assert "smoothed: with neighbours within 9 mm" in answer.lines[0]
    plain = sorted(rows, key=lambda z: rows[z]["rank"])
    for line, left, right in zip(answer.lines[2:5], plain, order, strict=False):
        one, other = line.split("|")
        assert (int(one.split()[1]), int(other.split()[0])) == (left, right)


def test_slices_too_far_apart_are_not_smoothed_and_that_is_said(
    folder: Path, tmp_path: Path, store: Store
) -> None:
    studies(tmp_path)
    answer = examined(folder, tmp_path, store, reach="3mm")
    assert answer.notes == [
        "No slice of ct lies within 3 mm of slice 3 (they are 4 mm apart): nothing is smoothed."
    ]
    assert all(row["rank"] == row["smoothed_rank"] for row in answer.document["ranking"])
    studies(tmp_path, new_slices=1)
    assert len(examined(folder, tmp_path, store, "", reach="20mm").notes) == 1


def test_an_experts_picks_are_scored(folder: Path, tmp_path: Path, store: Store) -> None:
    new, old = studies(tmp_path)
    order = [z for _, z in sorted((distance(new[3], hu), z) for z, hu in enumerate(old))]
    picks = [order[2], order[0], order[7]]
    answer = examined(folder, tmp_path, store, expert=",".join(map(str, picks)), reach="2")
    found = answer.document["expert"]
    assert found["picks"] == picks and answer.document["top"] == 3, "as many as there are picks"
    assert found["plain"]["ranks"] == [3, 1, 8]
    assert found["plain"]["overlap"] == pytest.approx(2 / 3) and found["plain"]["k"] == 3
    assert found["plain"]["tau"] == pytest.approx(1 / 3)
    smooth = {row["slice"]: row["smoothed_rank"] for row in answer.document["ranking"]}
    assert found["smoothed"]["ranks"] == [smooth[pick] for pick in picks]
    assert found["smoothed"]["tau"] == pytest.approx(
        kendalltau([0, 1, 2], [smooth[pick] for pick in picks]).statistic
    )
    places = {row["slice"]: row["expert_place"] for row in answer.document["ranking"]}
    assert [places[pick] for pick in picks] == [1, 2, 3] and sum(p is not None for p in places.values()) == 3
    text = "\n".join(answer.lines)
    assert "Expert's picks: overlap@3 0.67 (a random order: 0.33), Kendall's tau 0.33." in text
    assert "Smoothed: overlap@3" in text
    assert f"Picks beyond the nearest 3, with their ranks: {order[7]} at 8." in text


def test_another_k_than_the_number_of_picks(folder: Path, tmp_path: Path, store: Store) -> None:
    studies(tmp_path)
    answer = examined(folder, tmp_path, store, expert="4", top=9)
    found = answer.document["expert"]["plain"]
    assert (found["k"], found["overlap"], found["chance"], found["tau"]) == (9, 1.0, 1.0, None)
    assert "Kendall's tau undefined for one pick" in "\n".join(answer.lines)


def test_the_figure_is_the_papers(
    folder: Path, tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[Any] = []
    monkeypatch.setattr(
        cross_examination,
        "draw_cross_examination",
        lambda query, rows, path, **named: drawn.append((query, rows, named)),
    )
    new, old = studies(tmp_path)
    order = [z for _, z in sorted((distance(new[3], hu), z) for z, hu in enumerate(old))]
    picks = [order[1], order[6]]
    answer = examined(folder, tmp_path, store, expert=f"{picks[0]} {picks[1]}", reach="5mm")
    ((query, rows, named),) = drawn
    np.testing.assert_array_equal(query.hu, new[3])
    assert [row.name for row in rows] == [
        "Chosen by the expert",
        "Retrieved by brightness-mean",
        "Retrieved by brightness-mean, with neighbours within 5 mm",
    ]
    chosen, retrieved, smoothed = (row.items for row in rows)
    for item, pick in zip(chosen, picks, strict=True):
        np.testing.assert_array_equal(item.hu, old[pick])
    assert [item.mark for item in chosen] == ["rank 2", ""]
    for item, z in zip(retrieved, order[:2], strict=True):
        np.testing.assert_array_equal(item.hu, old[z])
    assert [item.mark for item in retrieved] == ["", "expert's 1"]
    by_smoothed = sorted(answer.document["ranking"], key=lambda row: row["smoothed_rank"])
    for item, row in zip(smoothed, by_smoothed, strict=False):
        np.testing.assert_array_equal(item.hu, old[row["slice"]])
    assert "overlap@2" in named["caption"]
    drawn.clear()
    examined(folder, tmp_path, store)
    assert [row.name for row in drawn[0][1]] == ["Retrieved by brightness-mean"]


def test_query_and_retrieved_are_explained_in_a_second_figure(
    folder: Path, tmp_path: Path, store: Store, here: Path
) -> None:
    studies(tmp_path)
    answer = examined(folder, tmp_path, store, explain=True, top=2, reach="5mm", out=Path("a/b.svg"))
    assert answer.lines[-2:] == ["Wrote a/b.svg", "Wrote a/b-explained.svg"]
    assert answer.document["figures"] == ["a/b.svg", "a/b-explained.svg"]
    assert sorted(path.name for path in (here / "a").iterdir()) == ["b-explained.svg", "b.svg"]
    explained = [row for row in answer.document["ranking"] if row["map"]]
    assert {row["smoothed_rank"] for row in explained} == {1, 2}
    assert answer.document["query"]["map"]["masks"] == 20


def test_the_query_within_the_previous_study_is_pointed_out(
    folder: Path, tmp_path: Path, store: Store
) -> None:
    studies(tmp_path)
    shutil.copy(tmp_path / "new/ct.nii", tmp_path / "old/ct.nii")
    answer = examined(folder, tmp_path, store, "5")
    assert answer.notes == ["Slice 5 of ct has the query's very pixels: is it the same scan?"]
    assert answer.document["ranking"][0]["slice"] == 5


@pytest.mark.parametrize(
    ("number", "changed", "says"),
    [
        ("", {}, "has slices 0 to 6, and --slice does not say which"),
        ("7", {}, "has slices 0 to 6, no slice 7"),
        ("1,2", {}, "--slice 1,2 names 2 slices"),
        ("3", {"top": 10}, "--top 10 slices cannot be shown: the previous study ct has 9"),
        ("3", {"expert": "1,9"}, "no slice for the expert's pick 9"),
        ("3", {"expert": "1,1"}, "names slice 1 twice"),
        ("3", {"expert": ""}, "names no slice"),
        ("3", {"extractor": "hog"}, "has no extractor 'hog'"),
        ("3", {"uncertainty": True}, "Add --explain"),
        ("3", {"out": Path("a.jpg")}, "a.jpg has the ending '.jpg'"),
    ],
)
def test_a_mistake_is_a_usage_error_and_writes_nothing(
    folder: Path, tmp_path: Path, store: Store, here: Path, number: str, changed: dict[str, Any], says: str
) -> None:
    studies(tmp_path)
    with pytest.raises(UsageError) as caught:
        examined(folder, tmp_path, store, number, **changed)
    assert says in str(caught.value)
    assert list(here.iterdir()) == []


def test_a_damaged_study_is_named(folder: Path, tmp_path: Path, store: Store, here: Path) -> None:
    studies(tmp_path)
    path = tmp_path / "old/ct.nii"
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(DataError, match=r"old/ct\.nii"):
        examined(folder, tmp_path, store)
    assert list(here.iterdir()) == []
