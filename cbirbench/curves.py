"""Scores over the epochs of a training (figures 6 and 7). They are looked at, and pick no checkpoint.

What was seen after an epoch is in the cache at once, so that a training that goes on need not look again.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from cbirbench import keys
from cbirbench.extraction import embed_slices
from cbirbench.interfaces import Metric, Progress
from cbirbench.plan import Contender, Plan
from cbirbench.ranking import rank
from cbirbench.scoring import evidence, explanations, scored
from cbirbench.slices import Slices
from cbirbench.store import Store

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Curves:
    """Watches one training: see `cbirbench.interfaces.Watcher`.

    Args:
        plan: Which metrics, and after how many epochs each time.
        contender: What is trained.
        extractor: The extractor that is being trained.
        training_key: The key of its trained weights.
        gallery: The gallery's slices.
        queries: The queries.
        store: Where what was seen is kept.
        progress: Where to report.
    """

    def __init__(
        self,
        plan: Plan,
        contender: Contender,
        extractor: Any,
        training_key: str,
        gallery: Slices,
        queries: Slices,
        store: Store,
        progress: Progress,
    ) -> None:
        self._plan, self._contender, self._extractor = plan, contender, extractor
        self._gallery, self._queries, self._store, self._progress = gallery, queries, store, progress
        self._last: int = extractor.epochs
        self._keys = {
            (epoch, metric.name): keys.curve(plan, training_key, epoch, metric, plugin, gallery, queries)
            for metric, plugin in zip(plan.metrics, plan.metric_plugins, strict=True)
            for epoch in _epochs(plan, metric, self._last)
        }
        self._seen: dict[tuple[int, str], NDArray[np.float64]] = {}
        for place, key in self._keys.items():
            entry = store.read("scores", key)
            if entry is not None:
                self._seen[place] = entry[0]["values"]

    @property
    def ahead(self) -> list[tuple[int, bool]]:
        """The epochs still to be looked at, and whether each needs explanations."""
        missing = [place for place in self._keys if place not in self._seen]
        explained = {metric.name for metric in self._plan.metrics if metric.needs == "explanations"}
        return [
            (epoch, any(name in explained for at, name in missing if at == epoch))
            for epoch in sorted({at for at, _ in missing})
        ]

    def wants(self, epoch: int) -> bool:
        """Whether that epoch is on a curve and was not seen yet."""
        return any(at == epoch and (at, name) not in self._seen for at, name in self._keys)

    def look(self, epoch: int) -> None:
        """Embed, rank, and score every metric that is due; explain where one of them needs it."""
        plan, contender = self._plan, self._contender
        due = [m for m in plan.metrics if (epoch, m.name) in self._keys and (epoch, m.name) not in self._seen]
        vectors = [
            embed_slices(
                self._extractor,
                slices,
                batch_size=plan.run_options.batch_size,
                device=plan.device,
                name=contender.name,
                advance=lambda done: None,
            )
            for slices in (self._gallery, self._queries)
        ]
        ranking = rank(
            vectors[1],
            vectors[0],
            self._gallery.ids,
            plan.depth(len(self._gallery)),
            plan.run_options.distance,
        )
        maps: dict[str, NDArray[np.float32]] = {}
        if any(metric.needs == "explanations" for metric in due):
            shown = [item for item in self._queries if keys.explainable(item)]
            title = f"{contender.name}, epoch {epoch}: explaining"
            with self._progress.stage(title, len(shown) * plan.relax.masks) as advance:
                made = explanations(
                    contender, self._extractor, shown, plan.relax, advance=advance, progress=self._progress
                )
                maps = {item.slice_id: found.importance for item, found in made}
        found = evidence(self._gallery, self._queries, vectors, ranking, maps)
        for metric in due:
            values = scored(metric, found)
            self._store.write("scores", self._keys[epoch, metric.name], {"values": values})
            self._seen[epoch, metric.name] = values

    def rows(self, final: Mapping[str, NDArray[np.float64]]) -> list[dict[str, Any]]:
        """The curves: epoch, metric, mean over the queries it is defined for, and how many those are.

        Args:
            final: The run's own scores: the last point of every curve.
        """
        if not self._keys:
            return []
        watched = {name for _, name in self._keys}
        last = {(self._last, name): values for name, values in final.items() if name in watched}
        points = {**self._seen, **last}
        order = [metric.name for metric in self._plan.metrics]
        rows = []
        for epoch, name in sorted(points, key=lambda place: (place[0], order.index(place[1]))):
            defined = points[epoch, name][np.isfinite(points[epoch, name])]
            value = float(defined.mean()) if len(defined) else float("nan")
            rows.append({"epoch": epoch, "metric": name, "value": value, "defined": len(defined)})
        return rows


def _epochs(plan: Plan, metric: Metric, last: int) -> range:
    """The epochs after which a metric is computed, 0 being the start; the last is the run's own result."""
    explained = metric.needs == "explanations"
    stride = plan.run_options.explain_every if explained else plan.run_options.eval_every
    return range(0, last, stride) if stride else range(0)
