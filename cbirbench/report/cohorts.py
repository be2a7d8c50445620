"""A run's summary and tables as they are of one cohort: the benchmark's own queries, or an external one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd


def cohorts_of(summary: Mapping[str, Any]) -> list[str]:
    """Names of a run's cohorts: empty for the benchmark's own queries, which come first."""
    return ["", *(str(entry["name"]) for entry in summary.get("cohorts") or ())]


def of_cohort(summary: Mapping[str, Any], cohort: str) -> dict[str, Any]:
    """A run's summary as if its queries were a cohort's alone.

    Args:
        summary: The content of ``summary.json``.
        cohort: The external cohort's name; empty for the benchmark's own queries.
    """
    rest = {name: value for name, value in summary.items() if name != "cohorts"}
    if not cohort:
        return rest
    entry = next(entry for entry in summary["cohorts"] if entry["name"] == cohort)
    benchmark = {
        **entry,
        "gallery_slices": summary["benchmark"].get("gallery_slices"),
        "gallery_volumes": summary["benchmark"].get("gallery_volumes"),
    }
    alone = entry["gallery"] == "self"
    benchmark["name"] = f"{cohort} in {'itself' if alone else summary['benchmark']['name']}"
    benchmark["own_gallery"] = alone
    for name in ("explanations", "figures", "gallery"):
        benchmark.pop(name, None)
    return {
        **rest,
        "benchmark": benchmark,
        "explanations": entry.get("explanations"),
        "figures": entry.get("figures", []),
    }


def scores_of(table: pd.DataFrame, summary: Mapping[str, Any], cohort: str) -> pd.DataFrame:
    """The rows of one cohort, of a table that may be older than that column.

    Args:
        table: With a column ``cohort`` where external cohorts may have been queried.
        summary: The content of ``summary.json``.
        cohort: The external cohort's name; empty for the benchmark's own queries.
    """
    if "cohort" not in table:
        return table if not cohort else table.iloc[:0]
    return table[table["cohort"] == (cohort or summary["benchmark"]["name"])]
