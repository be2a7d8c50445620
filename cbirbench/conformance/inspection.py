"""All checks of one plugin, looked up by name: what `cbirbench plugins check` runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cbirbench import registry
from cbirbench.conformance import augmentations, benchmarks, extractors, metrics
from cbirbench.conformance.benchmark_reading import ABSENT
from cbirbench.conformance.subjects import Subject, small_settings, subject_of
from cbirbench.conformance.verdicts import Check, Verdict, judged, told
from cbirbench.errors import CbirbenchError, UsageError
from cbirbench.interfaces import Progress
from cbirbench.planning import leftovers
from cbirbench.registry import Kind, Plugin
from cbirbench.settings import parse_assignments

CHECKS: dict[Kind, tuple[Check, ...]] = {
    "extractor": extractors.CHECKS,
    "augmentation": augmentations.CHECKS,
    "metric": metrics.CHECKS,
    "benchmark": benchmarks.CHECKS,
}

HAND_CASES = Verdict(
    "hand-cases",
    "skipped",
    "That is for its tests: cbirbench.testing.MetricConformance asks for cases worked out by hand.",
)


@dataclass(frozen=True)
class Inspection:
    """One plugin's verdicts.

    Attributes:
        plugin: What was checked.
        verdicts: One a check, in order; the first alone where it cannot be loaded.
        notes: What else is to be said, of options without effect for instance.
        closing: What the verdicts leave open, as the last line; empty where nothing.
    """

    plugin: Plugin
    verdicts: Sequence[Verdict]
    notes: Sequence[str] = ()
    closing: str = ""

    @property
    def passed(self) -> bool:
        """Whether no check failed."""
        return not any(verdict.outcome == "failed" for verdict in self.verdicts)


def inspect(
    plugin: Plugin,
    texts: Sequence[str],
    progress: Progress,
    *,
    data: Path | None = None,
    scans: int = 2,
) -> Inspection:
    """Run all checks of a plugin's kind.

    Args:
        plugin: What to check.
        texts: ``NAME.OPTION=VALUE``, as after ``--set``.
        progress: Where to report.
        data: Where its scans are, for a benchmark that reads scans.
        scans: How many scans of each side of a benchmark are read.

    Raises:
        UsageError: An option or a value does not fit.
    """
    subject = _subject(plugin, texts, data, scans)
    if isinstance(subject, Verdict):
        return Inspection(plugin, [subject])
    verdicts = []
    checks = CHECKS[plugin.kind]
    with progress.stage(f"Checking {plugin.name}", len(checks)) as advance:
        for check in checks:
            verdicts.append(judged(check, subject))
            advance(1)
    if plugin.kind == "metric":
        verdicts.append(HAND_CASES)
    absent = any(one.outcome == "skipped" and one.found.startswith(ABSENT) for one in verdicts)
    closing = "Its scans are not here: only what it declares was checked." if absent else ""
    return Inspection(plugin, verdicts, leftovers(subject.settings, subject.assignments), closing)


def _subject(plugin: Plugin, texts: Sequence[str], data: Path | None, scans: int) -> Subject | Verdict:
    """The plugin with its options, or why it has none; a mistake of the user's is raised."""
    try:
        registry.find(plugin.kind, plugin.name)
    except CbirbenchError as error:
        return told("entry-point", error)
    try:
        loaded = registry.load(plugin)
    except CbirbenchError as error:
        return told("interface", error)
    try:
        return subject_of(plugin.kind, plugin.name, texts, data=data, scans=scans)
    except UsageError as error:
        parse_assignments(texts)
        try:
            small_settings(()).resolve(loaded.options_type, plugin.names)
        except CbirbenchError as own:
            return told("options", own)
        raise error
    except CbirbenchError as error:
        return told("options", error)
