from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cbirbench.datasets.anatomy_shapes import (
    Canvas,
    Pose,
    Texture,
    ellipsoid,
    smooth_min,
    squircle,
    tube,
)

STRAIGHT = Pose(scale=(1.0, 1.0, 1.0), turn=0.0, shift=(0.0, 0.0), lean=(0.0, 0.0))


def one(value: float) -> np.ndarray:
    return np.full((1, 1), value, dtype=np.float32)


@pytest.mark.parametrize(
    ("point", "expected"), [((3, 0, 0), -2.0), ((8, 0, 0), 3.0), ((0, 3, 4), 0.0), ((0, 0, -9), 4.0)]
)
def test_distance_from_a_sphere_is_exact(point, expected):
    found = ellipsoid(one(point[0]), one(point[1]), point[2], (0, 0, 0), (5, 5, 5))
    assert found[0, 0] == pytest.approx(expected, abs=1e-3)


def test_an_ellipsoid_turns_about_z():
    # Long along x, then turned by a quarter: long along y.
    assert ellipsoid(one(0), one(9), 0.0, (0, 0, 0), (10, 2, 2), turn=np.pi / 2)[0, 0] < 0
    assert ellipsoid(one(9), one(0), 0.0, (0, 0, 0), (10, 2, 2), turn=np.pi / 2)[0, 0] > 0


def test_a_squircle_meets_its_half_axes_and_bulges_at_the_corners():
    for x, y in ((13.0, 5.0), (-7.0, 5.0), (3.0, 9.0), (3.0, 1.0)):
        assert squircle(one(x), one(y), (3.0, 5.0), (10.0, 4.0))[0, 0] == pytest.approx(0.0, abs=1e-4)
    corner = one(3.0 + 7.2), one(5.0 + 4.0 * 0.72)
    assert squircle(*corner, (3.0, 5.0), (10.0, 4.0), squareness=0.0)[0, 0] > 0
    assert squircle(*corner, (3.0, 5.0), (10.0, 4.0), squareness=0.35)[0, 0] < 0


@given(st.tuples(*[st.floats(-40, 40)] * 3))
@settings(max_examples=50, deadline=None)
def test_distance_from_a_tube_equals_that_from_many_spheres(point):
    knots = ((-20.0, 0.0, -10.0, 3.0), (5.0, 12.0, 4.0, 3.0), (15.0, -18.0, 20.0, 3.0))
    spheres = []
    for a, b in pairwise(knots):
        for t in np.linspace(0, 1, 400):
            centre = np.array(a[:3]) + t * (np.array(b[:3]) - np.array(a[:3]))
            spheres.append(np.linalg.norm(np.array(point) - centre) - 3.0)
    assert tube(one(point[0]), one(point[1]), point[2], knots)[0, 0] == pytest.approx(min(spheres), abs=0.1)


@given(st.floats(-50, 50), st.floats(-50, 50), st.floats(1, 30))
def test_a_smooth_union_holds_both_and_little_more(a, b, width):
    union = smooth_min(one(a), one(b), width)[0, 0]
    assert min(a, b) - width / 4 - 1e-3 <= union <= min(a, b) + 1e-3
    if abs(a - b) >= width:
        assert union == pytest.approx(min(a, b), abs=1e-3)


def test_a_texture_is_a_function_of_position():
    axis = np.linspace(-100, 100, 41)
    whole = Texture(np.random.default_rng(3), 12.0, axis)
    part = Texture(np.random.default_rng(3), 12.0, axis[10:20])
    np.testing.assert_allclose(part.at(7.5), whole.at(7.5)[10:20, 10:20], atol=1e-5)
    np.testing.assert_allclose(whole.at(7.5, stride=4), whole.at(7.5)[::4, ::4], atol=1e-5)
    assert not np.allclose(whole.at(7.5), whole.at(27.5), atol=0.1)
    # Smooth: over a hundredth of a step nothing jumps, across the lattice's own planes included.
    for z in (-12.0, 0.0, 3.0, 12.0 * 24):
        assert np.abs(whole.at(z - 0.06) - whole.at(z + 0.06)).max() < 0.1


def test_a_texture_has_unit_deviation():
    texture = Texture(np.random.default_rng(0), 5.0, np.linspace(-60, 60, 120))
    values = np.stack([texture.at(z) for z in np.linspace(-60, 60, 60)])
    assert values.std() == pytest.approx(1.0, abs=0.1)
    assert values.mean() == pytest.approx(0.0, abs=0.1)


def test_a_pose_and_its_inverse():
    pose = Pose(scale=(1.1, 0.9, 1.0), turn=0.3, shift=(12.0, -7.0), lean=(0.02, -0.01))
    u, v = pose.to_scanner(31.0, -18.0, 40.0)
    x, y = pose.to_body(one(u), one(v), 40.0)
    assert (x[0, 0], y[0, 0]) == (pytest.approx(31.0, abs=1e-3), pytest.approx(-18.0, abs=1e-3))
    # A quarter turn takes the body's x (towards its left) to the scanner's rows.
    quarter = Pose(scale=(1.0, 1.0, 1.0), turn=np.pi / 2, shift=(0.0, 0.0), lean=(0.0, 0.0))
    assert quarter.to_scanner(10.0, 0.0, 0.0) == pytest.approx((0.0, 10.0))


def canvas(pose: Pose, z: float = 0.0) -> Canvas:
    axis = ((np.arange(96) - 47.5) * 3.0).astype(np.float32)
    return Canvas(*pose.to_body(axis[None, :], axis[:, None], z), z, pose, pixel_mm=3.0, edge_mm=2.0)


POSES = [STRAIGHT, Pose(scale=(1.2, 0.8, 1.0), turn=0.4, shift=(30.0, -20.0), lean=(0.1, 0.2))]


@pytest.mark.parametrize("pose", POSES)
@pytest.mark.parametrize("centre", [(0.0, 0.0, 0.0), (70.0, -50.0, 10.0), (-120.0, 110.0, -5.0)])
def test_a_blob_painted_in_its_window_is_the_whole_blob(pose, centre):
    radii = (30.0, 18.0, 25.0)
    windowed, whole = canvas(pose), canvas(pose)
    windowed.blob(centre, radii, 100.0, turn=0.7)
    whole.paint(ellipsoid(whole.x, whole.y, 0.0, centre, radii, 0.7), 100.0)
    np.testing.assert_array_equal(windowed.hu, whole.hu)
    assert (whole.hu > 0).any()


@pytest.mark.parametrize("pose", POSES)
def test_a_tube_painted_in_its_windows_is_the_whole_tube(pose):
    knots = ((-60.0, 10.0, -40.0, 9.0), (-10.0, 10.0, -2.0, 9.0), (60.0, -30.0, 3.0, 6.0))
    windowed, whole = canvas(pose), canvas(pose)
    windowed.tube(knots, 100.0)
    for segment in (knots[:2], knots[1:]):
        whole.paint(tube(whole.x, whole.y, 0.0, segment), 100.0)
    np.testing.assert_array_equal(windowed.hu, whole.hu)
    assert (whole.hu == 100.0).sum() > 50


def test_gas_lies_in_front_of_the_fluid():
    slice_ = canvas(STRAIGHT)
    window = slice_.window((0.0, 0.0), 40.0)
    shape = ellipsoid(slice_.x[window], slice_.y[window], 0.0, (0, 0, 0), (40, 40, 40))
    slice_.hollow(shape, window, wall=70.0, wall_mm=4.0, content=20.0, air=-10.0)
    column = slice_.hu[:, 48]
    rows = {y: column[int(47.5 + y / 3)] for y in (-60, -25, 15, 60)}
    assert rows == {-60: -1000.0, -25: -900.0, 15: 20.0, 60: -1000.0}
