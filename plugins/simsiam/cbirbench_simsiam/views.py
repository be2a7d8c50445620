"""The two training views of a slice: which HU window each shows, and the random changes after it.

SimSiam's changes are a resized crop, a flip, jitter of brightness, contrast, saturation and hue, and
grayscale. On a grey image saturation, hue and grayscale change nothing, so only crop, flip, brightness and
contrast are here. Each view draws its own.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Annotated, ClassVar, Literal

import torch
from cbirbench_imagenet import window_hu
from pydantic import AfterValidator
from torch import Generator, Tensor

from cbirbench.interfaces import Json, Options, option
from cbirbench.windows import NARROW_WINDOW, WIDE_WINDOW, NarrowHUWindow, WideHUWindow
from cbirbench_simsiam.cropping import Window, crop_one, crop_together, pixel_boxes

CROP_ASPECT = (3 / 4, 4 / 3)
"""Width over height of a crop, before it is resized to a square."""

CROP_TRIES = 10
"""How often a crop that leaves the slice is drawn again before the whole slice is taken."""


def _area_range(scale: tuple[float, float]) -> tuple[float, float]:
    if not 0 < scale[0] <= scale[1] <= 1:
        raise ValueError(f"a range of areas needs 0 < LOW <= HIGH <= 1, got {scale[0]:g},{scale[1]:g}")
    return scale


class ViewOptions(Options):
    """What both augmentations share."""

    wide: WideHUWindow = option(
        WIDE_WINDOW, description="The wide HU window, or an organ's name.", unit="HU", source="section 3.1"
    )
    truncate_to_uint8: bool = option(
        False,
        description="Round the windowed slice down to 256 grey values before the changes.",
        source="released code",
        profiles={"released-code": True},
    )
    crop_scale: Annotated[tuple[float, float], AfterValidator(_area_range)] = option(
        (0.2, 1.0), description="Smallest and largest share of the slice's area in a crop.", source="SimSiam"
    )
    flip: float = option(
        0.5, description="Probability of a flip from left to right.", source="SimSiam", ge=0, le=1
    )
    jitter: float = option(
        0.8, description="Probability of jitter in brightness and contrast.", source="SimSiam", ge=0, le=1
    )
    brightness: float = option(
        0.4, description="Brightness is multiplied by 1-b to 1+b.", source="SimSiam", ge=0, le=1
    )
    contrast: float = option(
        0.4, description="Contrast is multiplied by 1-c to 1+c.", source="SimSiam", ge=0, le=1
    )


class HUClipOptions(ViewOptions):
    """Options of `hu-clip`."""

    narrow: NarrowHUWindow = option(
        NARROW_WINDOW,
        description="The narrow HU window, or an organ's name.",
        unit="HU",
        source="section 3.1",
    )
    narrow_scale: Literal["own", "wide"] = option(
        "own",
        description="Whose ends the narrow window is scaled by: its own, to 0..1, or the wide one's.",
        source="section 3.1: clipped and scaled",
        profiles={"released-code": "wide"},
    )


class WideWindow:
    """Both views show the wide window: standard SimSiam, the paper's baseline."""

    interface_version: ClassVar[int] = 1
    options_type: ClassVar[type[Options]] = ViewOptions

    def __init__(self, options: ViewOptions) -> None:
        self._options = options

    def fingerprint(self) -> Mapping[str, Json]:
        """The options, and the version of the drawing and changing."""
        return {"views": "wide, wide", "version": 1, **self._options.model_dump(mode="json")}

    def sample(self, count: int, generator: Generator) -> Mapping[str, Tensor]:
        """Draw both views' parameters; see `sample_changes`."""
        return sample_changes(count, self._options, generator)

    def apply(
        self, hu: Sequence[Tensor], parameters: Mapping[str, Tensor], size: int
    ) -> tuple[Tensor, Tensor]:
        """Make both views, shape ``(n, 1, size, size)`` each."""
        wide = (self._options.wide, self._options.wide)
        return _views(hu, parameters, size, (wide, wide), self._options.truncate_to_uint8)


class HUClip:
    """View 1 shows the wide window, view 2 the narrow one: the paper's HU clipping (section 3.1)."""

    interface_version: ClassVar[int] = 1
    options_type: ClassVar[type[Options]] = HUClipOptions

    def __init__(self, options: HUClipOptions) -> None:
        self._options = options

    def fingerprint(self) -> Mapping[str, Json]:
        """The options, and the version of the drawing and changing."""
        return {"views": "wide, narrow", "version": 1, **self._options.model_dump(mode="json")}

    def sample(self, count: int, generator: Generator) -> Mapping[str, Tensor]:
        """Draw both views' parameters; see `sample_changes`."""
        return sample_changes(count, self._options, generator)

    def apply(
        self, hu: Sequence[Tensor], parameters: Mapping[str, Tensor], size: int
    ) -> tuple[Tensor, Tensor]:
        """Make both views, shape ``(n, 1, size, size)`` each."""
        options = self._options
        scale = options.narrow if options.narrow_scale == "own" else options.wide
        windows = ((options.wide, options.wide), (options.narrow, scale))
        return _views(hu, parameters, size, windows, options.truncate_to_uint8)


def sample_changes(count: int, options: ViewOptions, generator: Generator) -> dict[str, Tensor]:
    """Draw the random changes of two views of `count` slices.

    Returns:
        Tensors of `count` rows and one column a view: ``crop``, shape ``(count, 2, 4)``, is top, left, height
        and width as shares of the slice's side; ``flip``, ``jitter`` and ``contrast_first`` are bool;
        ``brightness`` and ``contrast`` are factors.
    """

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        drawn = torch.rand((count, 2, *shape), generator=generator, dtype=torch.float64)
        return low + (high - low) * drawn

    area = uniform(*options.crop_scale, CROP_TRIES)
    aspect = uniform(math.log(CROP_ASPECT[0]), math.log(CROP_ASPECT[1]), CROP_TRIES).exp()
    extents = torch.stack([(area / aspect).sqrt(), (area * aspect).sqrt()], dim=-1)
    fits = (extents <= 1).all(dim=-1)
    first = fits.int().argmax(dim=-1)[..., None, None].expand(-1, -1, 1, 2)
    extent = extents.gather(2, first).squeeze(2)
    extent = torch.where(fits.any(dim=-1, keepdim=True), extent, torch.ones_like(extent))
    corner = uniform(0, 1, 2) * (1 - extent)
    return {
        "crop": torch.cat([corner, extent], dim=-1),
        "flip": uniform(0, 1) < options.flip,
        "jitter": uniform(0, 1) < options.jitter,
        "contrast_first": uniform(0, 1) < 0.5,
        "brightness": uniform(1 - options.brightness, 1 + options.brightness),
        "contrast": uniform(1 - options.contrast, 1 + options.contrast),
    }


def _views(
    hu: Sequence[Tensor],
    parameters: Mapping[str, Tensor],
    size: int,
    windows: Sequence[tuple[tuple[float, float], tuple[float, float]]],
    truncate_to_uint8: bool,
) -> tuple[Tensor, Tensor]:
    """Make both views; `windows` holds each view's window and the HU it is scaled by."""
    device = hu[0].device
    boxes = pixel_boxes(parameters["crop"], [len(item) for item in hu])
    windowing = [
        partial(window_hu, window=window, scale=scale, truncate_to_uint8=truncate_to_uint8)
        for window, scale in windows
    ]
    make = _one_by_one if device.type == "cpu" else _together
    # Under a training's autocast the batched products would be made in half precision.
    with torch.autocast(device.type, enabled=False):
        first, second = make(hu, boxes, _changes(parameters), size, windowing)
    return first, second


def _one_by_one(
    hu: Sequence[Tensor], boxes: Tensor, changes: Tensor, size: int, windows: Sequence[Window]
) -> list[Tensor]:
    """Make the views slice by slice, which keeps a slice in a processor's cache from first to last."""
    views = [torch.empty(len(hu), 1, size, size) for _ in windows]
    for v, (window, images) in enumerate(zip(windows, views, strict=True)):
        rows = zip(hu, boxes[:, v].tolist(), changes[:, v].tolist(), strict=True)
        for i, (item, box, (before, contrast, after, flip)) in enumerate(rows):
            made = crop_one(item, box, size, window).clamp_(0, 1)
            if before != 1:
                _brighten(made, before)
            if contrast != 1:
                _spread(made, contrast)
            if after != 1:
                _brighten(made, after)
            images[i : i + 1] = made.flip(-1) if flip else made
    return views


def _together(
    hu: Sequence[Tensor], boxes: Tensor, changes: Tensor, size: int, windows: Sequence[Window]
) -> list[Tensor]:
    """Make the views of all slices at once: few kernels, and nothing waits for the device."""
    moved = changes.to(hu[0].device, non_blocking=True).view(len(hu), -1, 4, 1, 1, 1)
    views = []
    for v, images in enumerate(crop_together(hu, boxes, size, windows)):
        before, contrast, after, flip = moved[:, v].unbind(1)
        _brighten(images.clamp_(0, 1), before)
        _spread(images, contrast)
        _brighten(images, after)
        views.append(torch.where(flip > 0, images.flip(-1), images))
    return views


def _changes(parameters: Mapping[str, Tensor]) -> Tensor:
    """The changes after the crop, float32, shape ``(n, 2, 4)``, to be moved to a device at once.

    They are a factor of brightness, one of contrast, another of brightness, and 1 for a flip. Brightness
    comes before or after contrast: the other factor is 1, and so are all three without jitter.
    """
    jitter, last = parameters["jitter"], parameters["contrast_first"]
    one = torch.ones_like(parameters["brightness"])
    brightness = torch.where(jitter, parameters["brightness"], one)
    contrast = torch.where(jitter, parameters["contrast"], one)
    factors = [torch.where(last, one, brightness), contrast, torch.where(last, brightness, one)]
    return torch.stack([*factors, parameters["flip"].to(one.dtype)], dim=-1).float()


def _brighten(images: Tensor, by: Tensor | float) -> None:
    """Multiply, in place."""
    images.mul_(by).clamp_(0, 1)


def _spread(images: Tensor, by: Tensor | float) -> None:
    """Multiply the distance from each image's mean, in place."""
    mean = images.mean(dim=(1, 2, 3), keepdim=True)
    images.mul_(by).add_(mean * (1 - by)).clamp_(0, 1)
