"""What looking up a scan of the user's own takes, whatever it is looked up in, and how the answer is told."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from cbirbench import __version__
from cbirbench.cases.query_explaining import relax_options
from cbirbench.cases.reopening import ReopenedExtractor, open_run
from cbirbench.cases.studies import Study
from cbirbench.errors import UsageError
from cbirbench.explain.native import to_native
from cbirbench.explain.relax import Explanation, RelaxOptions
from cbirbench.figures.explained_retrieval import ShownSlice
from cbirbench.planning import choose_device
from cbirbench.retrieval_figures import Captioned, how_made, map_note
from cbirbench.slices import CTSlice


@dataclass(frozen=True)
class Asked:
    """With what a scan is looked up, and what is shown.

    Attributes:
        folder: The folder of a finished run.
        extractor: Its name or alias; empty for the run's first.
        run: Which training run of it.
        device: ``auto``, ``cpu`` or ``cuda``.
        top: How many retrieved slices to show; None for 5, or fewer where there are fewer.
        explain: Whether to explain the query and what is retrieved, by RELAX.
        until_reliable: See `cbirbench.explain.relax.RelaxOptions`; None for the run's.
        uncertainty: Whether to draw the maps' uncertainty.
        assignments: ``relax.OPTION=VALUE`` texts that outrank the run's options.
    """

    folder: Path
    extractor: str = ""
    run: int = 0
    device: Literal["auto", "cpu", "cuda"] = "auto"
    top: int | None = None
    explain: bool = False
    until_reliable: float | None = None
    uncertainty: bool = False
    assignments: tuple[str, ...] = ()

    def shown(self, count: int, of: str) -> int:
        """How many slices to show of `count`; `of` says what they are.

        Raises:
            UsageError: There are not so many.
        """
        if self.top is None:
            return min(5, count)
        if not 1 <= self.top <= count:
            raise UsageError(
                f"--top {self.top} slices cannot be shown: {of} has {count}.",
                f"Give a number from 1 to {count}.",
            )
        return self.top


@dataclass(frozen=True)
class Answer:
    """What a command found.

    Attributes:
        document: For programs: what JSON can hold.
        lines: For people.
        notes: What is doubtful about the scans or the answer.
    """

    document: Mapping[str, Any]
    lines: Sequence[str]
    notes: Sequence[str] = field(default_factory=list)


def reopened_for(asked: Asked) -> tuple[ReopenedExtractor, RelaxOptions | None]:
    """The extractor that was asked for, checked, and how to explain if that was asked for.

    Raises:
        UsageError: The run has no such extractor or training run, or an option does not fit.
        DataError: The run kept no pixels, a file is damaged, or the extractor no longer embeds as it did.
        MissingError: A plugin, weights or a device is not here.
    """
    if not asked.explain and (asked.assignments or asked.uncertainty or asked.until_reliable is not None):
        raise UsageError(
            "--set, --until-reliable and --uncertainty are about maps, and none were asked for.",
            "Add --explain, or leave them out.",
        )
    device = choose_device(asked.device)
    run = open_run(asked.folder)
    relax = None
    if asked.explain:
        relax = relax_options(run.summary, asked.assignments, asked.until_reliable, device)
    return run.reopened(asked.extractor, asked.run, device), relax


def heading(command: str, reopened: ReopenedExtractor, relax: RelaxOptions | None) -> dict[str, Any]:
    """What every JSON answer begins with: by what it was found."""
    summary = reopened.run.summary
    return {
        "command": command,
        "cbirbench": __version__,
        "run_folder": reopened.run.folder,
        "benchmark": summary["benchmark"]["name"],
        "extractor": reopened.contender.name,
        "run": reopened.number,
        "distance": summary["distance"],
        "relax": relax,
    }


def study_facts(study: Study) -> dict[str, Any]:
    """What a JSON answer says of a scan."""
    grid = study.volume.grid
    return {
        "name": study.name,
        "slices": study.slice_count,
        "slice_spacing_mm": study.spacing_mm,
        "pixel_spacing_mm": grid.spacing_mm,
        "orientation": grid.codes,
    }


def map_facts(explanation: Explanation | None) -> dict[str, Any] | None:
    """What a JSON answer says of a map; None where there is none."""
    if explanation is None:
        return None
    return {
        "reliability": explanation.reliability,
        "masks": explanation.masks,
        "problem": explanation.problem or None,
    }


def by_whom(reopened: ReopenedExtractor) -> str:
    """The extractor, and which training run of it where it was trained."""
    name = reopened.contender.name
    return f"{name}, run {reopened.number}" if reopened.contender.trained else name


def four_digits(distance: float) -> str:
    """A distance as tables and figures give it."""
    return f"{distance:#.4g}".rstrip(".")


def columns(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows as lines with columns below each other: numbers to the right, all else to the left."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lefts = [
        any(text[:1].isalpha() or " " in text for text in column[1:]) for column in zip(*rows, strict=True)
    ]
    return [
        "  "
        + "  ".join(
            text.ljust(width) if left else text.rjust(width)
            for text, width, left in zip(row, widths, lefts, strict=True)
        ).rstrip()
        for row in rows
    ]


def shown_slice(
    item: CTSlice,
    title: str,
    label: str,
    distance: float | None,
    explanation: Explanation | None,
    uncertainty: bool,
) -> ShownSlice:
    """A slice as `cbirbench.figures.explained_retrieval` draws it; nothing is known of right or wrong."""
    shape = item.hu.shape
    return ShownSlice(
        hu=item.hu,
        outline=item.target,
        importance=None if explanation is None else to_native(explanation.importance, shape),
        title=title,
        label=label,
        distance=distance,
        right=None,
        note="" if explanation is None else map_note(explanation),
        uncertainty=to_native(explanation.uncertainty, shape) if explanation and uncertainty else None,
    )


def captioned(reopened: ReopenedExtractor) -> Captioned:
    """What figures say of the run."""
    benchmark: Mapping[str, Any] = reopened.run.summary["benchmark"]
    name, synthetic = str(benchmark["name"]), bool(benchmark["synthetic"])
    return Captioned(name, synthetic, reopened.contender.name, reopened.run.structures)


def map_caption(relax: RelaxOptions | None) -> str:
    """How the maps of a figure were made; nothing where there are none."""
    if relax is None:
        return ""
    return (
        f"Importance by RELAX ({how_made(relax)}): how similar the masked images that show a pixel embed to "
        "the whole slice. Reliability: the agreement to be expected with a map from other masks."
    )
