"""The protocol, row by row (docs/protocol.md): what each profile sets, and what is done with it.

This is the map from the protocol to the code. Numerics are held by the tests beside each module.
"""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any, get_args
from unittest.mock import MagicMock

import numpy as np
import pytest
import torch
from cbirbench_gabor import Gabor, GaborOptions, kernels
from cbirbench_hog import Hog, HogOptions
from cbirbench_imagenet import Backbone, BackboneOptions
from cbirbench_simsiam import (
    HUClip,
    HUClipOptions,
    SimSiamBaseline,
    SimSiamExtractor,
    SimSiamHUClip,
    SimSiamOptions,
    ViewOptions,
    WideWindow,
    fitting,
    training,
)
from torch import Tensor, nn

from cbirbench.datasets.msd import Decathlon, DecathlonOptions
from cbirbench.explain.passes import Passes
from cbirbench.explain.relax import RelaxOptions, explain
from cbirbench.interfaces import Context, Evidence, Options, ProfileName
from cbirbench.plan import Contender, Plan, Request
from cbirbench.planning import build
from cbirbench.settings import Settings
from cbirbench.slices import CTSlice, Slices
from cbirbench.statistics import PERMUTATIONS

PAPER, RELEASED = PROFILES = get_args(ProfileName)
VOLUMES = 131
EVERY = ("ours", "simsiam", "imagenet", "hog", "gabor")


@pytest.fixture
def task(tmp_path: Path) -> Path:
    """A Decathlon folder by its names alone, written in no order: a plan opens no scan."""
    numbers = list(range(VOLUMES))
    random.Random(0).shuffle(numbers)
    for number in numbers:
        for folder in ("imagesTr", "labelsTr"):
            (tmp_path / "Task03_Liver" / folder).mkdir(parents=True, exist_ok=True)
            (tmp_path / "Task03_Liver" / folder / f"liver_{number}.nii.gz").touch()
    return tmp_path


@pytest.fixture(params=PROFILES)
def plan(request: pytest.FixtureRequest, task: Path, monkeypatch: pytest.MonkeyPatch) -> Plan:
    """``cbirbench run decathlon --profile ...`` with nothing set; weights are not looked for."""
    monkeypatch.setattr(Contender, "make", lambda contender: None)
    return build(Request("decathlon", EVERY, data=task, profile=request.param, device="cpu"))


def by_profile(plan: Plan, paper: Any, released: Any) -> Any:
    return paper if plan.request.profile == PAPER else released


def options_of(plan: Plan, extractor: str) -> Any:
    (found,) = [contender for contender in plan.contenders if extractor in contender.plugin.names]
    return found.options


def resolved(profile: ProfileName, options_type: type[Options], *names: str) -> Any:
    """A plugin's options in a profile, on the paper's benchmark, with nothing set."""
    return Settings(profile, Decathlon.defaults, []).resolve(options_type, names)


def test_nothing_departs_from_the_profile(plan: Plan) -> None:
    assert plan.title == plan.request.profile
    assert list(plan.departures) == list(plan.notes) == []


# Data ---------------------------------------------------------------------------------------------------


def test_volumes_and_split(plan: Plan) -> None:
    """All 131 labelled volumes in numeric order, the first 100 for training, the other 31 for the test."""
    assert [source.volume_id for source in plan.sources] == [f"liver_{n}" for n in range(VOLUMES)]
    assert [source.split for source in plan.sources] == ["gallery"] * 100 + ["query"] * 31
    assert len({source.patient_id for source in plan.sources}) == VOLUMES


def test_slices(plan: Plan) -> None:
    """5 with liver and 5 without from each volume, drawn by a seed of their own; --seed does not reach it."""
    options = plan.benchmark_options
    assert isinstance(options, DecathlonOptions)
    assert (options.slices_per_kind, options.slice_seed) == (5, 0)
    for source in plan.sources:
        shaping = {key: source.fingerprint[key] for key in ("slices_per_kind", "slice_seed")}
        assert shaping == {"slices_per_kind": 5, "slice_seed": 0}


# Windows and images -------------------------------------------------------------------------------------


def test_images_to_embed(plan: Plan) -> None:
    """The wide window at 224 px for every extractor; 8 bits where the released program is followed."""
    for name in EVERY:
        options = options_of(plan, name)
        assert (options.window, options.image_size) == ((-200, 300), 224)
    for name in ("ours", "simsiam", "imagenet"):
        assert options_of(plan, name).truncate_to_uint8 is by_profile(plan, False, True)


def test_windows_of_the_views(plan: Plan) -> None:
    ours = resolved(plan.request.profile, HUClipOptions, "hu-clip")
    baseline = resolved(plan.request.profile, ViewOptions, "wide-window")
    assert (ours.wide, ours.narrow, baseline.wide) == ((-200, 300), (50, 150), (-200, 300))
    assert ours.narrow_scale == by_profile(plan, "own", "wide")
    assert ours.truncate_to_uint8 is baseline.truncate_to_uint8 is by_profile(plan, False, True)


def flat_views(augmentation: HUClip | WideWindow) -> tuple[list[float], list[float]]:
    """Both views' grey values of slices of one HU each, which no crop and no flip changes."""
    hu = [torch.full((40, 40), value, dtype=torch.int16) for value in (-300, 0, 101, 200, 400)]
    parameters = augmentation.sample(len(hu), torch.Generator().manual_seed(0))
    first, second = augmentation.apply(hu, parameters, 32)
    return first[:, 0, 5, 5].tolist(), second[:, 0, 5, 5].tolist()


# In the wide window 0 HU is .4, 101 HU .602 and 200 HU .8; in 8 bits .602 is 153 of 255, rounded down.
WIDE_VALUES = {PAPER: [0, 0.4, 0.602, 0.8, 1], RELEASED: [0, 0.4, 153 / 255, 0.8, 1]}
# The narrow window by its own ends, or by the wide one's: then it spans .5 to .7, in 8 bits 127 to 178.
NARROW_VALUES = {
    PAPER: [0, 0, 0.51, 1, 1],
    RELEASED: [127 / 255, 127 / 255, 153 / 255, 178 / 255, 178 / 255],
}


@pytest.mark.parametrize("profile", PROFILES)
def test_views_of_ours_are_wide_then_narrow_those_of_the_baseline_both_wide(profile: ProfileName) -> None:
    ours = resolved(profile, HUClipOptions, "hu-clip").model_copy(update={"jitter": 0.0})
    baseline = resolved(profile, ViewOptions, "wide-window").model_copy(update={"jitter": 0.0})
    for augmentation, second in (
        (HUClip(ours), NARROW_VALUES[profile]),
        (WideWindow(baseline), WIDE_VALUES[profile]),
    ):
        found = flat_views(augmentation)
        assert found[0] == pytest.approx(WIDE_VALUES[profile], abs=1e-6)
        assert found[1] == pytest.approx(second, abs=1e-6)


def test_views_come_from_these_augmentations(plan: Plan) -> None:
    assert (SimSiamHUClip.augmentation_name, SimSiamBaseline.augmentation_name) == ("hu-clip", "wide-window")
    for contender, kind in zip(plan.contenders[:2], (HUClip, WideWindow), strict=True):
        name = {HUClip: "hu-clip", WideWindow: "wide-window"}[kind]
        assert isinstance(contender.context.augmentation(name), kind)


def test_normalisation_is_left_out_for_the_papers_backbone_alone(plan: Plan) -> None:
    for name in ("ours", "simsiam", "imagenet"):
        assert options_of(plan, name).normalise == "auto"
    plain = Backbone(BackboneOptions(weights="random"), "cpu", "imagenet")
    other = Backbone(BackboneOptions(weights="random", backbone="test_resnet"), "cpu", "imagenet")
    assert plain.normalisation is None
    assert other.normalisation == (other.network.pretrained_cfg["mean"], other.network.pretrained_cfg["std"])


# Training -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("options_type", "name"), [(HUClipOptions, "hu-clip"), (ViewOptions, "wide-window")])
@pytest.mark.parametrize("profile", PROFILES)
def test_augmentation(profile: ProfileName, options_type: type[Options], name: str) -> None:
    """Crop .2 to 1, flip .5, brightness and contrast .4 with probability .8, in both profiles.

    Saturation and hue differ between the profiles, but change nothing on grey: they are no options.
    """
    options = resolved(profile, options_type, name)
    assert (options.crop_scale, options.flip, options.jitter) == ((0.2, 1.0), 0.5, 0.8)
    assert (options.brightness, options.contrast) == (0.4, 0.4)
    shared = {"wide", "truncate_to_uint8", "crop_scale", "flip", "jitter", "brightness", "contrast"}
    assert set(options_type.model_fields) - {"narrow", "narrow_scale"} == shared


def test_backbone(plan: Plan) -> None:
    for name in ("ours", "simsiam", "imagenet"):
        options = options_of(plan, name)
        assert (options.backbone, options.weights) == ("resnet50.tv_in1k", "imagenet")


def test_training_options(plan: Plan) -> None:
    for name in ("ours", "simsiam"):
        options = options_of(plan, name)
        assert (options.epochs, options.batch_size, options.learning_rate) == (250, 32, 0.05)
        assert (options.momentum, options.weight_decay) == (0.9, 1e-4)


def test_runs(plan: Plan) -> None:
    runs = by_profile(plan, 20, 5)
    assert plan.run_options.runs == runs
    assert [contender.runs for contender in plan.contenders] == [runs, runs, 1, 1, 1]


def extractor_of(profile: ProfileName, **changed: Any) -> SimSiamExtractor:
    """`ours` as the profile has it, but for weights that are at hand."""
    options = resolved(profile, SimSiamOptions, "simsiam-hu-clip", "ours")
    views = HUClip(resolved(profile, HUClipOptions, "hu-clip"))
    return SimSiamHUClip(
        options.model_copy(update={"weights": "random", **changed}), Context("cpu", lambda name: views)
    )


@pytest.mark.parametrize("profile", PROFILES)
def test_the_last_partial_batch_is_dropped(profile: ProfileName) -> None:
    # 1000 slices are 31 batches of 32, and 8 slices over.
    assert extractor_of(profile, backbone="test_resnet").training_views(1000) == 2 * 250 * 31 * 32


class CaughtError(Exception):
    """Raised in place of training."""


@pytest.fixture(scope="module")
def module(tmp_path_factory: pytest.TempPathFactory) -> training.SimSiam:
    """What `ours` would train by the paper's profile, caught before its first step."""
    caught: list[training.SimSiam] = []

    def train(module: training.SimSiam, **_: Any) -> None:
        caught.append(module)
        raise CaughtError

    hu, shape = np.zeros((32, 32), np.int16), range(33)
    slices = Slices(tuple(CTSlice(hu, None, f"s{i}", "p", "e", "v", i, i % 2) for i in shape))
    folder = tmp_path_factory.mktemp("workspace")
    watcher = MagicMock(**{"wants.return_value": False})
    with pytest.MonkeyPatch.context() as patch, pytest.raises(CaughtError):
        patch.setattr(fitting, "train", train)
        extractor_of(PAPER).fit(slices, seed=0, workspace=folder, progress=MagicMock(), watcher=watcher)
    return caught[0]


def widths(head: nn.Module) -> list[int]:
    linear = [layer for layer in head.modules() if isinstance(layer, nn.Linear)]
    return [linear[0].in_features, *(layer.out_features for layer in linear)]


def norms(head: nn.Module) -> list[tuple[int, bool]]:
    found = [layer for layer in head.modules() if isinstance(layer, nn.BatchNorm1d)]
    return [(layer.num_features, layer.affine) for layer in found]


def test_heads(module: training.SimSiam) -> None:
    """SimSiam's: a projector of three layers whose last norm is not affine, a predictor with a bottleneck."""
    assert widths(module.projector) == [2048, 2048, 2048, 2048]
    assert norms(module.projector) == [(2048, True), (2048, True), (2048, False)]
    assert widths(module.predictor) == [2048, 512, 2048]
    assert norms(module.predictor) == [(512, True)]


def test_loss_is_the_negative_cosine(module: training.SimSiam) -> None:
    one, other = torch.tensor([[3.0, 4.0]]), torch.tensor([[4.0, 3.0]])
    assert float(module.loss(one, other)) == pytest.approx(-24 / 25)


def test_optimiser(module: training.SimSiam) -> None:
    """SGD on every weight, .05 * 32 / 256 throughout: no schedule."""
    optimiser = module.configure_optimizers()
    assert isinstance(optimiser, torch.optim.SGD)
    (group,) = optimiser.param_groups
    assert (group["lr"], group["momentum"], group["weight_decay"]) == (0.00625, 0.9, 1e-4)
    assert not group["nesterov"] and group["dampening"] == 0
    assert len(group["params"]) == len(list(module.parameters()))


# Scores -------------------------------------------------------------------------------------------------


def evidence(neighbour_labels: list[int], maps: Any = (None,), masks: Any = (None,)) -> Evidence:
    """One query with label 1, its neighbours' labels given, nearest first."""
    count = len(neighbour_labels)
    return Evidence(
        query_labels=np.array([1]),
        gallery_labels=np.array(neighbour_labels),
        neighbours=np.arange(count)[None],
        distances=np.arange(count, dtype=float)[None],
        query_embeddings=np.zeros((1, 2), np.float32),
        gallery_embeddings=np.zeros((count, 2), np.float32),
        maps=maps,
        masks=masks,
    )


def test_metrics_and_their_depth(plan: Plan) -> None:
    names = [by_profile(plan, "map@5", "map@4"), "knn-accuracy@5", "relevance-rank"]
    assert [metric.name for metric in plan.metrics] == names
    assert plan.run_options.distance == "euclidean"


def test_map_is_the_mean_of_precision_at_one_to_k(plan: Plan) -> None:
    # Precision at 1 to 5: 1, 1/2, 2/3, 3/4, 3/5.
    (value,) = plan.metrics[0].per_query(evidence([1, 0, 1, 1, 0]))
    sums = 1 + 1 / 2 + 2 / 3 + 3 / 4
    assert value == pytest.approx(by_profile(plan, (sums + 3 / 5) / 5, sums / 4))


def test_accuracy_is_by_the_majority_of_five(plan: Plan) -> None:
    assert plan.metrics[1].per_query(evidence([0, 0, 1, 1, 1])).tolist() == [1.0]
    assert plan.metrics[1].per_query(evidence([1, 1, 0, 0, 0])).tolist() == [0.0]


def test_relevance_rank_takes_the_absolute_map_in_the_released_profile_alone(plan: Plan) -> None:
    # The organ's one pixel has the most negative importance: last of all by value, first by size.
    importance = np.array([[-9.0, 1.0], [2.0, 3.0]], np.float32)
    organ = np.array([[True, False], [False, False]])
    (value,) = plan.metrics[2].per_query(evidence([1], [importance], [organ]))
    assert value == by_profile(plan, 0.0, 1.0)


def test_relax_options(plan: Plan) -> None:
    relax = plan.relax
    assert (relax.masks, relax.grid, relax.keep, relax.estimator) == (3000, 7, 0.5, "ratio")


def test_relax_masks(plan: Plan) -> None:
    """7 x 7 grids, half of the cells kept, padded by reflection, shifted by 0 to 6 pixels on each axis."""
    relax = plan.relax
    (bank,) = relax.design.blocks(relax.masks, relax.masks)
    assert bank.grids.shape == (3000, 7, 7)
    assert bank.grids.mean() == pytest.approx(0.5, abs=0.005)
    shifts = [bank.shift_numbers(axis, relax.grid).tolist() for axis in (0, 1)]
    assert [sorted(set(axis)) for axis in shifts] == [list(range(7))] * 2
    rendered = bank.render(224, 224)[:3, 0].numpy()
    for number, (down, right) in enumerate(list(zip(*shifts, strict=True))[:3]):
        grid = torch.from_numpy(bank.grids[number]).float()[None, None]
        large = nn.functional.interpolate(grid, (224, 224), mode="bilinear", align_corners=False)[0, 0]
        padded = np.pad(large.numpy(), 3, mode="reflect")
        expected = padded[down : down + 224, right : right + 224]
        np.testing.assert_allclose(rendered[number], expected, atol=1e-6)


class Corner:
    """Embeds an image as its first pixel beside a constant: cosines with the whole are easily worked out."""

    def embed(self, images: Tensor) -> Tensor:
        return torch.stack([images[:, 0, 0, 0], torch.ones(len(images))], dim=1)


@pytest.mark.parametrize("profile", PROFILES)
def test_relax_map_is_the_ratio_of_cosine_weighted_masks(profile: ProfileName) -> None:
    options = resolved(profile, RelaxOptions, "relax").model_copy(update={"masks": 20, "grid": 3})
    image = torch.full((1, 1, 6, 6), 1.0)
    found = explain(Passes(Corner().embed, "corner"), image, options)
    (bank,) = options.design.blocks(20, 20)
    masks = bank.render(6, 6)[:, 0].double().numpy()
    first = masks[:, 0, 0]
    cosine = (first + 1) / (np.sqrt(first**2 + 1) * np.sqrt(2))
    expected = (cosine[:, None, None] * masks).sum(axis=0) / masks.sum(axis=0)
    np.testing.assert_allclose(found.importance, expected, rtol=1e-5)


def test_gabor(plan: Plan) -> None:
    """6 orientations at 4 scales, 3 x 3 filters; mean, variance, minimum and maximum: 96 values."""
    options = options_of(plan, "gabor")
    assert isinstance(options, GaborOptions)
    assert kernels().shape == (6 * 4, 1, 3, 3)
    extractor = Gabor(options, Context("cpu", MagicMock()))
    images = extractor.prepare(torch.zeros((1, 40, 40), dtype=torch.int16))
    assert images.shape == (1, 1, 224, 224)
    assert extractor.embed(images).shape == (1, 96)


def test_hog(plan: Plan) -> None:
    """Cells of 9 x 9 pixels, 9 orientations; 24 cells a side in blocks of 2 x 2."""
    options = options_of(plan, "hog")
    assert isinstance(options, HogOptions)
    assert (options.cell, options.orientations) == (9, 9)
    extractor = Hog(options, Context("cpu", MagicMock()))
    images = extractor.prepare(torch.zeros((1, 40, 40), dtype=torch.int16))
    assert images.shape == (1, 1, 224, 224)
    assert extractor.embed(images).shape == (1, 23 * 23 * 2 * 2 * 9)


def test_permutations() -> None:
    assert PERMUTATIONS == 10_000
