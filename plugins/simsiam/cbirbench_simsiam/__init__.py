"""SimSiam for CT slices, with views from one HU window or from two."""

from cbirbench_simsiam.extractor import SimSiamBaseline, SimSiamExtractor, SimSiamHUClip, SimSiamOptions
from cbirbench_simsiam.views import HUClip, HUClipOptions, ViewOptions, WideWindow

__all__ = [
    "HUClip",
    "HUClipOptions",
    "SimSiamBaseline",
    "SimSiamExtractor",
    "SimSiamHUClip",
    "SimSiamOptions",
    "ViewOptions",
    "WideWindow",
]
