from typing import Any

import numpy as np
import pytest
import timm
import torch
from cbirbench_imagenet import Backbone, BackboneOptions
from cbirbench_imagenet.extractor import ImageNet, ImageNetOptions

from cbirbench.errors import UsageError
from cbirbench.interfaces import Augmentation, Context


def no_augmentation(name: str) -> Augmentation:
    raise AssertionError(f"asked for {name}")


def make(**options: Any) -> Backbone:
    chosen = {"backbone": "test_resnet", "image_size": 48, "weights": "random"} | options
    return Backbone(BackboneOptions(**chosen), "cpu", "imagenet")


@pytest.fixture(scope="module")
def hu() -> torch.Tensor:
    rng = np.random.default_rng(0)
    return torch.from_numpy(rng.integers(-1000, 1000, (4, 70, 70)).astype(np.int16))


def test_the_defaults_are_the_papers() -> None:
    options = ImageNetOptions()
    assert (options.backbone, options.weights, options.image_size) == ("resnet50.tv_in1k", "imagenet", 224)
    assert options.window == (-200, 300)
    assert not options.truncate_to_uint8


def test_resnet50_gives_2048_pooled_values_without_normalisation() -> None:
    backbone = make(backbone="resnet50.tv_in1k", image_size=32)
    assert backbone.normalisation is None
    assert backbone.feature_count() == 2048
    images = torch.rand(1, 1, 32, 32)
    with torch.no_grad():
        maps = backbone.network.forward_features(images.expand(-1, 3, -1, -1))
    torch.testing.assert_close(backbone.embed(images), maps.mean(dim=(2, 3)))


@pytest.mark.parametrize(
    ("backbone", "normalise", "applied"),
    [
        ("resnet50.tv_in1k", "auto", False),
        ("resnet50.tv_in1k", "model", True),
        ("test_resnet", "auto", True),
        ("test_resnet", "none", False),
    ],
)
def test_which_backbones_are_normalised(backbone: str, normalise: str, applied: bool) -> None:
    made = make(backbone=backbone, normalise=normalise)
    config = timm.get_pretrained_cfg(backbone)
    assert made.normalisation == ((config.mean, config.std) if applied else None)
    assert made.fingerprint()["normalisation"] == made.normalisation


def test_normalisation_is_applied_inside_embed(hu: torch.Tensor) -> None:
    raw, normalised = make(normalise="none"), make(normalise="model")
    images = normalised.prepare(hu)
    assert torch.equal(images, raw.prepare(hu))
    config = timm.get_pretrained_cfg("test_resnet")
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (config.mean, config.std))
    with torch.no_grad():
        by_hand = raw.network((images.expand(-1, 3, -1, -1) - mean) / std)
    torch.testing.assert_close(normalised.embed(images), by_hand, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(raw.embed(images), by_hand, rtol=1e-2)


def test_prepare_gives_one_channel_in_0_to_1_and_air_is_0(hu: torch.Tensor) -> None:
    images = make().prepare(hu)
    assert images.shape == (4, 1, 48, 48)
    assert images.dtype == torch.float32
    assert images.min() >= 0
    assert images.max() <= 1
    air = torch.full((1, 70, 70), -1024, dtype=torch.int16)
    assert not make().prepare(air).any()


def test_truncation_leaves_256_values_before_the_resize() -> None:
    hu = torch.arange(-200, 2104, dtype=torch.int16).view(1, 48, 48)
    levels = make(truncate_to_uint8=True).prepare(hu) * 255
    torch.testing.assert_close(levels, levels.round(), rtol=0, atol=1e-3)
    plain = make().prepare(hu) * 255
    assert (plain - plain.round()).abs().max() > 0.1


def test_embed_is_float32_repeatable_and_row_by_row(hu: torch.Tensor) -> None:
    backbone = make()
    images = backbone.prepare(hu)
    whole = backbone.embed(images)
    assert whole.dtype == torch.float32
    assert whole.shape == (4, backbone.feature_count())
    assert torch.equal(whole, backbone.embed(images))
    assert not whole.requires_grad
    rows = torch.cat([backbone.embed(images[i : i + 1]) for i in range(4)])
    torch.testing.assert_close(whole, rows, rtol=1e-4, atol=1e-5)
    whole.mul_(2)  # whoever asked may work on it in place


def test_random_weights_follow_their_seed_and_say_that_they_are_random() -> None:
    state = torch.get_rng_state()
    one, again, other = make(), make(), make(random_seed=1)
    assert torch.equal(torch.get_rng_state(), state)
    assert one.weights_digest == again.weights_digest != other.weights_digest
    assert one.fingerprint()["weights"] == "random, seed 0"


def test_state_goes_round_and_fits_safetensors() -> None:
    one, other = make(), make(random_seed=1)
    assert all(v.is_contiguous() for v in one.state().values())
    other.load_state(one.state(), origin="a test")
    images = torch.rand(2, 1, 48, 48)
    assert torch.equal(one.embed(images), other.embed(images))
    state = one.state()
    state.pop(next(k for k in state if k.endswith("weight")))
    with pytest.raises(UsageError, match="1 missing"):
        other.load_state(state, origin="a test")


@pytest.mark.parametrize(
    ("name", "near"),
    [("resnet5O", "resnet50"), ("resnet50.tv_in2k", "resnet50.tv_in1k"), ("hf-hub:someone/thing", "timm")],
)
def test_an_unknown_backbone_gets_the_nearest_names(name: str, near: str) -> None:
    with pytest.raises(UsageError, match="timm has no backbone") as caught:
        make(backbone=name)
    assert near in caught.value.remedy


def test_a_backbone_of_one_size_refuses_another() -> None:
    with pytest.raises(UsageError, match="takes images of 160 px only"):
        make(backbone="test_vit", image_size=48)
    assert make(backbone="test_vit", image_size=160).feature_count() == 64


def test_the_extractor_is_its_backbone(hu: torch.Tensor) -> None:
    options = ImageNetOptions(backbone="test_resnet", image_size=48, weights="random")
    extractor, backbone = ImageNet(options, Context("cpu", no_augmentation)), make()
    assert extractor.fingerprint() == backbone.fingerprint()
    images = extractor.prepare(hu)
    assert torch.equal(images, backbone.prepare(hu))
    assert torch.equal(extractor.embed(images), backbone.embed(images))
