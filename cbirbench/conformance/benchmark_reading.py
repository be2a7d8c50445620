"""A benchmark's scans and the slices of a few of them, listed and read once for all checks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from cbirbench.conformance.subjects import Subject
from cbirbench.conformance.verdicts import Beside, calling, demand
from cbirbench.errors import DataError, MissingError, UsageError
from cbirbench.interfaces import Source
from cbirbench.slices import Slices

ABSENT = "Its scans are not here:"
"""How a verdict begins where there are no scans to look at."""

ABSENCE = (DataError, MissingError, UsageError)
"""How a benchmark says so; the last where it was not told where they are."""


@dataclass(frozen=True)
class ReadScan:
    """A scan that was read."""

    source: Source
    slices: Slices


def sources_of(subject: Subject, *, tell: bool = False) -> list[Source]:
    """Its scans, asked for once.

    Args:
        subject: The benchmark.
        tell: Whether what it raises is raised again; other checks say nothing of it.

    Raises:
        Beside: They are not here, or, unless it is to be told, it failed.
    """
    benchmark = subject.one
    try:
        return subject.once("sources", lambda: list(calling(f"{subject.name}.sources", benchmark.sources)))
    except Exception as error:
        # Where the user said where they are, that nothing is there is no excuse.
        if isinstance(error, ABSENCE) and not getattr(subject.options, "data", None):
            reason, remedy = (error.problem, error.remedy) if tell else ("see sources.", "")
            raise Beside(f"{ABSENT} {reason}", remedy) from error
        if tell:
            raise
        raise Beside("Its scans cannot be listed: see sources.") from error


def scans_of(subject: Subject, *, tell: bool = False) -> list[ReadScan]:
    """The first scans of each side with their slices, read once."""
    every = sources_of(subject)
    chosen = [
        source
        for side in ("gallery", "query")
        for source in [one for one in every if one.split == side][: subject.scans]
    ]
    if not chosen:
        raise Beside("It has no scans.")
    try:
        return subject.once(
            "read", lambda: [ReadScan(one, slices_of(subject, subject.one, one)) for one in chosen]
        )
    except Exception as error:
        if tell:
            raise
        raise Beside("Its scans cannot be read: see read.") from error


def slices_of(subject: Subject, benchmark: Any, source: Source) -> Slices:
    """Read a scan, and hold that there are slices."""
    slices: Slices = calling(
        f"{subject.name}.read({source.volume_id})",
        lambda: benchmark.read(source),
    )
    demand(
        isinstance(slices, Slices) and len(slices) > 0,
        f"read gives {'no slices' if isinstance(slices, Slices) else type(slices).__name__} for "
        f"{source.volume_id}.",
        "Give cbirbench.slices.Slices with one slice at least, or raise a DataError that says why not.",
    )
    return slices
