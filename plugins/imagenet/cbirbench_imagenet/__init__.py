"""ImageNet-pretrained backbones as extractors; other plugins build on `Backbone`."""

from cbirbench_imagenet.backbone import Backbone, BackboneOptions, deterministic_convolutions
from cbirbench_imagenet.windowing import window_hu

__all__ = ["Backbone", "BackboneOptions", "deterministic_convolutions", "window_hu"]
