from __future__ import annotations

import numpy as np
import pytest
import torch
from cbirbench_floors import (
    HistogramOptions,
    IntensityHistogram,
    RandomOptions,
    RandomVectors,
    ZPosition,
)

from cbirbench.interfaces import Located


def slices_of_noise(count: int = 4, side: int = 96) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(-1024, 1500, (count, side, side), generator=generator, dtype=torch.int16)


def test_a_histogram_by_hand() -> None:
    histogram = IntensityHistogram(HistogramOptions(bins=4))
    images = torch.tensor([[0.0, 0.1, 0.25, 0.49, 0.5, 0.74, 0.75, 1.0], [1.0] * 8]).reshape(2, 1, 2, 4)
    assert histogram.embed(images).tolist() == [[0.25, 0.25, 0.25, 0.25], [0.0, 0.0, 0.0, 1.0]]


@pytest.mark.parametrize("bins", [2, 7, 64])
def test_a_histogram_agrees_with_numpys(bins: int) -> None:
    histogram = IntensityHistogram(HistogramOptions(bins=bins))
    images = histogram.prepare(slices_of_noise())
    assert images.shape == (4, 1, 224, 224)
    vectors = histogram.embed(images)
    for image, vector in zip(images.double().numpy(), vectors.numpy(), strict=True):
        # The ends of NumPy's bins, as floats of the same precision.
        expected = np.bincount(
            np.minimum(np.floor(np.float32(image) * bins), bins - 1).astype(int).ravel(), minlength=bins
        )
        np.testing.assert_allclose(vector, expected / image.size, rtol=1e-6)


def test_a_histogram_knows_nothing_of_where() -> None:
    histogram = IntensityHistogram(HistogramOptions())
    images = histogram.prepare(slices_of_noise())
    torch.testing.assert_close(histogram.embed(images.flip(3)), histogram.embed(images), rtol=0, atol=0)


def test_random_vectors_are_equal_for_equal_images_and_differ_for_the_least_change() -> None:
    drawn = RandomVectors(RandomOptions())
    hu = slices_of_noise()
    images = drawn.prepare(hu)
    assert images.shape == (4, 1, 64, 64)
    vectors = drawn.embed(images)
    assert vectors.shape == (4, 128)
    torch.testing.assert_close(drawn.embed(images[[2, 0]]), vectors[[2, 0]], rtol=0, atol=0)
    changed = images.clone()
    changed[0, 0, 5, 5] += 1e-3
    assert (
        float((drawn.embed(changed)[0] * vectors[0]).sum()) < 60
    )  # 128 for the same vector, 0 +- 11 for another
    assert torch.equal(drawn.embed(changed)[1:], vectors[1:])


def test_random_vectors_are_normal() -> None:
    drawn = RandomVectors(RandomOptions(size=4096))
    vectors = drawn.embed(drawn.prepare(slices_of_noise(8)))
    assert abs(float(vectors.mean())) < 0.03 and abs(float(vectors.std()) - 1) < 0.03
    angles = torch.nn.functional.normalize(vectors) @ torch.nn.functional.normalize(vectors).T
    assert float((angles - torch.eye(8)).abs().max()) < 0.1


def test_another_seed_draws_other_vectors() -> None:
    images = RandomVectors(RandomOptions()).prepare(slices_of_noise())
    first, second = (RandomVectors(RandomOptions(seed=seed)).embed(images) for seed in (0, 1))
    assert not torch.equal(first, second)


def test_z_position_sees_no_pixel_and_ranks_by_height() -> None:
    floor = ZPosition(ZPosition.options_type())
    assert isinstance(floor, Located)
    positions = torch.tensor([0.0, 0.25, 0.5, 1.0])
    images = floor.prepare_at(slices_of_noise(), positions)
    assert torch.equal(images, floor.prepare_at(torch.zeros(4, 8, 8, dtype=torch.int16), positions))
    assert float(images.min()) >= 0 and float(images.max()) <= 1
    vectors = floor.embed(images)
    angles = torch.atan2(vectors[:, 1], vectors[:, 0]) / (torch.pi / 2)
    torch.testing.assert_close(angles, positions)
    torch.testing.assert_close(vectors.norm(dim=1), torch.ones(4))
    distances = (vectors - vectors[0]).norm(dim=1)
    assert distances.tolist() == sorted(distances.tolist())


def test_covering_parts_turns_no_height() -> None:
    floor = ZPosition(ZPosition.options_type())
    images = floor.prepare_at(slices_of_noise(), torch.tensor([0.1, 0.25, 0.5, 1.0]))
    masks = torch.rand(4, 1, 32, 32, generator=torch.Generator().manual_seed(1))
    whole, masked = (torch.nn.functional.normalize(floor.embed(each)) for each in (images, images * masks))
    torch.testing.assert_close(whole, masked)
