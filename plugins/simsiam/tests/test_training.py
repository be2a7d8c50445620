"""Trainings that are cut off and go on, that are watched, that fail."""

import multiprocessing
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from cbirbench_simsiam import (
    HUClip,
    HUClipOptions,
    SimSiamExtractor,
    SimSiamHUClip,
    SimSiamOptions,
    checkpoints,
    fitting,
    training,
)

from cbirbench.errors import CbirbenchError, MissingError, UsageError
from cbirbench.interfaces import Context, TrainingRecord
from cbirbench.slices import CTSlice, Slices

SMALL = {
    "backbone": "test_resnet",
    "image_size": 32,
    "weights": "random",
    "batch_size": 4,
    "epochs": 4,
    "learning_rate": 1.0,
    "checkpoint_every": 1,
}
STEPS = 2
"""Steps in an epoch of ten slices."""


class CutError(Exception):
    """Stands for whatever stops a training from outside."""


class Recorder:
    """A progress that remembers, and raises `CutError` once so many units are done."""

    def __init__(self, cut_after: int = 10**9) -> None:
        self.notes: list[str] = []
        self.done, self._cut_after = 0, cut_after

    @contextmanager
    def stage(self, title: str, total: int) -> Iterator[Callable[[int], None]]:
        def advance(units: int) -> None:
            self.done += units
            if self.done >= self._cut_after:
                raise CutError

        yield advance

    def note(self, text: str) -> None:
        self.notes.append(text)


class Looking:
    """Embeds a few images after the epochs it wants."""

    def __init__(self, extractor: SimSiamExtractor, gallery: Slices, wanted: Sequence[int] = ()) -> None:
        self._extractor, self._wanted = extractor, wanted
        self._images = extractor.prepare(torch.from_numpy(np.stack([item.hu for item in gallery[:3]])))
        self.seen: dict[int, torch.Tensor] = {}

    def wants(self, epoch: int) -> bool:
        return epoch in self._wanted and epoch not in self.seen

    def look(self, epoch: int) -> None:
        torch.rand(7)  # whatever is drawn while looking must not reach the training
        self.seen[epoch] = self._extractor.embed(self._images)


@pytest.fixture(autouse=True)
def narrow_heads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Checkpoints of the real heads are 100 MB each."""
    monkeypatch.setattr(training, "PROJECTION", 64)
    monkeypatch.setattr(training, "BOTTLENECK", 16)


@pytest.fixture(scope="module")
def gallery() -> Slices:
    rng = np.random.default_rng(0)
    images = [rng.normal(60 + 8 * i, 80, (40, 40)).astype(np.int16) for i in range(10)]
    return Slices(
        tuple(CTSlice(hu, None, f"s{i}", f"p{i}", "e", f"v{i}", i, i % 2) for i, hu in enumerate(images))
    )


def make(jitter: float = 0.8, **options: Any) -> SimSiamExtractor:
    views = HUClip(HUClipOptions(jitter=jitter))
    return SimSiamHUClip(SimSiamOptions(**(SMALL | options)), Context("cpu", lambda name: views))


def fit(
    extractor: SimSiamExtractor,
    gallery: Slices,
    workspace: Path,
    progress: Recorder | None = None,
    watcher: Looking | None = None,
) -> TrainingRecord:
    return extractor.fit(
        gallery,
        seed=5,
        workspace=workspace,
        progress=progress or Recorder(),
        watcher=watcher or Looking(extractor, gallery),
    )


def equal(one: SimSiamExtractor, other: SimSiamExtractor) -> bool:
    ours, theirs = one.weights(), other.weights()
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


def folder(tmp_path: Path, name: str) -> Path:
    made = tmp_path / name
    made.mkdir()
    return made


def test_training_cut_off_anywhere_goes_on_to_the_same_numbers(gallery: Slices, tmp_path: Path) -> None:
    undisturbed = make()
    record = fit(undisturbed, gallery, folder(tmp_path, "undisturbed"))
    assert record.resumed_from_epoch is None
    for cut in (1, STEPS, STEPS + 1, 3 * STEPS, 3 * STEPS + 1, 4 * STEPS):
        workspace = folder(tmp_path, f"cut{cut}")
        with pytest.raises(CutError):
            fit(make(), gallery, workspace, Recorder(cut_after=cut))
        again, progress = make(), Recorder()
        resumed = fit(again, gallery, workspace, progress)
        whole_epochs = (cut - 1) // STEPS
        assert resumed.resumed_from_epoch == (whole_epochs or None)
        assert progress.done == 4 * STEPS
        assert resumed.epochs == record.epochs
        assert equal(again, undisturbed)


def test_a_finished_training_is_taken_from_its_last_checkpoint(gallery: Slices, tmp_path: Path) -> None:
    first = make(checkpoint_every=3)
    record = fit(first, gallery, tmp_path)
    assert [path.name for path in checkpoints.kept(tmp_path)] == ["epoch-00003.ckpt", "epoch-00004.ckpt"]
    again = make(checkpoint_every=3)
    resumed = fit(again, gallery, tmp_path)
    assert resumed.resumed_from_epoch == 4
    assert resumed.epochs == record.epochs
    assert equal(again, first)


def test_dropout_draws_go_on_as_well(gallery: Slices, tmp_path: Path) -> None:
    """Torch's global generator is part of a checkpoint."""

    def with_dropout() -> SimSiamExtractor:
        extractor = make(epochs=2)
        network: Any = extractor._backbone.network
        network.layer1.append(torch.nn.Dropout(0.5))
        return extractor

    whole = with_dropout()
    record = fit(whole, gallery, folder(tmp_path, "whole"))
    workspace = folder(tmp_path, "cut")
    with pytest.raises(CutError):
        fit(with_dropout(), gallery, workspace, Recorder(cut_after=STEPS + 1))
    again = with_dropout()
    assert fit(again, gallery, workspace).epochs == record.epochs
    assert equal(again, whole)


def test_looking_changes_nothing_and_sees_each_epoch(gallery: Slices, tmp_path: Path) -> None:
    unseen = make()
    fit(unseen, gallery, folder(tmp_path, "unseen"))
    seen = make()
    watcher = Looking(seen, gallery, wanted=range(5))
    fit(seen, gallery, folder(tmp_path, "seen"), watcher=watcher)
    assert list(watcher.seen) == [0, 1, 2, 3, 4]
    assert equal(seen, unseen)
    assert torch.equal(watcher.seen[4], seen.embed(watcher._images))
    start = make()
    start._backbone.randomise(5)
    assert torch.equal(watcher.seen[0], start.embed(watcher._images))
    shorter = make(epochs=2)
    fit(shorter, gallery, folder(tmp_path, "shorter"))
    assert torch.equal(watcher.seen[2], shorter.embed(watcher._images))


def test_epochs_before_a_checkpoint_that_are_still_wanted_start_the_training_anew(
    gallery: Slices, tmp_path: Path
) -> None:
    with pytest.raises(CutError):
        fit(make(), gallery, tmp_path, Recorder(cut_after=2 * STEPS + 1))
    extractor, progress = make(), Recorder()
    watcher = Looking(extractor, gallery, wanted=[1, 3])
    assert fit(extractor, gallery, tmp_path, progress, watcher).resumed_from_epoch is None
    assert list(watcher.seen) == [1, 3]
    assert "starts anew" in progress.notes[-1]


def test_only_epochs_after_the_checkpoint_wanted_leave_it_in_use(gallery: Slices, tmp_path: Path) -> None:
    with pytest.raises(CutError):
        fit(make(), gallery, tmp_path, Recorder(cut_after=2 * STEPS + 1))
    extractor = make()
    watcher = Looking(extractor, gallery, wanted=[3])
    assert fit(extractor, gallery, tmp_path, watcher=watcher).resumed_from_epoch == 2
    assert list(watcher.seen) == [3]


@pytest.mark.parametrize("damage", ["truncated", "bit", "foreign", "code", "renamed"])
def test_a_checkpoint_that_cannot_be_used_is_named_and_the_one_before_is_taken(
    gallery: Slices, tmp_path: Path, damage: str
) -> None:
    whole = make()
    record = fit(whole, gallery, folder(tmp_path, "whole"))
    workspace = folder(tmp_path, "workspace")
    with pytest.raises(CutError):
        fit(make(), gallery, workspace, Recorder(cut_after=3 * STEPS + 1))
    before, last = checkpoints.kept(workspace)
    if damage == "truncated":
        last.write_bytes(last.read_bytes()[: last.stat().st_size // 2])
    elif damage == "bit":
        content = bytearray(last.read_bytes())
        content[len(content) // 2] ^= 1  # amid a tensor, where torch would not notice it
        last.write_bytes(content)
    elif damage == "foreign":
        content = torch.load(last, weights_only=True)
        name = next(iter(content["state_dict"]))
        content["state_dict"][name] = torch.zeros(3)
        torch.save(content, last)
    elif damage == "code":
        torch.save({"state_dict": Path("touched")}, last)  # anything beyond tensors and plain values
    else:
        before.rename(last)
    extractor, progress = make(), Recorder()
    resumed = fit(extractor, gallery, workspace, progress)
    expected = {"foreign": "another architecture", "renamed": "after epoch 2, not 3"}.get(damage, "damaged")
    assert "epoch-00003.ckpt cannot be used and is deleted: " in progress.notes[1]
    assert expected in progress.notes[1]
    assert resumed.resumed_from_epoch == (None if damage == "renamed" else 2)
    assert resumed.epochs == record.epochs
    assert equal(extractor, whole)


def test_a_checkpoint_that_cannot_be_read_just_now_is_left_alone(
    gallery: Slices, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(CutError):
        fit(make(), gallery, tmp_path, Recorder(cut_after=2 * STEPS + 1))
    before = checkpoints.kept(tmp_path)

    def unreadable(*arguments: Any) -> None:
        raise OSError(24, "Too many open files")

    with monkeypatch.context() as patch:
        patch.setattr(checkpoints.zipfile, "ZipFile", unreadable)
        with pytest.raises(MissingError, match=r"cannot be read: .*Too many open files.*Nothing was deleted"):
            fit(make(), gallery, tmp_path)
    assert checkpoints.kept(tmp_path) == before
    assert fit(make(), gallery, tmp_path).resumed_from_epoch == 2


def test_a_finished_training_leaves_the_memory(gallery: Slices, tmp_path: Path) -> None:
    made: list[Any] = []
    init = training.SimSiam.__init__

    def remembered(module: Any, *arguments: Any, **options: Any) -> None:
        init(module, *arguments, **options)
        made.append(weakref.ref(module))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training.SimSiam, "__init__", remembered)
        fit(make(epochs=1), gallery, tmp_path)
    assert len(made) == 1
    assert made[0]() is None


def test_no_room_for_checkpoints_is_said_before_training(
    gallery: Slices, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Full:
        free = 1_000_000

    monkeypatch.setattr(checkpoints.shutil, "disk_usage", lambda path: Full)
    progress = Recorder()
    with pytest.raises(MissingError, match=r"need \d+ MB, and .* has 1 MB.*CBIRBENCH_CACHE"):
        fit(make(), gallery, tmp_path, progress)
    assert progress.done == 0


def test_a_disk_that_fills_up_stops_and_keeps_the_last_checkpoint(
    gallery: Slices, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save = torch.save

    def full(content: Any, file: Any) -> None:
        if "00003" in file.name:
            file.write(b"half")
            raise OSError(28, "No space left on device")
        save(content, file)

    monkeypatch.setattr(checkpoints.torch, "save", full)
    with pytest.raises(
        MissingError, match=r"epoch-00003\.ckpt.*No space left.*goes on from the last checkpoint"
    ):
        fit(make(), gallery, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["epoch-00001.ckpt", "epoch-00002.ckpt"]


def test_a_loss_that_stops_being_finite_keeps_the_last_good_checkpoint(
    gallery: Slices, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    extractor = make()
    features, calls = extractor._backbone.features, []

    def spoiled(images: torch.Tensor) -> torch.Tensor:
        calls.append(1)
        # Before training one image is embedded for its length; then two views a step.
        return features(images) * (float("nan") if len(calls) > 1 + 2 * (2 * STEPS + 1) else 1.0)

    monkeypatch.setattr(extractor._backbone, "features", spoiled)
    with pytest.raises(CbirbenchError, match=r"became nan at step 2 of epoch 3.*epoch 2 or before stays"):
        fit(extractor, gallery, tmp_path)
    assert checkpoints.epoch_of(checkpoints.kept(tmp_path)[-1]) == 2


def test_collapse_is_said_at_once_and_only_once(gallery: Slices, tmp_path: Path) -> None:
    flat = Slices(
        tuple(
            CTSlice(np.zeros((40, 40), np.int16), None, f"s{i}", f"p{i}", "e", f"v{i}", i, i % 2)
            for i in range(10)
        )
    )
    progress = Recorder()
    record = fit(make(jitter=0.0), flat, tmp_path, progress)
    warnings = [note for note in progress.notes if "collapses" in note]
    assert len(warnings) == 1
    assert "after epoch 1" in warnings[0]
    assert record.epochs[0]["embedding_rank"] < 2
    healthy = Recorder()
    fit(make(), gallery, folder(tmp_path, "healthy"), healthy)
    assert not [note for note in healthy.notes if "collapses" in note]


def test_synchronised_batch_norm_keeps_timms_activations() -> None:
    """Torch's own conversion puts a plain layer for timm's, whose activation is then gone."""
    extractor = make(backbone="tf_efficientnet_lite0")
    network: Any = extractor._backbone.network
    images = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = network(images)
        converted = training._SyncBatchNorm().apply(network)
        kinds = [type(layer).__name__ for layer in converted.modules()]
        assert any("Sync" in kind for kind in kinds)
        torch.testing.assert_close(converted.eval()(images), expected)


def without_batch_norm(module: torch.nn.Module) -> None:
    """Put layer norm for batch norm: its numbers do not depend on how a batch is shared."""
    for name, child in module.named_children():
        if isinstance(child, torch.nn.BatchNorm1d | torch.nn.BatchNorm2d):
            setattr(module, name, torch.nn.GroupNorm(1, child.num_features))
        else:
            without_batch_norm(child)


def start_without_imports(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have new processes handed everything as ever, but find what they import imported: each took seconds."""
    real = multiprocessing.get_context
    server: Any = real("forkserver")
    server.set_forkserver_preload(["pytorch_lightning", "cbirbench_simsiam.fitting"])
    monkeypatch.setattr(
        multiprocessing, "get_context", lambda method=None: server if method == "spawn" else real(method)
    )


def test_devices_that_share_each_batch_train_like_one(
    gallery: Slices, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two processes on a CPU by Lightning's ddp_spawn; users need GPUs, as batch norm synchronises there."""
    monkeypatch.setattr(fitting, "check", lambda *arguments: None)
    start_without_imports(monkeypatch)
    heads = training.SimSiamProjectionHead, training.SimSiamPredictionHead
    made: list[torch.nn.Module] = []

    def plain(head: Any) -> Callable[..., Any]:
        def make_head(*widths: int) -> Any:
            made.append(head(*widths))
            without_batch_norm(made[-1])
            return made[-1]

        return make_head

    monkeypatch.setattr(training, "SimSiamProjectionHead", plain(heads[0]))
    monkeypatch.setattr(training, "SimSiamPredictionHead", plain(heads[1]))
    trained, seen = [], []
    for devices in (1, 2):
        extractor = make(epochs=3, devices=devices, learning_rate=0.5)
        without_batch_norm(extractor._backbone.network)
        extractor._start = extractor._backbone.state()
        monkeypatch.setattr(extractor._backbone, "untrained", False)
        watcher = Looking(extractor, gallery, wanted=[0, 2])
        progress = Recorder()
        record = fit(extractor, gallery, folder(tmp_path, str(devices)), progress, watcher)
        assert [row["epoch"] for row in record.epochs] == [1, 2, 3]
        assert progress.done == 3 * STEPS
        trained.append(extractor.weights())
        seen.append(watcher.seen)
    start = make()
    without_batch_norm(start._backbone.network)
    for name, one in trained[0].items():
        torch.testing.assert_close(one, trained[1][name], rtol=1e-3, atol=1e-5)
    assert any((trained[0][name] - tensor).abs().max() > 1e-3 for name, tensor in start.weights().items())
    assert list(seen[1]) == [0, 2]
    torch.testing.assert_close(seen[0][2], seen[1][2], rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"devices": 3}, r"3 devices cannot share a batch of 4"),
        ({"devices": 2}, r"needs as many GPUs, and 0 can be used here.*devices=1"),
    ],
)
def test_devices_that_are_not_there_are_refused(
    gallery: Slices, tmp_path: Path, options: dict[str, int], says: str
) -> None:
    with pytest.raises((UsageError, MissingError), match=says):
        fit(make(**options), gallery, tmp_path)
