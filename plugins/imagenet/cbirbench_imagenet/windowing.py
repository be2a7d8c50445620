"""Windowing with the released program's 8-bit step."""

from __future__ import annotations

from torch import Tensor

from cbirbench.windows import apply_window


def window_hu(
    hu: Tensor,
    window: tuple[float, float],
    scale: tuple[float, float] | None = None,
    *,
    truncate_to_uint8: bool = False,
) -> Tensor:
    """Clip HU to a window, scale to 0..1 and, on request, keep only 256 grey values.

    Args:
        hu: Hounsfield units, any shape and dtype.
        window: Lower and upper end of the clipping, in HU.
        scale: The HU that become 0 and 1; by default the window itself.
        truncate_to_uint8: Round down to a multiple of 1/255, as the paper's released program does by casting
            to uint8.

    Returns:
        float32 of the same shape and device, in 0..1.
    """
    images = apply_window(hu, window, scale)
    return images.mul_(255.0).floor_().div_(255.0) if truncate_to_uint8 else images
