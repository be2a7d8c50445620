import numpy as np
import pytest
import relax_xai.relax
import torch
from pydantic import ValidationError

from cbirbench.errors import PluginError, UsageError
from cbirbench.explain.masks import draw_masks
from cbirbench.explain.relax import RelaxOptions, importance_maps


class Linear(torch.nn.Module):
    """A random linear encoder, with an offset so that no embedding is zero."""

    def __init__(self, height, width, channels=1, size=8, seed=0):
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.matrix = torch.randn(channels * height * width, size, generator=generator)
        self.offset = 3 * torch.randn(size, generator=generator)

    def forward(self, images):
        return images.flatten(1) @ self.matrix + self.offset

    embed = forward


class Blocks:
    """A handcrafted extractor in numpy: means and deviations of four blocks."""

    def embed(self, images):
        array = images.numpy()[:, 0]
        height, width = array.shape[1] // 2, array.shape[2] // 2
        blocks = [array[:, i : i + height, j : j + width] for i in (0, height) for j in (0, width)]
        features = [f(block, axis=(1, 2)) for block in blocks for f in (np.mean, np.std)]
        return torch.from_numpy(np.stack(features, axis=1).astype(np.float32))


class Returns:
    """Embeds by whatever function a test gives it."""

    def __init__(self, function):
        self.embed = function


def explain(extractor, images, advance=lambda _: None, **options):
    return importance_maps(extractor, images, RelaxOptions(**options), advance=advance)


def random_images(count, height, width, channels=1, seed=0):
    return torch.rand(count, channels, height, width, generator=torch.Generator().manual_seed(seed))


def bilinear_row(pixel, pixels, cells):
    """Weights of the cells at one pixel of an axis, in plain arithmetic."""
    centre = min(max((pixel + 0.5) * cells / pixels - 0.5, 0.0), cells - 1.0)
    low = int(centre)
    weights = [0.0] * cells
    weights[low] += 1 - (centre - low)
    weights[min(low + 1, cells - 1)] += centre - low
    return weights


def reflected(pixel, pixels):
    return -pixel if pixel < 0 else (2 * (pixels - 1) - pixel if pixel >= pixels else pixel)


def slow_relax(extractor, image, bank, estimator):
    """Eq. 4, or its ratio form, mask by mask and axis by axis, with nothing shared with the package."""
    _, height, width = image.shape
    cells = bank.grids.shape[1]
    whole = extractor.embed(image[None]).double().numpy()[0]
    importance, shown = np.zeros((height, width)), np.zeros((height, width))
    for grid, (down, right) in zip(bank.grids, bank.shifts, strict=True):
        mirrored = [
            [
                bilinear_row(reflected(pixel + shift - cells // 2, pixels), pixels, cells)
                for pixel in range(pixels)
            ]
            for pixels, shift in ((height, down), (width, right))
        ]
        mask = np.array(mirrored[0]) @ grid.astype(float) @ np.array(mirrored[1]).T
        masked = extractor.embed((image * torch.from_numpy(mask).float())[None]).double().numpy()[0]
        similarity = whole @ masked / np.sqrt((whole @ whole) * (masked @ masked))
        importance += similarity * mask
        shown += mask
    return importance / (shown if estimator == "ratio" else len(bank))


@pytest.mark.parametrize("estimator", ["ratio", "mean"])
@pytest.mark.parametrize("size", [(16, 16), (20, 13), (9, 21)])
def test_equals_a_slow_implementation(estimator, size):
    images = random_images(2, *size, channels=2)
    encoder = Linear(*size, channels=2)
    maps = explain(encoder, images, masks=150, grid=5, keep=0.4, seed=9, estimator=estimator, batch_size=32)
    assert maps.shape == (2, *size) and maps.dtype == np.float32
    bank = draw_masks(150, 5, 0.4, 9)
    for image, importance in zip(images, maps, strict=True):
        slow = slow_relax(encoder, image, bank, estimator)
        assert np.ptp(slow) > 1e-3
        np.testing.assert_allclose(importance, slow, atol=1e-5)


def test_a_numpy_extractor_and_an_even_grid_equal_a_slow_implementation():
    images = random_images(1, 14, 18)
    maps = explain(Blocks(), images, masks=80, grid=4)
    slow = slow_relax(Blocks(), images[0], draw_masks(80, 4, 0.5, 0), "ratio")
    assert np.ptp(slow) > 1e-3
    np.testing.assert_allclose(maps[0], slow, atol=1e-5)


class SmallNet(torch.nn.Module):
    def __init__(self):
        super().__init__()
        generator = torch.Generator().manual_seed(5)
        kernels = torch.randn(12, 3, 5, 5, generator=generator)
        # Blind to brightness, so that embeddings point in different directions.
        self.kernels = kernels - kernels.mean(dim=(1, 2, 3), keepdim=True)

    def forward(self, images):
        features = torch.tanh(torch.nn.functional.conv2d(images, self.kernels, stride=2))
        return torch.nn.functional.adaptive_avg_pool2d(features, 3).flatten(1)

    embed = forward


@pytest.mark.parametrize("size", [(40, 40), (48, 33)])
def test_equals_the_published_package_on_the_same_masks(monkeypatch, size):
    # Its masks are ours; batches of more than one, as it squeezes a single mask into rows.
    image = random_images(1, *size, channels=3)
    bank = draw_masks(500, 7, 0.5, 2)
    rendered = iter(bank.render(slice(0, 500), *size).split(100))
    monkeypatch.setattr(relax_xai.relax, "mask_generator", lambda *_, **__: iter([next(rendered)]))
    net = SmallNet()
    published = relax_xai.relax.RELAX(image, net, batch_size=100, num_batches=5)
    with torch.no_grad():
        published()

    maps = explain(net, image, masks=500, seed=2)

    assert next(rendered, None) is None
    assert np.ptp(maps[0]) > 1e-2
    np.testing.assert_allclose(maps[0], published.importance.numpy(), atol=1e-5)


def test_the_mean_estimator_is_the_ratio_map_times_the_sampled_mean_mask():
    images, encoder = random_images(1, 16, 12), Linear(16, 12)
    ratio = explain(encoder, images, masks=200, estimator="ratio")
    mean = explain(encoder, images, masks=200, estimator="mean")
    mean_mask = draw_masks(200, 7, 0.5, 0).render(slice(0, 200), 16, 12).mean(dim=0).numpy()
    np.testing.assert_allclose(mean, ratio * mean_mask, atol=1e-6)


def test_the_pixels_that_an_extractor_looks_at_are_the_important_ones():
    def upper_right(images):
        looked_at = images[:, 0, 4:12, 30:38].mean(dim=(1, 2))
        return torch.stack([looked_at, torch.full_like(looked_at, 0.5)], dim=1)

    maps = explain(Returns(upper_right), torch.ones(1, 1, 42, 42), masks=1000)
    row, column = np.unravel_index(maps[0].argmax(), maps[0].shape)
    assert 4 <= row < 12 and 30 <= column < 38
    assert maps[0, 4:12, 30:38].mean() > maps[0].mean() + 0.02


def test_one_image_or_many_one_mask_a_batch_or_many_give_the_same_map():
    images, encoder = random_images(5, 20, 24), Linear(20, 24)
    together = explain(encoder, images, masks=70)
    alone = np.concatenate([explain(encoder, image[None], masks=70) for image in images])
    for batch_size in (1, 7, 70, 1000):
        np.testing.assert_allclose(
            explain(encoder, images, masks=70, batch_size=batch_size), together, atol=1e-6
        )
    np.testing.assert_allclose(alone, together, atol=1e-6)


def test_the_seed_alone_decides_the_map():
    images, encoder = random_images(1, 16, 16), Linear(16, 16)
    one = explain(encoder, images, masks=50)
    torch.manual_seed(77)
    np.testing.assert_array_equal(explain(encoder, images, masks=50), one)
    assert not np.array_equal(explain(encoder, images, masks=50, seed=1), one)


def test_images_are_left_alone_and_no_gradient_is_kept():
    seen = []

    def watch(images):
        seen.append(
            (len(images), torch.is_inference_mode_enabled(), float(images.min()), float(images.max()))
        )
        return images.flatten(1)

    images = random_images(2, 8, 8)
    before = images.clone()
    done = []
    explain(Returns(watch), images, done.append, masks=10, batch_size=4)
    torch.testing.assert_close(images, before, rtol=0, atol=0)
    # The whole images in one pass, then each batch of masks for each image.
    assert [count for count, *_ in seen] == [2, 4, 4, 4, 4, 2, 2]
    assert all(inference and low >= 0 and high <= 1 for _, inference, low, high in seen)
    assert done == [4, 4, 4, 4, 2, 2] and sum(done) == 2 * 10


def test_no_images_give_no_maps():
    assert explain(Linear(9, 8), torch.empty(0, 1, 9, 8), masks=3).shape == (0, 9, 8)


def test_a_masked_image_that_embeds_to_zero_counts_as_wholly_unlike():
    # An encoder that goes blank once anything is hidden: every similarity is 0.
    def all_or_nothing(images):
        return (images.flatten(1) == 1).all(dim=1, keepdim=True).float() * torch.ones(1, 4)

    np.testing.assert_array_equal(explain(Returns(all_or_nothing), torch.ones(1, 1, 8, 8), masks=40), 0)


def test_a_whole_image_that_embeds_to_zero_has_no_map_but_the_others_have():
    images = torch.cat([torch.zeros(1, 1, 12, 12), random_images(1, 12, 12)])
    maps = explain(Blocks(), images, masks=60)
    assert np.isnan(maps[0]).all()
    np.testing.assert_allclose(maps[1], explain(Blocks(), images[1:], masks=60)[0], atol=1e-6)


def test_pixels_that_no_mask_shows_are_nan_in_the_ratio_and_zero_in_the_mean():
    images, encoder = random_images(1, 28, 28), Linear(28, 28)
    hidden = draw_masks(1, 7, 0.5, 0).render(slice(0, 1), 28, 28)[0, 0].numpy() == 0
    assert 0 < hidden.sum() < hidden.size
    np.testing.assert_array_equal(np.isnan(explain(encoder, images, masks=1)[0]), hidden)
    np.testing.assert_array_equal(explain(encoder, images, masks=1, estimator="mean")[0] == 0, hidden)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda images: images.flatten(), r"shape \(64,\) for 1 images"),
        (lambda images: images.flatten(1)[:0], r"shape \(0, 64\) for 1 images"),
        (lambda images: images.flatten(1) / 0, "infinity for a whole image"),
        (lambda images: images.flatten(1) / (images.mean() == 1), "infinity for a masked image"),
        (
            lambda images: images.flatten(1)[:, : 64 // len(images)],
            "16 values for a masked image, 64 for a whole",
        ),
    ],
)
def test_an_extractor_that_breaks_its_word_is_named(function, message):
    with pytest.raises(PluginError, match=f"Returns.embed returned .*{message}"):
        explain(Returns(function), torch.ones(1, 1, 8, 8), masks=8, batch_size=4)


def test_images_smaller_than_the_grid_are_refused_before_anything_is_embedded():
    def never(images):
        raise AssertionError("embedded")

    with pytest.raises(UsageError, match=r"relax\.grid"):
        explain(Returns(never), torch.ones(1, 1, 6, 32))


def test_the_defaults_are_the_protocols():
    assert RelaxOptions().model_dump() == {
        "masks": 3000, "grid": 7, "keep": 0.5, "seed": 0, "estimator": "ratio", "batch_size": 64,
    }  # fmt: skip


@pytest.mark.parametrize(
    "wrong", [{"masks": 0}, {"grid": 1}, {"keep": 0}, {"keep": 1}, {"seed": -1}, {"batch_size": 0},
              {"estimator": "median"}, {"mask": 5}]
)  # fmt: skip
def test_options_are_bounded(wrong):
    with pytest.raises(ValidationError):
        RelaxOptions(**wrong)
