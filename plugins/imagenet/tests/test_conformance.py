from cbirbench.testing import ExtractorConformance


class TestImageNet(ExtractorConformance):
    plugin = "imagenet"
    options = {"backbone": "test_resnet", "weights": "random", "image_size": "32"}
