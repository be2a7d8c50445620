from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from quiet import Quiet

from cbirbench.cases import querying
from cbirbench.cases.asking import Answer, Asked
from cbirbench.cases.querying import known_slices, query_scan
from cbirbench.cases.reopening import open_run
from cbirbench.cases.studies import ScanFile
from cbirbench.errors import DataError, UsageError
from cbirbench.figures.explained_retrieval import ShownSlice
from cbirbench.plan import Request
from cbirbench.planning import build
from cbirbench.runner import execute
from cbirbench.slices import AIR_HU, CTSlice, Slices
from cbirbench.store import Store

pytestmark = pytest.mark.usefixtures("fake_plugins")


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
def folder(kept: Path, tmp_path: Path) -> Path:
    """A run with six gallery slices, made once and copied for each test."""
    if not (kept / "run").is_dir():
        request = Request(
            "blobs",
            ("learned-offset", "brightness"),
            ("purity@1",),
            runs=2,
            device="cpu",
            assignments=("blobs.scans=3", "learned.epochs=2", "relax.masks=20", "relax.grid=3"),
        )
        execute(build(request), kept / "run", Store(kept / "cache"), Quiet(), "cbirbench run blobs")
    return Path(shutil.copytree(kept / "run", tmp_path / "run"))


def volume(slices: int = 4, seed: int = 7) -> np.ndarray:
    """A scan in radiological view."""
    return np.random.default_rng(seed).integers(-900, 400, (slices, 12, 10)).astype(np.int16)


def write(path: Path, view: np.ndarray, affine: np.ndarray | None = None) -> Path:
    placed = np.diag((-1.0, -1.0, 3.0, 1.0)) if affine is None else affine
    nib.save(nib.Nifti1Image(view.transpose(2, 1, 0), placed), path)
    return path


def asked(folder: Path, image: Path, store: Store, slices: str = "2", **changed: Any) -> Answer:
    out = changed.pop("out", None)
    file = ScanFile(image, **{k: changed.pop(k) for k in ("orientation", "unstated") if k in changed})
    return query_scan(Asked(folder, device="cpu", **changed), file, slices, out, store, Quiet())


def embedding(hu: np.ndarray) -> np.ndarray:
    """Brightness-mean of a slice of 12 x 10 pixels, anew: rows' means of the padded square."""
    square = np.full((12, 12), AIR_HU)
    square[:, 1:11] = hu
    return np.clip((square.astype(np.float32) + 200) / 500, 0, 1).mean(axis=1)


def nearest(folder: Path, hu: np.ndarray, count: int) -> list[tuple[str, float]]:
    gallery = open_run(folder).gallery
    found = [(float(np.linalg.norm(embedding(s.hu) - embedding(hu))), s.slice_id) for s in gallery]
    return [(name, distance) for distance, name in sorted(found)[:count]]


def test_finds_what_is_nearest(folder: Path, store: Store, tmp_path: Path, here: Path) -> None:
    view = volume()
    answer = asked(folder, write(tmp_path / "mine.nii.gz", view), store, extractor="brightness", top=3)
    expected = nearest(folder, view[2], 3)
    assert answer.lines[0] == "mine, slice 2: the nearest of 6 gallery slices (blobs), by brightness-mean"
    assert answer.lines[1].split() == ["rank", "distance", "slice", "patient", "label"]
    (found,) = answer.document["queries"]
    assert (found["slice"], found["z_mm"], found["map"]) == (2, 6.0, None)
    for place, (line, row, (name, distance)) in enumerate(
        zip(answer.lines[2:5], found["retrieved"], expected, strict=True), start=1
    ):
        shows = "shows target organ" if name.endswith("-1") else "no target organ"
        assert line.split(maxsplit=4)[2:] == [name, f"patient-{name[:2]}", shows]
        assert (row["rank"], row["slice_id"], row["patient_id"]) == (place, name, f"patient-{name[:2]}")
        assert row["distance"] == pytest.approx(distance, abs=1e-5)
        assert row["label"] == int(name.endswith("-1")) and row["map"] is None
    assert answer.lines[5:] == ["Wrote brightness-mean-mine_z0002.png"]
    assert found["figure"] == "brightness-mean-mine_z0002.png"
    assert (here / found["figure"]).read_bytes().startswith(b"\x89PNG")
    assert answer.notes == []


def test_the_document_is_json_and_says_by_what(folder: Path, store: Store, tmp_path: Path) -> None:
    document = asked(folder, write(tmp_path / "mine.nii", volume()), store, run=1).document
    assert json.loads(json.dumps(document, allow_nan=False)) == document
    assert (document["command"], document["benchmark"]) == ("query", "blobs")
    assert (document["extractor"], document["run"], document["distance"]) == (
        "learned-offset",
        1,
        "euclidean",
    )
    assert document["gallery"] == {"slices": 6, "patients": 3} and document["relax"] is None
    assert document["scan"] == {
        "name": "mine",
        "slices": 4,
        "slice_spacing_mm": 3.0,
        "pixel_spacing_mm": [1.0, 1.0],
        "orientation": "LPS",
    }
    assert len(document["queries"][0]["retrieved"]) == 5


def test_several_slices_have_an_answer_and_a_figure_each(
    folder: Path, store: Store, tmp_path: Path, here: Path
) -> None:
    view = volume()
    image = write(tmp_path / "mine.nii", view)
    answer = asked(folder, image, store, "3,0-1", extractor="brightness", top=2)
    assert [found["slice"] for found in answer.document["queries"]] == [3, 0, 1]
    for found in answer.document["queries"]:
        names = [row["slice_id"] for row in found["retrieved"]]
        assert names == [name for name, _ in nearest(folder, view[found["slice"]], 2)]
    assert sorted(path.name for path in here.iterdir()) == [
        f"brightness-mean-mine_z000{z}.png" for z in (0, 1, 3)
    ]
    asked(folder, image, store, "0,2", out=tmp_path / "new" / "a.svg")
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["a-z0000.svg", "a-z0002.svg"]
    answer = asked(folder, image, store, "0", out=tmp_path / "one.pdf")
    assert answer.lines[-1] == f"Wrote {tmp_path / 'one.pdf'}" and (tmp_path / "one.pdf").is_file()


def test_the_figure_shows_the_slices_without_a_label_for_the_query(
    folder: Path, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[tuple[ShownSlice, list[ShownSlice], dict[str, Any]]] = []
    monkeypatch.setattr(
        querying,
        "draw_explained_retrieval",
        lambda query, items, path, **named: drawn.append((query, items, named)),
    )
    view = volume()
    asked(folder, write(tmp_path / "mine.nii", view), store, "1", extractor="brightness", top=2)
    ((query, retrieved, named),) = drawn
    np.testing.assert_array_equal(query.hu, view[1])
    assert (query.title, query.label, query.right, query.outline) == ("mine, slice 1", "", None, None)
    assert all(item.right is None and item.importance is None for item in retrieved)
    assert [item.title for item in retrieved] == [name for name, _ in nearest(folder, view[1], 2)]
    assert all(item.outline is not None for item in retrieved)
    assert named["title"] == "mine, slice 1, in the gallery of blobs, by brightness-mean"
    assert named["caption"] == "The gallery is synthetic: scans made by a program. "


def test_structures_are_called_by_their_names(folder: Path, store: Store, tmp_path: Path) -> None:
    summary = json.loads((folder / "summary.json").read_text())
    summary["benchmark"]["structures"] = {"1": "liver", "2": "tumour"}
    (folder / "summary.json").write_text(json.dumps(summary))
    lines = asked(folder, write(tmp_path / "mine.nii", volume()), store, top=6).lines
    assert {line.split(maxsplit=4)[4] for line in lines[2:8]} == {"shows liver", "no liver"}


def test_query_and_retrieved_are_explained(folder: Path, store: Store, tmp_path: Path, here: Path) -> None:
    image = write(tmp_path / "mine.nii", volume())
    assignments = ("relax.masks=24",)
    answer = asked(folder, image, store, explain=True, uncertainty=True, assignments=assignments, top=2)
    (found,) = answer.document["queries"]
    assert found["map"]["masks"] == 24 and -1 <= found["map"]["reliability"] <= 1
    assert [row["map"]["masks"] for row in found["retrieved"]] == [24, 24]
    assert answer.document["relax"]["masks"] == 24
    assert "; reliability " in answer.lines[0] and answer.lines[0].endswith(", 24 masks")
    assert answer.lines[2].endswith(", 24 masks")
    unreached = asked(folder, image, store, explain=True, until_reliable=0.999, top=1)
    assert any("2 of 2 maps are below a reliability of 0.999" in line for line in unreached.lines)


def test_embeddings_and_maps_are_not_computed_twice(
    folder: Path, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import cbirbench_fake

    sizes: list[int] = []
    plain = cbirbench_fake.BrightnessMean.embed

    def embed(self: Any, images: Any) -> Any:
        sizes.append(len(images))
        return plain(self, images)

    monkeypatch.setattr(cbirbench_fake.BrightnessMean, "embed", embed)
    image = write(tmp_path / "mine.nii", volume())
    first = asked(folder, image, store, explain=True, top=1, extractor="brightness")
    assert sum(sizes) == 1 + 1 + 2 * 21, "the check, the query, and two slices whole and under 20 masks"
    sizes.clear()
    assert asked(folder, image, store, explain=True, top=1, extractor="brightness") == first
    assert sizes == [1]


def test_a_query_of_a_gallery_slice_s_name_is_not_mistaken_for_it(
    folder: Path, store: Store, tmp_path: Path
) -> None:
    """Maps are kept by slice id: a scan called as a gallery scan must not get that one's map."""
    run = open_run(folder)
    path = write(tmp_path / f"{run.gallery[0].volume_id}.nii", volume())
    answer = asked(folder, path, store, "0", explain=True, top=6, extractor="brightness")
    (found,) = answer.document["queries"]
    reliabilities = [row["map"]["reliability"] for row in found["retrieved"]]
    assert found["map"]["reliability"] not in reliabilities


# A scan of the gallery's own ----------------------------------------------------------------------------


def test_a_slice_of_the_gallery_finds_itself_and_that_is_said(
    folder: Path, store: Store, tmp_path: Path
) -> None:
    gallery = open_run(folder).gallery
    view = volume()
    view[3], view[1] = gallery[2].hu, gallery[1].hu  # g0-1 is at its own place, 1
    image = write(tmp_path / "mine.nii", view)
    answer = asked(folder, image, store, "3", extractor="brightness")
    assert answer.document["queries"][0]["retrieved"][0]["slice_id"] == gallery[2].slice_id
    assert answer.document["queries"][0]["retrieved"][0]["distance"] == pytest.approx(0, abs=1e-6)
    assert list(answer.notes) == answer.document["notes"]
    assert answer.notes == [
        "Slice 3 of mine has the very pixels of g1-0, which is in the gallery: it finds itself.",
        "mine seems to be one of the gallery's own scans: other slices of it have the very pixels of g0-1. "
        "What is nearest may be the scan itself.",
    ]
    (note,) = asked(folder, image, store, "2").notes
    assert note.startswith("mine seems to be one of the gallery's own scans")


def test_slices_of_one_value_are_no_evidence_of_a_known_scan() -> None:
    def item(hu: np.ndarray, z: int) -> CTSlice:
        return CTSlice(hu, None, f"s{z}", "p", "p", "p", z, 0)

    air, noise = np.full((40, 40), -1000, np.int16), np.arange(1600, dtype=np.int16).reshape(40, 40)
    changed = noise.copy()
    changed[1, 1] += 1  # a pixel between those that are looked at first
    other_shape = noise.reshape(20, 80)
    gallery = Slices(tuple(item(hu, z) for z, hu in enumerate((air, noise))))
    asked_for = [item(hu, z) for z, hu in enumerate((air, changed, noise, other_shape))]
    found = known_slices(asked_for, gallery)
    assert {number: one.slice_id for number, one in found.items()} == {2: "s1"}


# Mistakes -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("slices", "changed", "says"),
    [
        ("", {}, "has slices 0 to 3, and --slice does not say which"),
        ("4", {}, "has slices 0 to 3, no slice 4"),
        ("2", {"top": 7}, "--top 7 slices cannot be shown: the gallery has 6"),
        ("2", {"extractor": "hog"}, "has no extractor 'hog'"),
        ("2", {"run": 2}, "has no run 2"),
        ("2", {"orientation": "XYZ"}, "three letters"),
        ("2", {"out": Path("a.bmp")}, "a.bmp has the ending '.bmp'"),
        ("2", {"assignments": ("relax.masks=9",)}, "Add --explain"),
        ("2", {"uncertainty": True}, "Add --explain"),
        ("2", {"until_reliable": 0.5}, "Add --explain"),
        ("2", {"explain": True, "assignments": ("relax.mask=9",)}, "Did you mean 'masks'?"),
        ("2", {"explain": True, "assignments": ("run.batch_size=9",)}, "options of relax only"),
    ],
)
def test_a_mistake_is_a_usage_error_and_writes_nothing(
    folder: Path, store: Store, tmp_path: Path, here: Path, slices: str, changed: dict[str, Any], says: str
) -> None:
    image = write(tmp_path / "mine.nii", volume())
    with pytest.raises(UsageError) as caught:
        asked(folder, image, store, slices, **changed)
    assert says in str(caught.value)
    assert list(here.iterdir()) == []


def test_a_damaged_scan_and_a_picture_are_data_errors(
    folder: Path, store: Store, tmp_path: Path, here: Path
) -> None:
    image = write(tmp_path / "mine.nii.gz", volume())
    image.write_bytes(image.read_bytes()[:-300])
    with pytest.raises(DataError, match=r"mine\.nii\.gz"):
        asked(folder, image, store)
    (tmp_path / "mine.png").write_bytes(b"\x89PNG")
    with pytest.raises(DataError, match="no Hounsfield units"):
        asked(folder, tmp_path / "mine.png", store)
    with pytest.raises(UsageError, match=r"nowhere\.nii does not exist"):
        asked(folder, tmp_path / "nowhere.nii", store)
    with pytest.raises(UsageError, match="holds no run"):  # the two in the wrong order
        asked(tmp_path / "mine.png", folder, store)
    with pytest.raises(DataError, match="cannot be Hounsfield units"):
        asked(folder, write(tmp_path / "grey.nii", np.abs(volume()) % 256), store)
    assert list(here.iterdir()) == []


def test_other_weights_are_refused(folder: Path, store: Store, tmp_path: Path) -> None:
    one, other = (folder / f"weights/learned-offset/run-{run:03d}.safetensors" for run in (0, 1))
    shutil.copy(other, one)
    with pytest.raises(DataError, match="learned-offset no longer embeds q0-0"):
        asked(folder, write(tmp_path / "mine.nii", volume()), store)


def test_what_is_doubtful_about_the_scan_is_noted(folder: Path, store: Store, tmp_path: Path) -> None:
    image = write(tmp_path / "mine.nii", volume(), affine=np.eye(4))
    (note,) = asked(folder, image, store).notes
    assert "states no orientation" in note
    assert asked(folder, image, store, unstated="LPS").notes == []
