import math

import numpy as np
import pytest
import torch
from cbirbench_hog import CLIP, FLAT, Hog, HogOptions
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from skimage.feature import hog
from skimage.filters import gaussian

from cbirbench.errors import UsageError
from cbirbench.interfaces import Context


def extractor(**options):
    def no_augmentation(name):
        raise AssertionError(name)

    return Hog(HogOptions(**options), Context(device="cpu", augmentation=no_augmentation))


def random_images(count, side, seed=0):
    return torch.rand(count, 1, side, side, generator=torch.Generator().manual_seed(seed))


def slow_embedding(image, cell=9, orientations=9, block=2):
    """Pixel by pixel and block by block, with nothing of scikit-image."""
    side = len(image)
    cells = side // cell
    histogram = np.zeros((cells, cells, orientations))
    for r in range(cells * cell):
        for c in range(cells * cell):
            down = image[r + 1][c] - image[r - 1][c] if 0 < r < side - 1 else 0.0
            right = image[r][c + 1] - image[r][c - 1] if 0 < c < side - 1 else 0.0
            degrees = math.degrees(math.atan2(down, right)) % 180.0
            histogram[r // cell, c // cell, int(degrees // (180 / orientations))] += math.hypot(down, right)
    flat = FLAT * histogram.sum() / cells**2
    values = []
    for r in range(cells - block + 1):
        for c in range(cells - block + 1):
            part = histogram[r : r + block, c : c + block].ravel()
            part = np.minimum(part / math.sqrt((part**2).sum() + flat**2), CLIP)
            values += list(part / math.sqrt((part**2).sum() + FLAT**2))
    return values


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), side=st.integers(18, 30), scale=st.floats(0.01, 1.0))
def test_embedding_equals_a_slow_loop(seed, side, scale):
    images = random_images(2, side, seed) * scale
    found = extractor(image_size=side).embed(images)
    assert found.dtype == torch.float32
    # A share of the image's sum loses the size of the image's gradients, up to scikit-image's 1e-5.
    np.testing.assert_allclose(found, [slow_embedding(image[0].tolist()) for image in images], atol=2e-5)


def test_embedding_equals_scikit_images_on_texture():
    image = gaussian(np.random.default_rng(0).random((224, 224)), 3)
    image = ((image - image.min()) / (image.max() - image.min())).astype(np.float32)
    expected = hog(image, orientations=9, pixels_per_cell=(9, 9), cells_per_block=(2, 2), block_norm="L2-Hys")
    found = extractor().embed(torch.from_numpy(image)[None, None])
    assert found.shape == (1, 19044)
    np.testing.assert_allclose(found[0], expected, atol=2e-5)


@pytest.mark.parametrize(("transposed", "bin_"), [(False, 0), (True, 4)])
def test_a_ramp_by_hand(transposed, bin_):
    # All gradients point one way, 0 or 90 degrees, so each of the block's four cells fills one bin, equally:
    # 1/2 each, clipped to .2, and 1/2 again.
    ramp = torch.linspace(0, 1, 18).expand(1, 1, 18, 18)
    values = extractor(image_size=18).embed(ramp.transpose(2, 3) if transposed else ramp).reshape(4, 9)
    expected = torch.zeros(4, 9)
    expected[:, bin_] = 0.5
    torch.testing.assert_close(values, expected, atol=1e-5, rtol=0)


def test_a_flat_image_has_the_zero_vector():
    values = extractor().embed(torch.full((1, 1, 224, 224), 0.7))
    assert values.shape == (1, 19044)
    assert not values.any()


def test_contrast_does_not_matter():
    images = random_images(1, 45)
    torch.testing.assert_close(
        extractor(image_size=45).embed(images), extractor(image_size=45).embed(images / 8), atol=1e-6, rtol=0
    )


def test_threads_keep_order_and_bits():
    images = random_images(12, 60)
    one = extractor(image_size=60)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        serial = one.embed(images)
        torch.set_num_threads(4)
        threaded = one.embed(images)
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(serial, threaded)
    assert torch.equal(serial, torch.cat([one.embed(image.unsqueeze(0)) for image in images]))


def test_pixels_past_the_last_cell_are_not_seen():
    images = random_images(1, 224)
    changed = images.clone()
    changed[..., 217:, :] = 0.0  # row 216 is past the last cell too, but the gradient of row 215 reaches it
    changed[..., 217:] = 0.0
    assert torch.equal(extractor().embed(images), extractor().embed(changed))


def test_prepare_windows_and_resizes():
    hu = torch.full((2, 300, 300), -200, dtype=torch.int16)
    hu[1] = 300
    images = extractor().prepare(hu)
    assert images.shape == (2, 1, 224, 224)
    assert images[0].max() == 0.0
    assert images[1].min() > 1.0 - 1e-6


def test_options_that_cannot_be_are_refused():
    with pytest.raises(UsageError, match="holds 1 cells of 9 px"):
        extractor(image_size=17)
    with pytest.raises(ValidationError, match="lower end"):
        extractor(window=(300, -200))


def test_the_window_can_be_an_organs():
    assert HogOptions(window="lung") == HogOptions(window=(-1000, 300))
    assert HogOptions(window="spleen") == HogOptions()


def test_nothing_but_options_shapes_the_output():
    assert extractor().fingerprint() == {}
