"""What metrics on neighbours give by chance: where the gallery's slices come in a random order."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np

from cbirbench.errors import MissingError, PluginError
from cbirbench.extraction import guarded
from cbirbench.interfaces import ByChance, Metric
from cbirbench.query_sets import QuerySet
from cbirbench.scoring import checked_values


def chance_levels(metrics: Sequence[Metric], one: QuerySet) -> dict[str, float]:
    """The mean of each metric that knows its level of chance, by the metric's name.

    With as many slices of one label as of the other, MAP and accuracy are at one half; with other mixes they
    are not, and a score means little without this level beside it. Undefined values are left out.

    Args:
        metrics: The run's.
        one: Queries and gallery; a query draws from the slices it may retrieve.

    Raises:
        PluginError: A metric failed, or gives something else than a value a query.
    """
    levels = {}
    query_labels, gallery_labels = one.queries.labels, one.gallery.labels
    for metric in metrics:
        if not isinstance(metric, ByChance):
            continue
        values = np.full(len(query_labels), np.nan)
        for queries, gallery in one.parts:
            call = partial(metric.by_chance, query_labels[queries], gallery_labels[gallery])
            found = guarded(f"{metric.name}.by_chance", call, out_of_memory=_OUT_OF_MEMORY)
            values[queries] = checked_values(metric, found, len(queries))
        if ((values < 0) | (values > 1)).any():
            raise PluginError(
                f"By chance, the metric {metric.name!r} says, it gives {np.nanmin(values):g} to "
                f"{np.nanmax(values):g}.",
                "A level of chance is a fraction of 1. Report it to the plugin's authors.",
            )
        if not np.isnan(values).all():
            levels[metric.name] = float(np.nanmean(values))
    return levels


_OUT_OF_MEMORY = MissingError("The memory ran out.", "Free memory, or ask for fewer metrics.")
