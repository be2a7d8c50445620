"""The metrics of a run, as ``--metrics`` names them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from cbirbench import registry
from cbirbench.errors import PluginError, UsageError
from cbirbench.interfaces import Metric
from cbirbench.plan import DEFAULT_METRICS
from cbirbench.plugin_facts import import_problem
from cbirbench.registry import Plugin
from cbirbench.settings import Settings


def metrics_of(settings: Settings, names: Sequence[str]) -> tuple[list[Plugin], list[Metric]]:
    """Look up metrics, resolve their options and make each.

    Args:
        settings: What the user set.
        names: Names or aliases of metrics; ``NAME@K`` for a K of one's own.

    Raises:
        UsageError: There is no such metric, it takes no K, or it was named twice; or none was named.
        PluginError: A plugin cannot be used.
    """
    plugins: list[Plugin] = []
    metrics: list[Metric] = []
    for asked in names:
        name, at, depth = asked.partition("@")
        plugin = _metric_called(name)
        options_type = registry.load(plugin).options_type
        fixed: dict[str, Any] = {}
        takes_k = "k" in options_type.model_fields
        if at:
            if not (takes_k and depth.isascii() and depth.isdecimal() and len(depth) < 10):
                raise UsageError(
                    f"{asked!r} is no metric: {name!r} takes "
                    f"{'a whole number after the @' if takes_k else 'no @K'}.",
                    f"Use {name}{'@5' if takes_k else ''}.",
                )
            fixed["k"] = int(depth)
        metric: Metric = registry.make(plugin, settings.resolve(options_type, plugin.names, **fixed))
        _check_metric(metric, plugin)
        if metric.name in [other.name for other in metrics]:
            raise UsageError(f"The metric {metric.name!r} was named twice.", "Name it once in --metrics.")
        plugins.append(plugin)
        metrics.append(metric)
    if not metrics:
        raise UsageError("No metric was named.", f"Name some: --metrics {','.join(DEFAULT_METRICS)}")
    return plugins, metrics


def _metric_called(name: str) -> Plugin:
    """The metric of a name; where the @ before its K was forgotten, that is said."""
    try:
        return registry.find("metric", name)
    except UsageError as error:
        if found := re.fullmatch(r"(.*[^\W\d_])[\W_]*(\d+)", name):
            stem, k = found[1].casefold(), found[2]
            for plugin in registry.installed("metric"):
                if stem not in plugin.names or import_problem(plugin):
                    continue
                if "k" in registry.load(plugin).options_type.model_fields:
                    raise UsageError(
                        error.problem,
                        f"Did you mean '{stem}@{k}'? A metric's K follows an @: --metrics {stem}@{k}",
                    ) from None
        raise


def _check_metric(metric: Metric, plugin: Plugin) -> None:
    """Check what a metric says of itself: its name becomes part of files and tables.

    Raises:
        PluginError: It says something else than it should, or nothing.
    """
    whose = f"The metric {plugin.name!r} of {plugin.distribution}"
    see = "See cbirbench.interfaces.Metric for what a metric has."
    try:
        said = {part: getattr(metric, part) for part in ("name", "depth", "options") if hasattr(metric, part)}
    except Exception as error:  # of a property
        raise PluginError(
            f"{whose} cannot say its name and depth: {type(error).__name__}: {error}.", see
        ) from error
    if lacking := [part for part in ("name", "depth", "options") if part not in said]:
        raise PluginError(f"{whose} lacks {', '.join(lacking)}.", see)
    name, depth = said["name"], said["depth"]
    report = "Report it to the plugin's authors; until it is mended, leave the metric out of --metrics."
    if not is_metric_name(name):
        raise PluginError(
            f"{whose} says that its name is {name!r:.200}.",
            f"A metric's name is plain text without '/' and '\\', such as map@5. {report}",
        )
    if type(depth) is not int or depth < 0:
        raise PluginError(
            f"{whose} says that its depth is {depth!r:.200}.",
            f"It is how many neighbours it looks at, a whole number of 0 or more. {report}",
        )


def is_metric_name(name: object) -> bool:
    """Whether something can be a metric's name, which becomes part of files and tables."""
    return isinstance(name, str) and bool(name.strip(". ")) and name.isprintable() and not {*name} & {*"/\\"}
