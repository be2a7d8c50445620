from cbirbench.testing import ExtractorConformance


class TestHog(ExtractorConformance):
    plugin = "hog"
    options = {"image_size": "45"}
