import math
from functools import partial

import numpy as np
import pytest
import torch
from cbirbench_imagenet import window_hu
from cbirbench_simsiam.cropping import Window, crop_one, crop_together, pixel_boxes
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import interpolate

WINDOWS: list[Window] = [partial(window_hu, window=(-200.0, 300.0)), partial(window_hu, window=(50.0, 150.0))]

share = st.floats(0, 1)
boxes_in_shares = st.tuples(share, share, st.floats(1e-3, 1), st.floats(1e-3, 1)).map(
    lambda box: (box[0] * (1 - box[2]), box[1] * (1 - box[3]), box[2], box[3])
)


def noise(side: int, seed: int = 0) -> Tensor:
    rng = np.random.default_rng((side, seed))
    return torch.from_numpy(rng.integers(-1024, 3072, (side, side)).astype(np.int16))


def one_by_one(hu: list[Tensor], boxes: Tensor, size: int, windows: list[Window]) -> list[Tensor]:
    return [
        torch.cat([crop_one(item, box, size, window) for item, box in zip(hu, rows, strict=True)])
        for window, rows in zip(windows, boxes.transpose(0, 1).tolist(), strict=True)
    ]


def exact(hu: list[Tensor], boxes: Tensor, size: int, view: int) -> Tensor:
    """torch's antialiased resizing of each crop, in float64."""
    images = []
    for item, (top, left, rows, columns) in zip(hu, boxes[:, view].tolist(), strict=True):
        crop = WINDOWS[view](item[top : top + rows, left : left + columns]).double()[None, None]
        images.append(interpolate(crop, (size, size), mode="bilinear", antialias=True, align_corners=False))
    return torch.cat(images)


@given(boxes_in_shares, st.integers(1, 600))
@settings(max_examples=200, deadline=None)
def test_pixel_boxes_lie_inside_and_are_rounded_as_python_rounds(
    shares: tuple[float, float, float, float], side: int
) -> None:
    crop = torch.tensor([[shares]], dtype=torch.float64)
    top, left, rows, columns = pixel_boxes(crop, [side])[0, 0].tolist()
    assert (rows, columns) == tuple(max(1, round(extent * side)) for extent in shares[2:])
    assert (top, left) == (
        min(round(shares[0] * side), side - rows),
        min(round(shares[1] * side), side - columns),
    )
    assert 0 <= top <= top + rows <= side
    assert 0 <= left <= left + columns <= side
    assert math.isclose(rows, shares[2] * side, abs_tol=1)


def test_each_slice_has_boxes_of_its_own_size() -> None:
    crop = torch.tensor([[[0, 0, 1, 1], [0.5, 0.25, 0.5, 0.75]]]).expand(3, 2, 4)
    boxes = pixel_boxes(crop, [8, 20, 1])
    assert boxes[:, 0].tolist() == [[0, 0, 8, 8], [0, 0, 20, 20], [0, 0, 1, 1]]
    assert boxes[:, 1].tolist() == [[4, 2, 4, 6], [10, 5, 10, 15], [0, 0, 1, 1]]


@given(
    st.lists(st.tuples(st.integers(1, 80), boxes_in_shares, boxes_in_shares), min_size=1, max_size=5),
    st.integers(1, 100),
)
@settings(max_examples=150, deadline=None)
def test_both_ways_of_cropping_agree(
    drawn: list[tuple[int, tuple[float, ...], tuple[float, ...]]], size: int
) -> None:
    """Any boxes, sides mixed, up- and downscaling."""
    hu = [noise(side) for side, _, _ in drawn]
    crop = torch.tensor([boxes for _, *boxes in drawn], dtype=torch.float64)
    boxes = pixel_boxes(crop, [side for side, _, _ in drawn])
    one = one_by_one(hu, boxes, size, WINDOWS)
    two = crop_together(hu, boxes, size, WINDOWS)
    for view in (0, 1):
        assert two[view].dtype == one[view].dtype == torch.float32
        assert two[view].shape == one[view].shape == (len(hu), 1, size, size)
        torch.testing.assert_close(two[view], one[view], rtol=0, atol=1.5e-5)
        torch.testing.assert_close(two[view].double(), exact(hu, boxes, size, view), rtol=0, atol=1e-6)


@pytest.mark.parametrize("size", [112, 224])
@pytest.mark.parametrize("sides", [(512, 512, 512), (512, 300, 431)])
def test_whole_slices_agree_too(sides: tuple[int, ...], size: int) -> None:
    """torch takes a weight's place in float32, which at 512 px is off by some 1e-5; ours is exact."""
    hu = [noise(side) for side in sides]
    crop = torch.tensor([[[0.1, 0.2, 0.83, 0.71], [0.4, 0.5, 0.3, 0.45]]] * len(sides), dtype=torch.float64)
    boxes = pixel_boxes(crop, list(sides))
    one, two = (crop(hu, boxes, size, WINDOWS) for crop in (one_by_one, crop_together))
    for view in (0, 1):
        torch.testing.assert_close(two[view], one[view], rtol=0, atol=1e-4)
        torch.testing.assert_close(two[view].double(), exact(hu, boxes, size, view), rtol=0, atol=1e-6)


def test_a_whole_slice_at_its_own_size_comes_back() -> None:
    hu = [noise(31), noise(31, seed=1)]
    boxes = torch.tensor([[[0, 0, 31, 31]] * 2] * 2)
    for crop in (one_by_one, crop_together):
        for window, images in zip(WINDOWS, crop(hu, boxes, 31, WINDOWS), strict=True):
            torch.testing.assert_close(images[:, 0], torch.stack([window(item) for item in hu]))


def test_nothing_waits_for_the_device() -> None:
    """Meta tensors have no values: whoever looked at one, as waiting for a device does, would fail."""
    boxes = torch.tensor([[[0, 0, 20, 20], [3, 4, 10, 12]]] * 3)
    for sides in ((40, 40, 40), (40, 20, 33)):
        hu = [torch.empty(side, side, dtype=torch.int16, device="meta") for side in sides]
        for images in crop_together(hu, boxes, 24, WINDOWS):
            assert images.device.type == "meta"
            assert images.dtype == torch.float32
            assert images.shape == (3, 1, 24, 24)
