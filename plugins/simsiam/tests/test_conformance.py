from cbirbench.testing import AugmentationConformance, ExtractorConformance


class TestOurs(ExtractorConformance):  # the baseline differs from it by the name of its views alone
    plugin = "ours"
    options = {
        "backbone": "test_resnet",
        "weights": "random",
        "image_size": "32",
        "batch_size": "4",
        "epochs": "2",
    }


class TestHUClip(AugmentationConformance):
    plugin = "hu-clip"


class TestHUClipOfTheReleasedCode(AugmentationConformance):
    plugin = "hu-clip"
    options = {"narrow_scale": "wide", "truncate_to_uint8": "true"}


class TestWideWindow(AugmentationConformance):
    plugin = "wide-window"
