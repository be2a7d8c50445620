"""The cache keys of a run: everything that shaped an entry, and nothing else."""

from __future__ import annotations

import importlib.metadata
import re
from collections.abc import Mapping
from functools import cache
from typing import Any

from cbirbench import __version__, registry
from cbirbench.explain.relax import RelaxOptions
from cbirbench.interfaces import Extractor, Metric
from cbirbench.plan import Contender, Plan
from cbirbench.query_sets import QuerySet
from cbirbench.registry import Plugin
from cbirbench.slices import CTSlice, Slices, slice_fingerprint
from cbirbench.store import as_json, key_of

ShapedBy = dict[str, Any]
"""What shaped an extractor's output; part of every key that follows from it."""


def untrained(device: str, contender: Contender, extractor: Extractor) -> ShapedBy:
    """What shapes the output of a fresh extractor: its code, options, weights, device and versions."""
    plugin = contender.plugin
    return {
        "extractor": plugin.name,
        "distribution": [plugin.distribution, plugin.version],
        "source": [registry.source_digest(module) for module in _modules(plugin)],
        "options": contender.options.shaping(),
        "fingerprint": as_json(extractor.fingerprint()),
        "augmentations": [
            [
                used.distribution,
                used.version,
                registry.source_digest(used.package),
                contender.augmentation_options[used.name].shaping(),
            ]
            for used in contender.augmentations
        ],
        "device": device,
        "versions": versions(plugin.distribution),
    }


def _modules(plugin: Plugin) -> list[str]:
    """Modules whose source shapes a plugin's output: its own, plugins it builds on, and the HU windows."""
    others = [name for name in _requirements(plugin.distribution) if name.startswith("cbirbench-")]
    return [plugin.package, *(name.replace("-", "_") for name in others), "cbirbench.windows"]


@cache
def versions(distribution: str) -> dict[str, str]:
    """Versions of what a plugin computes with: cbirbench, and what it and the plugins below it require."""
    found = {"cbirbench": __version__}
    for name in ["numpy", "torch", *_requirements(distribution)]:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


@cache
def _requirements(distribution: str) -> tuple[str, ...]:
    """Names of the distributions that one requires, and those that plugins among them require; no extras."""
    try:
        requirements = importlib.metadata.requires(distribution) or []
    except importlib.metadata.PackageNotFoundError:
        return ()
    found: dict[str, None] = {}
    for text in requirements:
        named = re.match(r"[A-Za-z0-9._-]+", text)
        if named is None or "extra ==" in text or named[0] == "cbirbench":
            continue
        found[named[0]] = None
        if named[0].startswith("cbirbench-"):
            found |= dict.fromkeys(_requirements(named[0]))
    return tuple(found)


def forget() -> None:
    """Read the distributions' metadata anew, after something was installed."""
    versions.cache_clear()
    _requirements.cache_clear()


def trained(weights_key: str) -> ShapedBy:
    """What shapes the output of a trained extractor: its training, which its weights' key sums up."""
    return {"training": weights_key}


def weights(shaped_by: ShapedBy, gallery: Slices, seed: int) -> str:
    """Key of trained weights."""
    return key_of({**shaped_by, "slices": gallery.fingerprint(), "seed": seed})


def embeddings(shaped_by: ShapedBy, slices: Slices, batch_size: int) -> str:
    """Key of embeddings."""
    return key_of({**shaped_by, "slices": slices.fingerprint(), "batch_size": batch_size})


def similarities(relax: RelaxOptions, shaped_by: ShapedBy, item: CTSlice) -> str:
    """Key of the similarities that RELAX found of one slice: whatever number of masks, whatever estimator."""
    return key_of(
        {
            **shaped_by,
            "slice": slice_fingerprint(item),
            "masks": as_json(relax.design),
            "fill": relax.fill,
            "precision": relax.precision,
            "batch_size": relax.batch_size,
            "source": [
                registry.source_digest(f"cbirbench.explain.{name}") for name in ("masks", "passes", "relax")
            ],
        }
    )


def importance_map(relax: RelaxOptions, shaped_by: ShapedBy, item: CTSlice) -> str:
    """What tells one importance map from others, in the keys of scores."""
    return key_of({**shaped_by, "slice": slice_fingerprint(item), **_explained_by(relax)})


def control_map(relax: RelaxOptions, name: str, item: CTSlice) -> str:
    """The same for the map of a control."""
    return key_of({"control": name, "slice": slice_fingerprint(item), **_explained_by(relax)})


def _explained_by(relax: RelaxOptions) -> ShapedBy:
    return {"relax": as_json(relax), "relax_source": registry.source_digest("cbirbench.explain")}


def _scored_by(metric: Metric, plugin: Plugin) -> ShapedBy:
    return {
        "metric": metric.name,
        "options": as_json(metric.options),
        "plugin": [plugin.distribution, plugin.version, registry.source_digest(plugin.package)],
        "versions": versions(plugin.distribution),
    }


def curve(
    plan: Plan,
    training_key: str,
    epoch: int,
    metric: Metric,
    plugin: Plugin,
    one: QuerySet,
) -> str:
    """Key of a metric's values on a set of queries after one epoch of a training."""
    shaped_by: ShapedBy = {
        "training": training_key,
        "epoch": epoch,
        "gallery": one.gallery.fingerprint(),
        "queries": one.queries.fingerprint(),
        **({"among_themselves": True} if one.among_themselves else {}),
        "distance": plan.run_options.distance,
        "batch_size": plan.run_options.batch_size,
        **_scored_by(metric, plugin),
    }
    if metric.needs == "explanations":
        shaped_by |= _explained_by(plan.relax)
    return key_of(shaped_by)


def attention(maps: Mapping[str, str], queries: Slices, structures: Mapping[int, str]) -> str:
    """Key of each tissue's shares of importance maps."""
    return key_of(
        {
            "maps": dict(maps),
            "queries": queries.fingerprint(),
            "structures": as_json(structures),
            "source": registry.source_digest("cbirbench.explain.attention"),
        }
    )


def explanation_scores(metric: Metric, plugin: Plugin, maps: dict[str, str], queries: Slices) -> str:
    """Key of a metric's values on importance maps."""
    return key_of({**_scored_by(metric, plugin), "maps": maps, "queries": queries.fingerprint()})
