import numpy as np
import pytest

from cbirbench.explain.native import to_native
from cbirbench.slices import pad_to_square


def test_the_same_size_comes_back_as_it_is():
    importance = np.random.default_rng(0).random((6, 6)).astype(np.float32)
    np.testing.assert_array_equal(to_native(importance, (6, 6)), importance)


def test_upsampling_by_hand():
    importance = np.array([[0, 1], [2, 3]], dtype=np.float32)
    rows = np.array([0, 0.25, 0.75, 1])
    np.testing.assert_allclose(to_native(importance, (4, 4)), 2 * rows[:, None] + rows[None, :], atol=1e-6)


@pytest.mark.parametrize("shape", [(40, 64), (64, 40), (63, 40), (40, 63), (64, 64)])
def test_a_ramp_over_the_native_slice_lands_where_it_was(shape):
    # A ramp survives padding, shrinking and enlarging, so the pixel of each value can be told.
    side = max(shape)
    native = np.add.outer(3 * np.arange(shape[0]), 5 * np.arange(shape[1])).astype(np.int16)
    top, left = (side - shape[0]) // 2, (side - shape[1]) // 2
    centres = (np.arange(16) + 0.5) * side / 16 - 0.5
    prepared = np.add.outer(3 * (centres - top), 5 * (centres - left)).astype(np.float32)

    back = to_native(prepared, shape)

    assert back.shape == shape and back.dtype == np.float32 and back.flags.c_contiguous
    # Bilinear interpolation has no neighbour outside the outermost centres of the square.
    margin = int(np.ceil(side / 32))
    rows = slice(max(0, margin - top), shape[0] - max(0, margin - top))
    columns = slice(max(0, margin - left), shape[1] - max(0, margin - left))
    np.testing.assert_allclose(back[rows, columns], native[rows, columns], atol=1e-3)
    square = pad_to_square(native)
    np.testing.assert_array_equal(square[top : top + shape[0], left : left + shape[1]], native)


def test_a_map_that_is_not_square_covers_the_square():
    importance = np.repeat(np.array([[1, 5]], dtype=np.float32), 4, axis=0)
    back = to_native(importance, (8, 8))
    np.testing.assert_array_equal(back[:, 0], 1)
    np.testing.assert_array_equal(back[:, -1], 5)


def test_nan_is_kept_in_sight():
    assert np.isnan(to_native(np.full((4, 4), np.nan, dtype=np.float32), (9, 7))).all()
