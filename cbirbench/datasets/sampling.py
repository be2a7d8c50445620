"""Which slices of a scan enter the benchmark (paper, section 6.1: 5 with liver and 5 without)."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Literal

import numpy as np

from cbirbench.errors import DataError

if TYPE_CHECKING:
    from numpy.typing import NDArray


TooFew = Literal["refuse", "take-fewer"]
"""What to do with a scan that has fewer slices of a kind than are to be drawn."""


def draw_slices(
    shows_target: NDArray[np.bool_], per_kind: int, seed: int, volume_id: str, too_few: TooFew = "refuse"
) -> NDArray[np.int64]:
    """Draw slices with and without the target organ, without replacement.

    The draw depends on the seed and the volume's id alone, so a volume gives the same slices whatever other
    volumes are read, and all runs and extractors see the same ones.

    Args:
        shows_target: For each slice of the scan, inferior to superior, whether the organ is in it.
        per_kind: How many slices of each kind to draw.
        seed: The benchmark's `slice_seed`.
        volume_id: The scan's id.
        too_few: ``take-fewer`` takes all slices of a kind of which there are fewer.

    Returns:
        Slice positions in ascending order, shape ``(2 * per_kind,)`` where there are enough.

    Raises:
        DataError: The scan has fewer than `per_kind` slices of a kind, and they are not to be taken so.
    """
    with_target, without = np.flatnonzero(shows_target), np.flatnonzero(~shows_target)
    for kind, found in (("with the target organ", with_target), ("without it", without)):
        if len(found) < per_kind and too_few == "refuse":
            raise DataError(
                f"{volume_id} has {len(found)} slices {kind}, but {per_kind} of each kind are to be drawn.",
                "Leave the volume out, or draw fewer with --set BENCHMARK.slices_per_kind=N.",
            )
    key = hashlib.sha256(volume_id.encode()).digest()
    generator = np.random.default_rng([seed, int.from_bytes(key[:8], "big")])
    drawn = [
        generator.choice(found, size=min(per_kind, len(found)), replace=False)
        for found in (with_target, without)
    ]
    return np.sort(np.concatenate(drawn)).astype(np.int64)
