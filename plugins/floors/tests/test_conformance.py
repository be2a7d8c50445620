"""The floors keep to what every extractor is asked for."""

from __future__ import annotations

from cbirbench.testing import ExtractorConformance


class TestIntensityHistogram(ExtractorConformance):
    plugin = "intensity-histogram"


class TestRandom(ExtractorConformance):
    plugin = "random"


class TestZPosition(ExtractorConformance):
    plugin = "z-position"
