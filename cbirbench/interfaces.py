"""What a plugin is: small typed protocols for extractors, augmentations, metrics and benchmarks.

A plugin is a class that an entry point names. It says which interface it was written for
(`interface_version`) and which options it takes (`options_type`), and is made with them. Extractors are
contestants: they hand over vectors; the runner checks and computes everything else.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol

import numpy as np

from cbirbench.options import Json, Options, ProfileName, option
from cbirbench.slices import Slices

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Generator, Tensor

__all__ = [
    "INTERFACE_VERSION",
    "Augmentation",
    "Benchmark",
    "Context",
    "Evidence",
    "Explainable",
    "Extractor",
    "Json",
    "Located",
    "Metric",
    "Need",
    "Options",
    "Plugin",
    "Precision",
    "ProfileName",
    "Progress",
    "Source",
    "Trainable",
    "TrainingRecord",
    "Watcher",
    "option",
]

INTERFACE_VERSION = 1
"""The version of these interfaces; it rises when a plugin must change to go on working."""


class Plugin:
    """What a plugin of any kind may inherit from, to write less. Nothing asks whether it does.

    It takes no options and says that nothing besides options and versions changes what it computes: state
    `options_type` where it has options, and `fingerprint` where anything else decides, a file of weights say.
    """

    options_type: ClassVar[type[Options]] = Options

    def __init__(self, options: Any, context: Any = None) -> None:
        self.options = options
        self.context = context

    def fingerprint(self) -> Mapping[str, Json]:
        """Nothing besides options and versions."""
        return {}


class Progress(Protocol):
    """Where long steps report how far they are."""

    def stage(self, title: str, total: int) -> AbstractContextManager[Callable[[int], None]]:
        """Open a step of `total` units; the callable it yields takes how many units were just done."""
        ...

    def note(self, text: str) -> None:
        """Tell the user one line, without stopping."""
        ...


class Augmentation(Protocol):
    """Makes the two training views of a slice. Sampling and applying are apart, so a view can be replayed."""

    interface_version: ClassVar[int]
    options_type: ClassVar[type[Options]]

    def fingerprint(self) -> Mapping[str, Json]:
        """Everything that changes the views."""
        ...

    def sample(self, count: int, generator: Generator) -> Mapping[str, Tensor]:
        """Draw the parameters of both views of `count` slices.

        Args:
            count: Number of slices.
            generator: The only source of randomness.

        Returns:
            Named tensors, on the CPU, with `count` rows each.
        """
        ...

    def apply(
        self, hu: Sequence[Tensor], parameters: Mapping[str, Tensor], size: int
    ) -> tuple[Tensor, Tensor]:
        """Make both views from drawn parameters.

        Args:
            hu: One int16 tensor of Hounsfield units a slice, shape ``(side, side)``; sides may differ.
            parameters: What `sample` drew.
            size: Side of the views in pixels.

        Returns:
            Two float32 tensors in 0..1, shape ``(n, 1, size, size)``, on the device of `hu`.
        """
        ...


@dataclass(frozen=True)
class Context:
    """What an extractor is given besides its options.

    Attributes:
        device: A torch device string, ``cpu`` or ``cuda``.
        augmentation: Makes the augmentation of that registered name, with the options of this run.
    """

    device: str
    augmentation: Callable[[str], Augmentation]


class Extractor(Protocol):
    """Turns CT slices into vectors, in two steps, so that an explanation can stand between them.

    Made as ``extractor_class(options, context)``.
    """

    interface_version: ClassVar[int]
    options_type: ClassVar[type[Options]]

    def fingerprint(self) -> Mapping[str, Json]:
        """Everything besides options and versions that changes the output: a hash of the weights, say."""
        ...

    def prepare(self, hu: Tensor) -> Tensor:
        """Window, scale and resize.

        Args:
            hu: int16 Hounsfield units, shape ``(n, side, side)``, on this extractor's device.

        Returns:
            float32 images in 0..1, 0 meaning "nothing here", shape ``(n, channels, height, width)``.
        """
        ...

    def embed(self, images: Tensor) -> Tensor:
        """Turn prepared images, whole or masked, into vectors.

        Args:
            images: What `prepare` returned, possibly multiplied by a mask in 0..1.

        Returns:
            float32 embeddings, shape ``(n, d)``, in the order of the images.
        """
        ...


class Located(ABC):
    """An extractor that is told where in its scan each slice lies. Opting in is inheriting from it.

    `prepare_at` then takes the place of `prepare`.
    """

    @abstractmethod
    def prepare_at(self, hu: Tensor, positions: Tensor) -> Tensor:
        """Do what `prepare` does, knowing where the slices lie.

        Args:
            hu: int16 Hounsfield units, shape ``(n, side, side)``, on this extractor's device.
            positions: Where each slice lies in its scan, float32, shape ``(n,)``, on the same device: 0 the
                most inferior slice of the scan, 1 the most superior.

        Returns:
            float32 images in 0..1, shape ``(n, channels, height, width)``.
        """


class Floor:
    """An extractor that others are to rise above, as it looks at no anatomy. Opting in is inheriting from it.

    Tables name it a floor, and reports say which extractors do not rise above it.
    """


Precision = Literal["float32", "bfloat16"]
"""Arithmetic of the passes of an explanation."""


class Explainable(ABC):
    """An extractor that embeds thousands of masked images more cheaply. Opting in is inheriting from it."""

    @abstractmethod
    def for_explanation(self, precision: Precision) -> Callable[[Tensor], Tensor]:
        """Make a twin of `embed` from the weights as they are now, for the many passes of an explanation.

        Args:
            precision: Arithmetic of the network; the embeddings are float32 either way.

        Returns:
            What takes and gives the same as `embed`. Its embeddings may differ from those of `embed` by the
            rounding of that precision, no more.
        """


class Watcher(Protocol):
    """Evaluates an extractor while it trains, for curves over epochs. It never steers the training."""

    def wants(self, epoch: int) -> bool:
        """Whether `look` is to be called after that epoch; epoch 0 is the start, before the first one."""
        ...

    def look(self, epoch: int) -> None:
        """Embed with the extractor as it is now."""
        ...


@dataclass(frozen=True)
class TrainingRecord:
    """How a training went.

    Attributes:
        epochs: One row an epoch, with ``epoch`` (from 1), ``loss`` and whatever else was watched.
        resumed_from_epoch: The last epoch of the checkpoint from which an interrupted training went on; None
            where it ran through.
    """

    epochs: Sequence[Mapping[str, float]]
    resumed_from_epoch: int | None = None


class Trainable(ABC):
    """An extractor that learns from the gallery before it is evaluated. Opting in is inheriting from it."""

    @abstractmethod
    def fit(
        self, slices: Slices, *, seed: int, workspace: Path, progress: Progress, watcher: Watcher
    ) -> TrainingRecord:
        """Train on the gallery's slices, or go on with a training of the same seed and slices.

        Args:
            slices: The training slices; labels and masks are not to be looked at.
            seed: Reaches every source of randomness.
            workspace: A folder of this training alone. What lies there when `fit` is called was left by an
                interrupted `fit` with the same options, slices and seed.
            progress: Where to report.
            watcher: To be asked after each epoch, and before the first as epoch 0; while it looks, `embed`
                gives the embeddings of that epoch, and nothing of the training may change. A checkpoint may
                be taken up only if the watcher wants none of the epochs that it leaves out.
        """

    @property
    @abstractmethod
    def epochs(self) -> int:
        """How many epochs `fit` trains."""

    @abstractmethod
    def training_views(self, slice_count: int) -> int:
        """How many views `fit` passes forward and backward for so many slices: what a run will cost.

        It is asked for before anything is trained.

        Raises:
            UsageError: `fit` could not train on so many slices, or not on this machine.
        """

    @abstractmethod
    def weights(self) -> Mapping[str, Tensor]:
        """The trained weights, on the CPU."""

    @abstractmethod
    def load_weights(self, weights: Mapping[str, Tensor]) -> None:
        """Take up weights that `weights` gave."""


Need = Literal["ranking", "embeddings", "explanations"]
"""What a metric is computed from; RELAX runs only when a metric needs explanations."""


@dataclass(frozen=True, eq=False)
class Evidence:
    """What metrics are computed from: one extractor's retrieval for q queries in a gallery of g slices.

    Attributes:
        query_labels: Shape ``(q,)``.
        gallery_labels: Shape ``(g,)``.
        neighbours: Positions in the gallery, nearest first, shape ``(q, depth)``.
        distances: Their distances, float64, same shape.
        query_embeddings: float32, shape ``(q, d)``.
        gallery_embeddings: float32, shape ``(g, d)``.
        maps: One importance map a query, float32 at the query's native size; None where not explained.
        masks: One target mask a query, bool at native size; None where the cohort has none.
    """

    query_labels: NDArray[np.int64]
    gallery_labels: NDArray[np.int64]
    neighbours: NDArray[np.int64]
    distances: NDArray[np.float64]
    query_embeddings: NDArray[np.float32]
    gallery_embeddings: NDArray[np.float32]
    maps: Sequence[NDArray[np.float32] | None]
    masks: Sequence[NDArray[np.bool_] | None]


class Metric(Protocol):
    """Scores each query. Made as ``metric_class(options)``."""

    interface_version: ClassVar[int]
    options_type: ClassVar[type[Options]]
    needs: ClassVar[Need]

    @property
    def options(self) -> Options:
        """The options it was made with."""
        ...

    @property
    def name(self) -> str:
        """The name in results: what is computed, ``map@5``."""
        ...

    @property
    def depth(self) -> int:
        """How many neighbours it looks at; 0 where it looks at none."""
        ...

    def per_query(self, evidence: Evidence) -> NDArray[np.float64]:
        """One value a query, shape ``(q,)``, as a fraction of 1; NaN where it is undefined."""
        ...


class ByChance(ABC):
    """A metric that knows what it gives where neighbours are drawn at random. Opting in is inheriting.

    Reports print that level beneath their tables, and say which extractors are no better.
    """

    @abstractmethod
    def by_chance(
        self, query_labels: NDArray[np.int64], gallery_labels: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        """Work out each query's mean value over all orders of the gallery, exactly.

        Args:
            query_labels: Shape ``(q,)``.
            gallery_labels: Of the slices that these queries may retrieve, shape ``(g,)``.

        Returns:
            Shape ``(q,)``, as fractions of 1; NaN where `per_query` would be undefined.
        """


@dataclass(frozen=True)
class Source:
    """One scan of a benchmark, before it is read.

    Attributes:
        volume_id: Unique in the benchmark.
        patient_id: Pseudonym of the patient.
        split: ``gallery`` (training slices) or ``query`` (test slices).
        fingerprint: Everything that shapes the slices read from it, cheap to have: no file is read for it.
    """

    volume_id: str
    patient_id: str
    split: Literal["gallery", "query"]
    fingerprint: Mapping[str, Json]


class Benchmark(Protocol):
    """A cohort with a split. Made as ``benchmark_class(options)``; it must pickle, as workers read."""

    interface_version: ClassVar[int]
    options_type: ClassVar[type[Options]]
    defaults: ClassVar[Mapping[str, Mapping[str, Any]]]
    """Options that it sets for others, ``{"simsiam": {"epochs": 5}, "run": {"runs": 1}}``."""

    @property
    def synthetic(self) -> bool:
        """Whether the scans were made by a program; reports say so."""
        ...

    @property
    def structures(self) -> Mapping[int, str]:
        """Names of the masks' values, as far as they are known, ``{1: "liver"}``; empty where none is.

        A value without a name is reported by its number.
        """
        ...

    def sources(self) -> Sequence[Source]:
        """The scans, gallery first, in a fixed order. Checks that they are there; reads none of them."""
        ...

    def read(self, source: Source) -> Slices:
        """Read one scan and give its slices."""
        ...
