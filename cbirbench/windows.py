"""Hounsfield windows: from HU to images in 0..1.

A window is a range of Hounsfield units that is stretched over the whole range of grey values; what lies
outside is clipped. The paper (section 3.1) uses a wide window, -200..300 HU, and a narrow one, 50..150 HU.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cbirbench.errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor

WIDE_WINDOW = (-200.0, 300.0)
"""The paper's wide window in HU (section 3.1): soft tissue, fat and part of the bone."""

NARROW_WINDOW = (50.0, 150.0)
"""The paper's narrow window in HU (section 3.1): the liver and organs like it."""


def check_window(low: float, high: float) -> None:
    """Raise UsageError unless ``low < high``."""
    if not low < high:
        raise UsageError(
            f"An HU window needs its lower end below its upper end, got {low:g},{high:g}.",
            "Give it as LOW,HIGH, for example -200,300.",
        )


def apply_window(hu: Tensor, window: tuple[float, float], scale: tuple[float, float] | None = None) -> Tensor:
    """Clip HU to a window and scale to 0..1.

    Args:
        hu: Hounsfield units, any shape and dtype.
        window: Lower and upper end of the clipping, in HU.
        scale: The HU that become 0 and 1; by default the window itself. The paper's released program scales
            the narrow window by the wide one's ends, so that it spans .5 to .7.

    Returns:
        float32 of the same shape and device, in 0..1.
    """
    low, high = scale or window
    check_window(*window)
    check_window(low, high)
    return ((hu.float().clamp(*window) - low) / (high - low)).clamp_(0.0, 1.0)


def resize(images: Tensor, size: int) -> Tensor:
    """Resize square images bilinearly, antialiased when shrinking.

    Args:
        images: float, shape ``(n, channels, side, side)``.
        size: New side in pixels.
    """
    from torch.nn.functional import interpolate

    if images.shape[-2:] == (size, size):
        return images
    # Bilinear weights are a convex combination, but rounding can leave 0..1 by an ulp.
    resized = interpolate(images, size=(size, size), mode="bilinear", antialias=True, align_corners=False)
    return resized.clamp_(0.0, 1.0)


def wide_window_images(hu: Tensor, size: int, window: tuple[float, float] = WIDE_WINDOW) -> Tensor:
    """Window square slices and resize them: the usual `prepare` of an extractor.

    Args:
        hu: int16 Hounsfield units, shape ``(n, side, side)``.
        size: Side of the images in pixels.
        window: HU window.

    Returns:
        float32 in 0..1, shape ``(n, 1, size, size)``, on the device of `hu`.
    """
    return resize(apply_window(hu, window).unsqueeze(1), size)
