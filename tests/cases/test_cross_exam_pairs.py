from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from quiet import Quiet

from cbirbench.cases import cross_examination
from cbirbench.cases.asking import Answer, Asked
from cbirbench.cases.cross_exam_pairs import PairsRequest, examine_pairs
from cbirbench.cases.cross_examination import ExamRequest, cross_examine
from cbirbench.cases.spatial_coherence import parse_reach
from cbirbench.cases.studies import ScanFile
from cbirbench.errors import DataError, UsageError
from cbirbench.plan import Request
from cbirbench.planning import build
from cbirbench.runner import execute
from cbirbench.store import Store

pytestmark = pytest.mark.usefixtures("fake_plugins")

NEW_MM, OLD_MM = 4.0, 3.0
NEW_SHOWS, OLD_SHOWS = [0, 0, 1, 1, 1, 0], [0, 0, 0, 1, 1, 1, 1, 0, 0]
EXPERT = (5, 3, 4)
HEAD = "query,slice,previous,expert,query_mask,previous_mask,previous_slice"
EVERYTHING = "new.nii,3,old.nii,5 3 4,new_mask.nii,old_mask.nii,4"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("kept") / "run"


@pytest.fixture(autouse=True)
def made(folder: Path, fake_plugins: None, tmp_path: Path) -> None:
    """A run, made once; two studies whose slices show the organ as `NEW_SHOWS` and `OLD_SHOWS` say."""
    if not folder.is_dir():
        request = Request("blobs", ("brightness",), ("purity@1",), device="cpu")
        execute(build(request), folder, Store(folder.parent / "cache"), Quiet(), "cbirbench run blobs")
    generator = np.random.default_rng(5)
    for name, shows, spacing in (("new", NEW_SHOWS, NEW_MM), ("old", OLD_SHOWS, OLD_MM)):
        view = generator.integers(-900, 400, (len(shows), 12, 10)).astype(np.int16)
        mask = np.zeros(view.shape, np.uint8)
        mask[:, 2:4, 3] = np.array(shows)[:, None]
        affine = np.diag((-1.0, -1.0, spacing, 1.0))
        for kind, array in (("", view), ("_mask", mask)):
            nib.save(nib.Nifti1Image(array.transpose(2, 1, 0), affine), tmp_path / f"{name}{kind}.nii")


def examined(folder: Path, tmp_path: Path, store: Store, *lines: str, **changed: Any) -> Answer:
    (tmp_path / "pairs.csv").write_text("\n".join((HEAD, *lines)) + "\n")
    asked = Asked(folder, device="cpu", **{k: changed.pop(k) for k in ("top", "extractor") if k in changed})
    named = {"out": tmp_path / "out", "reach": parse_reach("5mm")} | changed
    return examine_pairs(PairsRequest(asked, tmp_path / "pairs.csv", **named), store, Quiet())


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures are not what is tested here."""
    monkeypatch.setattr(cross_examination, "draw_cross_examination", lambda *_, **__: None)


def one_by_one(folder: Path, tmp_path: Path, store: Store, number: int) -> dict[str, list[int]]:
    """Both orders of the previous study's slices, as the command for a single pair gives them."""
    request = ExamRequest(
        asked=Asked(folder, device="cpu"),
        query=ScanFile(tmp_path / "new.nii"),
        slice=str(number),
        previous=ScanFile(tmp_path / "old.nii"),
        reach=parse_reach("5mm"),
        out=tmp_path / "single.png",
    )
    rows = cross_examine(request, store, Quiet()).document["ranking"]
    return {
        kind: [row["slice"] for row in sorted(rows, key=lambda row: row[rank])]
        for kind, rank in (("plain", "rank"), ("smoothed", "smoothed_rank"))
    }


def rows_of(tmp_path: Path) -> pd.DataFrame:
    return pd.read_parquet(tmp_path / "out" / "queries.parquet")


def scores_of(answer: Answer) -> dict[str, dict[str, Any]]:
    return {score["name"]: score for score in answer.document["scores"]}


@pytest.mark.usefixtures("undrawn")
def test_every_score_of_a_query_slice(folder: Path, tmp_path: Path, store: Store) -> None:
    examined(folder, tmp_path, store, EVERYTHING)
    table = rows_of(tmp_path)
    assert table["order"].tolist() == ["plain", "smoothed"]
    for row in table.to_dict("records"):
        order = one_by_one(folder, tmp_path, store, 3)[row["order"]]
        assert (row["line"], row["query"], row["slice"], row["previous"]) == (2, "new", 3, "old")
        assert row["nearest_slice"] == order[0]
        assert row["overlap"] == pytest.approx(len(set(order[:3]) & set(EXPERT)) / 3)
        assert row["overlap_k"] == 3 and row["overlap_by_chance"] == pytest.approx(3 / 9)
        ranks = [order.index(pick) for pick in EXPERT]
        agreeing = sum(ranks[a] < ranks[b] for a, b in ((0, 1), (0, 2), (1, 2)))
        assert row["tau"] == pytest.approx((2 * agreeing - 3) / 3)
        right = [OLD_SHOWS[z] == NEW_SHOWS[3] for z in order]
        assert row["map"] == pytest.approx(np.mean([np.mean(right[:k]) for k in range(1, 6)]))
        assert row["z_error_mm"] == pytest.approx(abs(order[0] - 4) * OLD_MM)
        assert row["hit"] == float(abs(order[0] - 4) * OLD_MM <= 10)


@pytest.mark.usefixtures("undrawn")
def test_all_slices_of_the_new_study_are_queries_without_a_number(
    folder: Path, tmp_path: Path, store: Store
) -> None:
    answer = examined(folder, tmp_path, store, "new.nii,,old.nii,,new_mask.nii,old_mask.nii,", top=2)
    table = rows_of(tmp_path)
    assert table["slice"].tolist() == [z for z in range(6) for _ in range(2)]
    for row in table.to_dict("records"):
        order = one_by_one(folder, tmp_path, store, row["slice"])[row["order"]]
        right = [OLD_SHOWS[z] == NEW_SHOWS[row["slice"]] for z in order[:2]]
        assert row["map"] == pytest.approx((right[0] + sum(right) / 2) / 2)
    score = scores_of(answer)["map@2"]
    for kind in ("plain", "smoothed"):
        assert score[kind] == pytest.approx(table.loc[table["order"] == kind, "map"].mean())
    assert score["queries"] == 6 and score["why_not"] == ""


def test_means_are_over_the_slices_that_have_a_score_and_the_others_are_explained(
    folder: Path, tmp_path: Path, store: Store
) -> None:
    answer = examined(
        folder, tmp_path, store, EVERYTHING, "new.nii,1,old.nii,2,,,7", "new.nii,0-1,old.nii,,,,"
    )
    assert (answer.document["pairs"], answer.document["query_slices"]) == (3, 4)
    found = {name: (one["queries"], one["why_not"]) for name, one in scores_of(answer).items()}
    assert found == {
        "overlap@picks": (2, "no expert's picks given for 2 query slices"),
        "kendall-tau": (1, "fewer than two expert's picks given for 3 query slices"),
        "map@5": (1, "no masks given for 3 query slices"),
        "z-error-mm": (2, "no previous_slice given for 2 query slices"),
        "hit@10mm": (2, "no previous_slice given for 2 query slices"),
    }
    plain = rows_of(tmp_path).query("order == 'plain'")
    scores = scores_of(answer)
    assert scores["z-error-mm"]["plain"] == pytest.approx(plain["z_error_mm"].mean())
    assert scores["overlap@picks"]["by_chance"] == pytest.approx((3 / 9 + 1 / 9) / 2)
    text = "\n".join(answer.lines)
    assert "map@5: no masks given for 3 query slices." in text


def test_a_score_that_no_slice_has_is_a_dash(folder: Path, tmp_path: Path, store: Store) -> None:
    answer = examined(folder, tmp_path, store, "new.nii,1,old.nii,,,,")
    assert all(one["plain"] is None and one["smoothed"] is None for one in answer.document["scores"])
    (line,) = [line for line in answer.lines if line.split()[0] == "map@5"]
    assert line.split() == ["map@5", "-", "-", "0"]


def test_files_and_document_say_the_same(folder: Path, tmp_path: Path, store: Store) -> None:
    answer = examined(folder, tmp_path, store, EVERYTHING, tolerance_mm=2.5)
    assert json.loads((tmp_path / "out" / "summary.json").read_text()) == answer.document
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == answer.document["files"]
    assert (answer.document["reach"], answer.document["tolerance_mm"]) == ("5 mm", 2.5)
    assert answer.document["extractor"] == "brightness-mean"
    assert all(one["formula"] for one in answer.document["scores"])
    assert answer.lines[0] == (
        "1 query slices of 1 pairs, by brightness-mean; smoothed: with neighbours within 5 mm"
    )
    for score in answer.document["scores"]:
        (line,) = [line for line in answer.lines if line.split()[0] == score["name"]]
        assert line.split()[1:3] == [f"{score['plain']:.3f}", f"{score['smoothed']:.3f}"]


def test_a_study_is_read_and_embedded_once(
    folder: Path, tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    import cbirbench_fake

    sizes: list[int] = []
    plain = cbirbench_fake.BrightnessMean.embed

    def embed(self: Any, images: Any) -> Any:
        sizes.append(len(images))
        return plain(self, images)

    monkeypatch.setattr(cbirbench_fake.BrightnessMean, "embed", embed)
    lines = ["new.nii,0,old.nii,,,,", "new.nii,1,old.nii,,,,", "old.nii,8,old.nii,,,,"]
    examined(folder, tmp_path, store, *lines)
    # The check; of the new study the slices 0 and 1 and their neighbours; of the old one all.
    assert sizes == [1, 3, 9]


@pytest.mark.parametrize(
    ("line", "changed", "says"),
    [
        (EVERYTHING, {"tolerance_mm": -1.0}, "--tolerance takes millimetres"),
        (EVERYTHING, {"tolerance_mm": float("nan")}, "--tolerance takes millimetres"),
        (EVERYTHING, {"top": 10}, "line 2: the 10 nearest slices are scored"),
        (EVERYTHING, {"top": 0}, "--top takes a number from 1"),
        (EVERYTHING, {"extractor": "hog"}, "has no extractor 'hog'"),
        ("new.nii,9,old.nii,,,,", {}, "no slice 9"),
    ],
)
def test_a_mistake_is_a_usage_error_and_writes_nothing(
    folder: Path, tmp_path: Path, store: Store, line: str, changed: dict[str, Any], says: str
) -> None:
    with pytest.raises(UsageError) as caught:
        examined(folder, tmp_path, store, line, **changed)
    assert says in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_a_file_in_the_folders_place(folder: Path, tmp_path: Path, store: Store) -> None:
    (tmp_path / "out").write_text("mine")
    with pytest.raises(UsageError, match="is a file"):
        examined(folder, tmp_path, store, EVERYTHING)
    assert (tmp_path / "out").read_text() == "mine"


def test_a_mask_of_another_scan_is_refused(folder: Path, tmp_path: Path, store: Store) -> None:
    with pytest.raises(DataError, match=r"its mask .*old_mask\.nii has shape"):
        examined(folder, tmp_path, store, "new.nii,1,old.nii,,old_mask.nii,old_mask.nii,")
    assert not (tmp_path / "out").exists()


def unstated(*paths: Path) -> None:
    """Leave out of files where their axes point."""
    for path in paths:
        array = np.array(nib.load(path).dataobj)  # a copy: the file is written anew
        nib.save(nib.Nifti1Image(array, np.eye(4)), path)


@pytest.mark.parametrize("masks_too", [False, True])
def test_studies_that_do_not_state_their_axes(
    folder: Path, tmp_path: Path, store: Store, masks_too: bool
) -> None:
    line = "new.nii,3,old.nii,,new_mask.nii,old_mask.nii,"
    expected = examined(folder, tmp_path, store, line)
    unstated(*(tmp_path / f"{name}.nii" for name in ("new", "old")))
    if masks_too:
        unstated(*(tmp_path / f"{name}_mask.nii" for name in ("new", "old")))
    answer = examined(folder, tmp_path, store, line, unstated="LPS")
    assert scores_of(answer)["map@5"]["plain"] == scores_of(expected)["map@5"]["plain"]
    if not masks_too:
        with pytest.raises(DataError) as raised:
            examined(folder, tmp_path, store, line, unstated="RAS")
        assert "mask_grid" not in raised.value.remedy and "copy the scan's affine" in raised.value.remedy
