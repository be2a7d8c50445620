"""Hounsfield windows: from HU to images in 0..1.

A window is a range of Hounsfield units that is stretched over the whole range of grey values; what lies
outside is clipped. The paper (section 3.1) uses a wide window, -200..300 HU, and a narrow one, 50..150 HU,
both for the liver; `ORGAN_WINDOWS` has starting points for other organs (docs/windows.md).
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import BeforeValidator, Field

from cbirbench.errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor

WIDE_WINDOW = (-200.0, 300.0)
"""The paper's wide window in HU (section 3.1): soft tissue, fat and part of the bone."""

NARROW_WINDOW = (50.0, 150.0)
"""The paper's narrow window in HU (section 3.1): the liver and organs like it."""


@dataclass(frozen=True)
class OrganWindows:
    """The two windows of an organ.

    Attributes:
        wide: Keeps almost all of the organ's HU and its surroundings.
        narrow: Keeps most of the organ's HU and little else.
        source: What the narrow window rests on.
    """

    wide: tuple[float, float]
    narrow: tuple[float, float]
    source: str


_MONAI = "mean {} and deviation {} HU of the labelled voxels of MSD {} (MONAI, dynunet_pipeline)"

ORGAN_WINDOWS = {
    "liver": OrganWindows(WIDE_WINDOW, NARROW_WINDOW, "the paper, section 3.1"),
    "spleen": OrganWindows(WIDE_WINDOW, (50.0, 150.0), _MONAI.format(99.29, 39.47, "Task09_Spleen")),
    "pancreas": OrganWindows(WIDE_WINDOW, (-20.0, 175.0), _MONAI.format(77.99, 75.4, "Task07_Pancreas")),
    "colon": OrganWindows(WIDE_WINDOW, (20.0, 105.0), _MONAI.format(62.18, 32.65, "Task10_Colon")),
    "hepatic-vessel": OrganWindows(
        WIDE_WINDOW, (40.0, 170.0), _MONAI.format(104.37, 52.62, "Task08_HepaticVessel")
    ),
    "lung": OrganWindows(
        (-1000.0, 300.0),
        (-1000.0, -600.0),
        "mean -817 HU of normal lungs, -875 to -770 by person (doi:10.1016/s0009-9260(05)80245-4)",
    ),
}
"""Windows by organ, for the MSD's CT tasks. Only the liver's are the paper's; the others are starting points
that nobody has validated: docs/windows.md says what is cited in them and what was chosen here."""


def _fault(low: float, high: float) -> str:
    """What is wrong with a window's ends; nothing where they are in order."""
    if low < high:
        return ""
    problem = f"an HU window needs its lower end below its upper end, got {low:g},{high:g}"
    if low > high:
        return f"{problem}; the other way round it is {high:g},{low:g}"
    return f"{problem}, which is empty" if low == high else problem


def check_window(low: float, high: float) -> None:
    """Raise UsageError unless ``low < high``."""
    if problem := _fault(low, high):
        raise UsageError(f"{problem[0].upper()}{problem[1:]}.", "Give it as LOW,HIGH, for example -200,300.")


def find_window(value: object, kind: Literal["wide", "narrow"]) -> tuple[float, float]:
    """The window that an option's value means.

    Args:
        value: Two numbers in HU, the lower one first, or the name of an organ in `ORGAN_WINDOWS`: as a text,
            ``-200,300``, or as a sequence of its parts.
        kind: Which of an organ's two windows its name stands for.

    Raises:
        ValueError: It is neither, or the ends are out of order or equal.
    """
    parts = value.split(",") if isinstance(value, str) else value
    forms = f"LOW,HIGH in HU, for example -200,300, or an organ: {', '.join(ORGAN_WINDOWS)}"
    if not isinstance(parts, Sequence) or not 1 <= len(parts) <= 2:
        raise ValueError(f"an HU window is {forms}")
    ends = [_number(part) for part in parts]
    if len(parts) == 1:
        if ends[0] is not None:
            raise ValueError(f"one number is no window: give {forms}")
        name = "-".join(str(parts[0]).strip().lower().replace("_", " ").split())
        if name in ORGAN_WINDOWS:
            windows = ORGAN_WINDOWS[name]
            return windows.wide if kind == "wide" else windows.narrow
        near = " or ".join(map(repr, difflib.get_close_matches(name, ORGAN_WINDOWS, n=3, cutoff=0.5)))
        meant = f"Did you mean {near}? " if near else ""
        raise ValueError(f"no organ of that name has windows here. {meant}Give {forms}")
    low, high = ends
    if low is None or high is None:
        raise ValueError(f"{parts[low is not None]!r} is no finite number: give {forms}")
    if problem := _fault(low, high):
        raise ValueError(problem)
    return low, high


def _number(part: object) -> float | None:
    """A finite number, or None."""
    try:
        number = float(part)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None


_WORDS = Field(title="LOW,HIGH in HU, or an organ's name")

WideHUWindow = Annotated[tuple[float, float], BeforeValidator(partial(find_window, kind="wide")), _WORDS]
"""An option's type: a window in HU, lower end first; an organ's name stands for its wide window."""

NarrowHUWindow = Annotated[tuple[float, float], BeforeValidator(partial(find_window, kind="narrow")), _WORDS]
"""An option's type: a window in HU, lower end first; an organ's name stands for its narrow window."""


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
    images = hu.float()
    # In place, but never in the caller's tensor.
    images = images.clamp(*window) if images is hu else images.clamp_(*window)
    # The last step matters for a scale within the window, and where rounding passes 1 by an ulp.
    return images.sub_(low).div_(high - low).clamp_(0.0, 1.0)


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
