"""`cbirbench views`: a picture of the training views that an augmentation makes of a benchmark's slices."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cbirbench import registry
from cbirbench.errors import CbirbenchError, PluginError, UsageError
from cbirbench.figures.look import check_format
from cbirbench.figures.view_pairs import draw_view_pairs
from cbirbench.interfaces import Augmentation, Benchmark, Options, ProfileName, Progress, Source
from cbirbench.planning import leftovers, resolve_benchmark
from cbirbench.reading import read_benchmark
from cbirbench.registry import Plugin
from cbirbench.report.scoreboard import departure_line, plain, value_text
from cbirbench.settings import Settings, parse_assignments
from cbirbench.slices import CTSlice, Slices, pad_to_square
from cbirbench.store import Store

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Views = NDArray[np.float32]

MOST_PAIRS = 64
"""Most pairs of views in one picture."""

SIZES = (32, 2048)
"""Smallest and largest side of a view, in pixels."""


@dataclass(frozen=True)
class ViewRequest:
    """What the user asked for, as typed.

    Attributes:
        benchmark: Name of the benchmark.
        augmentation: Name of the augmentation.
        count: Pairs of views, each of another slice.
        size: Side of the views in pixels.
        seed: Decides which slices are taken, and every random change.
        profile: ``paper`` or ``released-code``.
        data: Where the scans are, for benchmarks that read scans.
        assignments: ``NAME.OPTION=VALUE`` texts.
    """

    benchmark: str
    augmentation: str
    count: int = 6
    size: int = 224
    seed: int = 0
    profile: ProfileName = "paper"
    data: Path | None = None
    assignments: tuple[str, ...] = ()


@dataclass(frozen=True)
class DrawnViews:
    """What was drawn, for the user.

    Attributes:
        title: The data, the augmentation, the profile and what was changed.
        departures: One line for each value that departs from the profile.
        notes: What the user should know, such as a ``--set`` without effect.
    """

    title: str
    departures: Sequence[str]
    notes: Sequence[str]


def draw_sample_views(request: ViewRequest, out: Path, store: Store, progress: Progress) -> DrawnViews:
    """Draw pairs of views of gallery slices, one slice a scan as far as there are scans enough.

    Only the scans that are drawn are read, or taken from the cache, where a run finds them again.

    Raises:
        UsageError: A name, option or value is wrong, or the gallery has fewer slices.
        DataError: A scan cannot be used.
        PluginError: A plugin cannot be used, or hands over something that is no pair of views.
        MissingError: The picture cannot be written.
    """
    _check(request, out)
    assignments = parse_assignments(request.assignments)
    benchmark_plugin = registry.find("benchmark", request.benchmark)
    benchmark_class = registry.load(benchmark_plugin)
    settings = Settings(request.profile, benchmark_class.defaults, assignments)
    benchmark_options = resolve_benchmark(settings, benchmark_plugin, request.data)
    plugin = registry.find("augmentation", request.augmentation)
    options = settings.resolve(registry.load(plugin).options_type, plugin.names)
    augmentation: Augmentation = registry.make(plugin, options)
    notes = leftovers(settings, assignments)
    benchmark: Benchmark = registry.make(benchmark_plugin, benchmark_options)

    scans = _drawn_scans([s for s in benchmark.sources() if s.split == "gallery"], request)
    gallery = read_benchmark(benchmark_plugin, benchmark, scans, store, progress).gallery
    items = _drawn_slices(gallery, request)
    views = _views(plugin, augmentation, items, request)

    synthetic = " (synthetic)" if benchmark.synthetic else ""
    title = plain(
        f"{benchmark_plugin.name}{synthetic}: views by {plugin.name} at {request.size} px, "
        f"profile {settings.title()}, seed {request.seed}"
    )
    departures = [departure_line(vars(departure)) for departure in settings.departures.values()]
    draw_view_pairs(
        [item.hu for item in items],
        views,
        out,
        titles=[item.slice_id for item in items],
        caption="\n".join([title, _shown(options), *departures]),
    )
    return DrawnViews(title, departures, notes)


def _shown(options: Options) -> str:
    """All options on one line: which windows the views show is among them."""
    return ", ".join(f"{name} {value_text(value)}" for name, value in options.model_dump(mode="json").items())


def _check(request: ViewRequest, out: Path) -> None:
    if not 1 <= request.count <= MOST_PAIRS:
        raise UsageError(
            f"--count needs a whole number from 1 to {MOST_PAIRS}, got {request.count}.", "Give --count 6."
        )
    if not SIZES[0] <= request.size <= SIZES[1]:
        raise UsageError(
            f"--size needs a whole number of pixels from {SIZES[0]} to {SIZES[1]}, got {request.size}.",
            "Give --size 224, the size the paper's network was trained at.",
        )
    check_format(out)


def _drawn_scans(scans: Sequence[Source], request: ViewRequest) -> list[Source]:
    """As many different scans as pairs are wanted, or all; in the benchmark's order."""
    if not scans:
        raise UsageError(
            f"The benchmark {request.benchmark!r} has no gallery scans with these options.",
            "Give it at least one scan for the gallery.",
        )
    draws = np.random.default_rng([request.seed, 0])
    chosen = draws.choice(len(scans), size=min(request.count, len(scans)), replace=False)
    return [scans[position] for position in sorted(chosen.tolist())]


def _drawn_slices(gallery: Slices, request: ViewRequest) -> list[CTSlice]:
    """Draw slices in rounds: one of each scan, then a second one of each, until there are enough."""
    draws = np.random.default_rng([request.seed, 1])
    by_scan: dict[str, list[int]] = {}
    for position, item in enumerate(gallery):
        by_scan.setdefault(item.volume_id, []).append(position)
    shuffled = [draws.permutation(positions).tolist() for positions in by_scan.values()]
    rounds = max(map(len, shuffled))
    in_order = [own[turn] for turn in range(rounds) for own in shuffled if turn < len(own)]
    if len(in_order) < request.count:
        raise UsageError(
            f"--count {request.count} asks for as many slices, and the gallery of {request.benchmark!r} has "
            f"{len(in_order)}.",
            f"Give --count {len(in_order)} or less.",
        )
    return [gallery[position] for position in sorted(in_order[: request.count])]


def _views(
    plugin: Plugin, augmentation: Augmentation, items: Sequence[CTSlice], request: ViewRequest
) -> tuple[Views, Views]:
    """Both views of each slice, shape ``(n, size, size)``, checked."""
    import torch

    origin = f"The augmentation {plugin.name!r} of {plugin.distribution}"
    hu = [torch.from_numpy(np.require(pad_to_square(item.hu), requirements=["C", "W"])) for item in items]
    try:
        parameters = augmentation.sample(len(hu), torch.Generator().manual_seed(request.seed))
        first, second = augmentation.apply(hu, parameters, request.size)
    except CbirbenchError:
        raise
    except Exception as error:
        raise PluginError(
            f"{origin} failed: {type(error).__name__}: {error}.", "Report it to the plugin's authors."
        ) from error
    expected = (len(hu), 1, request.size, request.size)
    for number, view in ((1, first), (2, second)):
        found = ""
        if not isinstance(view, torch.Tensor):
            found = f"type {type(view).__name__}"
        elif tuple(view.shape) != expected:
            found = f"shape {tuple(view.shape)} instead of {expected}"
        elif not bool(torch.isfinite(view).all()):
            found = "NaN or infinity"
        elif float(view.min()) < 0 or float(view.max()) > 1:
            found = f"values from {float(view.min()):g} to {float(view.max()):g}, outside 0..1"
        if found:
            raise PluginError(
                f"{origin} made a view {number} with {found}.",
                "Report it to the plugin's authors; cbirbench.interfaces.Augmentation says what a view is.",
            )
    return first[:, 0].float().numpy(), second[:, 0].float().numpy()
