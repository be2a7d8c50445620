"""Crops of slices, windowed and resized: one by one, which suits a CPU, or all together, which suits a GPU.

Both give what torch's antialiased bilinear resizing of each crop gives, to rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn.functional import interpolate

Window = Callable[[Tensor], Tensor]
"""Turns HU of any shape into float32 in 0..1, pixel by pixel."""


def pixel_boxes(crop: Tensor, sides: Sequence[int]) -> Tensor:
    """Turn crops in shares of the side into whole pixels inside the slices.

    Args:
        crop: Top, left, height and width, shape ``(n, views, 4)``, on the CPU.
        sides: The slices' sides in pixels.

    Returns:
        The same in pixels, int64, on the CPU; height and width are at least 1.
    """
    side = torch.tensor(sides, dtype=torch.float64).view(-1, 1)
    top, left, height, width = (crop.double() * side.unsqueeze(-1)).round().unbind(-1)
    height, width = height.clamp(min=1), width.clamp(min=1)
    box = [torch.minimum(top, side - height), torch.minimum(left, side - width), height, width]
    return torch.stack(box, dim=-1).long()


def crop_one(hu: Tensor, box: Sequence[int], size: int, window: Window) -> Tensor:
    """Cut, window and resize one slice.

    Args:
        hu: Hounsfield units, shape ``(side, side)``.
        box: Top, left, height and width in pixels.
        size: Side of the image in pixels.
        window: What turns HU into grey values.

    Returns:
        float32, shape ``(1, 1, size, size)``; its values can leave 0..1 by rounding.
    """
    top, left, rows, columns = box
    # Windowing is pointwise, so cutting first gives the same and costs less.
    image = window(hu[top : top + rows, left : left + columns])[None, None]
    return interpolate(image, (size, size), mode="bilinear", antialias=True, align_corners=False)


def crop_together(hu: Sequence[Tensor], boxes: Tensor, size: int, windows: Sequence[Window]) -> list[Tensor]:
    """Do as `crop_one` for all slices and views, by two batched matrix products a view.

    The number of kernels does not depend on the number of slices, and nothing waits for the device. The
    products are float32 as long as TF32 is off, which is torch's default; the caller disables autocast.

    Args:
        hu: One tensor a slice, shape ``(side, side)``; sides may differ.
        boxes: What `pixel_boxes` gave, shape ``(n, views, 4)``, on the CPU.
        size: Side of the images in pixels.
        windows: One a view.

    Returns:
        One float32 tensor a view, shape ``(n, 1, size, size)``, on the device of `hu`, as `crop_one` gives.
    """
    stack = _stacked(hu)
    device, side = stack.device, stack.shape[-1]
    # Blocking copies would wait for all work queued on the device.
    moved = boxes.to(device, non_blocking=True).to(torch.float32)
    batches = []
    for window, (top, left, rows, columns) in zip(windows, moved.permute(1, 2, 0), strict=True):
        down, across = _resizing(top, rows, side, size), _resizing(left, columns, side, size)
        batches.append((down @ window(stack) @ across.transpose(1, 2)).unsqueeze(1))
    return batches


def _resizing(start: Tensor, length: Tensor, side: int, size: int) -> Tensor:
    """Matrices that cut and resize one axis.

    Args:
        start: First pixel of each crop, float32, shape ``(n,)``.
        length: Pixels of each crop, likewise.
        side: Pixels of the slices.
        size: Pixels of the images.

    Returns:
        float32, shape ``(n, size, side)``; each row's weights add up to 1.
    """
    pixels = torch.arange(side, dtype=torch.float32, device=start.device) - start[:, None]
    outputs = torch.arange(size, dtype=torch.float32, device=start.device)
    # A pixel's weight falls linearly with the distance of its centre from the output's, to 0 at one pixel or,
    # when shrinking, at length/size pixels. Distances are taken times 2*size: whole numbers, so exact.
    distances = ((2 * pixels + 1) * size)[:, None, :] - ((2 * outputs + 1) * length[:, None])[:, :, None]
    weights = (2 * length.clamp(min=size).view(-1, 1, 1) - distances.abs_()).clamp_(min=0)
    weights *= ((pixels >= 0) & (pixels < length[:, None]))[:, None, :]
    return weights / weights.sum(dim=-1, keepdim=True)


def _stacked(hu: Sequence[Tensor]) -> Tensor:
    """Slices of any sides as one tensor, shape ``(n, side, side)``.

    Below and right of a smaller slice there are arbitrary pixels of the others; no crop reaches them.
    """
    sides = [len(item) for item in hu]
    side = max(sides)
    if min(sides) == side:
        return torch.stack(tuple(hu))
    flat = torch.cat([item.reshape(-1) for item in hu])
    device = flat.device
    widths = torch.tensor(sides)
    starts = (widths.square().cumsum(0) - widths.square()).to(device, non_blocking=True).view(-1, 1, 1)
    pixels = torch.arange(side, device=device)
    rows = pixels.view(1, -1, 1) * widths.to(device, non_blocking=True).view(-1, 1, 1)
    return flat[(starts + rows + pixels).clamp_(max=len(flat) - 1)]
