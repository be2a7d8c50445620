"""A run before it starts: every name, option and weight resolved and checked, nothing computed yet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np

from cbirbench import registry
from cbirbench.explain.relax import RelaxOptions
from cbirbench.interfaces import Benchmark, Context, Extractor, Json, Metric, Options, ProfileName, Source
from cbirbench.registry import Plugin
from cbirbench.settings import Departure, RunOptions
from cbirbench.store import as_json, key_of

DEFAULT_METRICS = ("map", "knn-accuracy", "relevance-rank")

RETRIEVED_SHOWN = 5
"""Retrieved slices in a figure of a query, as in the paper's figures 8 to 11."""


@dataclass(frozen=True)
class Request:
    """What the user asked for, as typed.

    Attributes:
        benchmark: Name of the benchmark.
        extractors: Names or aliases; the first is the one that the others are compared with.
        metrics: Names, ``map@5`` for a K of one's own.
        runs: Trainings of each trainable extractor; None for the profile's or the benchmark's number.
        eval_every: Epochs between evaluations while training; None or 0 for none.
        explain_every: The same for metrics that need explanations.
        until_reliable: See `cbirbench.explain.relax.RelaxOptions`; None for the profile's or the benchmark's.
        explain_queries: Ids of queries whose retrieval is drawn with explanations; None for the best, the
            median and the worst where a metric needs explanations.
        seed: Seeds of all runs derive from it.
        profile: ``paper`` or ``released-code``.
        data: Where the scans are, for benchmarks that read scans.
        device: ``auto``, ``cpu`` or ``cuda``.
        assignments: ``NAME.OPTION=VALUE`` texts.
        pixels: Whether the run's folder gets the HU slices.
        queries: External cohorts, ``PATH`` or ``NAME=PATH``: folders or manifests.
        gallery: What external cohorts are ranked against: the benchmark's gallery (the paper's protocol), or
            each its own slices of other patients.
    """

    benchmark: str
    extractors: tuple[str, ...]
    metrics: tuple[str, ...] = DEFAULT_METRICS
    runs: int | None = None
    eval_every: int | None = None
    explain_every: int | None = None
    until_reliable: float | None = None
    explain_queries: tuple[str, ...] | None = None
    seed: int = 0
    profile: ProfileName = "paper"
    data: Path | None = None
    device: Literal["auto", "cpu", "cuda"] = "auto"
    assignments: tuple[str, ...] = ()
    pixels: bool = True
    queries: tuple[str, ...] = ()
    gallery: Literal["benchmark", "self"] = "benchmark"


@dataclass(frozen=True)
class ExternalCohort:
    """An external cohort whose slices are queries.

    Attributes:
        name: What tables and files call it.
        plugin: The plugin that reads it.
        benchmark: What reads its scans.
        options: How they are read.
        sources: Its scans.
        structures: Names of its masks' values.
        synthetic: Whether a program made its scans.
    """

    name: str
    plugin: Plugin
    benchmark: Benchmark
    options: Options
    sources: Sequence[Source]
    structures: Mapping[int, str] = field(default_factory=dict)
    synthetic: bool = False


@dataclass(frozen=True)
class Contender:
    """One extractor of a run, with the augmentations that it asked for.

    A variant is an extractor under a name of the user's, with options that are set by that name.
    """

    plugin: Plugin
    alias: str
    options: Options
    context: Context
    trained: bool
    runs: int
    augmentations: Sequence[Plugin] = ()
    augmentation_options: Mapping[str, Options] = field(default_factory=dict)
    floor: bool = False
    variant: str = ""

    @property
    def name(self) -> str:
        """Canonical name; of a variant, its own."""
        return self.variant or self.plugin.name

    def make(self) -> Extractor:
        """A fresh extractor, with its starting weights."""
        extractor: Extractor = registry.make(self.plugin, self.options, self.context)
        return extractor


@dataclass(frozen=True)
class Plan:
    """A run that is ready to start."""

    request: Request
    benchmark_plugin: Plugin
    benchmark: Benchmark
    benchmark_options: Options
    sources: Sequence[Source]
    contenders: Sequence[Contender]
    metrics: Sequence[Metric]
    metric_plugins: Sequence[Plugin]
    run_options: RunOptions
    relax: RelaxOptions
    device: str
    departures: Sequence[Departure]
    title: str
    notes: Sequence[str] = field(default_factory=list)
    cohorts: Sequence[ExternalCohort] = ()
    structures: Mapping[int, str] = field(default_factory=dict)

    def depth(self, gallery_size: int) -> int:
        """How many neighbours of each query are kept; a small gallery has fewer to draw, never to score."""
        drawn = min(RETRIEVED_SHOWN, gallery_size) if self.draws_retrievals else 1
        return max([metric.depth for metric in self.metrics] + [drawn])

    @property
    def draws_retrievals(self) -> bool:
        """Whether the retrieval of some queries is drawn with explanations."""
        asked = self.request.explain_queries
        return self.explains if asked is None else bool(asked)

    @property
    def explains(self) -> bool:
        """Whether a metric needs importance maps."""
        return any(metric.needs == "explanations" for metric in self.metrics)

    def key(self) -> str:
        """SHA-256 of the resolved command: two runs with one key give the same numbers on one machine."""
        return key_of(
            {
                "benchmark": [self.benchmark_plugin.name, as_json(self.benchmark_options)],
                "sources": [as_json(source) for source in self.sources],
                "contenders": [[c.name, c.options.shaping(), c.runs] for c in self.contenders],
                "metrics": [
                    [metric.name, plugin.name]
                    for metric, plugin in zip(self.metrics, self.metric_plugins, strict=True)
                ],
                "run": as_json(self.run_options),
                "relax": as_json(self.relax),
                "departures": as_json(self.departures),  # those of augmentations are nowhere else
                "seed": self.request.seed,
                "profile": self.request.profile,
                "pixels": self.request.pixels,
                "explain_queries": self.request.explain_queries,
                "device": self.device,
                **({"cohorts": self._cohorts()} if self.cohorts else {}),
            }
        )

    def _cohorts(self) -> list[Json]:
        return [
            self.request.gallery,
            *([c.name, as_json(c.options), [as_json(source) for source in c.sources]] for c in self.cohorts),
        ]


def run_seed(seed: int, run: int) -> int:
    """The seed of one training run; runs of different extractors with one number share it."""
    return int(np.random.SeedSequence([seed, run]).generate_state(1, np.uint32)[0])
