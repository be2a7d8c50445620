"""Checks of extractors that learn: what `fit` does, twice, watched, and with other labels."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cbirbench.conformance.extractor_calls import usual, vectors_of
from cbirbench.conformance.making import made_slices
from cbirbench.conformance.states import restored, seed_everything
from cbirbench.conformance.subjects import Subject
from cbirbench.conformance.verdicts import Beside, Fault, calling, demand
from cbirbench.errors import UsageError
from cbirbench.interfaces import Trainable, TrainingRecord
from cbirbench.slices import Slices

if TYPE_CHECKING:
    from torch import Tensor

GALLERY_SIZES = (8, 16, 24, 32, 48, 64, 128, 256)
"""How many slices are tried until `training_views` takes them: batches differ in size."""


class Silent:
    """A progress that shows nothing."""

    def note(self, text: str) -> None:
        """Say nothing."""

    @contextmanager
    def stage(self, title: str, total: int) -> Iterator[Callable[[int], None]]:
        """Show nothing."""
        yield lambda done: None


@dataclass
class Watching:
    """A watcher that wants every epoch, or none."""

    wanted: bool
    embed: Callable[[], Any] = lambda: None
    asked: list[int] = field(default_factory=list)
    looked: list[int] = field(default_factory=list)

    def wants(self, epoch: int) -> bool:
        """Note that it was asked."""
        self.asked.append(epoch)
        return self.wanted

    def look(self, epoch: int) -> None:
        """Embed with the extractor as it is now."""
        self.looked.append(epoch)
        self.embed()


@dataclass(frozen=True)
class _Fit:
    extractor: Any
    record: Any
    weights: Mapping[str, Tensor]
    watcher: Watching


def _gallery(subject: Subject) -> tuple[Slices, int]:
    """The fewest slices that it trains on, and how many views it says that takes."""
    extractor = subject.one
    if not isinstance(extractor, Trainable):
        raise Beside("It is not trained (it is not Trainable).")
    return subject.once("gallery", partial(_smallest_gallery, subject, extractor))


def _smallest_gallery(subject: Subject, extractor: Trainable) -> tuple[Slices, int]:
    refused = ""
    for size in GALLERY_SIZES:
        try:
            views = calling(f"{subject.name}.training_views", partial(extractor.training_views, size))
        except UsageError as error:
            refused = error.problem
            continue
        return made_slices(size, side=64), views
    raise Fault(
        f"training_views takes none of {GALLERY_SIZES} slices: {refused}",
        "Set smaller options: --set NAME.batch_size=8, for instance.",
    )


def _fit(subject: Subject, which: str) -> _Fit:
    """One of the trainings that checks compare: `plain`, `again`, `other labels` and `watched`."""
    slices, _ = _gallery(subject)
    return subject.once(f"fit {which}", partial(_trained, subject, slices, which))


def _trained(subject: Subject, slices: Slices, which: str) -> _Fit:
    import torch

    with restored(), tempfile.TemporaryDirectory() as folder:
        seed_everything({"plain": 1, "again": 2}.get(which, 3))
        extractor = subject.make()
        watcher = Watching(which == "watched")
        if which == "watched":
            few = Slices(slices.items[:4])
            watcher.embed = lambda: vectors_of(subject, few, extractor)
        if which == "other labels":
            slices = Slices(tuple(replace(item, label=1 - item.label, mask=None) for item in slices))
        record = calling(
            f"{subject.name}.fit",
            lambda: extractor.fit(slices, seed=7, workspace=Path(folder), progress=Silent(), watcher=watcher),
        )
        weights = calling(f"{subject.name}.weights", extractor.weights)
        demand(
            isinstance(weights, Mapping)
            and len(weights) > 0
            and all(isinstance(v, torch.Tensor) and v.device.type == "cpu" for v in weights.values()),
            "weights gives something else than named tensors on the CPU.",
            "Give a dict of names and tensors: {k: v.detach().cpu().clone() for k, v in ...}.",
        )
        return _Fit(extractor, record, {k: v.detach().clone() for k, v in weights.items()}, watcher)


def _known(subject: Subject, which: str) -> _Fit:
    """The same for checks of what follows from it, which say nothing of a training that fails."""
    _gallery(subject)
    try:
        return _fit(subject, which)
    except (Fault, Exception) as error:
        if which == "plain":
            raise Beside("Its training fails: see training.") from error
        raise


def training_cost(subject: Subject) -> str:
    """`epochs` and `training_views` say what a training will take."""
    slices, views = _gallery(subject)
    epochs = subject.one.epochs
    demand(
        type(epochs) is int and epochs >= 1,
        f"epochs is {epochs!r}.",
        "It is how many epochs fit trains, a whole number.",
    )
    demand(
        type(views) is int and views > 0,
        f"training_views({len(slices)}) gives {views!r}.",
        "It is how many views fit passes through the network, a whole number above 0.",
    )
    return f"{epochs} epochs, {views} views of {len(slices)} slices"


def training(subject: Subject) -> str:
    """`fit` trains, and its record has one row an epoch with a finite loss."""
    slices, _ = _gallery(subject)
    record, epochs = _fit(subject, "plain").record, subject.one.epochs
    demand(
        isinstance(record, TrainingRecord),
        f"fit gives {type(record).__name__}.",
        "Give a cbirbench.interfaces.TrainingRecord.",
    )
    rows = list(record.epochs)
    demand(
        [row.get("epoch") for row in rows] == list(range(1, epochs + 1)),
        f"Its record has the epochs {[row.get('epoch') for row in rows][:8]}, and epochs is {epochs}.",
        "One row an epoch: {'epoch': 1, 'loss': ...}, ...",
    )
    losses = [row.get("loss") for row in rows]
    wrong = [loss for loss in losses if not isinstance(loss, int | float) or not math.isfinite(loss)]
    demand(
        not wrong,
        f"Its record has the losses {wrong[:5]}.",
        "Each row has a finite loss; stop where it is none.",
    )
    return f"{epochs} epochs on {len(slices)} slices, loss {losses[0]:.3g} to {losses[-1]:.3g}"


def training_repeats(subject: Subject) -> str:
    """Two trainings with one seed give the same weights, bit for bit."""
    first, second = _known(subject, "plain"), _fit(subject, "again")
    unequal = _unequal(first, second)
    demand(
        not unequal,
        f"Two trainings with one seed end with different weights, in {len(unequal)} of {len(first.weights)} "
        f"tensors ({unequal[0] if unequal else ''}).",
        "Let `seed` reach everything that is drawn: starting weights, the order of slices, views, dropout.",
    )
    return f"{len(first.weights)} tensors equal, whatever the global seeds"


def training_watched(subject: Subject) -> str:
    """Its watcher is asked after each epoch and before the first, and changes nothing by looking."""
    first, watched = _known(subject, "plain"), _fit(subject, "watched")
    due = list(range(subject.one.epochs + 1))
    demand(
        sorted(set(watched.watcher.looked)) == due,
        f"Its watcher wants the epochs 0 to {due[-1]} and looked at {sorted(set(watched.watcher.looked))}.",
        "Call watcher.look(epoch) where watcher.wants(epoch): for epoch 0 before the first, then after each.",
    )
    demand(
        len(watched.watcher.looked) == len(due),
        f"Its watcher looked {len(watched.watcher.looked)} times at {len(due)} epochs.",
        "Let it look once an epoch.",
    )
    unequal = _unequal(first, watched)
    demand(
        not unequal,
        f"Watched, a training ends with other weights, in {len(unequal)} of {len(first.weights)} tensors.",
        "Embedding must leave the training alone: put batch norm's mode and the random numbers back.",
    )
    return f"{len(due)} looks, from epoch 0; the same weights"


def training_blind(subject: Subject) -> str:
    """Labels and masks are not looked at."""
    first = _known(subject, "plain")
    try:
        other = _fit(subject, "other labels")
    except Fault as fault:
        raise Fault(
            f"Without masks and with other labels its training fails: {fault.found}", fault.remedy
        ) from fault
    unequal = _unequal(first, other)
    if unequal and not _unequal(first, _fit(subject, "again")):
        raise Fault(
            f"With other labels and no masks a training ends with other weights, in {len(unequal)} of "
            f"{len(first.weights)} tensors.",
            "Train on slice.hu alone: queries have no labels.",
        )
    if unequal:
        raise Beside("Its trainings differ anyhow: see training-repeats.")
    return "labels swapped, masks gone: the same weights"


def training_weights(subject: Subject) -> str:
    """Weights that were kept bring the trained embeddings back."""
    import torch

    first = _known(subject, "plain")
    slices, untrained = usual(subject)
    trained = vectors_of(subject, slices, first.extractor)
    fresh = subject.make()
    # As the cache keeps them: by way of numpy.
    kept = {name: torch.from_numpy(tensor.numpy().copy()) for name, tensor in first.weights.items()}
    calling(f"{subject.name}.load_weights", lambda: fresh.load_weights(kept))
    demand(
        np.array_equal(vectors_of(subject, slices, fresh), trained),
        "A fresh instance that takes up the trained weights embeds otherwise than the trained one.",
        "weights() has to give everything that embed uses and fit changes, running means of batch norm too.",
    )
    moved = "" if np.array_equal(trained, untrained) else ", which training changed"
    return f"embeddings{moved} come back bit for bit"


def _unequal(one: _Fit, other: _Fit) -> list[str]:
    """Names of weights that differ in any bit."""
    import torch

    if one.weights.keys() != other.weights.keys():
        return sorted(one.weights.keys() ^ other.weights.keys())
    return [name for name, tensor in one.weights.items() if not torch.equal(tensor, other.weights[name])]


CHECKS = (training_cost, training, training_repeats, training_watched, training_blind, training_weights)
