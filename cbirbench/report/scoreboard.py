"""Per-query scores become the table that a reader sees: means over runs, deviations, marks and footnotes.

The terminal, ``report.md`` and ``--json`` all show this one table, so they cannot disagree.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from cbirbench.errors import DataError
from cbirbench.permutation import PERMUTATIONS
from cbirbench.plain_text import printable
from cbirbench.report.explanations import RELEVANCE_RANK, Explained, Explanations, explanations
from cbirbench.statistics import Comparison, check_scores, compare, query_table

if TYPE_CHECKING:
    import pandas as pd

BEST, BEATEN, UNREACHABLE, DASH = "•", "†", "‡", "–"
"""Marks of the table. All four are in cp1252, which old Windows consoles print."""

ROUNDING = 1e-12
"""Means that differ by no more are equal."""


@dataclass(frozen=True)
class Score:
    """One extractor on one metric; fractions of 1.

    Attributes:
        mean: Mean over runs of each run's mean over its defined queries; NaN where nothing is defined.
        sd: Sample standard deviation (n - 1) over run means; NaN for a single run.
        runs: Runs with a defined value.
        undefined: Values that are undefined though the query has one for some extractor or run.
        expected: Values that there would be if none were undefined: queries in scope times runs.
        best: Whether no extractor's mean is higher; never set where there is no other to compare with.
    """

    mean: float
    sd: float
    runs: int
    undefined: int
    expected: int
    best: bool = False


@dataclass(frozen=True)
class Row:
    """One extractor of the table.

    Attributes:
        extractor: Its canonical name.
        aliases: Its other names.
        trained: Whether it trains.
        runs: How many runs it had.
        scores: By metric.
        floor: Whether it is one that others are to rise above.
        plugin: The extractor that it is a variant of; empty where it is none.
    """

    extractor: str
    aliases: tuple[str, ...]
    trained: bool
    runs: int
    scores: Mapping[str, Score]
    floor: bool = False
    plugin: str = ""

    @property
    def name(self) -> str:
        """The name and what else it is called, ``simsiam-hu-clip (ours)``, safe to print on one line.

        A variant's name has the extractor beside it, ``small (imagenet)``.
        """
        beside = ", ".join(self.aliases) or self.plugin
        return plain(f"{self.extractor} ({beside})" if beside else self.extractor)

    @property
    def title(self) -> str:
        """What stands in a table: the name, and for a floor that it is one."""
        return f"floor: {self.name}" if self.floor else self.name


@dataclass(frozen=True)
class Scope:
    """On how many queries a metric rests: those defined for some extractor and run, of all there are."""

    defined: int
    queries: int


@dataclass(frozen=True)
class Scoreboard:
    """Everything that the tables show.

    Attributes:
        benchmark: Its name.
        profile_title: The profile and what was changed, ``paper (changed: epochs)``.
        synthetic: Whether the scans were made by a program.
        metrics: Metric names in order.
        rows: Extractors in the user's order.
        scopes: For each metric, the queries it rests on.
        patients: Patients among the queries.
        comparisons: Every pair on every metric: the family of Holm's correction.
        permutations: Most rearrangements that a test went through or drew.
        departures: One line for each value that departs from the profile.
        explanations: What the run's explanations rest on; None where it has none.
        masked: How many queries have a mask; None where that is not known.
        chance: For each metric that knows it, what it gives where neighbours are drawn at random.
        floors_known: Whether it is recorded which extractors are floors; not so in older runs.
        commonest: How many queries have the label that most have; 0 where that is not known.
    """

    benchmark: str
    profile_title: str
    synthetic: bool
    metrics: tuple[str, ...]
    rows: tuple[Row, ...]
    scopes: Mapping[str, Scope]
    patients: int
    comparisons: tuple[Comparison, ...]
    permutations: int
    departures: tuple[str, ...]
    explanations: Explanations | None = None
    masked: int | None = None
    chance: Mapping[str, float] = field(default_factory=dict)
    floors_known: bool = True
    commonest: int = 0

    @property
    def family(self) -> int:
        """How many tests Holm's correction spans: comparisons that could be made."""
        return sum(not item.result.note for item in self.comparisons)

    @property
    def title(self) -> str:
        """``phantom — profile paper (changed: epochs)``, safe to print on one line."""
        return plain(f"{self.benchmark} — profile {self.profile_title}")

    @property
    def controls(self) -> dict[str, dict[str, float]]:
        """Mean of each control on the metrics on explanations of this table; none without such a metric."""
        scored = self.explanations.controls if self.explanations else {}
        found = {name: {m: means[m] for m in self.metrics if m in means} for name, means in scored.items()}
        return {name: means for name, means in found.items() if means}

    @property
    def on_maps(self) -> frozenset[str]:
        """The metrics that are computed from importance maps."""
        return frozenset(self.explanations.metrics if self.explanations else {RELEVANCE_RANK})

    def explained(self, row: Row) -> Explained | None:
        """What is known of an extractor's maps; None where it has none."""
        return self.explanations.extractors.get(row.extractor) if self.explanations else None

    def has_chance(self, metric: str) -> bool:
        """Whether a metric's chance level and its maps' reliability stand beside it."""
        return self.explanations is not None and metric == RELEVANCE_RANK

    def times_chance(self, mean: float, extractor: str = "") -> float:
        """A mean relevance rank as a multiple of its chance level; NaN where undefined.

        Args:
            mean: Of an extractor, or of a control.
            extractor: Whose, as chance is that of its own queries; empty for a control.
        """
        chance = self.explanations.chance_of(extractor) if self.explanations else math.nan
        return mean / chance if chance > 0 else math.nan

    def over_chance(self, mean: float, extractor: str = "") -> str:
        """`times_chance` as it stands in tables: ``2.1×``; a dash where undefined."""
        ratio = self.times_chance(mean, extractor)
        return DASH if math.isnan(ratio) else f"{ratio:.1f}×"

    def reliability(self, row: Row) -> str:
        """The mean reliability of an extractor's maps, to two digits; a dash where undefined."""
        found = self.explained(row)
        return correlation(found.reliability if found else math.nan)

    def against_first(self, extractor: str, metric: str) -> Comparison | None:
        """The first-named extractor's comparison with this one; None for the first-named itself."""
        first = self.rows[0].extractor
        for item in self.comparisons:
            if (item.metric, item.a, item.b) == (metric, first, extractor):
                return item
        return None

    def marks(self, row: Row, metric: str) -> str:
        """The marks behind one score; `footnotes` says what they mean."""
        comparison = self.against_first(row.extractor, metric)
        marks = BEST if row.scores[metric].best else ""
        if comparison is not None and comparison.significant:
            marks += BEATEN
        elif comparison is not None and not comparison.result.note and not comparison.reachable:
            marks += UNREACHABLE
        return marks


def scoreboard(
    summary: Mapping[str, Any], scores: pd.DataFrame, *, permutations: int = PERMUTATIONS, seed: int = 0
) -> Scoreboard:
    """Make the table of a run.

    Args:
        summary: The content of ``summary.json``.
        scores: The content of ``scores.parquet``.
        permutations: See `cbirbench.statistics.compare`.
        seed: Likewise.

    Raises:
        DataError: The scores are malformed, or name an extractor or metric that the summary does not.
    """
    check_scores(scores)
    names = [str(item["name"]) for item in summary["extractors"]]
    metrics = [str(name) for name in summary["metrics"]]
    for column, known in (("extractor", names), ("metric", metrics)):
        unknown = sorted(set(scores[column]) - set(known))
        if unknown:
            raise DataError(
                f"The scores name the {column} {', '.join(unknown)}, which the summary does not.",
                "Take scores.parquet and summary.json from one run's folder.",
            )
    tables = {(name, metric): query_table(scores, name, metric) for name in names for metric in metrics}
    in_scope = {
        metric: sorted({q for name in names for q in tables[name, metric].dropna(how="all").index})
        for metric in metrics
    }
    every_query = {metric: scores.loc[scores["metric"] == metric, "query_id"].nunique() for metric in metrics}
    best = {metric: _highest({name: tables[name, metric] for name in names}) for metric in metrics}
    rows = []
    for item in summary["extractors"]:
        name = str(item["name"])
        runs = int(scores.loc[scores["extractor"] == name, "run"].nunique())
        found = {
            metric: _score(
                tables[name, metric], expected=runs * len(in_scope[metric]), best=name in best[metric]
            )
            for metric in metrics
        }
        aliases = tuple(str(alias) for alias in item.get("aliases", ()))
        trained, floor = (bool(item.get(fact, False)) for fact in ("trained", "floor"))
        plugin = str(item.get("plugin") or name)
        rows.append(Row(name, aliases, trained, runs, found, floor, "" if plugin == name else plugin))
    return Scoreboard(
        benchmark=str(summary["benchmark"]["name"]),
        profile_title=str(summary["profile_title"]),
        synthetic=bool(summary["benchmark"]["synthetic"]),
        metrics=tuple(metrics),
        rows=tuple(rows),
        scopes={metric: Scope(len(in_scope[metric]), int(every_query[metric])) for metric in metrics},
        patients=int(scores["patient_id"].nunique()),
        comparisons=tuple(compare(scores, names, metrics, permutations=permutations, seed=seed)),
        permutations=permutations,
        departures=tuple(departure_line(item) for item in summary.get("departures", ())),
        explanations=explanations(summary),
        masked=summary["benchmark"].get("masked_queries"),
        chance=summary["benchmark"].get("chance") or {},
        floors_known=all("floor" in item for item in summary["extractors"]),
        commonest=max((summary["benchmark"].get("query_labels") or {}).values(), default=0),
    )


def heading(metric: str) -> str:
    """A metric's name over a column: the paper's MAP, ACC and RR, short names of ours, any other as it is."""
    family, _, depth = plain(metric).partition("@")
    if family == "map" and depth:
        return f"MAP@{depth}"
    if family == "knn-accuracy" and depth:
        return f"ACC ({depth}-NN)"
    if family == "top-k-intersection" and depth:
        return f"top-{depth}"
    short = {"relevance-rank": "RR", "pointing-game": "pointing", "attribution-localisation": "attr. loc."}
    return short.get(metric, plain(metric))


def percent(score: Score) -> str:
    """``88.7 ± 0.8``, in percent; a dash for the deviation of a single run, or where nothing is defined."""
    return percent_of(score.mean, score.sd)


def percent_of(mean: float, sd: float) -> str:
    """The same of a mean and its deviation."""
    if math.isnan(mean):
        return DASH
    deviation = DASH if math.isnan(sd) else f"{100 * sd:.1f}"
    return f"{100 * mean:.1f} ± {deviation}"


def in_percent(fraction: float) -> str:
    """``50.0 %``."""
    return f"{100 * fraction:.1f} %"


def correlation(value: float) -> str:
    """``0.93``; a dash where undefined."""
    return DASH if math.isnan(value) else f"{value + 0.0:.2f}"


def plain(text: object) -> str:
    """One printable line of text: line breaks become spaces, control characters question marks."""
    return printable(" ".join(str(text).split()))


def value_text(value: object) -> str:
    """An option's value on one line, as JSON; text without its quotes."""
    if isinstance(value, str):
        return plain(value)
    return plain(json.dumps(value, sort_keys=True, default=str, ensure_ascii=False))


def not_above(value: float, level: float) -> bool:
    """Whether a mean is no higher than a level; equal values added in another order differ by rounding."""
    return value <= level + ROUNDING


def _highest(tables: Mapping[str, pd.DataFrame]) -> set[str]:
    """The extractors with the highest mean, all of them where they tie; none where there is only one."""
    means = {name: float(table.mean(axis=0).mean()) for name, table in tables.items()}
    defined = [mean for mean in means.values() if not math.isnan(mean)]
    if len(defined) < 2:
        return set()
    return {name for name, mean in means.items() if not_above(max(defined), mean)}


def _score(table: pd.DataFrame, *, expected: int, best: bool) -> Score:
    """Sum up one extractor's values of one metric: a row a query, a column a run."""
    run_means = table.mean(axis=0).dropna().to_numpy(dtype=np.float64)
    mean = float(run_means.mean()) if len(run_means) else math.nan
    sd = float(run_means.std(ddof=1)) if len(run_means) > 1 else math.nan
    undefined = expected - int(table.count().sum())
    return Score(mean, sd, len(run_means), undefined, expected, best)


def departure_line(item: Mapping[str, Any]) -> str:
    """A departure from the profile: ``simsiam-hu-clip.epochs 5, not 250 (by the benchmark)``."""
    name, value, usual = f"{item['plugin']}.{item['option']}", item["value"], item["profile_value"]
    return plain(f"{name} {value_text(value)}, not {value_text(usual)} (by the {item['set_by']})")
