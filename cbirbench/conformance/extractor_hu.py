"""Checks of what extractors make of Hounsfield units."""

from __future__ import annotations

import numpy as np

from cbirbench.conformance.extractor_calls import (
    hu_of,
    images_of,
    raw_embed,
    raw_prepare,
    sees_pixels,
    usual,
    vectors_of,
)
from cbirbench.conformance.making import flat_slices, placed, tissue_slices
from cbirbench.conformance.subjects import Subject
from cbirbench.conformance.verdicts import Beside, Fault, demand

NEARLY_NOTHING = 0.05
"""Most that air may be of an image's range: 60 HU of a window of 1200 HU."""

BELOW_ALL = -3024
"""HU below all tissue and air; scanners pad with as little at most."""

SEEN = 1e-3
"""Least that 40 HU must change an image, on average over a body: less is lost among float32's and a resize's
rounding in any network. In a window of 4096 HU, all that CT has, they are .01."""

STEP = 40


def air(subject: Subject) -> str:
    """Air is prepared to nothing, that is to 0."""
    sees_pixels(subject)
    images = images_of(subject, flat_slices([-1000, -1024]).items)
    brightest = float(images.max())
    if brightest <= NEARLY_NOTHING:
        return f"-1000 and -1024 HU give {brightest:.3g} at most"
    below = float(images_of(subject, flat_slices([BELOW_ALL]).items).max())
    demand(
        below <= NEARLY_NOTHING,
        f"A slice of air (-1000 HU) has images of up to {brightest:.3g}, and one of {BELOW_ALL} HU, below "
        f"everything that scanners give, of up to {below:.3g}.",
        "0 means 'nothing here', and a mask multiplies by it: let the window's lower end become 0, and "
        "normalise in embed.",
    )
    return (
        f"-1000 HU give {brightest:.3g}, {BELOW_ALL} HU {below:.3g}: its window starts below air, and what a "
        "mask hides is darker than air"
    )


def extreme_hu(subject: Subject) -> str:
    """Whatever int16 holds has images in 0..1 and finite embeddings."""
    usual(subject)
    noise = np.random.default_rng(0).integers(-32768, 32768, (96, 96)).astype(np.int16)
    flat = [item.hu for item in flat_slices([-32768, 32767, -1024, 3071])]
    vectors_of(subject, placed([*flat, noise]))
    return "-32768, 32767, -1024, 3071 HU and noise between: finite, images in 0..1"


def input_unchanged(subject: Subject) -> str:
    """What it is given is not changed in place."""
    slices, _ = usual(subject)
    extractor, hu = subject.one, hu_of(slices)
    before = hu.clone()
    images = raw_prepare(subject, extractor, hu)
    demand(
        bool((hu == before).all()),
        "prepare changes the HU it is given.",
        "Copy first: hu.float().clamp(...).",
    )
    kept = images.clone()
    raw_embed(subject, extractor, images)
    demand(
        bool((images == kept).all()),
        "embed changes the images it is given, which are embedded again under masks.",
        "Use operations that do not end in '_' on what is given.",
    )
    return "HU and images as before"


def contrast(subject: Subject) -> str:
    """Slices that differ by 40 HU of soft tissue have different images: HU come in, not a window of them."""
    sees_pixels(subject)
    change = _change(subject, 60)
    if change >= SEEN:
        return f"{STEP} HU around 60 HU change images by {change:.2g} on average"
    shown = [at for at in range(-900, 3000, STEP) if _change(subject, at) >= SEEN]
    # A clip of grey values in 0..1 or 0..255 shows nothing else; any other window is somebody's choice.
    if shown and not (min(shown) - STEP // 2 >= -STEP and max(shown) + STEP // 2 <= 255 + STEP):
        raise Beside(
            f"Its window leaves soft tissue out: it shows HU from about {min(shown)} to {max(shown)}."
        )
    what = f"it shows HU from about {min(shown)} to {max(shown)}" if shown else "it shows no HU"
    raise Fault(
        f"{STEP} HU around 60 HU change images by {change:.2g} on average: soft tissue looks all the same, "
        f"{what}.",
        "prepare is given HU, about -1024 to 3071, not grey values in 0..1: window them, "
        "cbirbench.windows.apply_window.",
    )


def _change(subject: Subject, middle: int) -> float:
    """How much images of a body change when its HU rise by 40, on average over the body's part."""
    low, high = images_of(subject, tissue_slices([middle - STEP // 2, middle + STEP // 2]).items)
    return float((high - low).abs().mean()) * 2  # the body is half of the slice


def whole_range(subject: Subject) -> str:
    """HU are read as the numbers they are: neither modulo 256 nor as grey values 0..255."""
    sees_pixels(subject)
    values = [*range(-900, 1200, 60)]
    plain = images_of(subject, tissue_slices(values).items)
    shifted = images_of(subject, tissue_slices([value + 256 for value in values]).items)
    alike = sum(bool((one == other).all()) for one, other in zip(plain, shifted, strict=True))
    demand(
        alike < len(values),
        f"HU that differ by 256 have the same images, in all of {alike} pairs: they are cut to 8 bits.",
        "Convert int16 to float before anything else: hu.float().",
    )
    levels = images_of(subject, flat_slices([-600, 0, 2, 253, 255, 900]).items).flatten(1).mean(1).tolist()
    below, zero, two, before, full, above = levels
    as_grey = below == zero < two and before < full == above
    demand(
        not as_grey,
        "Everything below 0 HU is black and everything above 255 HU white: HU are read as grey values.",
        "Window HU: fat has -100 HU, lung -800. If 0..255 HU is meant as a window, check with another.",
    )
    return f"HU 256 apart differ in {len(values) - alike} of {len(values)} pairs"


CHECKS = (air, extreme_hu, input_unchanged, contrast, whole_range)
