import math

import numpy as np
import pytest
import torch
from cbirbench_gabor import ORIENTATIONS, STATISTICS, WAVELENGTHS_PX, Gabor, GaborOptions, kernels
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from cbirbench.interfaces import Context


def gabor(**options):
    def no_augmentation(name):
        raise AssertionError(name)

    return Gabor(GaborOptions(**options), Context(device="cpu", augmentation=no_augmentation))


def slow_kernel(scale, orientation):
    wavelength, angle = WAVELENGTHS_PX[scale], math.radians(30 * orientation)
    sigma = wavelength * 3 / math.pi * math.sqrt(math.log(2) / 2)  # a bandwidth of one octave
    kernel = [
        [
            math.exp(-(x * x + y * y) / (2 * sigma * sigma))
            * math.cos(2 * math.pi * (x * math.cos(angle) + y * math.sin(angle)) / wavelength)
            for x in (-1, 0, 1)
        ]
        for y in (-1, 0, 1)
    ]
    total = sum(abs(value) for row in kernel for value in row)
    return [[value / total for value in row] for row in kernel]


def slow_embedding(image):
    values = []
    for scale in range(4):
        for orientation in range(6):
            kernel = slow_kernel(scale, orientation)
            responses = [
                sum(kernel[i][j] * float(image[r + i, c + j]) for i in range(3) for j in range(3))
                for r in range(image.shape[0] - 2)
                for c in range(image.shape[1] - 2)
            ]
            mean = sum(responses) / len(responses)
            variance = sum((value - mean) ** 2 for value in responses) / len(responses)
            values += [mean, variance, min(responses), max(responses)]
    return values


def test_the_bank_is_24_different_kernels_of_exactly_3_by_3():
    bank = kernels()
    assert bank.shape == (24, 1, 3, 3)
    assert bank.dtype == torch.float32
    assert len(WAVELENGTHS_PX) * ORIENTATIONS * len(STATISTICS) == 96
    flat = bank.flatten(1)
    assert torch.cdist(flat, flat).add(torch.eye(24)).min() > 0.02


def test_kernels_equal_the_formula_and_have_unit_gain():
    bank = kernels().squeeze(1)
    expected = [slow_kernel(scale, orientation) for scale in range(4) for orientation in range(6)]
    np.testing.assert_allclose(bank.numpy(), expected, atol=1e-7)
    torch.testing.assert_close(bank.abs().sum((1, 2)), torch.ones(24))
    torch.testing.assert_close(bank, bank.flip(1, 2))  # even, so correlation is convolution


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), rows=st.integers(3, 9), columns=st.integers(3, 9))
def test_embedding_equals_a_slow_loop(seed, rows, columns):
    images = torch.rand(3, 1, rows, columns, generator=torch.Generator().manual_seed(seed))
    found = gabor().embed(images)
    assert found.dtype == torch.float32
    np.testing.assert_allclose(found, [slow_embedding(image[0].numpy()) for image in images], atol=2e-6)


def test_a_flat_image_by_hand():
    values = gabor().embed(torch.full((1, 1, 10, 10), 0.5)).reshape(24, 4)
    half_sums = 0.5 * kernels().sum((1, 2, 3))
    torch.testing.assert_close(values[:, 0], half_sums)
    torch.testing.assert_close(values[:, 1], torch.zeros(24))
    torch.testing.assert_close(values[:, 2], half_sums)
    torch.testing.assert_close(values[:, 3], half_sums)


def test_the_order_of_values_is_the_documented_one():
    stripes = torch.zeros(1, 1, 32, 32)
    stripes[..., ::2] = 1.0  # a wave of 2 px from left to right: 0 degrees, and the finest scale
    across = gabor().embed(stripes).reshape(4, 6, 4)
    along = gabor().embed(stripes.transpose(2, 3)).reshape(4, 6, 4)
    mean, variance, minimum, maximum = (STATISTICS.index(name) for name in STATISTICS)
    assert across[0, :, variance].argmax() == 0
    assert along[0, :, variance].argmax() == 3  # 90 degrees
    assert across[0, 0, variance] > 100 * across[3, 0, variance]
    assert across[0, 0, minimum] < across[0, 0, mean] < across[0, 0, maximum]


def test_batches_come_back_in_order_whatever_their_size():
    images = torch.rand(19, 1, 12, 12, generator=torch.Generator().manual_seed(0))
    extractor = gabor()
    singly = torch.cat([extractor.embed(image.unsqueeze(0)) for image in images])
    torch.testing.assert_close(extractor.embed(images), singly, atol=1e-6, rtol=0)


def test_prepare_windows_and_resizes():
    hu = torch.full((2, 300, 300), -200, dtype=torch.int16)
    hu[1] = 300
    images = gabor().prepare(hu)
    assert images.shape == (2, 1, 224, 224)
    assert images[0].max() == 0.0
    assert images[1].min() > 1.0 - 1e-6
    assert gabor(image_size=32, window=(0, 100)).prepare(hu).shape == (2, 1, 32, 32)


def test_a_window_upside_down_is_refused():
    with pytest.raises(ValidationError, match="lower end"):
        gabor(window=(300, -200))


def test_the_window_can_be_an_organs():
    assert GaborOptions(window="lung") == GaborOptions(window=(-1000, 300))
    assert GaborOptions(window="spleen") == GaborOptions()


def test_nothing_but_options_shapes_the_output():
    assert gabor().fingerprint() == {}
