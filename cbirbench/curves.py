"""Scores over the epochs of a training (figures 6 and 7). They are looked at, and pick no checkpoint.

What was seen after an epoch is in the cache at once, so that a training that goes on need not look again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from cbirbench import keys
from cbirbench.extraction import embed_slices
from cbirbench.interfaces import Metric, Progress
from cbirbench.plan import Contender, Plan
from cbirbench.query_sets import QuerySet
from cbirbench.scoring import evidence, explanations, ranked, scored
from cbirbench.slices import Slices
from cbirbench.store import Store

if TYPE_CHECKING:
    from numpy.typing import NDArray


_Point = tuple[int, str, str]
"""Epoch, cohort and metric."""


class Curves:
    """Watches one training: see `cbirbench.interfaces.Watcher`.

    Args:
        plan: Which metrics, and after how many epochs each time.
        contender: What is trained.
        extractor: The extractor that is being trained.
        training_key: The key of its trained weights.
        sets: The benchmark's own queries, then those of external cohorts.
        store: Where what was seen is kept.
        progress: Where to report.
    """

    def __init__(
        self,
        plan: Plan,
        contender: Contender,
        extractor: Any,
        training_key: str,
        sets: Sequence[QuerySet],
        store: Store,
        progress: Progress,
    ) -> None:
        self._plan, self._contender, self._extractor = plan, contender, extractor
        self._sets, self._store, self._progress = sets, store, progress
        self._last: int = extractor.epochs
        self._keys = {
            (epoch, one.cohort, metric.name): keys.curve(plan, training_key, epoch, metric, plugin, one)
            for one in sets
            for metric, plugin in zip(plan.metrics, plan.metric_plugins, strict=True)
            for epoch in _epochs(plan, metric, self._last)
        }
        self._seen: dict[_Point, NDArray[np.float64]] = {}
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
            (epoch, any(name in explained for at, _, name in missing if at == epoch))
            for epoch in sorted({at for at, _, _ in missing})
        ]

    def wants(self, epoch: int) -> bool:
        """Whether that epoch is on a curve and was not seen yet."""
        return any(place[0] == epoch and place not in self._seen for place in self._keys)

    def look(self, epoch: int) -> None:
        """Embed, rank, and score every metric that is due; explain where one of them needs it."""
        gallery: NDArray[np.float32] | None = None
        for one in self._sets:
            places = {m.name: (epoch, one.cohort, m.name) for m in self._plan.metrics}
            due = [
                metric
                for metric in self._plan.metrics
                if places[metric.name] in self._keys and places[metric.name] not in self._seen
            ]
            if not due:
                continue
            queries = self._embedded(one.queries)
            if one.among_themselves:
                vectors = [queries, queries]
            else:
                gallery = self._embedded(one.gallery) if gallery is None else gallery
                vectors = [gallery, queries]
            maps: dict[str, NDArray[np.float32]] = {}
            if any(metric.needs == "explanations" for metric in due) and one.explainable:
                maps = self._maps(epoch, one)
            ranking = ranked(self._plan, one, vectors)
            found = evidence(one.gallery, one.queries, vectors, ranking, maps)
            for metric in due:
                values = scored(metric, found)
                place = places[metric.name]
                self._store.write("scores", self._keys[place], {"values": values})
                self._seen[place] = values

    def _embedded(self, slices: Slices) -> NDArray[np.float32]:
        return embed_slices(
            self._extractor,
            slices,
            batch_size=self._plan.run_options.batch_size,
            device=self._plan.device,
            name=self._contender.name,
            advance=lambda done: None,
        )

    def _maps(self, epoch: int, one: QuerySet) -> dict[str, NDArray[np.float32]]:
        contender, relax = self._contender, self._plan.relax
        title = f"{contender.name}, epoch {epoch}: explaining" + (f" {one.cohort}" if one.external else "")
        with self._progress.stage(title, len(one.explainable) * relax.masks) as advance:
            made = explanations(
                contender, self._extractor, one.explainable, relax, advance=advance, progress=self._progress
            )
            return {item.slice_id: found.importance for item, found in made}

    def rows(self, final: Mapping[str, Mapping[str, NDArray[np.float64]]]) -> list[dict[str, Any]]:
        """The curves: cohort, epoch, metric, mean over the queries it is defined for, how many those are.

        Args:
            final: The run's own scores by cohort and metric: the last point of every curve.
        """
        if not self._keys:
            return []
        watched = {name for _, _, name in self._keys}
        last = {
            (self._last, cohort, name): values
            for cohort, scores in final.items()
            for name, values in scores.items()
            if name in watched
        }
        points = {**self._seen, **last}
        cohorts = [one.cohort for one in self._sets]
        metrics = [metric.name for metric in self._plan.metrics]
        rows = []
        for epoch, cohort, name in sorted(
            points, key=lambda place: (cohorts.index(place[1]), place[0], metrics.index(place[2]))
        ):
            values = points[epoch, cohort, name]
            defined = values[np.isfinite(values)]
            value = float(defined.mean()) if len(defined) else float("nan")
            rows.append(
                {"cohort": cohort, "epoch": epoch, "metric": name, "value": value, "defined": len(defined)}
            )
        return rows


def _epochs(plan: Plan, metric: Metric, last: int) -> range:
    """The epochs after which a metric is computed, 0 being the start; the last is the run's own result."""
    explained = metric.needs == "explanations"
    stride = plan.run_options.explain_every if explained else plan.run_options.eval_every
    return range(0, last, stride) if stride else range(0)
