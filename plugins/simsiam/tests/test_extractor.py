import logging
import signal
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from cbirbench_simsiam import (
    HUClip,
    HUClipOptions,
    SimSiamBaseline,
    SimSiamExtractor,
    SimSiamHUClip,
    SimSiamOptions,
    ViewOptions,
    WideWindow,
    training,
)
from safetensors.torch import save_file

from cbirbench.errors import CbirbenchError, UsageError
from cbirbench.interfaces import Augmentation, Context, Options
from cbirbench.slices import CTSlice, Slices

SMALL = {"backbone": "test_resnet", "image_size": 32, "weights": "random", "batch_size": 4, "epochs": 2}


class Recorder:
    """A progress that remembers."""

    def __init__(self) -> None:
        self.stages: list[tuple[str, int]] = []
        self.done = 0
        self.notes: list[str] = []
        self.on_advance: Callable[[], None] = lambda: None

    @contextmanager
    def stage(self, title: str, total: int) -> Iterator[Callable[[int], None]]:
        self.stages.append((title, total))

        def advance(units: int) -> None:
            self.done += units
            self.on_advance()

        yield advance

    def note(self, text: str) -> None:
        self.notes.append(text)


def installed(name: str) -> Augmentation:
    made: dict[str, Augmentation] = {
        "hu-clip": HUClip(HUClipOptions()),
        "wide-window": WideWindow(ViewOptions()),
    }
    return made[name]


@pytest.fixture(autouse=True)
def narrow_heads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Checkpoints of the real heads are 100 MB each; `test_one_step...` has them."""
    monkeypatch.setattr(training, "PROJECTION", 64)
    monkeypatch.setattr(training, "BOTTLENECK", 16)


def make(kind: type[SimSiamExtractor] = SimSiamHUClip, **options: Any) -> Any:
    return kind(SimSiamOptions(**(SMALL | options)), Context("cpu", installed))


@pytest.fixture(scope="module")
def gallery() -> Slices:
    """Ten discs of differing radius and texture in air, of two sizes, one of them not square."""
    rng = np.random.default_rng(0)
    items = []
    for i in range(10):
        shape = (48, 40) if i % 3 == 0 else (40, 40)
        rows, columns = np.mgrid[: shape[0], : shape[1]]
        inside = (rows - 20) ** 2 + (columns - 20) ** 2 < (8 + i) ** 2
        hu = np.where(inside, rng.normal(60 + 8 * i, 30, shape), -1000).astype(np.int16)
        hu.flags.writeable = False
        items.append(CTSlice(hu, None, f"s{i}", f"p{i}", "e", f"v{i}", i, i % 2))
    return Slices(tuple(items))


class NotWatching:
    def wants(self, epoch: int) -> bool:
        return False

    def look(self, epoch: int) -> None:
        raise AssertionError("nobody asked for it")


def fit(
    extractor: Any, gallery: Slices, folder: Path, seed: int = 0, progress: Recorder | None = None
) -> list[dict[str, float]]:
    """Train in a workspace of its own: what lies in one is taken for the same training, cut off."""
    workspace = Path(tempfile.mkdtemp(dir=folder))
    rows: list[dict[str, float]] = extractor.fit(
        gallery, seed=seed, workspace=workspace, progress=progress or Recorder(), watcher=NotWatching()
    ).epochs
    return rows


def same(one: Mapping[str, torch.Tensor], other: Mapping[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


def test_the_defaults_are_the_papers() -> None:
    options = SimSiamOptions()
    assert (options.backbone, options.weights, options.image_size) == ("resnet50.tv_in1k", "imagenet", 224)
    assert (options.epochs, options.batch_size) == (250, 32)
    assert (options.learning_rate, options.momentum, options.weight_decay) == (0.05, 0.9, 1e-4)
    assert SimSiamOptions.family == "simsiam"
    assert SimSiamBaseline.options_type is SimSiamHUClip.options_type is SimSiamOptions


def test_training_lowers_the_loss_and_does_not_collapse(gallery: Slices, tmp_path: Path) -> None:
    extractor = make(epochs=15, batch_size=5, learning_rate=8.0)
    start = extractor.weights()
    rows = fit(extractor, gallery, tmp_path)
    assert [row["epoch"] for row in rows] == list(range(1, 16))
    first, last = (np.mean([r["loss"] for r in part]) for part in (rows[:3], rows[-3:]))
    assert last < first - 0.1
    for row in rows:
        for name in ("embedding", "projection"):
            limit = row[f"{name}_dim"] ** -0.5
            assert 0.3 * limit < row[f"{name}_std"] <= limit * (1 + 1e-6)
    trained = extractor.weights()
    assert all(not torch.equal(start[k], trained[k]) for k in start if k.endswith("weight"))


def test_a_seed_gives_the_same_weights_again_and_another_seed_others(gallery: Slices, tmp_path: Path) -> None:
    state = torch.get_rng_state()
    file = tmp_path / "start.safetensors"
    save_file(make().weights(), file)
    extractor, twin = make(weights=str(file)), make(weights=str(file))
    rows = fit(extractor, gallery, tmp_path, seed=7)
    first = extractor.weights()
    torch.manual_seed(123)  # nothing may hang on the global generator
    before = torch.get_rng_state()
    assert fit(twin, gallery, tmp_path, seed=7) == rows
    assert torch.equal(torch.get_rng_state(), before)
    assert same(first, twin.weights())
    fit(twin, gallery, tmp_path, seed=8)
    assert not same(first, twin.weights())
    fit(twin, gallery, tmp_path, seed=7)  # a second training starts where the first did
    assert same(first, twin.weights())
    torch.set_rng_state(state)


def test_random_starts_differ_by_seed_and_file_starts_do_not(gallery: Slices, tmp_path: Path) -> None:
    file = tmp_path / "start.safetensors"
    save_file(make().weights(), file)
    for weights, alike in (("random", False), (str(file), True)):
        extractor = make(weights=weights, epochs=1, batch_size=10, learning_rate=1e-12)
        name = next(k for k in extractor.weights() if k.endswith("conv1.weight"))
        found = []
        for seed in (1, 2):
            fit(extractor, gallery, tmp_path, seed=seed)
            found.append(extractor.weights()[name])
        assert torch.allclose(*found, atol=1e-7) == alike


def test_training_says_when_it_starts_from_random_weights(gallery: Slices, tmp_path: Path) -> None:
    file = tmp_path / "start.safetensors"
    save_file(make().weights(), file)
    for weights, notes in (("random", 1), (str(file), 0)):
        progress = Recorder()
        fit(make(weights=weights, epochs=1), gallery, tmp_path, progress=progress)
        assert len(progress.notes) == notes


class Fixed:
    """Two fixed views a slice, whatever the slice: batch norm then sees a known batch in any order."""

    interface_version: ClassVar[int] = 1
    options_type: ClassVar[type[Options]] = Options

    def __init__(self, first: torch.Tensor, second: torch.Tensor) -> None:
        self.views = (first, second)

    def fingerprint(self) -> Mapping[str, Any]:
        return {}

    def sample(self, count: int, generator: torch.Generator) -> Mapping[str, torch.Tensor]:
        return {"n": torch.arange(count)}

    def apply(self, hu: Any, parameters: Any, size: int) -> tuple[torch.Tensor, torch.Tensor]:
        return self.views


def test_batch_norm_sees_each_view_alone(gallery: Slices, tmp_path: Path) -> None:
    """After one step the running statistics are those of two passes, not of one with both views."""
    first = torch.rand(10, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    second = 0.5 + 0.2 * torch.rand(10, 1, 32, 32, generator=torch.Generator().manual_seed(1))
    file = tmp_path / "start.safetensors"
    save_file(make().weights(), file)
    options = SimSiamOptions(**(SMALL | {"weights": str(file), "epochs": 1, "batch_size": 10}))
    extractor = SimSiamHUClip(options, Context("cpu", lambda name: Fixed(first, second)))
    twin, merged = make(weights=str(file))._backbone, make(weights=str(file))._backbone
    fit(extractor, gallery, tmp_path)
    with torch.no_grad():
        twin.network.train()
        twin.features(first)
        twin.features(second)
        merged.network.train()
        merged.features(torch.cat([first, second]))
    trained = extractor.weights()
    names = [k for k in trained if "running_" in k]
    assert names
    for name in names:
        torch.testing.assert_close(trained[name], twin.state()[name], rtol=1e-4, atol=1e-5)
    assert any(not torch.allclose(trained[k], merged.state()[k], rtol=1e-2) for k in names)


def test_one_step_is_sgd_on_the_symmetric_loss(
    gallery: Slices, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Heads, loss, stop-gradient, scaled rate and weight decay, worked out again in plain torch."""
    from lightly.models.modules.heads import SimSiamPredictionHead, SimSiamProjectionHead

    monkeypatch.undo()  # the heads of the paper's size

    first = torch.rand(10, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    second = torch.rand(10, 1, 32, 32, generator=torch.Generator().manual_seed(1))
    file = tmp_path / "start.safetensors"
    save_file(make().weights(), file)
    chosen = {"weights": str(file), "epochs": 1, "batch_size": 10, "learning_rate": 1.0, "weight_decay": 0.01}
    options = SimSiamOptions(**(SMALL | chosen))
    extractor = SimSiamHUClip(options, Context("cpu", lambda name: Fixed(first, second)))
    rows = fit(extractor, gallery, tmp_path, seed=4)

    backbone = make(weights=str(file))._backbone
    width = backbone.feature_count()
    with torch.random.fork_rng():
        torch.manual_seed(4)
        projector, predictor = (
            SimSiamProjectionHead(width, 2048, 2048),
            SimSiamPredictionHead(2048, 512, 2048),
        )
    assert not projector.layers[-1].affine
    network = backbone.network.train().requires_grad_(True)

    def branch(view: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        z = projector(backbone.features(view))
        return z, predictor(z)

    def cosine(p: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
        target = z.detach()
        return ((p * target).sum(1) / (p.norm(dim=1) * target.norm(dim=1))).mean()

    (z1, p1), (z2, p2) = branch(first), branch(second)
    loss = -(cosine(p1, z2) + cosine(p2, z1)) / 2
    assert rows[0]["loss"] == pytest.approx(loss.item(), abs=1e-6)
    loss.backward()
    trained = extractor.weights()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None
        expected = parameter.detach() - (10 / 256) * (parameter.grad + 0.01 * parameter.detach())
        torch.testing.assert_close(trained[name], expected, rtol=1e-3, atol=1e-5)


def test_the_two_extractors_differ_only_in_their_augmentation(gallery: Slices, tmp_path: Path) -> None:
    ours, baseline = make(SimSiamHUClip), make(SimSiamBaseline)
    one, two = ours.fingerprint(), baseline.fingerprint()
    assert {k for k in one if one[k] != two[k]} == {"augmentation", "views"}
    assert (one["augmentation"], two["augmentation"]) == ("hu-clip", "wide-window")
    # Given one augmentation, both train to the very same weights.
    stub = Context("cpu", lambda name: WideWindow(ViewOptions()))
    trained = []
    for kind in (SimSiamHUClip, SimSiamBaseline):
        extractor = kind(SimSiamOptions(**SMALL), stub)
        fit(extractor, gallery, tmp_path)
        trained.append(extractor.weights())
    assert same(*trained)
    fit(ours, gallery, tmp_path)
    assert not same(trained[0], ours.weights())


def test_embed_uses_the_trained_weights_and_checkpoints_bring_them_back(
    gallery: Slices, tmp_path: Path
) -> None:
    extractor = make(learning_rate=1.0)
    images = extractor.prepare(torch.from_numpy(np.stack([gallery[i].hu for i in (1, 2, 4)])))
    before = extractor.embed(images)
    fit(extractor, gallery, tmp_path)
    after = extractor.embed(images)
    assert not torch.allclose(before, after, rtol=1e-3)
    assert torch.equal(after, extractor.embed(images))
    assert not after.requires_grad
    weights = extractor.weights()
    save_file(dict(weights), tmp_path / "trained.safetensors")
    again = make()
    assert torch.equal(again.embed(images), before)
    again.load_weights(weights)
    assert torch.equal(again.embed(images), after)
    with pytest.raises(UsageError, match="another architecture"):
        again.load_weights({k: v for k, v in weights.items() if "bn1" not in k})


def test_the_twin_for_explanations_has_the_weights_of_when_it_was_made(
    gallery: Slices, tmp_path: Path
) -> None:
    def close(one: torch.Tensor, other: torch.Tensor) -> bool:
        return bool((one - other).norm() < 1e-5 * other.norm())

    extractor = make(learning_rate=1.0)
    images = extractor.prepare(torch.from_numpy(np.stack([gallery[i].hu for i in (1, 2, 4)])))
    untrained, start = extractor.for_explanation("float32"), extractor.embed(images)
    fit(extractor, gallery, tmp_path)
    trained = extractor.embed(images)
    assert not close(trained, start)
    assert close(untrained(images), start)
    assert close(extractor.for_explanation("float32")(images), trained)
    again = make()
    again.load_weights(extractor.weights())
    assert close(again.for_explanation("float32")(images), trained)
    rounded = again.for_explanation("bfloat16")(images)
    assert rounded.dtype == torch.float32
    assert torch.cosine_similarity(rounded, trained).min() > 0.999


def test_weights_are_copies(gallery: Slices, tmp_path: Path) -> None:
    extractor = make(epochs=1)
    kept = extractor.weights()
    copied = {k: v.clone() for k, v in kept.items()}
    fit(extractor, gallery, tmp_path)
    assert same(kept, copied)


def test_partial_batches_are_dropped_and_counted_so(gallery: Slices, tmp_path: Path) -> None:
    extractor, progress = make(epochs=3), Recorder()
    fit(extractor, gallery, tmp_path, progress=progress)
    assert progress.stages == [("Training SimSiam (batches)", 6)]
    assert progress.done == 6
    assert extractor.training_views(10) == 2 * 6 * 4


def test_a_batch_larger_than_the_gallery_is_refused(gallery: Slices, tmp_path: Path) -> None:
    said = r"takes 11 slices, and the gallery has 10.*simsiam\.batch_size="
    with pytest.raises(UsageError, match=said):
        fit(make(batch_size=11), gallery, tmp_path)
    with pytest.raises(UsageError, match=said):  # and before others are trained
        make(batch_size=11).training_views(10)


def test_a_loss_that_is_not_finite_stops_with_its_step(gallery: Slices, tmp_path: Path) -> None:
    extractor = make(learning_rate=1e30)
    start = extractor.weights()
    with pytest.raises(CbirbenchError, match=r"at step \d+ of epoch \d+.*learning_rate"):
        fit(extractor, gallery, tmp_path)
    assert same(start, extractor.weights())


def test_ctrl_c_gets_through_and_works_again_afterwards(gallery: Slices, tmp_path: Path) -> None:
    def press() -> None:
        raise KeyboardInterrupt

    progress = Recorder()
    progress.on_advance = press
    handler = signal.getsignal(signal.SIGINT)
    extractor = make()
    start = extractor.weights()
    with pytest.raises(KeyboardInterrupt):
        fit(extractor, gallery, tmp_path, progress=progress)
    assert signal.getsignal(signal.SIGINT) is handler
    assert same(start, extractor.weights())


def test_training_is_quiet_and_writes_only_into_its_workspace(
    gallery: Slices, tmp_path: Path, recwarn: pytest.WarningsRecorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    import pytorch_lightning  # so that its loggers are set up before they are listened to

    heard: list[str] = []
    listener = logging.Handler()
    listener.emit = lambda record: heard.append(record.getMessage())  # type: ignore[method-assign]
    logger = logging.getLogger(pytorch_lightning.__name__)
    level = logger.level
    here, workspace = tmp_path / "here", tmp_path / "workspace"
    here.mkdir()
    workspace.mkdir()
    monkeypatch.chdir(here)
    logger.addHandler(listener)
    try:
        fit(make(), gallery, workspace)
    finally:
        logger.removeHandler(listener)
    assert heard == []
    assert [str(w.message) for w in recwarn] == []
    assert logger.level == level
    assert not list(here.iterdir())
    assert [path.name for path in workspace.rglob("*") if path.is_file()] == ["epoch-00002.ckpt"]


def test_bfloat16_trains_and_embeds_in_float32(gallery: Slices, tmp_path: Path) -> None:
    extractor = make(precision="bfloat16")
    rows = fit(extractor, gallery, tmp_path)
    assert all(np.isfinite(row["loss"]) for row in rows)
    assert {v.dtype for k, v in extractor.weights().items() if "num_batches" not in k} == {torch.float32}
    assert extractor.embed(torch.rand(2, 1, 32, 32)).dtype == torch.float32


def test_a_third_partys_augmentation_trains_in_the_same_loop(gallery: Slices, tmp_path: Path) -> None:
    class Mine(SimSiamExtractor):
        augmentation_name = "mine"

    asked = []

    def registry(name: str) -> Augmentation:
        asked.append(name)
        return Fixed(torch.rand(4, 1, 32, 32), torch.rand(4, 1, 32, 32))

    extractor = Mine(SimSiamOptions(**SMALL), Context("cpu", registry))
    assert len(fit(extractor, gallery, tmp_path)) == 2
    assert asked == ["mine"]
