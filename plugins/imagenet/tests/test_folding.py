from collections.abc import Callable
from typing import Any

import pytest
import timm
import torch
from cbirbench_imagenet import Backbone, BackboneOptions
from cbirbench_imagenet.extractor import ImageNet, ImageNetOptions
from cbirbench_imagenet.folding import fold_batch_norms
from timm.layers import BatchNormAct2d, StdConv2d
from torch import Tensor, fx, nn

from cbirbench.interfaces import Context, Explainable

LITE0 = "tf_efficientnet_lite0"


def lived_in(network: nn.Module, seed: int = 0) -> nn.Module:
    """Give batch norms statistics and affine parameters as after a training, not the 0 and 1 of a start."""
    generator = torch.Generator().manual_seed(seed)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None
            assert module.running_var is not None
            module.running_mean.normal_(0, 0.3, generator=generator)
            module.running_var.uniform_(0.5, 2, generator=generator)
            if module.affine:
                module.weight.data.uniform_(0.5, 1.5, generator=generator)
                module.bias.data.normal_(0, 0.3, generator=generator)
    return network.eval()


def network_of(name: str) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return lived_in(timm.create_model(name, num_classes=0))


def backbone_of(name: str, side: int, **options: Any) -> Backbone:
    made = Backbone(
        BackboneOptions(backbone=name, image_size=side, weights="random", **options), "cpu", "imagenet"
    )
    lived_in(made.network)
    return made


def noise(*shape: int, seed: int = 5) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


@torch.no_grad()
def outputs(*networks: nn.Module, images: Tensor) -> list[Tensor]:
    return [network(images.clone()) for network in networks]


def gap(one: Tensor, other: Tensor) -> float:
    return float((one - other).norm() / other.norm())


def batch_norms(network: nn.Module) -> int:
    return sum(isinstance(module, nn.BatchNorm2d) for module in network.modules())


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("resnet18", 20),  # stem, 16 in the blocks, 3 on the shortcuts
        ("resnet50", 53),  # stem, 48 in the blocks, 4 on the shortcuts
        (LITE0, 49),  # stem, head, 2 in the first block and 3 in each of 15
        ("efficientnet_b0", 49),  # the same beside squeeze-and-excitation
        ("mobilenetv3_small_050", 34),  # 12 blocks of 3, one without expansion and one of a single layer
    ],
)
def test_every_batch_norm_of_a_convolutional_network_goes_and_nothing_changes(name: str, count: int) -> None:
    network = network_of(name)
    assert batch_norms(network) == count
    before = {k: v.clone() for k, v in network.state_dict().items()}
    images = noise(2, 3, 64, 64)
    expected, plain = outputs(network, network_of(name), images=images)
    assert torch.equal(expected, plain)

    folded = fold_batch_norms(network)
    assert folded.count == count
    assert batch_norms(folded.network) == 0
    assert not any(module.training for module in folded.network.modules())
    got, afterwards = outputs(folded.network, network, images=images)
    assert gap(got, expected) < 1e-5
    assert torch.equal(afterwards, expected)
    after = network.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[k], after[k]) for k in before)
    # What was folded shares no memory with what it came from.
    held = {v.data_ptr() for v in after.values()}
    assert not held & {v.data_ptr() for v in folded.network.state_dict().values()}


def test_the_statistics_matter_to_what_is_tested() -> None:
    network, images = network_of("resnet18"), noise(2, 3, 64, 64)
    other = fold_batch_norms(lived_in(network_of("resnet18"), seed=1)).network
    assert gap(*outputs(other, network, images=images)) > 0.01


@pytest.mark.parametrize(("name", "side"), [("test_vit", 160), ("test_convnext", 64)])
def test_a_network_without_batch_norm_computes_the_same_to_the_last_bit(name: str, side: int) -> None:
    network = network_of(name)
    folded = fold_batch_norms(network)
    assert folded.count == batch_norms(network) == 0
    assert torch.equal(*outputs(folded.network, network, images=noise(2, 3, side, side)))


def test_batch_norm_before_the_convolution_stays() -> None:
    """A residual network of the second kind normalises sums: only norms between two convolutions can go."""
    network = network_of("resnetv2_18")
    folded = fold_batch_norms(network)
    assert (batch_norms(network), folded.count, batch_norms(folded.network)) == (17, 8, 9)
    assert gap(*outputs(folded.network, network, images=noise(2, 3, 64, 64))) < 1e-5


class Small(nn.Module):
    """A network to be bent: convolution, batch norm, and what `way` does with them."""

    def __init__(self, way: str, convolution: nn.Conv2d | None = None, norm: nn.Module | None = None) -> None:
        super().__init__()
        self.way = way
        self.convolution = convolution or nn.Conv2d(3, 3, 3, padding=1, bias=False)
        self.norm = norm or nn.BatchNorm2d(3)
        self.again = self.norm if way == "two names" else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        if self.way == "untraceable" and x.sum() < 0:
            return x
        y = self.convolution(x)
        z = self.again(y) if self.way == "two names" else self.norm(y)
        ends: dict[str, Callable[[], Tensor]] = {
            "read by itself": lambda: z + self.convolution.weight.mean(),
            "two users": lambda: z + y,
            "convolution twice": lambda: self.convolution(z),
            "norm twice": lambda: self.norm(z),
        }
        return ends.get(self.way, lambda: z)()


@pytest.mark.parametrize(
    ("way", "count"),
    [
        ("plain", 1),
        ("two names", 1),
        ("two users", 0),
        ("convolution twice", 0),
        ("norm twice", 0),
        ("read by itself", 0),
        ("untraceable", 0),
    ],
)
def test_only_a_pair_that_serves_each_other_alone_is_folded(way: str, count: int) -> None:
    torch.manual_seed(1)
    network = lived_in(Small(way))
    if way == "untraceable":
        with pytest.raises(fx.proxy.TraceError):
            fx.symbolic_trace(network)
    else:
        fx.symbolic_trace(network)
    folded = fold_batch_norms(network)
    assert folded.count == count
    got, expected = outputs(folded.network, network, images=noise(2, 3, 16, 16))
    torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("bias", [True, False])
def test_biases_and_norms_without_parameters_fold(affine: bool, bias: bool) -> None:
    torch.manual_seed(1)
    convolution = nn.Conv2d(3, 3, 3, padding=1, bias=bias)
    network = lived_in(Small("plain", convolution, nn.BatchNorm2d(3, affine=affine)))
    folded = fold_batch_norms(network)
    assert folded.count == 1
    got, expected = outputs(folded.network, network, images=noise(2, 3, 16, 16))
    torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-6)


def test_the_activation_inside_timms_batch_norm_stays() -> None:
    torch.manual_seed(1)
    norm = BatchNormAct2d(3, act_layer=nn.Hardswish, drop_layer=nn.Dropout)
    network = lived_in(Small("plain", norm=norm))
    folded = fold_batch_norms(network.train())  # in training mode dropout would show, and statistics move
    assert network.training
    assert folded.count == 1
    images = noise(2, 3, 16, 16)
    got, expected = outputs(folded.network, network.eval(), images=images)
    torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-6)
    linear = Small("plain", network.convolution, nn.Identity())
    assert not torch.allclose(got, outputs(linear, images=images)[0], atol=0.1)


def test_a_convolution_that_standardises_its_weights_and_a_norm_of_the_batch_stay() -> None:
    torch.manual_seed(1)
    standardising = lived_in(Small("plain", StdConv2d(3, 3, 3, padding=1)))
    of_the_batch = Small("plain", norm=nn.BatchNorm2d(3, track_running_stats=False)).eval()
    for network in (standardising, of_the_batch):
        folded = fold_batch_norms(network)
        assert folded.count == 0
        assert torch.equal(*outputs(folded.network, network, images=noise(2, 3, 16, 16)))


@pytest.mark.parametrize(
    ("name", "side", "normalise"),
    [("resnet18", 64, "model"), (LITE0, 64, "model"), (LITE0, 64, "none"), ("test_vit", 160, "auto")],
)
def test_the_twin_embeds_as_the_backbone_does(name: str, side: int, normalise: str) -> None:
    backbone = backbone_of(name, side, normalise=normalise)
    images = noise(3, 1, side, side) * (noise(3, 1, side, side, seed=6) > 0.4)
    expected = backbone.embed(images)
    for precision, closeness in (("float32", 1e-10), ("bfloat16", 1e-3)):
        got = backbone.for_explanation(precision)(images)  # type: ignore[arg-type]
        assert got.dtype == torch.float32
        assert got.shape == expected.shape
        assert not got.requires_grad
        assert float(torch.cosine_similarity(got.double(), expected.double()).min()) > 1 - closeness
        assert gap(got, expected) < (1e-5 if precision == "float32" else 0.05)
        assert torch.equal(got, expected) == (name == "test_vit" and precision == "float32")
    assert torch.equal(backbone.embed(images), expected)


def test_bfloat16_is_the_whole_network_and_images_are_normalised_before(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    backbone, seen = backbone_of("test_resnet", 32), []
    twin = backbone.for_explanation("bfloat16")

    def spy(module: nn.Conv2d, images: Tensor, *rest: Any) -> Tensor:
        seen.append((images.dtype, images.is_contiguous(memory_format=torch.channels_last), images))
        assert module.weight.dtype == torch.bfloat16
        return forward(module, images, *rest)

    forward = nn.Conv2d.forward
    monkeypatch.setattr(nn.Conv2d, "forward", spy)
    images = noise(2, 1, 32, 32)
    twin(images)
    assert {dtype for dtype, _, _ in seen} == {torch.bfloat16}
    assert all(channels_last for _, channels_last, _ in seen)
    assert backbone.normalisation is not None
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in backbone.normalisation)
    assert torch.equal(seen[0][2], ((images - mean) / std).bfloat16())


def test_a_twin_keeps_the_weights_that_it_was_made_from() -> None:
    backbone, other = backbone_of("test_resnet", 32), backbone_of("test_resnet", 32, random_seed=1)
    images = noise(2, 1, 32, 32)
    first = backbone.for_explanation("float32")
    before = first(images)
    backbone.load_state(other.state(), origin="a test")
    second = backbone.for_explanation("float32")
    assert torch.equal(first(images), before)
    assert gap(second(images), before) > 0.01
    assert gap(second(images), other.embed(images)) < 1e-5


def test_attention_biases_kept_from_former_weights_are_not_used() -> None:
    """LeViT keeps its biases by device once it has evaluated, beside the weights."""
    backbone, other = backbone_of("levit_128s", 224), backbone_of("levit_128s", 224)
    with torch.no_grad():
        for name, parameter in other.network.named_parameters():
            if name.endswith("attention_biases"):
                parameter.normal_(0, 3, generator=torch.Generator().manual_seed(1))
    images = noise(1, 1, 224, 224)
    fresh = other.for_explanation("bfloat16")(images)
    before, expected = backbone.embed(images), other.embed(images)
    assert gap(before, expected) > 0.01
    backbone.load_state(other.state(), origin="a test")
    assert torch.equal(backbone.embed(images), expected)
    assert not backbone.network.training
    twin = backbone.for_explanation("bfloat16")
    assert torch.equal(twin(images), fresh)  # none of the float32 biases kept by `embed` is in it
    assert float(torch.cosine_similarity(fresh, expected)) > 0.999


def test_the_imagenet_extractor_offers_its_twin() -> None:
    def no_augmentation(name: str) -> Any:
        raise AssertionError(f"asked for {name}")

    options = ImageNetOptions(backbone="test_resnet", image_size=32, weights="random")
    extractor = ImageNet(options, Context("cpu", no_augmentation))
    assert isinstance(extractor, Explainable)
    images = noise(2, 1, 32, 32)
    assert gap(extractor.for_explanation("float32")(images), extractor.embed(images)) < 1e-5
