from __future__ import annotations

from itertools import permutations, product

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cbirbench.errors import DataError, UsageError
from cbirbench.scans.geometry import Grid, check_affine, millimetres_apart, orientation

ORIENTATIONS = ["".join(codes) for axes in permutations(("RL", "AP", "SI")) for codes in product(*axes)]
# Where directions point in RAS+ world coordinates.
WORLD = {"R": (1, 0, 0), "L": (-1, 0, 0), "A": (0, 1, 0), "P": (0, -1, 0), "S": (0, 0, 1), "I": (0, 0, -1)}
SHAPE, SIZES, ORIGIN = (3, 4, 5), (0.7, 0.9, 2.5), (-12.0, 34.0, 5.0)


def affine_of(codes: str) -> np.ndarray:
    affine = np.eye(4)
    for axis, (code, size) in enumerate(zip(codes, SIZES, strict=True)):
        affine[:3, axis] = size * np.array(WORLD[code])
    affine[:3, 3] = ORIGIN
    return affine


def turned(affine: np.ndarray, angles: tuple[float, float, float]) -> np.ndarray:
    for (first, second), angle in zip(((0, 1), (0, 2), (1, 2)), angles, strict=True):
        turn = np.eye(4)
        turn[[first, second], [first, second]] = np.cos(angle)
        turn[first, second], turn[second, first] = -np.sin(angle), np.sin(angle)
        affine = turn @ affine
    return affine


def tilted(degrees: float) -> np.ndarray:
    """LPS, its slices leaning about the left-right axis while the table moves along the body."""
    angle = np.radians(degrees)
    affine = affine_of("LPS")
    affine[:3, 1] = 0.9 * np.array((0, -np.cos(angle), np.sin(angle)))
    return affine


@pytest.mark.parametrize("codes", ORIENTATIONS)
def test_each_voxel_of_the_view_keeps_its_place(codes: str) -> None:
    grid = Grid(SHAPE, affine_of(codes))
    assert grid.codes == codes
    stored = np.arange(60).reshape(SHAPE)
    view = grid.radiological_view(stored)
    assert view.shape == grid.view_shape
    assert grid.slice_count == view.shape[0]
    # An oracle of its own: sort all voxels by where they lie, up, then to the back, then to the left.
    places = {int(stored[i]): (grid.affine @ (*i, 1))[:3] for i in np.ndindex(SHAPE)}
    order = sorted(
        places, key=lambda v: (round(places[v][2], 6), -round(places[v][1], 6), -round(places[v][0], 6))
    )
    assert view.ravel().tolist() == order
    for index in np.ndindex(view.shape):
        np.testing.assert_allclose((grid.view_affine @ (*index, 1))[:3], places[int(view[index])], atol=1e-9)


@pytest.mark.parametrize("codes", ORIENTATIONS)
def test_stored_order_undoes_the_view(codes: str) -> None:
    grid = Grid(SHAPE, affine_of(codes))
    stored = np.arange(60).reshape(SHAPE)
    np.testing.assert_array_equal(grid.stored_order(grid.radiological_view(stored)), stored)
    view = np.zeros(grid.view_shape, dtype=int)
    grid.stored_order(view)[...] = stored  # in place
    np.testing.assert_array_equal(view, grid.radiological_view(stored))


@pytest.mark.parametrize("codes", ORIENTATIONS)
def test_sizes_follow_their_axes(codes: str) -> None:
    grid = Grid(SHAPE, affine_of(codes))
    along = {frozenset(WORLD_PAIR[c]): size for c, size in zip(codes, SIZES, strict=True)}
    assert grid.voxel_mm == pytest.approx(
        (along[frozenset("SI")], along[frozenset("AP")], along[frozenset("RL")])
    )
    assert grid.spacing_mm == pytest.approx(grid.voxel_mm[1:])
    assert grid.tilt_degrees == pytest.approx(0, abs=1e-5)
    assert grid.obliquity_degrees == pytest.approx(0, abs=1e-5)
    assert not grid.square_pixels


WORLD_PAIR = {code: pair for pair in ("RL", "AP", "SI") for code in pair}


@pytest.mark.parametrize("codes", ORIENTATIONS)
def test_stored_positions(codes: str) -> None:
    grid = Grid(SHAPE, affine_of(codes))
    stored = np.arange(60).reshape(SHAPE)
    view = grid.radiological_view(stored)
    for z in range(grid.slice_count):
        kept = stored.take(np.sort(grid.stored_positions([z])), axis=grid.axes[0])
        np.testing.assert_array_equal(grid.radiological_view(kept)[0], view[z])


@given(codes=st.sampled_from(ORIENTATIONS), angles=st.tuples(*[st.floats(-0.3, 0.3)] * 3))
def test_turned_scans_agree_with_nibabel(codes: str, angles: tuple[float, float, float]) -> None:
    grid = Grid(SHAPE, turned(affine_of(codes), angles))
    stored = np.arange(60).reshape(SHAPE)
    theirs = nib.Nifti1Image(stored.astype(np.int16), grid.affine)
    target = nib.orientations.axcodes2ornt("LPS")
    transform = nib.orientations.ornt_transform(nib.io_orientation(grid.affine), target)
    theirs = theirs.as_reoriented(transform)
    np.testing.assert_array_equal(
        grid.radiological_view(stored), np.asarray(theirs.dataobj).transpose(2, 1, 0)
    )
    np.testing.assert_allclose(grid.view_affine, theirs.affine[:, [2, 1, 0, 3]], atol=1e-9)
    assert grid.tilt_degrees == pytest.approx(0, abs=1e-4)


@pytest.mark.parametrize("degrees", [-30, -5, 12.5, 30])
def test_a_tilted_gantry(degrees: float) -> None:
    grid = Grid(SHAPE, tilted(degrees))
    assert grid.tilt_degrees == pytest.approx(abs(degrees))
    assert grid.obliquity_degrees == pytest.approx(abs(degrees))
    # Slices are nearer to each other than the table moves; pixels keep their size.
    assert grid.voxel_mm == pytest.approx((2.5 * np.cos(np.radians(degrees)), 0.9, 0.7))


@pytest.mark.parametrize("degrees", [-30, 5, 20])
def test_an_oblique_scan_is_not_tilted(degrees: float) -> None:
    grid = Grid(SHAPE, turned(affine_of("LPS"), (0, 0, float(np.radians(degrees)))))
    assert grid.tilt_degrees == pytest.approx(0, abs=1e-5)
    assert grid.obliquity_degrees == pytest.approx(abs(degrees))
    assert grid.voxel_mm == pytest.approx((2.5, 0.9, 0.7))


@pytest.mark.parametrize(
    ("columns", "square"), [(1.0, True), (1.009, True), (1.02, False), (0.98, False), (2.0, False)]
)
def test_square_pixels(columns: float, square: bool) -> None:
    assert Grid(SHAPE, np.diag((columns, 1.0, 3.0, 1.0))).square_pixels is square


@pytest.mark.parametrize("codes", ORIENTATIONS)
def test_turned_to_another_orientation(codes: str) -> None:
    grid = Grid(SHAPE, affine_of("LPS")).turned_to(codes)
    assert grid.codes == codes
    assert grid.shape == SHAPE
    np.testing.assert_allclose(np.linalg.norm(grid.affine[:3, :3], axis=0), SIZES)
    expected = affine_of(codes)
    expected[:3, 3] = 0  # where the scan lies is not known
    np.testing.assert_allclose(grid.affine, expected)


@pytest.mark.parametrize("text", ["lps", " RAS ", "Sal"])
def test_an_orientation(text: str) -> None:
    assert orientation(text) == text.strip().upper()


def test_there_are_48_orientations() -> None:
    letters = "RLAPSIX"
    accepted = set()
    for codes in map("".join, product(letters, repeat=3)):
        try:
            accepted.add(orientation(codes))
        except UsageError as error:
            assert repr(codes) in error.problem
    assert accepted == set(ORIENTATIONS)
    assert len(accepted) == 48


@pytest.mark.parametrize("text", ["", "LP", "LPSS", "LRS", "L P S", "axial"])
def test_no_orientation(text: str) -> None:
    with pytest.raises(UsageError, match="three letters"):
        orientation(text)


@pytest.mark.parametrize(
    "affine",
    [np.diag((1.0, 0, 1, 1)), np.diag((1.0, np.nan, 1, 1)), np.diag((1.0, np.inf, 1, 1)), np.ones((4, 4))],
)
def test_affines_that_place_no_volume(affine: np.ndarray) -> None:
    with pytest.raises(DataError, match="places no volume in space"):
        check_affine("scan.nii", affine)


@given(codes=st.sampled_from(ORIENTATIONS), angles=st.tuples(*[st.floats(-3, 3)] * 3))
def test_affines_that_do(codes: str, angles: tuple[float, float, float]) -> None:
    check_affine("scan.nii", turned(affine_of(codes), angles) * np.array([[1e-3], [1e-3], [1e-3], [1]]))
    check_affine("scan.nii", tilted(30))


def test_how_far_grids_lie_apart() -> None:
    one = Grid(SHAPE, affine_of("LPS"))
    moved = Grid(SHAPE, one.affine.copy())
    moved.affine[:3, 3] += (3, 4, 0)
    assert millimetres_apart(one, one) == 0
    assert millimetres_apart(one, moved) == pytest.approx(5)
    # The same voxels stored the other way round: not apart at all.
    flipped = one.affine.copy()
    flipped[:3, 3] += flipped[:3, 2] * (SHAPE[2] - 1)
    flipped[:3, 2] *= -1
    assert millimetres_apart(one, Grid(SHAPE, flipped)) == pytest.approx(0, abs=1e-9)
    wider = Grid(SHAPE, one.affine @ np.diag((1, 1, 1.1, 1)))  # four steps of .25 mm
    assert millimetres_apart(one, wider) == pytest.approx(1.0)
