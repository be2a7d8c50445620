"""Floors: what retrieval scores for extractors that know next to nothing of a slice.

An extractor that does not rise above `random` retrieves by chance, one that does not rise above
`intensity-histogram` sees no anatomy, and one that does not rise above `z-position` has learned no more than
where in the body a slice was taken. The last is the one that is easily missed: slices at one height show the
same organs.
"""

from __future__ import annotations

import hashlib
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from cbirbench.interfaces import Floor, Located, Options, Plugin, option
from cbirbench.windows import WIDE_WINDOW, WideHUWindow, wide_window_images


# --8<-- [start:intensity-histogram]
class HistogramOptions(Options):
    """What can be set with ``--set intensity-histogram.OPTION=VALUE``."""

    bins: int = option(64, description="Equal parts that the window is cut into.", unit="bins", ge=2, le=4096)
    window: WideHUWindow = option(WIDE_WINDOW, description="Window, or an organ's name.", unit="HU")


class IntensityHistogram(Plugin, Floor):
    """How much of the slice lies in each part of the HU window, and nothing of where."""

    interface_version: ClassVar[int] = 1
    options_type: ClassVar[type[Options]] = HistogramOptions
    options: HistogramOptions

    def prepare(self, hu: Tensor) -> Tensor:
        """Window and resize: ``(n, side, side)`` HU to ``(n, 1, 224, 224)`` in 0..1."""
        return wide_window_images(hu, 224, self.options.window)

    def embed(self, images: Tensor) -> Tensor:
        """Shares of the pixels, shape ``(n, bins)``; the rows sum to 1."""
        bins = self.options.bins
        pixels = (images.flatten(1) * bins).long().clamp(max=bins - 1)
        counts: Tensor = images.new_zeros(len(images), bins)
        counts.scatter_add_(1, pixels, torch.ones_like(pixels, dtype=counts.dtype))
        return counts / pixels.shape[1]


# --8<-- [end:intensity-histogram]


class RandomOptions(Options):
    """What can be set with ``--set random.OPTION=VALUE``."""

    size: int = option(128, description="Length of a vector.", ge=1, le=65536)
    seed: int = option(0, description="Another seed, other vectors.", ge=0)


class RandomVectors(Plugin, Floor):
    """A vector of normal numbers that is drawn anew for each image, seeded by the image itself.

    Equal images have equal vectors; the least change gives another, so that its retrieval and its
    explanations are chance.
    """

    interface_version: ClassVar[int] = 1
    options_type: ClassVar[type[Options]] = RandomOptions
    options: RandomOptions

    def prepare(self, hu: Tensor) -> Tensor:
        """Window 64 x 64 of the slice's pixels: ``(n, 1, 64, 64)`` in 0..1.

        None is averaged with others: rounding, which differs between devices, would make another image.
        """
        low, high = WIDE_WINDOW
        pixels = interpolate(hu.unsqueeze(1).float(), size=(64, 64), mode="nearest")
        return ((pixels - low) / (high - low)).clamp(0, 1)

    def embed(self, images: Tensor) -> Tensor:
        """Normal numbers, shape ``(n, size)``."""
        return torch.stack([self._drawn(image) for image in images.cpu().numpy()]).to(images.device)

    def _drawn(self, image: object) -> Tensor:
        seed = hashlib.sha256(b"%d " % self.options.seed + bytes(memoryview(image).cast("B")))  # type: ignore[arg-type]
        generator = torch.Generator().manual_seed(int.from_bytes(seed.digest()[:7], "big"))
        return torch.randn(self.options.size, generator=generator)


class ZPosition(Plugin, Located, Floor):
    """Where in its scan the slice lies, from the most inferior to the most superior; no pixel is seen.

    The height is an angle from 0 to 90 degrees, and the vector its cosine and sine: Euclidean and cosine
    distance then rank alike, and covering parts of the image, which is one value throughout, changes no
    direction. Its importance maps are undefined therefore, as they should be.
    """

    interface_version: ClassVar[int] = 1

    def prepare_at(self, hu: Tensor, positions: Tensor) -> Tensor:
        """Two channels of one value each, the angle's cosine and sine: ``(n, 2, 32, 32)``."""
        angles = positions * (torch.pi / 2)
        channels = torch.stack([angles.cos(), angles.sin()], dim=1).clamp(0, 1)
        return channels[:, :, None, None].expand(-1, -1, 32, 32)

    def embed(self, images: Tensor) -> Tensor:
        """The channels' means, shape ``(n, 2)``."""
        return images.mean(dim=(2, 3))
