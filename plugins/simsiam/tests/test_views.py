import math

import numpy as np
import pytest
import torch
from cbirbench_simsiam.views import (
    HUClip,
    HUClipOptions,
    ViewOptions,
    WideWindow,
    pixel_box,
    sample_changes,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from torchvision.transforms.v2 import functional as tv

STILL = {"flip": 0.0, "jitter": 0.0, "crop_scale": (1.0, 1.0)}


def slices(*sides: int) -> list[torch.Tensor]:
    rng = np.random.default_rng(1)
    return [torch.from_numpy(rng.integers(-1000, 1000, (side, side)).astype(np.int16)) for side in sides]


def draw(count: int, options: ViewOptions, seed: int = 0) -> dict[str, torch.Tensor]:
    return sample_changes(count, options, torch.Generator().manual_seed(seed))


@given(st.integers(0, 2**31), st.floats(0.01, 1), st.floats(0, 1))
@settings(max_examples=60, deadline=None)
def test_crops_lie_inside_with_the_area_and_aspect_asked_for(seed: int, low: float, share: float) -> None:
    options = ViewOptions(crop_scale=(low, low + share * (1 - low)))
    top, left, height, width = draw(20, options, seed)["crop"].unbind(-1)
    assert (torch.stack([top, left, height, width]) >= 0).all()
    assert (top + height).max() <= 1 + 1e-9
    assert (left + width).max() <= 1 + 1e-9
    whole = (height == 1) & (width == 1)  # what is taken after ten vain tries
    area, aspect = height * width, width / height
    assert (whole | ((area >= low - 1e-9) & (area <= options.crop_scale[1] + 1e-9))).all()
    assert (whole | ((aspect >= 3 / 4 - 1e-9) & (aspect <= 4 / 3 + 1e-9))).all()


def test_draws_have_the_distributions_of_torchvisions_crop_and_jitter() -> None:
    drawn = draw(4000, ViewOptions())
    assert {k: tuple(v.shape) for k, v in drawn.items()} == {"crop": (4000, 2, 4)} | dict.fromkeys(
        ("flip", "jitter", "contrast_first", "brightness", "contrast"), (4000, 2)
    )
    for name, expected in (("flip", 0.5), ("jitter", 0.8), ("contrast_first", 0.5)):
        assert abs(drawn[name].double().mean() - expected) < 0.025
    for name in ("brightness", "contrast"):
        assert 0.6 <= drawn[name].min() < 0.61
        assert 1.39 < drawn[name].max() <= 1.4
    from torchvision.transforms import RandomResizedCrop

    torch.manual_seed(0)
    image = torch.empty(1, 1000, 1000)
    theirs = np.array([RandomResizedCrop.get_params(image, (0.2, 1), (3 / 4, 4 / 3)) for _ in range(4000)])
    ours = drawn["crop"].numpy()
    for view in (0, 1):
        for column in range(4):
            mine, other = np.sort(ours[:, view, column]), np.sort(theirs[:, column] / 1000)
            # two samples of one distribution: Kolmogorov's distance stays below 1.95*sqrt(2/4000) (p = .001)
            points = np.concatenate([mine, other])
            gap = np.abs(
                np.searchsorted(mine, points, "right") - np.searchsorted(other, points, "right")
            ).max()
            assert gap / 4000 < 0.0436
    for name in drawn:
        assert not torch.equal(drawn[name][:, 0], drawn[name][:, 1])


def test_the_generator_is_the_only_source_of_randomness() -> None:
    state = torch.get_rng_state()
    one, same, other = draw(5, ViewOptions()), draw(5, ViewOptions()), draw(5, ViewOptions(), seed=1)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(one[k], same[k]) for k in one)
    assert not torch.equal(one["crop"], other["crop"])


def test_both_augmentations_draw_the_same() -> None:
    one = WideWindow(ViewOptions()).sample(3, torch.Generator().manual_seed(5))
    two = HUClip(HUClipOptions()).sample(3, torch.Generator().manual_seed(5))
    assert all(torch.equal(one[k], two[k]) for k in one)


@pytest.mark.parametrize("size", [16, 40, 90])
def test_views_equal_torchvisions_crop_jitter_and_flip(size: int) -> None:
    """Against torchvision, on slices of unequal sides, down- and upsampling."""
    hu = slices(64, 37, 64, 101, 50, 50)
    augmentation = HUClip(HUClipOptions())
    drawn = augmentation.sample(len(hu), torch.Generator().manual_seed(3))
    views = augmentation.apply(hu, drawn, size)
    assert drawn["flip"].any()
    assert not drawn["flip"].all()
    assert not drawn["jitter"].all()
    for view, (low, high) in enumerate([(-200, 300), (50, 150)]):
        for i, item in enumerate(hu):
            image = ((item.double().clamp(low, high) - low) / (high - low))[None]
            top, left, rows, columns = pixel_box(drawn["crop"][i, view].tolist(), item.shape[0])
            image = tv.resized_crop(image, top, left, rows, columns, [size, size], antialias=True)
            image = image.clamp(0, 1)
            steps = [
                lambda x, f=float(drawn["brightness"][i, view]): tv.adjust_brightness(x, f),
                lambda x, f=float(drawn["contrast"][i, view]): tv.adjust_contrast(x, f),
            ]
            if drawn["contrast_first"][i, view]:
                steps.reverse()
            if drawn["jitter"][i, view]:
                for step in steps:
                    image = step(image)
            if drawn["flip"][i, view]:
                image = image.flip(-1)
            torch.testing.assert_close(views[view][i].double(), image, rtol=0, atol=1e-5)


def test_view_1_is_wide_and_view_2_narrow() -> None:
    hu = [torch.tensor([[-300, -100], [100, 120]], dtype=torch.int16)]
    augmentation = HUClip(HUClipOptions(**STILL))
    wide, narrow = augmentation.apply(hu, augmentation.sample(1, torch.Generator()), 2)
    torch.testing.assert_close(wide[0, 0], torch.tensor([[0, 0.2], [0.6, 0.64]]))
    torch.testing.assert_close(narrow[0, 0], torch.tensor([[0, 0], [0.5, 0.7]]))


def test_both_views_of_the_baseline_are_wide() -> None:
    hu = [torch.tensor([[-300, -100], [100, 120]], dtype=torch.int16)]
    augmentation = WideWindow(ViewOptions(**STILL))
    for view in augmentation.apply(hu, augmentation.sample(1, torch.Generator()), 2):
        torch.testing.assert_close(view[0, 0], torch.tensor([[0, 0.2], [0.6, 0.64]]))


def test_the_released_programs_narrow_window_spans_half_to_seven_tenths_in_8_bits() -> None:
    hu = [torch.tensor([[0, 50], [101, 200]], dtype=torch.int16)]
    options = HUClipOptions(**STILL, narrow_scale="wide", truncate_to_uint8=True)
    augmentation = HUClip(options)
    _, narrow = augmentation.apply(hu, augmentation.sample(1, torch.Generator()), 2)
    expected = torch.tensor([[127, 127], [153, 178]]) / 255  # floor of 127.5, 127.5, 153.51, 178.5
    torch.testing.assert_close(narrow[0, 0], expected)


def test_hand_worked_jitter() -> None:
    hu = [torch.tensor([[-200, 300], [50, 50]], dtype=torch.int16)]
    augmentation = WideWindow(ViewOptions())
    drawn = dict(augmentation.sample(1, torch.Generator()))
    drawn["crop"] = torch.tensor([[[0.0, 0, 1, 1]] * 2])
    drawn |= {"flip": torch.tensor([[True, False]]), "jitter": torch.tensor([[True, True]])}
    drawn |= {"brightness": torch.tensor([[1.2, 1.2]]), "contrast": torch.tensor([[0.5, 0.5]])}
    drawn["contrast_first"] = torch.tensor([[True, False]])
    first, second = augmentation.apply(hu, drawn, 2)
    # contrast, then brightness: 0 1 .5 .5 (mean .5) -> .25 .75 .5 .5 -> .3 .9 .6 .6, flipped
    torch.testing.assert_close(first[0, 0], torch.tensor([[0.9, 0.3], [0.6, 0.6]]))
    # brightness, then contrast: 0 1 .6 .6 (mean .55) -> .275 .775 .575 .575
    torch.testing.assert_close(second[0, 0], torch.tensor([[0.275, 0.775], [0.575, 0.575]]))


@given(st.lists(st.floats(0, 1), min_size=4, max_size=4), st.integers(1, 600))
@settings(max_examples=200, deadline=None)
def test_pixel_boxes_lie_inside(shares: list[float], side: int) -> None:
    height, width = max(shares[2], 1e-3), max(shares[3], 1e-3)
    crop = (shares[0] * (1 - height), shares[1] * (1 - width), height, width)
    top, left, rows, columns = pixel_box(crop, side)
    assert 0 <= top <= top + rows <= side
    assert 0 <= left <= left + columns <= side
    assert rows >= 1
    assert columns >= 1
    assert math.isclose(rows, height * side, abs_tol=1)


@pytest.mark.parametrize("scale", [(0.0, 1.0), (0.5, 0.2), (0.5, 1.1)])
def test_impossible_crops_are_refused(scale: tuple[float, float]) -> None:
    with pytest.raises(ValidationError, match="range of areas"):
        ViewOptions(crop_scale=scale)


def test_fingerprints_tell_views_apart() -> None:
    prints = [
        HUClip(HUClipOptions()).fingerprint(),
        HUClip(HUClipOptions(narrow=(40, 150))).fingerprint(),
        HUClip(HUClipOptions(narrow_scale="wide")).fingerprint(),
        WideWindow(ViewOptions()).fingerprint(),
        WideWindow(ViewOptions(jitter=0.5)).fingerprint(),
    ]
    assert len({repr(sorted(p.items())) for p in prints}) == 5
