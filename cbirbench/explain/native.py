"""From the size of prepared images back to the native size of a slice."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn.functional import interpolate

from cbirbench.slices import crop_from_square

if TYPE_CHECKING:
    from numpy.typing import NDArray


def to_native(importance: NDArray[np.float32], shape: tuple[int, int]) -> NDArray[np.float32]:
    """Undo `prepare`'s padding and resizing for an importance map.

    The map is resized bilinearly to the padded square that the extractor was given, and the padding is cut
    off. A NaN spreads to the pixels that are interpolated from it.

    Args:
        importance: Map of a prepared image, float32, shape ``(height, width)``.
        shape: The slice's native ``(rows, columns)``.

    Returns:
        float32, shape `shape`.
    """
    side = max(shape)
    batch = torch.from_numpy(np.ascontiguousarray(importance, dtype=np.float32))[None, None]
    square = interpolate(batch, size=(side, side), mode="bilinear", align_corners=False)[0, 0]
    return np.ascontiguousarray(crop_from_square(square.numpy(), shape))
