"""Slices made for checking: small, in HU, the same every time."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cbirbench.slices import CTSlice, Slices

AIR, FAT, SOFT_TISSUE, ORGAN, BONE, METAL = -1000, -100, 45, 110, 600, 3071
"""Typical HU of what is drawn."""

PER_VOLUME = 4


def made_slices(count: int = 8, *, side: int = 96, seed: int = 0) -> Slices:
    """Make slices that look like a body from afar: fat around soft tissue, a spine, air outside, noise.

    Every second one shows an organ, and its mask. Four slices make a scan, and each scan is a patient.

    Args:
        count: How many.
        side: Rows and columns.
        seed: Decides the noise.

    Returns:
        Slices with masks, labels, and places within their scans.
    """
    generator = np.random.default_rng(seed)
    rows, columns = (np.mgrid[:side, :side] + 0.5) / side - 0.5
    items = []
    for number in range(count):
        volume, z_index = divmod(number, PER_VOLUME)
        wide, high = 0.42 + 0.01 * (number % 5), 0.3 + 0.01 * (number % 3)
        away = (columns / wide) ** 2 + (rows / high) ** 2
        hu = np.full((side, side), AIR, np.float64)
        hu[away < 1] = FAT
        hu[away < 0.8] = SOFT_TISSUE
        hu[columns**2 + (rows - 0.16) ** 2 < 0.06**2] = BONE
        mask = np.zeros((side, side), np.uint8)
        if number % 2:
            mask[(columns + 0.15) ** 2 + (rows + 0.02 * (number % 4)) ** 2 < 0.12**2] = 1
            hu[mask > 0] = ORGAN
        hu += generator.normal(0, 12, hu.shape)
        items.append(
            CTSlice(
                hu=np.clip(np.rint(hu), -1024, 3071).astype(np.int16),
                mask=mask,
                slice_id=f"made_{volume}_z{z_index}",
                patient_id=f"made_{volume}",
                study_id=f"made_{volume}",
                volume_id=f"made_{volume}",
                z_index=z_index,
                label=number % 2,
                volume_slices=PER_VOLUME,
            )
        )
    return Slices(tuple(items))


def flat_slices(values: Sequence[int], *, side: int = 96) -> Slices:
    """Slices of one HU throughout, all from the middle of their scans."""
    return placed([np.full((side, side), value, np.int16) for value in values])


def tissue_slices(values: Sequence[int], *, side: int = 96) -> Slices:
    """A disc of each of these HU in air, all from the middle of their scans, without noise.

    In the middle of each disc lies a little metal: air and metal are every slice's lowest and highest HU, so
    that scaling each image by its own range shows the disc as it is.
    """
    rows, columns = np.mgrid[:side, :side] - (side - 1) / 2
    away = rows**2 + columns**2
    inside, metal = away < (0.4 * side) ** 2, away < (0.05 * side) ** 2
    return placed([np.where(metal, METAL, np.where(inside, value, AIR)).astype(np.int16) for value in values])


def placed(images: Sequence[np.ndarray[tuple[int, ...], np.dtype[np.int16]]]) -> Slices:
    """Slices of any HU, all from the middle of their scans: alike but for their pixels."""
    return Slices(
        tuple(
            CTSlice(hu, None, f"s{i}", f"p{i}", f"p{i}", f"p{i}", z_index=1, label=0, volume_slices=3)
            for i, hu in enumerate(images)
        )
    )
