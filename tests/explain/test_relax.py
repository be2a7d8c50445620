import numpy as np
import pytest
import relax_xai.relax
import torch
from pydantic import ValidationError

from cbirbench.errors import PluginError, UsageError
from cbirbench.explain import relax
from cbirbench.explain.estimators import estimate, keep_certain
from cbirbench.explain.masks import MaskDesign
from cbirbench.explain.passes import Passes
from cbirbench.explain.relax import RelaxOptions
from cbirbench.explain.reliability import split_half_reliability


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


def explain(extractor, images, advance=lambda _: None, known=(), narrowed=lambda _: None, **options):
    passes = Passes(extractor.embed, type(extractor).__name__, narrowed)
    return [
        relax.explain(passes, image, RelaxOptions(**options), known=seen, advance=advance)
        for image, seen in zip(images.split(1), known or [None] * len(images), strict=True)
    ]


def maps(*given, **options):
    return [found.importance for found in explain(*given, **options)]


def masks_of(count, height, width, **design):
    (block,) = MaskDesign(**design).blocks(count, count)
    return block.render(height, width)


def random_images(count, height, width, channels=1, seed=0):
    return torch.rand(count, channels, height, width, generator=torch.Generator().manual_seed(seed))


def slow_similarities(extractor, image, masks, fill=0.0):
    """Cosines, mask by mask."""
    whole = extractor.embed(image[None]).double().numpy()[0]
    found = []
    for mask in masks:
        masked = extractor.embed((image * mask + fill * (1 - mask))[None]).double().numpy()[0]
        found.append(whole @ masked / np.sqrt((whole @ whole) * (masked @ masked)))
    return np.array(found)


@pytest.mark.parametrize("estimator", ["ratio", "mean"])
@pytest.mark.parametrize("size", [(16, 16), (20, 13), (9, 21)])
@pytest.mark.parametrize("fill", [0.0, 0.3])
def test_equals_a_slow_implementation(estimator, size, fill):
    images = random_images(2, *size, channels=2)
    encoder = Linear(*size, channels=2)
    design = {"grid": 5, "keep": 0.4, "seed": 9}
    found = explain(encoder, images, masks=150, estimator=estimator, fill=fill, batch_size=32, **design)
    masks = masks_of(150, *size, **design)
    shown = masks[:, 0].double().numpy()
    for image, explanation in zip(images, found, strict=True):
        similarities = slow_similarities(encoder, image, masks, fill)
        np.testing.assert_allclose(explanation.similarities, similarities, atol=1e-6)
        slow = np.einsum("n,nhw->hw", similarities, shown)
        slow /= shown.sum(axis=0) if estimator == "ratio" else 150
        assert np.ptp(slow) > 1e-3
        assert explanation.importance.shape == size and explanation.importance.dtype == np.float32
        np.testing.assert_allclose(explanation.importance, slow, atol=1e-5)


def test_a_numpy_extractor_and_an_even_grid_equal_a_slow_implementation():
    images = random_images(1, 14, 18)
    (found,) = explain(Blocks(), images, masks=80, grid=4)
    slow = slow_similarities(Blocks(), images[0], masks_of(80, 14, 18, grid=4))
    np.testing.assert_allclose(found.similarities, slow, atol=1e-6)


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
    rendered = iter(masks_of(500, *size, seed=2).split(100))
    monkeypatch.setattr(relax_xai.relax, "mask_generator", lambda *_, **__: iter([next(rendered)]))
    net = SmallNet()
    published = relax_xai.relax.RELAX(image, net, batch_size=100, num_batches=5)
    with torch.no_grad():
        published()

    (found,) = explain(net, image, masks=500, seed=2)

    assert next(rendered, None) is None
    assert np.ptp(found.importance) > 1e-2
    np.testing.assert_allclose(found.importance, published.importance.numpy(), atol=1e-5)
    # Its uncertainty is the same sum, left undivided.
    shown = published.sum_of_weights.numpy()
    np.testing.assert_allclose(found.uncertainty, published.uncertainty.numpy() / shown, atol=1e-5)


def test_maps_come_from_the_similarities_by_the_estimator_that_was_asked_for():
    images, encoder = random_images(1, 16, 12), Linear(16, 12)
    for estimator in ("ratio", "mean", "regression"):
        (found,) = explain(encoder, images, masks=120, estimator=estimator)
        expected = estimate(MaskDesign(), found.similarities, 16, 12, estimator)
        np.testing.assert_array_equal(found.importance, expected.importance.astype(np.float32))
        np.testing.assert_array_equal(found.uncertainty, expected.uncertainty.astype(np.float32))
        assert found.reliability == split_half_reliability(*expected.halves)
        assert found.masks == 120 and not found.problem


@pytest.mark.parametrize("threshold", ["median", "mean"])
def test_u_relax_filters_by_uncertainty(threshold):
    images, encoder = random_images(1, 16, 12), Linear(16, 12)
    (plain,) = explain(encoder, images, masks=120)
    (found,) = explain(encoder, images, masks=120, uncertainty_filter=threshold)
    expected = keep_certain(plain.importance, plain.uncertainty, threshold)
    assert 0 < (found.importance == 0).sum() < found.importance.size
    assert (found.importance == expected).mean() > 0.98  # float32 moves a pixel across the threshold


def test_the_pixels_that_an_extractor_looks_at_are_the_important_ones():
    def upper_right(images):
        looked_at = images[:, 0, 4:12, 30:38].mean(dim=(1, 2))
        return torch.stack([looked_at, torch.full_like(looked_at, 0.5)], dim=1)

    for estimator in ("ratio", "regression"):
        (found,) = maps(Returns(upper_right), torch.ones(1, 1, 42, 42), masks=1000, estimator=estimator)
        row, column = np.unravel_index(found.argmax(), found.shape)
        assert 4 <= row < 12 and 30 <= column < 38
        assert found[4:12, 30:38].mean() > found.mean() + 0.02


def test_one_image_or_many_one_mask_a_batch_or_many_give_the_same_map():
    images, encoder = random_images(5, 20, 24), Linear(20, 24)
    together = maps(encoder, images, masks=70)
    alone = [maps(encoder, image[None], masks=70)[0] for image in images]
    np.testing.assert_array_equal(alone, together)
    for batch_size in (1, 7, 70, 1000):
        np.testing.assert_allclose(
            maps(encoder, images, masks=70, batch_size=batch_size), together, atol=1e-6
        )


def test_the_seed_alone_decides_the_map():
    images, encoder = random_images(1, 16, 16), Linear(16, 16)
    (one,) = maps(encoder, images, masks=50)
    torch.manual_seed(77)
    np.testing.assert_array_equal(maps(encoder, images, masks=50)[0], one)
    assert not np.array_equal(maps(encoder, images, masks=50, seed=1)[0], one)


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
    # Each whole image, then it under each batch of masks.
    assert [count for count, *_ in seen] == [1, 4, 4, 2, 1, 4, 4, 2]
    assert all(inference and low >= 0 and high <= 1 for _, inference, low, high in seen)
    assert done == [4, 4, 2, 4, 4, 2]


class Counting(Linear):
    """Counts the masked and whole images that it embeds."""

    count = 0

    def embed(self, images):
        self.count += len(images)
        return super().embed(images)


def test_known_similarities_are_not_computed_again_and_change_no_digit():
    images = random_images(2, 20, 24)
    scratch = {masks: explain(Counting(20, 24), images, masks=masks, batch_size=16) for masks in (40, 100)}

    encoder, done = Counting(20, 24), []
    known = [found.similarities for found in scratch[40]]
    longer = explain(encoder, images, done.append, known=known, masks=100, batch_size=16)
    # 40 masks are two whole blocks of 16 and half a third, which is computed anew.
    assert encoder.count == 2 * (1 + 100 - 32) and sum(done) == 200
    for found, expected in zip(longer, scratch[100], strict=True):
        np.testing.assert_array_equal(found.similarities, expected.similarities)
        np.testing.assert_array_equal(found.importance, expected.importance)

    encoder = Counting(20, 24)
    same = explain(encoder, images, known=known, masks=40, batch_size=16)
    assert encoder.count == 0
    for found, expected in zip(same, scratch[40], strict=True):
        np.testing.assert_array_equal(found.similarities, expected.similarities)

    encoder = Counting(20, 24)
    known = [found.similarities for found in scratch[100]]
    fewer = explain(encoder, images, known=known, masks=40, batch_size=16)
    assert encoder.count == 2 * (1 + 8)
    for found, expected in zip(fewer, scratch[40], strict=True):
        np.testing.assert_array_equal(found.similarities, expected.similarities)


def upper_half_and_noise(images):
    """An easy image is one whose embedding hangs on one thing; the brightest image is the hardest."""
    upper = images[:, 0, :14].mean(dim=(1, 2))
    noise = torch.sin(1e4 * images.sum(dim=(1, 2, 3))) * images.amax(dim=(1, 2, 3)) ** 3
    return torch.stack([upper, 0.15 * noise, torch.full_like(upper, 0.2)], dim=1)


def test_masks_are_added_until_a_map_is_reliable():
    images = random_images(2, 28, 28) * torch.tensor([1.0, 0.3]).view(2, 1, 1, 1)
    options = {"masks": 6000, "batch_size": 50, "until_reliable": 0.9}
    done = []
    found = explain(Returns(upper_half_and_noise), images, done.append, **options)
    assert sum(done) == 2 * 6000
    assert found[1].masks < found[0].masks < 6000
    for explanation in found:
        assert explanation.masks % 250 == 0
        assert explanation.reliability >= 0.9
        (at_once,) = explain(
            Returns(upper_half_and_noise),
            images[[0 if explanation is found[0] else 1]],
            masks=explanation.masks,
            batch_size=50,
        )
        np.testing.assert_array_equal(at_once.importance, explanation.importance)
        if explanation.masks > 250:
            assert estimate_before(explanation) < 0.9
    again = explain(
        Returns(upper_half_and_noise), images, known=[one.similarities for one in found], **options
    )
    assert [one.masks for one in again] == [one.masks for one in found]


def estimate_before(explanation):
    before = estimate(MaskDesign(), explanation.similarities[: explanation.masks - 250], 28, 28, "ratio")
    return split_half_reliability(*before.halves)


def test_a_cap_that_is_too_low_leaves_a_map_as_reliable_as_it_is():
    (found,) = explain(
        Returns(upper_half_and_noise), random_images(1, 28, 28), masks=300, until_reliable=0.99
    )
    assert found.masks == 300 and found.reliability < 0.99


class FitsOnly(Linear):
    """Has memory for so many images at once."""

    def __init__(self, most, error):
        super().__init__(20, 24)
        self.most, self.error, self.sizes = most, error, []

    def embed(self, images):
        self.sizes.append(len(images))
        if len(images) > self.most:
            raise self.error
        return super().embed(images)


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError(
            "[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"
        ),
        MemoryError(),
    ],
)
def test_where_memory_runs_out_batches_are_halved_for_good(error):
    images, sizes = random_images(2, 20, 24), []
    encoder = FitsOnly(5, error)
    found = explain(encoder, images, narrowed=sizes.append, masks=70, batch_size=40)
    assert sizes == [20, 10, 5] and max(encoder.sizes[encoder.sizes.index(5) :]) == 5  # for good
    for one, expected in zip(found, explain(Linear(20, 24), images, masks=70), strict=True):
        np.testing.assert_allclose(one.importance, expected.importance, atol=1e-6)


def test_memory_too_small_for_one_image_is_said():
    with pytest.raises(torch.OutOfMemoryError):
        explain(FitsOnly(0, torch.OutOfMemoryError("full")), random_images(1, 20, 24), masks=8)


def test_other_errors_are_not_taken_for_a_lack_of_memory():
    encoder = FitsOnly(5, RuntimeError("shapes do not fit"))
    with pytest.raises(RuntimeError, match="shapes do not fit"):
        explain(encoder, random_images(1, 20, 24), masks=8)
    assert encoder.sizes == [1, 8]


def test_a_masked_image_that_embeds_to_zero_counts_as_wholly_unlike_and_is_counted():
    # An encoder that goes blank once anything is hidden in the left half.
    def left_or_nothing(images):
        shown = (images[:, 0, :, :4].flatten(1) > 0.99).all(dim=1, keepdim=True).float()
        return shown * torch.ones(1, 4)

    (found,) = explain(Returns(left_or_nothing), torch.ones(1, 1, 8, 8), masks=400, grid=2)
    zeros = int((found.similarities == 0).sum())
    assert set(found.similarities.round(9)) == {0, 1} and 0 < zeros < 400
    assert found.zero_masks == zeros


def test_a_whole_image_that_embeds_to_zero_has_no_map_but_the_others_have():
    images = torch.cat([torch.full((1, 1, 12, 12), 1e-30), random_images(1, 12, 12)])

    def nothing_of_the_faint(images):
        return images.flatten(1)[:, ::9].round(decimals=6)

    found = explain(Returns(nothing_of_the_faint), images, masks=60)
    assert found[0].problem == "the embedding of the whole image is zero"
    assert np.isnan(found[0].importance).all() and np.isnan(found[0].reliability) and found[0].masks == 0
    (alone,) = maps(Returns(nothing_of_the_faint), images[1:], masks=60)
    np.testing.assert_array_equal(found[1].importance, alone)


@pytest.mark.parametrize("fill", [0.0, 0.25])
def test_a_blank_image_has_no_map(fill):
    encoder, done = Counting(12, 12), []
    (found,) = explain(encoder, torch.full((1, 1, 12, 12), fill), done.append, masks=60, fill=fill)
    assert found.problem == "the prepared image is blank"
    assert np.isnan(found.importance).all() and encoder.count == 1 and sum(done) == 60


@pytest.mark.parametrize(
    ("function", "problem"),
    [
        (lambda images: images.flatten(1) / 0, "the embedding of the whole image is not finite"),
        (
            lambda images: images.flatten(1) / (images.mean(dim=(1, 2, 3), keepdim=True) == 1)[:, 0, 0],
            "the embeddings of masked images are not finite",
        ),
        (lambda images: torch.ones(len(images), 3), "all masked images are equally similar to the whole one"),
    ],
)
def test_embeddings_without_a_cosine_or_an_order_are_a_problem_that_is_told(function, problem):
    (found,) = explain(Returns(function), torch.ones(1, 1, 8, 8), masks=30)
    assert found.problem == problem and np.isnan(found.reliability)
    if "equally" in problem:
        np.testing.assert_array_equal(found.importance, found.importance[0, 0])
    else:
        assert np.isnan(found.importance).all()


def test_one_mask_has_no_order_and_no_reliability():
    (found,) = explain(Linear(28, 28), random_images(1, 28, 28), masks=1)
    assert found.problem and np.isnan(found.reliability)
    np.testing.assert_array_equal(found.importance, found.importance[0, 0])


def test_pixels_that_no_mask_shows_are_a_problem_of_the_ratio():
    images, encoder = random_images(1, 28, 28), Linear(28, 28)
    hidden = masks_of(2, 28, 28)[:, 0].sum(dim=0).numpy() == 0
    assert 0 < hidden.sum() < hidden.size
    (found,) = explain(encoder, images, masks=2)
    np.testing.assert_array_equal(np.isnan(found.importance), hidden)
    assert found.problem == "no mask shows some of the pixels"
    assert not explain(encoder, images, masks=2, estimator="mean")[0].problem


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda images: images.flatten(), r"shape \(64,\) for 1 images"),
        (lambda images: images.flatten(1)[:0], r"shape \(0, 64\) for 1 images"),
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


def test_batches_are_as_large_as_images_and_threads_allow(monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    assert RelaxOptions().block_size(224, 224, "cpu") == 8
    assert RelaxOptions().block_size(112, 112, "cpu") == 32
    assert RelaxOptions().block_size(32, 32, "cpu") == 256
    assert RelaxOptions().block_size(9000, 9000, "cpu") == 1
    assert RelaxOptions().block_size(224, 224, "cuda") == 256
    assert RelaxOptions(batch_size=7).block_size(224, 224, "cpu") == 7
    monkeypatch.setattr(torch, "get_num_threads", lambda: 16)
    assert RelaxOptions().block_size(224, 200, "cpu") == 64


def test_the_defaults_are_the_protocols():
    assert RelaxOptions().model_dump() == {
        "masks": 3000, "until_reliable": None, "grid": 7, "keep": 0.5, "shifts": "pixels",
        "antithetic": False, "fill": 0.0, "seed": 0, "estimator": "ratio", "uncertainty_filter": "none",
        "precision": "auto", "batch_size": None,
    }  # fmt: skip


@pytest.mark.parametrize(
    "wrong", [{"masks": 0}, {"grid": 1}, {"keep": 0}, {"keep": 1}, {"seed": -1}, {"batch_size": 0},
              {"estimator": "median"}, {"mask": 5}, {"grid": 33},
              {"batch_size": 4097}, {"until_reliable": 1}, {"until_reliable": 0},
              {"fill": -0.1}, {"fill": 1.1}, {"shifts": "rows"}, {"antithetic": True, "keep": 0.4}]
)  # fmt: skip
def test_options_are_bounded(wrong):
    with pytest.raises(ValidationError):
        RelaxOptions(**wrong)
