"""Scans the phantom's bodies: which part is covered, on what grid, with what noise and sharpness."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from scipy.fft import irfft2, rfft2
from scipy.ndimage import gaussian_filter

from cbirbench.datasets.anatomy import Body, Section, near
from cbirbench.datasets.anatomy_organs import Gut, paint_body
from cbirbench.datasets.anatomy_shapes import LIVER, TUMOUR, Canvas, Grain, Texture
from cbirbench.slices import AIR_HU

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cbirbench.datasets.anatomy_shapes import Array

_COVERAGE = ((40.0, 40.0), (35.0, 150.0), (90.0, 90.0), (170.0, 35.0), (220.0, 35.0), (200.0, 140.0))
"""How far scans reach below and above the liver, in mm: what different requests cover."""

_STRIDE = 4
"""Pixels between those that are looked at first when asking whether a slice shows liver."""


class Scan:
    """The CT scan of one body; a slice depends on seed, body, size and its position alone.

    Args:
        seed: The phantom's seed, 0 or more.
        index: The body's number, 0 or more.
        size: Rows and columns of a slice.
        slices: How many slices cover the scan's range; by default what its drawn distance of slices gives.

    Attributes:
        count: Number of slices; slice 0 is the most inferior.
        spacing_mm: Distance between rows, columns and slices, in millimetres.
    """

    def __init__(self, seed: int, index: int, size: int, slices: int | None = None) -> None:
        self._seed, self._index, self._size = seed, index, size
        self.body = Body(seed, index)
        self._gut = Gut.draw(self.body, seed, index)
        draw = np.random.default_rng([seed, index, 3])
        scale = self.body.pose.scale
        below, above = _COVERAGE[int(draw.integers(len(_COVERAGE)))]
        liver_low, liver_high = self.body.liver_range
        self._bottom = max(liver_low - below * near(draw, 1.0, 0.3), -340.0)
        self._top = min(liver_high + above * near(draw, 1.0, 0.3), 255.0)
        step = float(draw.choice([2.0, 2.5, 3.0, 4.0, 5.0]))
        covered = (self._top - self._bottom) * scale[2]
        if slices is None:
            self.count = int(covered / step) + 1
        else:  # after the draw, so that the body and all else about the scan stay as they are
            self.count, step = slices, covered / slices
        width = 2.0 * scale[0] * max(self.body.skin_half(z)[0] for z in (-250.0, -100.0, 50.0))
        pixel = float(np.clip(width * near(draw, 1.06, 0.05), 290.0, 500.0)) / size
        self.spacing_mm = (pixel, pixel, step)
        self._axis = (np.arange(size) - (size - 1) / 2) * pixel
        self._draw_reconstruction(draw)
        grain = np.random.default_rng([seed, index, 4])
        self._warps = [Texture(grain, step, self._axis) for step in (55.0, 55.0, 17.0, 17.0)]
        self._grains = [Texture(grain, step, self._axis, n) for step, n in ((13.0, 24), (5.5, 48), (3.0, 64))]

    def _draw_reconstruction(self, draw: np.random.Generator) -> None:
        """Kernel, dose, table and field of view."""
        self._blur_mm = near(draw, 0.75, 0.35)
        self._sharpen = near(draw, 0.25, 0.35)
        self._noise = float(np.clip(draw.lognormal(2.25, 0.35), 5.0, 26.0))
        self._noise_mm = near(draw, 0.9, 0.35)
        self._streaks = near(draw, 8.0, 4.0) if draw.random() < 0.15 else 0.0
        self._round = bool(draw.random() < 0.5)
        self._table = float(draw.choice([0.0, 1.0, -1.0]))
        back = max(self.body.skin_half(z)[1] for z in (-250.0, -100.0, 50.0)) * self.body.pose.scale[1]
        self._table_v = self.body.pose.shift[1] + back + 4.0

    def _height(self, index: int) -> float:
        """The body's z of a slice."""
        return self._bottom + index * self.spacing_mm[2] / self.body.pose.scale[2]

    def _place(self, z: float, stride: int = 1) -> tuple[Array, Array]:
        """The body's x and y at the pixels, every `stride`-th of both axes, bent by a smooth warp."""
        axis = self._axis.astype(np.float32)
        x, y = self.body.pose.to_body(axis[None, ::stride], axis[::stride, None], z)
        for amplitude, (along_x, along_y) in ((3.2, self._warps[:2]), (1.3, self._warps[2:])):
            x = x + amplitude * np.clip(along_x.at(z, stride), -2.5, 2.5)
            y = y + amplitude * np.clip(along_y.at(z, stride), -2.5, 2.5)
        return x, y

    def shows_liver(self) -> NDArray[np.bool_]:
        """For each slice, whether its mask has any liver, shape ``(count,)``; nothing is rendered."""
        return np.array([self._shows_liver(index) for index in range(self.count)])

    def _shows_liver(self, index: int) -> bool:
        # A few pixels settle most slices; the rest are asked in full, so the answer is the mask's own.
        z = self._height(index)
        low, high = self.body.liver_range
        if not low < z < high:
            return False
        few = Section.of(self.body, *self._place(z, _STRIDE), z).liver
        return (few is not None and bool((few < -1.0).any())) or bool(self.mask(index).any())

    def mask(self, index: int) -> NDArray[np.uint8]:
        """Segmentation of one slice: 1 liver, 2 tumour, uint8, shape ``(size, size)``."""
        z = self._height(index)
        return _segment(Section.of(self.body, *self._place(z), z))

    def render(self, index: int) -> tuple[NDArray[np.int16], NDArray[np.uint8]]:
        """One slice in HU, int16, and its segmentation, uint8, both of shape ``(size, size)``.

        The segmentation is `mask`'s and, beside the liver, what is seen of the kidneys (without the fat and
        vessels of the sinus), the spleen, the spine (vertebrae, discs and sacrum, without their canal) and
        the ribs, by the values in `cbirbench.datasets.anatomy_shapes`.
        """
        z, pixel = self._height(index), self.spacing_mm[0]
        x, y = self._place(z)
        section = Section.of(self.body, x, y, z)
        edge = max(pixel, 0.5 * self.spacing_mm[2], 1.2)
        canvas = Canvas(x, y, z, self.body.pose, pixel, edge)
        grain = Grain(*(texture.at(z) for texture in self._grains))
        paint_body(canvas, self.body, self._gut, grain, section)
        self._paint_table(canvas)
        liver = _segment(section)
        return self._reconstruct(canvas.hu, index), np.where(liver > 0, liver, canvas.structures)

    def _paint_table(self, canvas: Canvas) -> None:
        """A table of foam between thin shells: flat, or a trough, or none in the field."""
        if not self._table:
            return
        u, v = self._axis[None, :].astype(np.float32), self._axis[:, None].astype(np.float32)
        sag = v - self._table_v - 0.0009 * (1.0 - self._table) * (170.0**2 - u * u) * (u * u < 190.0**2)
        depth = np.maximum(np.abs(sag - 18.0) - 18.0, np.abs(u) - 215.0)
        outside = canvas.hu < -900.0
        canvas.paint(np.where(outside, depth, 99.0), -880.0)
        canvas.paint(np.where(outside, np.abs(depth) - 1.0, 99.0), -60.0)

    def _reconstruct(self, clean: Array, index: int) -> NDArray[np.int16]:
        """Blur by the kernel, add the noise of this slice, cut to the scanner's range."""
        pixel, generator = self.spacing_mm[0], np.random.default_rng([self._seed, self._index, 5, index])
        sigma = self._blur_mm / pixel
        image = gaussian_filter(clean, sigma, truncate=3.0)
        image += self._sharpen * (image - gaussian_filter(image, 1.5 * sigma, truncate=3.0))
        # CT noise has little power at low frequencies; its centre, behind most tissue, is the noisiest.
        fine = self._noise_mm / pixel
        noise = _noise(
            generator, clean.shape, lambda v, u: _gauss(v, u, fine, fine) - _gauss(v, u, 3 * fine, 3 * fine)
        )
        axis = self._axis.astype(np.float32) / 160.0
        dose = (1.15 - 0.35 * (axis[None, :] ** 2 + axis[:, None] ** 2)).clip(0.5)
        image += self._noise * dose * noise
        if self._streaks:
            streak = _noise(generator, clean.shape, lambda v, u: _gauss(v, u, 0.6, 9.0))
            image += self._streaks * streak * (np.abs(axis[:, None]) < 0.5)
        if self._round:
            radius = np.hypot(self._axis[None, :], self._axis[:, None])
            image[radius > self._axis[-1] + 0.5 * pixel] = AIR_HU
        hu: NDArray[np.int16] = np.rint(np.clip(image, AIR_HU, 3071.0)).astype(np.int16)
        return hu


def _segment(section: Section) -> NDArray[np.uint8]:
    """1 liver, 2 tumour."""
    mask = np.zeros(section.cavity.shape, dtype=np.uint8)
    if section.liver is not None:
        mask[section.liver < 0.0] = LIVER
        if section.tumour is not None:
            mask[section.tumour < 0.0] = TUMOUR
    return mask


def _gauss(v: Array, u: Array, sigma_v: float, sigma_u: float) -> Array:
    """Transfer function of a Gaussian blur at frequencies v and u, in cycles a pixel."""
    transfer: Array = np.exp(-2.0 * np.pi**2 * ((sigma_v * v) ** 2 + (sigma_u * u) ** 2))
    return transfer


def _noise(
    generator: np.random.Generator, shape: tuple[int, ...], transfer: Callable[[Array, Array], Array]
) -> Array:
    """Gaussian noise of unit deviation, filtered by a transfer function."""
    v = np.fft.fftfreq(shape[0]).astype(np.float32)[:, None]
    u = np.fft.rfftfreq(shape[1]).astype(np.float32)[None, :]
    white = generator.standard_normal(shape, dtype=np.float32)
    noise: Array = irfft2(rfft2(white) * transfer(v, u), s=shape)
    noise /= noise.std()
    return noise
