from __future__ import annotations

import gzip
import tracemalloc
from itertools import permutations, product
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from cbirbench.errors import DataError, DataWarning
from cbirbench.scans.nifti import open_nifti
from cbirbench.scans.volume import check_same_grid
from cbirbench.scans.volumes import open_volume

# Where the patient's directions point in world coordinates (RAS+), and along which axis of the radiological
# view (slices to superior, rows to posterior, columns to left) each lies, and in which sense.
DIRECTIONS = {"R": (0, 1), "L": (0, -1), "A": (1, 1), "P": (1, -1), "S": (2, 1), "I": (2, -1)}
VIEW = {"S": (0, False), "I": (0, True), "P": (1, False), "A": (1, True), "L": (2, False), "R": (2, True)}
SPACING = (2.5, 0.7, 0.9)  # millimetres between slices, rows, columns of the view
ORIENTATIONS = ["".join(c) for axes in permutations(("RL", "AP", "SI")) for c in product(*axes)]


def radiological_scan(slices: int = 7, rows: int = 5, columns: int = 4) -> np.ndarray:
    """A scan in radiological view whose voxels all differ, from -1000 HU upwards."""
    count = slices * rows * columns
    values = np.random.default_rng(0).permutation(count) * (2000 // count) - 1000
    return values.reshape(slices, rows, columns).astype(np.int16)


def stored_as(view: np.ndarray, codes: str) -> tuple[np.ndarray, np.ndarray]:
    """The array and affine of a view stored with axes along the directions that `codes` name."""
    stored = view.transpose([VIEW[code][0] for code in codes])
    stored = stored[tuple(slice(None, None, -1 if VIEW[code][1] else 1) for code in codes)]
    affine = np.eye(4)
    affine[:3, :3] = 0
    affine[:3, 3] = (-120, 35, 410)
    for axis, code in enumerate(codes):
        world, sign = DIRECTIONS[code]
        affine[world, axis] = sign * SPACING[VIEW[code][0]]
    return stored, affine


def write(path: Path, stored: np.ndarray, affine: np.ndarray | None = None) -> Path:
    image = nib.Nifti1Image(np.asarray(stored), np.diag((-0.7, -0.9, 2.5, 1.0)) if affine is None else affine)
    nib.save(image, path)
    return path


def read_all(path: Path) -> np.ndarray:
    volume = open_volume(path)
    return volume.read_hu(range(volume.grid.slice_count))


def read_mask(path: Path) -> np.ndarray:
    """A mask on its own grid, with the file's axes."""
    mask = open_nifti(path)
    view = mask.read_mask(mask)
    turned = view[tuple(slice(None, None, -1 if flip else 1) for flip in mask.grid.flips)]
    return turned.transpose(np.argsort(mask.grid.axes))


def test_all_orientations_are_tried() -> None:
    assert len(set(ORIENTATIONS)) == 48


@pytest.mark.parametrize("codes", ORIENTATIONS)
def test_every_orientation_gives_the_same_radiological_slices(codes: str, tmp_path: Path) -> None:
    view = radiological_scan()
    stored, affine = stored_as(view, codes)
    assert "".join(nib.aff2axcodes(affine)) == codes
    volume = open_volume(write(tmp_path / "scan.nii", stored, affine))
    assert volume.grid.slice_count == 7
    assert volume.grid.spacing_mm == pytest.approx((0.7, 0.9))
    np.testing.assert_array_equal(volume.read_hu([0, 2, 3, 6]), view[[0, 2, 3, 6]])
    mask = (view > 0).astype(np.uint8) * 2
    label = open_volume(write(tmp_path / "label.nii", *stored_as(mask, codes)))
    np.testing.assert_array_equal(label.read_mask(volume), mask)


def test_first_column_is_the_patients_right_and_first_row_anterior(tmp_path: Path) -> None:
    # RAS, worked by hand: voxel [i, j, k] lies i to the left-to-right, j to the front, k to the head.
    stored = np.full((3, 3, 2), -1000, dtype=np.int16)
    stored[2, 1, 0] = 11  # right
    stored[1, 2, 0] = 22  # anterior
    stored[1, 1, 1] = 33  # superior, centre
    slices = read_all(write(tmp_path / "scan.nii.gz", stored, np.diag((2.0, 2, 3, 1))))
    assert slices[0, 1, 0] == 11
    assert slices[0, 0, 1] == 22
    assert slices[1, 1, 1] == 33


@settings(max_examples=30, deadline=None)
@given(codes=st.sampled_from(ORIENTATIONS), angles=st.tuples(*[st.floats(-0.25, 0.25)] * 3))
def test_small_tilts_change_nothing(
    codes: str, angles: tuple[float, ...], tmp_path_factory: pytest.TempPathFactory
) -> None:
    view = radiological_scan()
    stored, affine = stored_as(view, codes)
    for (first, second), angle in zip(((0, 1), (0, 2), (1, 2)), angles, strict=True):
        turn = np.eye(4)
        turn[[first, second], [first, second]] = np.cos(angle)
        turn[first, second], turn[second, first] = -np.sin(angle), np.sin(angle)
        affine = turn @ affine
    path = write(tmp_path_factory.mktemp("tilted") / "scan.nii", stored, affine)
    np.testing.assert_array_equal(read_all(path), view)
    assert open_volume(path).grid.spacing_mm == pytest.approx((0.7, 0.9), rel=1e-5)


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("dtype", ["<i2", ">i2", "<i4", "<f4", ">f8", "<i8"])
def test_stored_types_and_byte_orders(dtype: str, suffix: str, tmp_path: Path) -> None:
    view = radiological_scan()
    stored, affine = stored_as(view, "LPS")
    header = nib.Nifti1Header(endianness=dtype[0])
    header.set_data_dtype(np.dtype(dtype))
    path = tmp_path / f"scan{suffix}"
    nib.save(nib.Nifti1Image(stored.astype(dtype), affine, header), path)
    assert open_nifti(path).dtype == np.dtype(dtype)
    slices = read_all(path)
    assert slices.dtype == np.int16
    np.testing.assert_array_equal(slices, view)


def test_nifti_2_is_read(tmp_path: Path) -> None:
    view = radiological_scan()
    nib.save(nib.Nifti2Image(*stored_as(view, "RAS")), tmp_path / "scan.nii.gz")
    np.testing.assert_array_equal(read_all(tmp_path / "scan.nii.gz"), view)


@pytest.mark.parametrize(("slope", "intercept"), [(1.0, -1024.0), (0.5, -1000.25), (-1.0, 900.0)])
def test_slope_and_intercept_give_rounded_hu(slope: float, intercept: float, tmp_path: Path) -> None:
    raw = np.random.default_rng(1).integers(0, 2500, size=(4, 5, 6)).astype(np.uint16)
    header = nib.Nifti1Header()
    header.set_data_dtype(np.uint16)
    image = nib.Nifti1Image(raw, np.diag((-1.0, -1, 2, 1)), header)
    image.header.set_slope_inter(slope, intercept)
    nib.save(image, tmp_path / "plain.nii")
    path = tmp_path / "scan.nii"
    data = bytearray((tmp_path / "plain.nii").read_bytes())
    data[112:120] = np.array([slope, intercept], "<f4").tobytes()
    data[352:] = raw.tobytes(order="F")
    path.write_bytes(data)
    expected = np.rint(raw.astype(float) * slope + intercept).transpose(2, 1, 0)
    np.testing.assert_array_equal(read_all(path), expected)


def test_float_hu_is_rounded(tmp_path: Path) -> None:
    stored = np.full((3, 3, 3), -1000.0, dtype=np.float32)
    stored[1, 1, 1] = 59.6
    assert read_all(write(tmp_path / "scan.nii", stored))[1, 1, 1] == 60


def test_no_plane_but_the_wanted_ones_is_kept(tmp_path: Path) -> None:
    stored = np.random.default_rng(2).integers(-1000, 1000, size=(128, 128, 160)).astype(np.float32)
    volume = open_volume(write(tmp_path / "scan.nii.gz", stored))
    tracemalloc.start()
    slices = volume.read_hu([3, 80, 150])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    np.testing.assert_array_equal(slices, stored.transpose(2, 1, 0)[[3, 80, 150]])
    assert peak < stored.nbytes / 4


@pytest.mark.parametrize("codes", ["LPS", "RAI", "SAR"])
@pytest.mark.parametrize("dtype", [np.int16, np.float32])
def test_a_whole_scan_takes_the_memory_of_its_slices(codes: str, dtype: type, tmp_path: Path) -> None:
    view = np.random.default_rng(2).integers(-1000, 1000, size=(160, 150, 140)).astype(dtype)
    stored, affine = stored_as(view, codes)
    volume = open_volume(write(tmp_path / "scan.nii", stored, affine))
    tracemalloc.start()
    slices = volume.read_hu(range(160))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    np.testing.assert_array_equal(slices, view)
    assert slices.flags.c_contiguous
    assert peak < 1.3 * slices.nbytes


@pytest.mark.parametrize("codes", ["LPS", "RAI", "SAR"])
def test_a_slice_that_is_asked_for_twice_comes_twice(codes: str, tmp_path: Path) -> None:
    view = radiological_scan()
    stored, affine = stored_as(view, codes)
    found = open_volume(write(tmp_path / "scan.nii", stored, affine)).read_hu([1, 1, 4])
    np.testing.assert_array_equal(found, view[[1, 1, 4]])


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32, np.float64])
def test_masks_of_any_type_become_uint8_with_their_own_values(dtype: type, tmp_path: Path) -> None:
    stored = np.random.default_rng(3).integers(0, 3, size=(4, 5, 6)).astype(dtype)
    values = read_mask(write(tmp_path / "label.nii.gz", stored))
    assert values.dtype == np.uint8
    np.testing.assert_array_equal(values, stored)


@pytest.mark.parametrize(
    ("value", "dtype", "shown"),
    [(-1, np.int16, "-1"), (256, np.int16, "256"), (0.4, np.float32, "0.4"), (np.nan, np.float32, "nan")],
)
def test_masks_with_other_values(value: float, dtype: type, shown: str, tmp_path: Path) -> None:
    stored = np.zeros((4, 5, 6), dtype=dtype)
    stored[2, 2, 4] = value
    path = write(tmp_path / "label.nii.gz", stored)
    with pytest.raises(DataError, match=rf"label\.nii\.gz must hold whole numbers .* found {shown}\."):
        read_mask(path)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_nan_and_infinity_anywhere_in_the_scan(value: float, tmp_path: Path) -> None:
    stored = stored_as(radiological_scan(), "LPS")[0].astype(np.float32)
    stored[1, 1, 5] = value
    volume = open_volume(write(tmp_path / "scan.nii.gz", stored))
    with pytest.raises(DataError, match=r"scan\.nii\.gz holds NaN or infinite values"):
        volume.read_hu([0, 1])


@pytest.mark.parametrize(
    "values",
    [
        np.linspace(0, 1, 60),  # scaled to 0..1
        np.linspace(-1, 1, 60),
        np.linspace(0, 255, 60),  # 8-bit
        np.linspace(0, 4095, 60),  # without the rescale intercept
        np.linspace(-200 + 1, 300, 60),  # windowed
        np.full(60, -1024),  # nothing but air
        np.linspace(-1000, 40000, 60),
        np.linspace(-33000, 1000, 60),
    ],
)
def test_values_that_cannot_be_hu(values: np.ndarray, tmp_path: Path) -> None:
    volume = open_volume(write(tmp_path / "scan.nii.gz", values.reshape(3, 4, 5).astype(np.float32)))
    with pytest.raises(DataError, match=r"scan\.nii\.gz holds values from .*Hounsfield units"):
        volume.read_hu([0])


@pytest.mark.parametrize("low", [-32768, -3024, -1024, -1000])
def test_padding_values_of_scanners_are_hu(low: int, tmp_path: Path) -> None:
    stored = np.linspace(low, 32767, 60).reshape(3, 4, 5).astype(np.int16)
    assert read_all(write(tmp_path / "scan.nii.gz", stored)).min() == low


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"scan\.nii\.gz does not exist"):
        open_volume(tmp_path / "scan.nii.gz")


@pytest.mark.parametrize(
    "content",
    # Named, as gzip writes the time: two workers would not collect the same tests.
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"no scan at all", id="text"),
        pytest.param(b"\x1f\x8b", id="start of gzip"),
        pytest.param(gzip.compress(b"x" * 1000, mtime=0), id="text in gzip"),
    ],
)
@pytest.mark.parametrize("name", ["scan.nii", "scan.nii.gz"])
def test_files_that_are_no_nifti(content: bytes, name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=r"scan\.nii") as raised:
        open_volume(tmp_path / name)
    assert raised.value.remedy


def test_plain_nifti_under_a_gzip_name(tmp_path: Path) -> None:
    plain = write(tmp_path / "scan.nii", radiological_scan())
    plain.rename(tmp_path / "scan.nii.gz")
    with pytest.raises(DataError, match=r"scan\.nii\.gz cannot be read: .*gzip"):
        open_volume(tmp_path / "scan.nii.gz")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"abc", "is no gzip file"),
        (b"a", "is no gzip file"),
        (b"\x1f", "is truncated"),
        (b"\x1f\x8b\x08", "is truncated"),
        (b"", "is not a NIfTI file"),
    ],
    ids=["text", "a letter", "a byte of gzip", "start of gzip", "empty"],
)
def test_a_short_file_under_a_gzip_name(content: bytes, says: str, tmp_path: Path) -> None:
    (tmp_path / "scan.nii.gz").write_bytes(content)
    with pytest.raises(DataError, match=r"scan\.nii\.gz ") as raised:
        open_volume(tmp_path / "scan.nii.gz")
    assert says in raised.value.problem


@pytest.mark.parametrize("name", ["scan.nii", "scan.nii.gz"])
def test_a_file_cut_anywhere_is_noticed(name: str, tmp_path: Path) -> None:
    data = write(tmp_path / name, stored_as(radiological_scan(), "LPS")[0]).read_bytes()
    path = tmp_path / f"cut_{name}"
    for length in (*range(1, len(data), 23), len(data) - 1):
        path.write_bytes(data[:length])
        with pytest.raises(DataError, match="cut_scan"):
            open_volume(path).read_hu([0])  # the most inferior slice, long before the cut


def test_a_flipped_bit_is_noticed(tmp_path: Path) -> None:
    path = write(tmp_path / "scan.nii.gz", stored_as(radiological_scan(), "LPS")[0])
    data = bytearray(path.read_bytes())
    data[-6] ^= 1  # in the checksum
    path.write_bytes(data)
    with pytest.raises(DataError, match=r"scan\.nii\.gz cannot be read"):
        read_all(path)


@pytest.mark.filterwarnings("ignore:.*states no orientation")
@settings(max_examples=150, deadline=None)
@given(changes=st.lists(st.tuples(st.integers(0, 351), st.integers(0, 255)), min_size=1, max_size=4))
@example(changes=[(47, 255)])  # a negative dimension
@example(changes=[(110, 128), (111, 127)])  # voxels from infinity on
@example(changes=[(110, 192), (111, 127)])  # from NaN on
def test_a_damaged_header_is_read_or_refused(
    changes: list[tuple[int, int]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = write(tmp_path_factory.mktemp("damaged") / "scan.nii", stored_as(radiological_scan(), "LPS")[0])
    data = bytearray(path.read_bytes())
    for position, value in changes:
        data[position] = value
    path.write_bytes(data)
    try:
        slices = open_volume(path).read_hu([0])
    except DataError as error:
        assert "scan.nii" in error.problem
        assert error.remedy
    else:
        assert slices.dtype == np.int16
        assert slices.shape[0] == 1


def test_a_header_that_promises_more_than_memory_holds(tmp_path: Path) -> None:
    path = write(tmp_path / "label.nii.gz", np.zeros((4, 5, 6), dtype=np.uint8))
    data = bytearray(gzip.decompress(path.read_bytes()))
    data[42:48] = np.array([32000, 32000, 32000], "<i2").tobytes()
    path.write_bytes(gzip.compress(data))
    with pytest.raises(DataError, match=r"label\.nii\.gz is truncated: its \d+ bytes cannot hold"):
        read_mask(path)


@pytest.mark.parametrize("shape", [(4, 5), (4, 5, 6, 2), (4, 5, 6, 1, 3)])
def test_other_than_three_dimensions(shape: tuple[int, ...], tmp_path: Path) -> None:
    path = write(tmp_path / "scan.nii.gz", np.zeros(shape, dtype=np.int16))
    with pytest.raises(DataError, match=r"scan\.nii\.gz must hold one 3-D volume, its shape is \(4, 5"):
        open_volume(path)


@pytest.mark.parametrize("dtype", ["c8", [("R", "u1"), ("G", "u1"), ("B", "u1")]])
def test_complex_and_coloured_voxels(dtype: object, tmp_path: Path) -> None:
    path = write(tmp_path / "scan.nii", np.zeros((2, 3, 4), dtype=dtype))  # type: ignore[call-overload]
    with pytest.raises(DataError, match=r"scan\.nii stores .* values"):
        open_volume(path)


def test_half_of_a_pair(tmp_path: Path) -> None:
    nib.save(nib.Nifti1Pair(np.zeros((2, 3, 4), np.int16), np.eye(4)), tmp_path / "scan.img")
    (tmp_path / "scan.hdr").rename(tmp_path / "scan.nii")
    with pytest.raises(DataError, match=r"scan\.nii is one half"):
        open_volume(tmp_path / "scan.nii")


@pytest.mark.parametrize(
    "rows",
    [
        [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 0]],
        [[1, 2, 0, 0], [1, 2, 0, 0], [0, 0, 3, 0]],
        [[1, 0, 0, np.nan], [0, 1, 0, 0], [0, 0, 1, 0]],
        [[np.inf, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0]],
    ],
)
def test_affines_that_place_no_volume(rows: list[list[float]], tmp_path: Path) -> None:
    path = write(tmp_path / "scan.nii", np.zeros((2, 3, 4), np.int16))
    data = bytearray(path.read_bytes())
    data[252:256] = np.array([0, 2], "<i2").tobytes()  # qform and sform code
    data[280:328] = np.array(rows, "<f4").tobytes()
    path.write_bytes(data)
    with pytest.raises(DataError, match=r"affine of .*scan\.nii places no volume"):
        open_volume(path)


def test_an_identity_affine_and_no_orientation_are_warned_of(tmp_path: Path) -> None:
    view = radiological_scan()
    identity = write(tmp_path / "identity.nii", view.transpose(2, 1, 0), np.eye(4))
    with pytest.warns(DataWarning, match=r"identity\.nii states no orientation\. It is read as RAS"):
        slices = read_all(identity)
    np.testing.assert_array_equal(slices, view[:, ::-1, ::-1])  # RAS, as the identity says
    unstated = tmp_path / "unstated.nii"
    image = nib.Nifti1Image(view.transpose(2, 1, 0), None)
    nib.save(image, unstated)
    with pytest.warns(DataWarning, match=r"unstated\.nii states no orientation"):
        open_volume(unstated)


def test_image_and_mask_of_different_shapes(tmp_path: Path) -> None:
    image = open_volume(write(tmp_path / "scan.nii", np.zeros((4, 5, 6), np.int16)))
    mask = open_volume(write(tmp_path / "label.nii", np.zeros((4, 5, 7), np.uint8)))
    with pytest.raises(DataError, match=r"scan\.nii has shape \(4, 5, 6\), but its mask .*label\.nii .*7\)"):
        check_same_grid(image, mask)


@pytest.mark.parametrize(("shift", "same"), [(0.0, True), (0.3, True), (0.4, False), (50.0, False)])
def test_image_and_mask_half_a_voxel_apart(shift: float, same: bool, tmp_path: Path) -> None:
    affine = np.diag((-0.7, -0.9, 2.5, 1.0))  # half the smallest voxel side is .35 mm
    moved = affine.copy()
    moved[1, 3] += shift
    image = open_volume(write(tmp_path / "scan.nii", np.zeros((4, 5, 6), np.int16), affine))
    mask = open_volume(write(tmp_path / "label.nii", np.zeros((4, 5, 6), np.uint8), moved))
    if same:
        check_same_grid(image, mask)
    else:
        with pytest.raises(DataError, match=rf"label\.nii place the same voxel up to {shift:g} mm apart"):
            check_same_grid(image, mask)


def test_a_mirrored_mask_is_noticed_though_its_origin_agrees(tmp_path: Path) -> None:
    image = open_volume(
        write(tmp_path / "scan.nii", np.zeros((4, 5, 6), np.int16), np.diag((-1.0, -1, 2, 1)))
    )
    mask = open_volume(write(tmp_path / "label.nii", np.zeros((4, 5, 6), np.uint8), np.diag((1.0, -1, 2, 1))))
    with pytest.raises(DataError, match="up to 3 mm apart"):
        check_same_grid(image, mask)
