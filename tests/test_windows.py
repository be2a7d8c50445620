from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.transforms.v2.functional import resize as torchvision_resize

from cbirbench.errors import UsageError
from cbirbench.windows import (
    NARROW_WINDOW,
    WIDE_WINDOW,
    apply_window,
    check_window,
    resize,
    wide_window_images,
)

hounsfield = st.lists(st.integers(-32768, 32767), min_size=1, max_size=30)
windows = st.tuples(st.integers(-2000, 2000), st.integers(1, 3000)).map(
    lambda start: (float(start[0]), float(start[0] + start[1]))
)


def test_the_papers_windows() -> None:
    assert WIDE_WINDOW == (-200, 300)
    assert NARROW_WINDOW == (50, 150)


@pytest.mark.parametrize(
    ("window", "scale", "values"),
    [
        (WIDE_WINDOW, None, [0, 0, 0.4, 0.5, 0.6, 0.7, 1, 1]),
        (NARROW_WINDOW, None, [0, 0, 0, 0, 0.5, 1, 1, 1]),
        (NARROW_WINDOW, WIDE_WINDOW, [0.5, 0.5, 0.5, 0.5, 0.6, 0.7, 0.7, 0.7]),
    ],
)
def test_by_hand(window: tuple[float, float], scale: tuple[float, float] | None, values: list[float]) -> None:
    hu = torch.tensor([-1024, -200, 0, 50, 100, 150, 300, 3071], dtype=torch.int16)
    windowed = apply_window(hu, window, scale)
    assert windowed.dtype == torch.float32
    torch.testing.assert_close(windowed, torch.tensor(values, dtype=torch.float32))


@given(hounsfield, windows)
def test_stays_in_0_to_1_and_keeps_order(values: list[int], window: tuple[float, float]) -> None:
    hu = torch.tensor(sorted(values), dtype=torch.int16)
    windowed = apply_window(hu, window)
    assert windowed.shape == hu.shape
    assert windowed.min() >= 0
    assert windowed.max() <= 1
    assert torch.all(windowed.diff() >= 0)
    assert torch.all(windowed[hu <= window[0]] == 0)
    assert torch.all(windowed[hu >= window[1]] == 1)


@given(hounsfield)
def test_the_released_scaling_spans_a_fifth(values: list[int]) -> None:
    hu = torch.tensor([*values, 50, 150], dtype=torch.int16)
    windowed = apply_window(hu, NARROW_WINDOW, WIDE_WINDOW)
    assert windowed.min() == pytest.approx(0.5)
    assert windowed.max() == pytest.approx(0.7)


def test_a_scale_narrower_than_the_window_is_clipped() -> None:
    assert apply_window(torch.tensor([0.0, 5.0, 10.0]), (0, 10), (4, 6)).tolist() == [0, 0.5, 1]


@pytest.mark.parametrize("window", [(300.0, -200.0), (50.0, 50.0), (float("nan"), 1.0)])
def test_a_window_needs_a_width(window: tuple[float, float]) -> None:
    with pytest.raises(UsageError, match="lower end below its upper end"):
        check_window(*window)
    with pytest.raises(UsageError):
        apply_window(torch.zeros(1), window)
    with pytest.raises(UsageError):
        apply_window(torch.zeros(1), WIDE_WINDOW, window)


def test_resizing_to_the_same_size_is_the_identity() -> None:
    images = torch.rand(2, 1, 7, 7)
    assert resize(images, 7) is images


@settings(max_examples=25)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 2**32))
def test_resizing_is_torchvisions_and_stays_in_0_to_1(side: int, size: int, seed: int) -> None:
    images = torch.rand(2, 1, side, side, generator=torch.Generator().manual_seed(seed))
    resized = resize(images, size)
    assert resized.shape == (2, 1, size, size)
    assert resized.min() >= 0
    assert resized.max() <= 1
    torch.testing.assert_close(resized, torchvision_resize(images, [size, size], antialias=True))


def test_shrinking_averages_rather_than_drops() -> None:
    stripes = torch.zeros(1, 1, 64, 64)
    stripes[..., ::2] = 1
    shrunk = resize(stripes, 8)
    assert 0.45 < float(shrunk.min()) < float(shrunk.max()) < 0.55


def test_the_usual_prepare() -> None:
    hu = torch.tensor([[[-200, 300], [50, -1024]]], dtype=torch.int16)
    images = wide_window_images(hu, 2)
    assert images.shape == (1, 1, 2, 2)
    assert images[0, 0].tolist() == [[0, 1], [0.5, 0]]
    assert wide_window_images(hu, 2, NARROW_WINDOW)[0, 0].tolist() == [[0, 1], [0, 0]]
    assert wide_window_images(hu.repeat(3, 1, 1), 5).shape == (3, 1, 5, 5)
