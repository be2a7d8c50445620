"""The section of ``report.md`` on the data: what was read, what is doubtful about it, and what may leak."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cbirbench.leakage import leakage_warnings
from cbirbench.report.markup import inline, pairs

MOST_WARNINGS = 20
"""Warnings that are listed of one cohort; the summary has all."""


def data_section(summary: Mapping[str, Any]) -> list[str]:
    """The section's lines, its title left out."""
    own = summary["benchmark"]
    lines = _facts(own)
    for entry in summary.get("cohorts") or ():
        lines += ["", f"### Cohort {inline(entry['name'])}", "", *_facts(entry)]
    return lines


def _leakage(found: Mapping[str, Any]) -> list[str]:
    """What the queries share with the gallery, or where it was looked for."""
    texts = leakage_warnings(found)
    looked = [
        "the images",
        *(
            f"{name}'s embeddings"
            for name, by in found["by_embedding"].items()
            if by["judged"] and not by["queries"]
        ),
    ]
    if not found["by_hash"]["queries"]:
        texts.append(
            f"No copy of a query slice was found in the gallery under another patient by {', '.join(looked)}."
        )
    return ["", "Leakage:", "", *(f"- {inline(text)}" for text in texts)]


def _facts(data: Mapping[str, Any]) -> list[str]:
    """A table of what was read, then the warnings of its scans."""
    beside = ("warnings", "alarms", "leakage", "explanations", "figures", "scores", "queries", "significance")
    lines = pairs({key: value for key, value in data.items() if key not in beside})
    warnings = data.get("warnings") or ()
    if warnings:
        lines += ["", f"{len(warnings)} warnings of its scans:", ""]
        lines += [f"- {inline(text)}" for text in warnings[:MOST_WARNINGS]]
        if len(warnings) > MOST_WARNINGS:
            lines.append(f"- ... and {len(warnings) - MOST_WARNINGS} more, in summary.json.")
    if data.get("leakage"):
        lines += _leakage(data["leakage"])
    return lines
