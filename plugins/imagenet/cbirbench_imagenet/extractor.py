"""The `imagenet` extractor: a frozen backbone, as the paper's first row."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import ClassVar

from torch import Tensor

from cbirbench.interfaces import Context, Explainable, Json, Options, Precision
from cbirbench_imagenet.backbone import Backbone, BackboneOptions


class ImageNetOptions(BackboneOptions):
    """Options of `imagenet`."""


class ImageNet(Explainable):
    """Pooled features of a frozen network trained on ImageNet (section 8)."""

    interface_version: ClassVar[int] = 1
    options_type: ClassVar[type[Options]] = ImageNetOptions

    def __init__(self, options: ImageNetOptions, context: Context) -> None:
        self._backbone = Backbone(options, context.device, "imagenet")

    def fingerprint(self) -> Mapping[str, Json]:
        """The weights and the normalisation."""
        return self._backbone.fingerprint()

    def prepare(self, hu: Tensor) -> Tensor:
        """Window and resize: one channel in 0..1."""
        return self._backbone.prepare(hu)

    def embed(self, images: Tensor) -> Tensor:
        """Stack to three channels, normalise, and average-pool the network's last maps."""
        return self._backbone.embed(images)

    def for_explanation(self, precision: Precision) -> Callable[[Tensor], Tensor]:
        """The same from a copy of the network with its batch norms folded."""
        return self._backbone.for_explanation(precision)
