from cbirbench.testing import ExtractorConformance


class TestGabor(ExtractorConformance):
    plugin = "gabor"
    options = {"image_size": "48"}
