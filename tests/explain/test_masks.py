import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cbirbench.errors import UsageError
from cbirbench.explain.masks import MaskBlock, MaskDesign, MaskSums, shift_weights


def drawn(count, **design):
    (block,) = MaskDesign(**design).blocks(count, count)
    return block


def slow_mask(block, number, height, width):
    """One mask by the protocol's own steps: upsample, pad by reflection or crop by cells, at a shift."""
    grid = torch.from_numpy(block.grids[number])[None, None].float()
    cells = block.design.grid
    down, right = block.positions[number]
    if block.design.shifts == "cells":
        sides = [-(-height // cells), -(-width // cells)]
        size = [(cells + 1) * side for side in sides]
        wide = torch.nn.functional.interpolate(grid, size=size, mode="bilinear", align_corners=False)[0, 0]
        row, column = int(down * sides[0]), int(right * sides[1])
        return wide[row : row + height, column : column + width].numpy()
    upsampled = torch.nn.functional.interpolate(
        grid, size=(height, width), mode="bilinear", align_corners=False
    )
    padded = np.pad(upsampled[0, 0].numpy(), cells // 2, mode="reflect")
    row, column = int(down * cells), int(right * cells)
    return padded[row : row + height, column : column + width]


def test_weights_of_two_cells_over_four_pixels_by_hand():
    # Pixel centres fall at -.25, .25, .75 and 1.25 cells; the outer ones are clamped to the outer cells.
    # One pixel is padded on each side, mirrored about the edge pixel; shift 1 is then the unpadded axis.
    unpadded = [[1, 0], [0.75, 0.25], [0.25, 0.75], [0, 1]]
    shifted = [[0.75, 0.25], [1, 0], [0.75, 0.25], [0.25, 0.75]]
    np.testing.assert_array_equal(shift_weights(2, 4).numpy(), [shifted, unpadded])


def test_weights_shifted_by_cells_by_hand():
    # Two cells over (2 + 1) * 2 = 6 pixels: centres at -1/3, 0, 1/3, 2/3, 1 and 4/3 cells; four are cropped.
    wide = [[1, 0], [1, 0], [2 / 3, 1 / 3], [1 / 3, 2 / 3], [0, 1], [0, 1]]
    np.testing.assert_allclose(shift_weights(2, 4, "cells").numpy(), [wide[:4], wide[1:5]], atol=1e-12)


def test_the_middle_shift_of_an_odd_grid_is_the_plain_upsampling():
    grid = np.random.default_rng(0).random((7, 7)) < 0.5
    block = MaskBlock(MaskDesign(), 0, grid[None], np.array([[3.5, 3.5]]) / 7)
    plain = torch.nn.functional.interpolate(
        torch.from_numpy(grid)[None, None].float(), size=(20, 30), mode="bilinear", align_corners=False
    )
    torch.testing.assert_close(block.render(20, 30), plain, rtol=0, atol=1e-6)


designs = st.fixed_dictionaries(
    {
        "grid": st.integers(2, 9),
        "keep": st.floats(0.05, 0.95),
        "seed": st.integers(0, 10**6),
        "shifts": st.sampled_from(["pixels", "cells"]),
    }
)


@settings(deadline=None, max_examples=80)
@given(design=designs, more=st.tuples(st.integers(0, 30), st.integers(0, 30)))
def test_masks_and_their_weighted_sums_equal_the_slow_steps(design, more):
    height, width = design["grid"] + more[0], design["grid"] + more[1]
    block = drawn(12, **design)
    slow = np.stack([slow_mask(block, number, height, width) for number in range(12)])

    rendered = block.render(height, width)
    assert rendered.shape == (12, 1, height, width) and rendered.dtype == torch.float32
    assert float(rendered.min()) >= 0 and float(rendered.max()) <= 1
    np.testing.assert_allclose(rendered[:, 0].numpy(), slow, atol=2e-6)

    weights = np.random.default_rng(design["seed"]).normal(size=(3, 12))
    sums = MaskSums(block.design, height, width, 3)
    for part in block.design.blocks(12, 5):
        sums.add(part, weights[:, part.start : part.stop])
    np.testing.assert_allclose(sums.maps(), np.einsum("kn,nhw->khw", weights, slow.astype(float)), atol=1e-5)


@settings(deadline=None, max_examples=60)
@given(
    count=st.integers(1, 70),
    longer=st.integers(0, 30),
    sizes=st.tuples(st.integers(1, 80), st.integers(1, 80)),
    antithetic=st.booleans(),
    seed=st.integers(0, 10**6),
)
def test_the_first_masks_are_the_same_however_many_are_drawn_at_a_time(
    count, longer, sizes, antithetic, seed
):
    design = MaskDesign(grid=3, seed=seed, antithetic=antithetic)
    few, many = list(design.blocks(count, sizes[0])), list(design.blocks(count + longer, sizes[1]))
    for name in ("grids", "positions"):
        short, long = (np.concatenate([getattr(block, name) for block in row]) for row in (few, many))
        assert len(short) == count
        np.testing.assert_array_equal(short, long[:count])
    assert [block.start for block in few] == list(range(0, count, sizes[0]))
    assert all(block.stop - block.start == len(block) <= sizes[0] for block in few)


def test_an_antithetic_mask_shows_what_the_one_before_it_hides():
    masks = drawn(20, antithetic=True).render(15, 22)
    torch.testing.assert_close(masks[::2] + masks[1::2], torch.ones(10, 1, 15, 22))
    assert not torch.equal(masks[0], masks[2])


def test_halves_keep_antithetic_pairs_together():
    numbers = np.arange(8)
    np.testing.assert_array_equal(MaskDesign().halves(numbers), [0, 1, 0, 1, 0, 1, 0, 1])
    np.testing.assert_array_equal(MaskDesign(antithetic=True).halves(numbers), [0, 0, 1, 1, 0, 0, 1, 1])


def test_the_seed_decides_the_masks():
    one, again, other = drawn(50, seed=3), drawn(50, seed=3), drawn(50, seed=4)
    np.testing.assert_array_equal(one.grids, again.grids)
    np.testing.assert_array_equal(one.positions, again.positions)
    assert not np.array_equal(one.grids, other.grids)
    assert not np.array_equal(one.positions, other.positions)


@pytest.mark.parametrize("keep", [0.2, 0.5, 0.9])
def test_cells_are_kept_with_the_given_probability_and_every_shift_occurs(keep):
    block = drawn(3000, keep=keep)
    deviation = np.sqrt(keep * (1 - keep) / block.grids.size)
    assert block.grids.mean() == pytest.approx(keep, abs=5 * deviation)
    shifts = np.stack([block.shift_numbers(axis, 7).numpy() for axis in (0, 1)])
    for row in shifts:
        counts = np.bincount(row)
        assert len(counts) == 7 and counts.min() > 300
    assert abs(np.corrcoef(shifts)[0, 1]) < 0.1


def test_an_image_smaller_than_the_grid_is_an_error_that_names_the_option():
    with pytest.raises(UsageError, match=r"7 cells over images of 6 pixels.*relax\.grid"):
        drawn(2).render(32, 6)
    with pytest.raises(UsageError, match=r"relax\.grid"):
        MaskSums(MaskDesign(), 6, 32, 1)
