import cbirbench_simsiam.views
import numpy as np
import pytest
import torch
from cbirbench_simsiam.cropping import pixel_boxes
from cbirbench_simsiam.views import (
    HUClip,
    HUClipOptions,
    ViewOptions,
    WideWindow,
    sample_changes,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pydantic import ValidationError
from torchvision.transforms.v2 import functional as tv

STILL = {"flip": 0.0, "jitter": 0.0, "crop_scale": (1.0, 1.0)}


def slices(*sides: int) -> list[torch.Tensor]:
    rng = np.random.default_rng(1)
    return [torch.from_numpy(rng.integers(-1000, 1000, (side, side)).astype(np.int16)) for side in sides]


@pytest.fixture(params=["one by one", "together"])
def either_path(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run a test by the CPU's way of cropping, and by a GPU's on the CPU."""
    if request.param == "together":
        monkeypatch.setattr(cbirbench_simsiam.views, "_one_by_one", cbirbench_simsiam.views._together)


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
@pytest.mark.usefixtures("either_path")
def test_views_equal_torchvisions_crop_jitter_and_flip_on_tensors(size: int) -> None:
    """Against torchvision in float64, on slices of unequal sides, down- and upsampling."""
    hu = slices(64, 37, 64, 101, 50, 50)
    augmentation = HUClip(HUClipOptions())
    drawn = augmentation.sample(len(hu), torch.Generator().manual_seed(3))
    views = augmentation.apply(hu, drawn, size)
    assert drawn["flip"].any()
    assert not drawn["flip"].all()
    assert not drawn["jitter"].all()
    boxes = pixel_boxes(drawn["crop"], [len(item) for item in hu])
    for view, (low, high) in enumerate([(-200, 300), (50, 150)]):
        for i, item in enumerate(hu):
            image = ((item.double().clamp(low, high) - low) / (high - low))[None]
            image = tv.resized_crop(image, *boxes[i, view].tolist(), [size, size], antialias=True)
            image = image.clamp(0, 1)
            for name in order_of_jitter(drawn, i, view):
                image = getattr(tv, f"adjust_{name}")(image, float(drawn[name][i, view]))
            if drawn["flip"][i, view]:
                image = image.flip(-1)
            torch.testing.assert_close(views[view][i].double(), image, rtol=0, atol=1e-5)


@pytest.mark.parametrize("size", [16, 56, 90])
@pytest.mark.parametrize("texture", [0, 12])
@pytest.mark.usefixtures("either_path")
def test_views_equal_torchvisions_pil_path_to_its_8_bits(size: int, texture: int) -> None:
    """Crop, resize, brightness, contrast and flip of 8-bit PIL images, on the same parameters.

    Both start from the same 256 grey values. From there PIL rounds to whole grey values after each of the
    two passes of a resize (half a level each, at most), cuts off after each blend (a level), and takes the
    mean of an image as a whole number (half a level); ours stays in float32. What follows multiplies what
    came before by its factor.
    """
    hu = [from_blobs(side, texture, seed) for seed, side in enumerate((64, 37, 64, 101, 50, 50, 80, 80))]
    augmentation = HUClip(HUClipOptions(truncate_to_uint8=True))
    drawn = augmentation.sample(len(hu), torch.Generator().manual_seed(3))
    assert len({tuple(order_of_jitter(drawn, i, view)) for i in range(len(hu)) for view in (0, 1)}) == 3
    views = augmentation.apply(hu, drawn, size)
    boxes = pixel_boxes(drawn["crop"], [len(item) for item in hu])
    errors = []
    for view, (low, high) in enumerate([(-200, 300), (50, 150)]):
        for i, item in enumerate(hu):
            grey = ((item.numpy().astype(np.float64).clip(low, high) - low) / (high - low) * 255).astype(
                np.uint8
            )
            image = Image.fromarray(grey)
            assert image.mode == "L"
            image = tv.resized_crop(image, *boxes[i, view].tolist(), [size, size])
            levels = 1.0
            for name in order_of_jitter(drawn, i, view):
                factor = float(drawn[name][i, view])
                image = getattr(tv, f"adjust_{name}")(image, factor)
                of_mean = abs(1 - factor) * (levels + 0.5) if name == "contrast" else 0
                levels = factor * levels + of_mean + 1
            if drawn["flip"][i, view]:
                image = tv.horizontal_flip(image)
            assert isinstance(image, Image.Image)
            error = views[view][i, 0].numpy() * 255 - np.asarray(image)
            assert np.abs(error).max() <= levels + 1e-3
            errors.append(np.abs(error).mean())
    assert max(errors) < 1.5
    assert np.mean(errors) < 0.9


def from_blobs(side: int, texture: int, seed: int) -> torch.Tensor:
    """A smooth slice from fat to bone, with noise of so many HU."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:side, :side] / side * 2 * np.pi
    smooth = 60 + 220 * np.sin(x + rng.uniform(0, 6)) * np.sin(1.5 * y + rng.uniform(0, 6))
    return torch.from_numpy((smooth + rng.normal(0, texture, smooth.shape)).astype(np.int16))


def order_of_jitter(drawn: dict[str, torch.Tensor], i: int, view: int) -> list[str]:
    if not drawn["jitter"][i, view]:
        return []
    return ["contrast", "brightness"] if drawn["contrast_first"][i, view] else ["brightness", "contrast"]


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


@pytest.mark.usefixtures("either_path")
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


@pytest.mark.usefixtures("either_path")
@pytest.mark.parametrize("augmentation", [HUClip(HUClipOptions()), WideWindow(ViewOptions())])
def test_views_are_float32_and_the_same_under_autocast(augmentation: HUClip | WideWindow) -> None:
    hu = slices(64, 37)
    drawn = augmentation.sample(2, torch.Generator().manual_seed(1))
    plain = augmentation.apply(hu, drawn, 24)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cast = augmentation.apply(hu, drawn, 24)
    for one, two in zip(plain, cast, strict=True):
        assert two.dtype == torch.float32
        assert two.shape == (2, 1, 24, 24)
        assert torch.equal(one, two)
        assert one.min() >= 0
        assert one.max() <= 1


@pytest.mark.usefixtures("either_path")
def test_slices_and_parameters_stay_as_they_were() -> None:
    hu = slices(20, 20)
    augmentation = WideWindow(ViewOptions())
    drawn = augmentation.sample(2, torch.Generator().manual_seed(1))
    before = [item.clone() for item in hu], {name: rows.clone() for name, rows in drawn.items()}
    augmentation.apply(hu, drawn, 20)
    assert all(map(torch.equal, hu, before[0]))
    assert all(torch.equal(drawn[name], rows) for name, rows in before[1].items())


@pytest.mark.gpu
@pytest.mark.parametrize("sides", [(512,) * 8, (64, 37, 101, 512)])
def test_a_gpu_makes_the_cpus_views_without_waiting(sides: tuple[int, ...]) -> None:
    hu = slices(*sides)
    augmentation = HUClip(HUClipOptions())
    drawn = augmentation.sample(len(hu), torch.Generator().manual_seed(1))
    there = [item.cuda() for item in hu]
    augmentation.apply(there, drawn, 224)
    torch.cuda.set_sync_debug_mode("error")
    try:
        with torch.autocast("cuda", dtype=torch.bfloat16):
            views = augmentation.apply(there, drawn, 224)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    for ours, cpus in zip(views, augmentation.apply(hu, drawn, 224), strict=True):
        # torch's own float32 weights are that far off at 224 px from 512 (test_cropping)
        torch.testing.assert_close(ours.cpu(), cpus, rtol=0, atol=1e-4)


@pytest.mark.parametrize("scale", [(0.0, 1.0), (0.5, 0.2), (0.5, 1.1)])
def test_impossible_crops_are_refused(scale: tuple[float, float]) -> None:
    with pytest.raises(ValidationError, match="range of areas"):
        ViewOptions(crop_scale=scale)


def test_fingerprints_tell_views_apart() -> None:
    prints = [
        HUClip(HUClipOptions()).fingerprint(),
        HUClip(HUClipOptions(narrow=(40, 150))).fingerprint(),
        HUClip(HUClipOptions(wide="lung")).fingerprint(),
        HUClip(HUClipOptions(narrow_scale="wide")).fingerprint(),
        WideWindow(ViewOptions()).fingerprint(),
        WideWindow(ViewOptions(jitter=0.5)).fingerprint(),
    ]
    assert len({repr(sorted(p.items())) for p in prints}) == 6


def test_an_organs_name_is_recorded_as_hounsfield_units() -> None:
    named = HUClip(HUClipOptions(wide="lung", narrow="pancreas")).fingerprint()
    assert (named["wide"], named["narrow"]) == ([-1000, 300], [-20, 175])
    assert named == HUClip(HUClipOptions(wide=(-1000, 300), narrow=(-20, 175))).fingerprint()
    assert HUClipOptions(wide="liver", narrow="liver") == HUClipOptions()
