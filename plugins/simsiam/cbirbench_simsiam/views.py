"""The two training views of a slice: which HU window each shows, and the random changes after it.

SimSiam's changes are a resized crop, a flip, jitter of brightness, contrast, saturation and hue, and
grayscale. On a grey image saturation, hue and grayscale change nothing, so only crop, flip, brightness and
contrast are here. Each view draws its own.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Annotated, ClassVar, Literal

import torch
from cbirbench_imagenet import HUWindow, window_hu
from pydantic import AfterValidator
from torch import Generator, Tensor
from torch.nn.functional import interpolate

from cbirbench.interfaces import Json, Options, option
from cbirbench.windows import NARROW_WINDOW, WIDE_WINDOW

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

    wide: HUWindow = option(WIDE_WINDOW, description="The wide HU window.", unit="HU", source="section 3.1")
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

    narrow: HUWindow = option(
        NARROW_WINDOW, description="The narrow HU window.", unit="HU", source="section 3.1"
    )
    narrow_scale: Literal["own", "wide"] = option(
        "own",
        description="Whose ends the narrow window is scaled by: its own, to 0..1, or the wide one's.",
        source="section 3.1: clipped and scaled",
        profiles={"released-code": "wide"},
    )


class WideWindow:
    """Both views show the wide window: standard SimSiam, the paper's baseline."""

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


def pixel_box(crop: Sequence[float], side: int) -> tuple[int, int, int, int]:
    """Turn a crop in shares of the side into whole pixels inside the slice: top, left, height, width."""
    top, left, height, width = crop
    rows, columns = max(1, round(height * side)), max(1, round(width * side))
    return min(round(top * side), side - rows), min(round(left * side), side - columns), rows, columns


def _views(
    hu: Sequence[Tensor],
    parameters: Mapping[str, Tensor],
    size: int,
    windows: Sequence[tuple[tuple[float, float], tuple[float, float]]],
    truncate_to_uint8: bool,
) -> tuple[Tensor, Tensor]:
    """Make both views; `windows` holds each view's window and the HU it is scaled by."""
    crops = parameters["crop"].tolist()
    views = []
    for view, (window, scale) in enumerate(windows):
        resized = []
        for item, boxes in zip(hu, crops, strict=True):
            top, left, rows, columns = pixel_box(boxes[view], item.shape[-1])
            # Windowing is pointwise, so cutting first gives the same and costs less.
            part = item[top : top + rows, left : left + columns]
            image = window_hu(part, window, scale, truncate_to_uint8=truncate_to_uint8)
            resized.append(
                interpolate(
                    image[None, None], (size, size), mode="bilinear", antialias=True, align_corners=False
                )
            )
        images = torch.cat(resized).clamp_(0, 1)
        chosen = {name: rows[:, view].to(images.device) for name, rows in parameters.items()}
        views.append(_flip(_jitter(images, chosen), chosen["flip"]))
    return views[0], views[1]


def _jitter(images: Tensor, chosen: Mapping[str, Tensor]) -> Tensor:
    """Change brightness and contrast, in either order, where `jitter` says so."""

    def factor(name: str) -> Tensor:
        values = chosen[name].to(images.dtype)
        return torch.where(chosen["jitter"], values, torch.ones_like(values)).view(-1, 1, 1, 1)

    def brighten(x: Tensor) -> Tensor:
        return (x * factor("brightness")).clamp(0, 1)

    def spread(x: Tensor) -> Tensor:
        mean, by = x.mean(dim=(1, 2, 3), keepdim=True), factor("contrast")
        return (x * by + mean * (1 - by)).clamp(0, 1)

    first = chosen["contrast_first"].view(-1, 1, 1, 1)
    return torch.where(first, brighten(spread(images)), spread(brighten(images)))


def _flip(images: Tensor, flip: Tensor) -> Tensor:
    return torch.where(flip.view(-1, 1, 1, 1), images.flip(-1), images)
