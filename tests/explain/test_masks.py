import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cbirbench.errors import UsageError
from cbirbench.explain.masks import MaskBank, draw_masks, shift_weights


def slow_mask(grid, shift, height, width):
    """One mask by the protocol's own steps: upsample, pad by reflection, crop."""
    cells = grid.shape[0]
    half = cells // 2
    upsampled = torch.nn.functional.interpolate(
        torch.from_numpy(grid)[None, None].float(), size=(height, width), mode="bilinear", align_corners=False
    )
    padded = np.pad(upsampled[0, 0].numpy(), half, mode="reflect")
    return padded[shift[0] : shift[0] + height, shift[1] : shift[1] + width]


def test_weights_of_two_cells_over_four_pixels_by_hand():
    # Pixel centres fall at -.25, .25, .75 and 1.25 cells; the outer ones are clamped to the outer cells.
    # One pixel is padded on each side, mirrored about the edge pixel; shift 1 is then the unpadded axis.
    unpadded = [[1, 0], [0.75, 0.25], [0.25, 0.75], [0, 1]]
    shifted = [[0.75, 0.25], [1, 0], [0.75, 0.25], [0.25, 0.75]]
    np.testing.assert_array_equal(shift_weights(2, 4).numpy(), [shifted, unpadded])


def test_the_middle_shift_of_an_odd_grid_is_the_plain_upsampling():
    grid = np.random.default_rng(0).random((7, 7)) < 0.5
    bank = MaskBank(grid[None], np.array([[3, 3]]))
    plain = torch.nn.functional.interpolate(
        torch.from_numpy(grid)[None, None].float(), size=(20, 30), mode="bilinear", align_corners=False
    )
    torch.testing.assert_close(bank.render(slice(0, 1), 20, 30), plain, rtol=0, atol=1e-6)


@settings(deadline=None, max_examples=60)
@given(
    cells=st.integers(2, 9),
    more=st.tuples(st.integers(0, 30), st.integers(0, 30)),
    keep=st.floats(0.05, 0.95),
    seed=st.integers(0, 10**6),
)
def test_masks_and_their_weighted_sum_equal_the_slow_steps(cells, more, keep, seed):
    height, width = cells + more[0], cells + more[1]
    bank = draw_masks(12, cells, keep, seed)
    slow = np.stack([slow_mask(g, s, height, width) for g, s in zip(bank.grids, bank.shifts, strict=True)])

    rendered = bank.render(slice(0, 12), height, width)
    assert rendered.shape == (12, 1, height, width) and rendered.dtype == torch.float32
    assert float(rendered.min()) >= 0 and float(rendered.max()) <= 1
    np.testing.assert_allclose(rendered[:, 0].numpy(), slow, atol=1e-6)
    np.testing.assert_array_equal(bank.render(slice(5, 9), height, width), rendered[5:9])

    weights = np.random.default_rng(seed).normal(size=12)
    total = bank.weighted_sum(torch.from_numpy(weights), height, width)
    np.testing.assert_allclose(total, np.einsum("n,nhw->hw", weights, slow.astype(float)), atol=1e-5)


def test_the_seed_decides_the_masks():
    one, again, other = draw_masks(50, 7, 0.5, 3), draw_masks(50, 7, 0.5, 3), draw_masks(50, 7, 0.5, 4)
    np.testing.assert_array_equal(one.grids, again.grids)
    np.testing.assert_array_equal(one.shifts, again.shifts)
    assert not np.array_equal(one.grids, other.grids)
    assert not np.array_equal(one.shifts, other.shifts)


@pytest.mark.parametrize("keep", [0.2, 0.5, 0.9])
def test_cells_are_kept_with_the_given_probability_and_every_shift_occurs(keep):
    bank = draw_masks(3000, 7, keep, 0)
    assert len(bank) == 3000
    deviation = np.sqrt(keep * (1 - keep) / bank.grids.size)
    assert bank.grids.mean() == pytest.approx(keep, abs=5 * deviation)
    for axis in (0, 1):
        counts = np.bincount(bank.shifts[:, axis])
        assert len(counts) == 7 and counts.min() > 300
    assert abs(np.corrcoef(bank.shifts.T)[0, 1]) < 0.1


def test_an_image_smaller_than_the_grid_is_an_error_that_names_the_option():
    bank = draw_masks(2, 7, 0.5, 0)
    with pytest.raises(UsageError, match=r"7 cells over images of 6 pixels.*relax\.grid"):
        bank.render(slice(0, 2), 32, 6)
    with pytest.raises(UsageError, match=r"relax\.grid"):
        bank.weighted_sum(torch.ones(2), 6, 32)
