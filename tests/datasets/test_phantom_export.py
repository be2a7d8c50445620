import json
from contextlib import contextmanager

import nibabel
import numpy as np
import pytest

from cbirbench.datasets import phantom_export
from cbirbench.datasets.phantom import Phantom, PhantomOptions
from cbirbench.datasets.phantom_export import write_decathlon_layout
from cbirbench.datasets.reconstruction import Scan
from cbirbench.errors import UsageError

SIZE = 64


@pytest.fixture(scope="module")
def task(tmp_path_factory):
    out = tmp_path_factory.mktemp("phantom") / "deep" / "Task03_Liver"
    write_decathlon_layout(out, volumes=3, seed=4, size=SIZE)
    return out


def radiological(image) -> np.ndarray:
    """Voxels as (rows A to P, columns R to L, z I to S), found from world coordinates alone."""
    voxels, affine = np.asanyarray(image.dataobj), image.affine
    # Which array axis moves most along each world axis, and which way.
    axes = [int(np.argmax(np.abs(affine[world, :3]))) for world in range(3)]
    forward = [affine[world, axis] > 0 for world, axis in enumerate(axes)]
    voxels = voxels.transpose(axes)  # now x (R), y (A), z (S), up to direction
    x = slice(None, None, -1) if forward[0] else slice(None)  # from right (x high) to left
    y = slice(None, None, -1) if forward[1] else slice(None)  # from anterior (y high) to posterior
    z = slice(None) if forward[2] else slice(None, None, -1)
    return voxels[x, y, z].transpose(1, 0, 2)


def test_layout(task):
    described = json.loads((task / "dataset.json").read_text())
    assert described["modality"] == {"0": "CT"}
    assert described["labels"] == {"0": "background", "1": "liver", "2": "cancer"}
    assert described["numTraining"] == 3 == len(described["training"])
    assert described["training"][2] == {
        "image": "./imagesTr/liver_2.nii.gz",
        "label": "./labelsTr/liver_2.nii.gz",
    }
    assert "synthetic" in described["description"].lower()
    assert described["release"] == "seed 4, 64 px"
    names = {str(path.relative_to(task)) for path in task.rglob("*") if path.is_file()}
    scans = {f"{folder}/liver_{n}.nii.gz" for folder in ("imagesTr", "labelsTr") for n in range(3)}
    assert names == scans | {"dataset.json"}


@pytest.mark.parametrize(("number", "codes"), [(0, "LPS"), (1, "RAS"), (2, "LAS")])
def test_each_orientation_holds_the_same_slices(task, number, codes):
    image = nibabel.load(task / f"imagesTr/liver_{number}.nii.gz")
    mask = nibabel.load(task / f"labelsTr/liver_{number}.nii.gz")
    assert "".join(nibabel.aff2axcodes(image.affine)) == codes
    assert image.get_data_dtype() == np.int16 and mask.get_data_dtype() == np.uint8
    np.testing.assert_array_equal(image.affine, mask.affine)
    np.testing.assert_allclose(image.get_qform(), image.get_sform(), atol=1e-3)
    assert image.header["qform_code"] == image.header["sform_code"] == 1
    assert image.header.get_xyzt_units()[0] == "mm"

    scan = Scan(4, number, SIZE)
    hu, organ = radiological(image), radiological(mask)
    assert hu.shape == (SIZE, SIZE, scan.count)
    np.testing.assert_allclose(
        image.header.get_zooms(), (scan.spacing_mm[1], scan.spacing_mm[0], scan.spacing_mm[2]), rtol=1e-6
    )
    for z in range(0, scan.count, 7):
        expected = scan.render(z)
        np.testing.assert_array_equal(hu[:, :, z], expected[0])
        np.testing.assert_array_equal(organ[:, :, z], scan.mask(z))
    assert organ[:, : SIZE // 2].astype(bool).sum() > 2 * organ[:, SIZE // 2 :].astype(bool).sum()


def test_the_world_does_not_move_when_voxels_are_flipped(monkeypatch):
    places = []
    for orientation in ("LPS", "RAS", "LAS"):
        monkeypatch.setattr(phantom_export, "ORIENTATIONS", (orientation,))
        _, mask, affine = phantom_export.oriented_volume(0, 0, SIZE)
        voxels = np.argwhere(mask > 0).mean(axis=0)
        places.append((affine @ [*voxels, 1.0])[:3])
    np.testing.assert_allclose(places[1], places[0], atol=1e-6)
    np.testing.assert_allclose(places[2], places[0], atol=1e-6)


def test_affines_differ_from_scan_to_scan(task):
    affines = [nibabel.load(task / f"imagesTr/liver_{n}.nii.gz").affine for n in range(3)]
    assert len({tuple(affine[:3, 3]) for affine in affines}) == 3
    assert len({abs(affine[0, 0]) for affine in affines}) == 3
    assert all(np.abs(affine[:3, 3]).min() > 0 for affine in affines)


def test_bodies_are_those_of_the_benchmark(task):
    benchmark = Phantom(PhantomOptions(seed=4, size=SIZE, gallery_volumes=2, query_volumes=1))
    for number, source in enumerate(benchmark.sources()):
        hu = radiological(nibabel.load(task / f"imagesTr/liver_{number}.nii.gz"))
        mask = radiological(nibabel.load(task / f"labelsTr/liver_{number}.nii.gz"))
        for item in benchmark.read(source):
            np.testing.assert_array_equal(hu[:, :, item.z_index], item.hu)
            np.testing.assert_array_equal(mask[:, :, item.z_index], np.where(item.target, item.mask, 0))
        assert set(np.unique(mask)) <= {0, 1, 2}


def test_the_same_seed_gives_the_same_bytes(task, tmp_path):
    write_decathlon_layout(tmp_path / "again", volumes=1, seed=4, size=SIZE)
    for name in ("imagesTr/liver_0.nii.gz", "labelsTr/liver_0.nii.gz"):
        assert (task / name).read_bytes() == (tmp_path / "again" / name).read_bytes()


def test_a_folder_with_something_in_it_is_left_alone(tmp_path):
    (tmp_path / "mine.txt").write_text("keep")
    with pytest.raises(UsageError, match="not an empty folder"):
        write_decathlon_layout(tmp_path, volumes=1, seed=0, size=SIZE)
    with pytest.raises(UsageError, match=r"mine\.txt"):
        write_decathlon_layout(tmp_path / "mine.txt", volumes=1, seed=0, size=SIZE)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_as_many_slices_as_asked_over_the_same_range(task, tmp_path):
    write_decathlon_layout(tmp_path / "out", volumes=1, seed=4, size=SIZE, slices=48)
    image, drawn = (nibabel.load(folder / "imagesTr/liver_0.nii.gz") for folder in (tmp_path / "out", task))
    assert image.shape == (SIZE, SIZE, 48) != drawn.shape
    covered, before = (one.shape[2] * one.header.get_zooms()[2] for one in (image, drawn))
    assert covered == pytest.approx(before, abs=float(drawn.header.get_zooms()[2]))
    assert image.header.get_zooms()[:2] == drawn.header.get_zooms()[:2]
    # The first slice is the same section of the same body; only the thickness, and so the edges, differ.
    first, as_drawn = (np.asarray(one.dataobj)[:, :, 0].astype(float) for one in (image, drawn))
    assert np.corrcoef(first.ravel(), as_drawn.ravel())[0, 1] > 0.98
    mask = np.asarray(nibabel.load(tmp_path / "out" / "labelsTr/liver_0.nii.gz").dataobj)
    assert 5 < mask.any(axis=(0, 1)).sum() < 43
    assert (
        json.loads((tmp_path / "out" / "dataset.json").read_text())["release"] == "seed 4, 64 px, 48 slices"
    )


@pytest.mark.parametrize(
    "wrong", [{"volumes": 0}, {"seed": -1}, {"size": 8}, {"slices": 3}, {"slices": 2001}]
)
def test_numbers_out_of_range(tmp_path, wrong):
    with pytest.raises(UsageError, match=str(next(iter(wrong.values())))):
        write_decathlon_layout(tmp_path / "out", **{"volumes": 1, "seed": 0, "size": SIZE, **wrong})
    assert not (tmp_path / "out").exists()


def test_what_is_cut_short_has_no_dataset_json(tmp_path, monkeypatch):
    whole = phantom_export._write_nifti
    written = []

    def fails_on_the_second(path, voxels, affine):
        written.append(path.name)
        if len(written) == 2:
            raise KeyboardInterrupt
        whole(path, voxels, affine)

    monkeypatch.setattr(phantom_export, "_write_nifti", fails_on_the_second)
    with pytest.raises(KeyboardInterrupt):
        write_decathlon_layout(tmp_path / "out", volumes=2, seed=0, size=SIZE)
    left = [path.name for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert left == ["liver_0.nii.gz"]


def test_progress_counts_the_volumes(tmp_path):
    seen = []

    class Watched:
        @contextmanager
        def stage(self, title, total):
            seen.append(total)
            yield seen.append

        def note(self, text):
            raise AssertionError(text)

    write_decathlon_layout(tmp_path / "out", volumes=2, seed=0, size=SIZE, progress=Watched())
    assert seen == [2, 1, 1]
