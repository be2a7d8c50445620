"""`cbirbench paper`: from the folders of finished runs to the paper's tables and figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cbirbench import results
from cbirbench.atomic import write_text
from cbirbench.errors import DataError, UsageError
from cbirbench.figures.curves import draw_curves
from cbirbench.figures.windows import draw_clipping, draw_organ_histogram
from cbirbench.report.markup import inline
from cbirbench.report.paper_architecture import architecture_table
from cbirbench.report.paper_latex import tables_latex
from cbirbench.report.paper_markdown import tables_markdown
from cbirbench.report.paper_runs import FinishedRun, merge
from cbirbench.report.paper_tables import score_tables
from cbirbench.report.reported import OURS
from cbirbench.report.scoreboard import heading, plain
from cbirbench.slices import Slices
from cbirbench.store import slices_from_arrays
from cbirbench.windows import NARROW_WINDOW, WIDE_WINDOW

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Window = tuple[float, float]

MARKDOWN_FILE = "tables.md"
LATEX_FILE = "tables.tex"

_STATISTICS = ("running_mean", "running_var", "num_batches_tracked")
"""What a network's weights hold beside its parameters: batch norm's running statistics."""


@dataclass(frozen=True)
class Figure:
    """One figure of the paper: its file's name, or why there is none."""

    title: str
    file: str = ""
    left_out: str = ""


def write_paper(folders: Sequence[Path], out: Path) -> list[Path]:
    """Write tables 1 to 5 (Markdown and LaTeX) and figures 2, 3, 6 and 7 from finished runs.

    Args:
        folders: Folders of finished runs, of one data set; each extractor once under each profile.
        out: Folder to write to; made where it is not there.

    Returns:
        What was written, tables first.

    Raises:
        UsageError: A folder holds no finished run, or the runs do not go together.
        DataError: A run's file is missing or damaged.
        MissingError: A file cannot be written.
    """
    if out.exists() and not out.is_dir():
        raise UsageError(f"--out {out} is a file.", "Name a folder.")
    runs = [read_run(folder) for folder in folders]
    columns = merge(runs)
    tables = [architecture_table(columns), *score_tables(columns)]
    write_text(out / LATEX_FILE, tables_latex(tables))
    figures = [*draw_window_figures(folders, runs, out), *draw_curve_figures(folders, runs, out)]
    about = [
        f"{run.folder}: {run.summary['benchmark']['name']}, profile {run.summary['profile_title']}, "
        f"{', '.join(run.extractors)}; data {str(run.summary['benchmark']['data_fingerprint'])[:12]}"
        for run in runs
    ]
    write_text(out / MARKDOWN_FILE, tables_markdown(tables, about, [_figure_line(item) for item in figures]))
    return [out / MARKDOWN_FILE, out / LATEX_FILE, *(out / item.file for item in figures if item.file)]


def read_run(folder: Path) -> FinishedRun:
    """What the tables take from a run's folder.

    Raises:
        UsageError: It holds no finished run.
        DataError: A file is missing or damaged.
    """
    summary = results.read_summary(folder)
    scores = results.read_table(folder, "scores.parquet")
    parameters = {}
    for path in sorted((folder / "weights").glob("*/run-000.safetensors")):
        arrays, _ = results.read_run_arrays(folder, path.relative_to(folder).as_posix())
        parameters[path.parent.name] = sum(
            array.size for name, array in arrays.items() if name.rpartition(".")[2] not in _STATISTICS
        )
    return FinishedRun(str(folder), summary, scores, parameters)


def draw_window_figures(folders: Sequence[Path], runs: Sequence[FinishedRun], out: Path) -> list[Figure]:
    """Figure 2, a slice in both windows, and 3, the organ's HU, from the first run that kept slices."""
    windows = "no, narrow and wide clipping of a slice"
    reason = ""
    for folder in folders:
        try:
            slices = _slices_with_organ(folder)
        except DataError as error:
            reason = reason or plain(error.problem)
            continue
        break
    else:
        return [
            Figure(f"Figure 2: {windows}", left_out=reason),
            Figure("Figure 3: HU of the target organ, with both windows", left_out=reason),
        ]
    organ = organ_of(slices, runs[0].summary)
    histogram = f"HU of the {organ}, with both windows"
    wide, narrow = windows_of([run.summary for run in runs])
    data = _data(runs[0])
    # The slice that shows most of the organ; the first where they tie.
    shown = max(slices, key=lambda item: 0 if item.target is None else int(np.count_nonzero(item.target)))
    two = Figure(f"Figure 2: {windows} ({data}, {plain(shown.slice_id)})", "figure-2.png")
    draw_clipping(shown.hu, wide, narrow, out / two.file, title=two.title)
    inside = [item.hu[item.target] for item in slices if item.shows_target]
    values: NDArray[Any] = np.concatenate(inside) if inside else np.empty(0, dtype=np.int16)
    if not values.size:
        left_out = f"No slice of {folder} has a mask that shows the {organ}."
        return [two, Figure(f"Figure 3: {histogram}", left_out=left_out)]
    patients = len({item.patient_id for item in slices if item.shows_target})
    which = f"{len(inside)} slices of {patients} patient{'' if patients == 1 else 's'}"
    three = Figure(f"Figure 3: {histogram} ({data}, {which})", "figure-3.png")
    draw_organ_histogram(values, wide, narrow, out / three.file, organ=organ, title=three.title)
    return [two, three]


def organ_of(slices: Slices, summary: Mapping[str, Any]) -> str:
    """What the benchmark calls the target organ; ``target organ`` where it has no name for it."""
    targets = next((item.target_values for item in slices if item.target_values), (1,))
    structures = summary["benchmark"].get("structures") or {}
    return plain(structures.get(str(targets[0]), "target organ"))


def windows_of(summaries: Sequence[Mapping[str, Any]]) -> tuple[Window, Window]:
    """The wide and the narrow window that `ours` was trained with; the paper's where no run trained it."""
    for summary in summaries:
        for item in summary["extractors"]:
            views = (item.get("fingerprint") or {}).get("views")
            if item["name"] == OURS and isinstance(views, Mapping) and {"wide", "narrow"} <= views.keys():
                wide, narrow = views["wide"], views["narrow"]
                return (float(wide[0]), float(wide[1])), (float(narrow[0]), float(narrow[1]))
    return WIDE_WINDOW, NARROW_WINDOW


def draw_curve_figures(folders: Sequence[Path], runs: Sequence[FinishedRun], out: Path) -> list[Figure]:
    """Figures 6 and 7, scores over the epochs: the benchmark's own queries, and external cohorts'."""
    import pandas as pd

    found: dict[tuple[str, str], list[pd.DataFrame]] = {}
    for folder, run in zip(folders, runs, strict=True):
        if (folder / results.CURVES_TABLE).is_file():
            curves = results.read_table(folder, results.CURVES_TABLE)
            own = run.summary["benchmark"]["name"]
            cohorts = curves["cohort"].fillna("").replace(own, "") if "cohort" in curves else ""
            for cohort, part in curves.assign(cohort=cohorts).groupby("cohort"):
                found.setdefault((run.summary["profile"], str(cohort)), []).append(part)
    figures = []
    for (profile, cohort), parts in sorted(found.items()):
        curves = pd.concat(parts, ignore_index=True)
        number = 7 if cohort else 6
        data = plain(cohort) or _data(runs[0])
        title = f"Figure {number}: scores over the epochs of training ({data}, profile {profile})"
        place = (
            sorted(key for key in found if key[0] == profile and key[1]).index((profile, cohort))
            if cohort
            else 0
        )
        file = f"figure-{number}-{profile}{f'-{place + 1}' if place else ''}.png"
        headings = {metric: heading(str(metric)) for metric in curves["metric"].unique()}
        try:
            draw_curves(curves, out / file, title=title, headings=headings)
        except DataError as error:  # curves that nothing can be drawn of cost no table
            figures.append(Figure(title, left_out=plain(error.problem)))
        else:
            figures.append(Figure(title, file))
    if not figures:
        reason = "No run evaluated during training (--eval-every)."
        figures.append(Figure("Figures 6 and 7: scores over the epochs of training", left_out=reason))
    return figures


def _data(run: FinishedRun) -> str:
    """The benchmark's name for a figure's title, synthetic data called so."""
    data = run.summary["benchmark"]
    return plain(data["name"]) + (", synthetic data" if data["synthetic"] else "")


def _slices_with_organ(folder: Path) -> Slices:
    """The gallery's slices of a run, or the queries where none of it has a mask.

    The gallery, since a window is chosen by these figures, and nothing is to be chosen by the queries.

    Raises:
        DataError: The run kept no slices, or no pixels, or the file is damaged.
    """
    for split in ("gallery", "query"):
        arrays, metadata = results.read_run_arrays(folder, f"slices/{split}.safetensors")
        slices = slices_from_arrays(arrays, metadata)
        if split == "query" or any(item.shows_target for item in slices):
            break
    return slices


def _figure_line(item: Figure) -> str:
    """A line of Markdown: the figure, or why it was left out."""
    if item.file:
        return f"![{inline(item.title)}]({item.file})\n"
    return f"- {inline(item.title)}: left out. {inline(item.left_out)}"
