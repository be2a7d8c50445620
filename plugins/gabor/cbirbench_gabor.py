"""Gabor texture statistics: 24 filters of 3 x 3 pixels, four numbers of each response (paper, section 8.4).

The paper fixes the counts (6 orientations, 4 scales), the kernel size and the statistics. Wavelengths,
envelope, phase, gain and border are this plugin's choices and stand beside the code that makes them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import conv2d

from cbirbench.interfaces import Context, Json, Options, option
from cbirbench.windows import WIDE_WINDOW, WideHUWindow, wide_window_images

WAVELENGTHS_PX = (2.0, 2.0 * math.sqrt(2.0), 4.0, 4.0 * math.sqrt(2.0))
"""One wavelength a scale: half an octave apart, from the shortest that pixels can carry."""

ORIENTATIONS = 6
STATISTICS = ("mean", "variance", "minimum", "maximum")
IMAGES_AT_ONCE = 4
"""24 responses take 5 MB an image, and blocks over 32 MB cost triple: glibc maps them anew at every use."""


class GaborOptions(Options):
    """What can be set with ``--set gabor.OPTION=VALUE``."""

    image_size: int = option(224, description="Side of the image.", unit="px", source="protocol", ge=3)
    window: WideHUWindow = option(
        WIDE_WINDOW, description="Window of the image, or an organ's name.", unit="HU", source="section 3.1"
    )


def kernels() -> Tensor:
    """The filter bank: real Gabor kernels, float32, shape ``(24, 1, 3, 3)``, scale by scale, fine first.

    A bandwidth of one octave makes the envelope's deviation .56 of the wavelength. Only the real part is
    used; it is symmetric about its centre, so correlation and convolution agree. The absolute values of each
    kernel add up to 1, which puts all scales on one footing; scikit-image's own factor belongs to an envelope
    that is not cut off.
    """
    from skimage.filters import gabor_kernel

    bank = [
        # No grid of scikit-image's is smaller than 3 x 3, and an extent of no deviations asks for that one.
        gabor_kernel(1.0 / wavelength, theta=math.pi * step / ORIENTATIONS, bandwidth=1, n_stds=0).real
        for wavelength in WAVELENGTHS_PX
        for step in range(ORIENTATIONS)
    ]
    return torch.from_numpy(np.stack([kernel / np.abs(kernel).sum() for kernel in bank])).float().unsqueeze(1)


class Gabor:
    """96 texture statistics of the wide-window image.

    Value ``(6 * scale + orientation) * 4 + statistic`` of an embedding belongs to that filter (scales from
    fine to coarse, orientations from 0 to 150 degrees) and that entry of `STATISTICS`. Nothing is
    standardised, as in the paper, so a variance, being squared, weighs less in a distance than the others.
    """

    interface_version: ClassVar[int] = 1
    options_type: ClassVar[type[Options]] = GaborOptions

    def __init__(self, options: GaborOptions, context: Context) -> None:
        self.options = options
        self.bank = kernels().to(context.device)

    def fingerprint(self) -> Mapping[str, Json]:
        """Nothing besides options and versions changes the output."""
        return {}

    def prepare(self, hu: Tensor) -> Tensor:
        """Window and resize: ``(n, side, side)`` HU to ``(n, 1, image_size, image_size)`` in 0..1."""
        return wide_window_images(hu, self.options.image_size, self.options.window)

    def embed(self, images: Tensor) -> Tensor:
        """Statistics of the filtered images, float32, shape ``(n, 96)``.

        Pixels at the border, whose neighbourhood is not whole, have no response. The variance is the
        population's.
        """
        parts = torch.split(images, IMAGES_AT_ONCE)
        return torch.cat([self._statistics(part) for part in parts])

    def _statistics(self, images: Tensor) -> Tensor:
        responses = conv2d(images, self.bank).flatten(2)
        mean = responses.mean(2)
        minimum, maximum = responses.amin(2), responses.amax(2)
        variance = responses.sub_(mean.unsqueeze(2)).square_().mean(2)  # torch.var takes five times as long
        return torch.stack([mean, variance, minimum, maximum], dim=2).flatten(1)
