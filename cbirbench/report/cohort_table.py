"""What `cbirbench data check` found, in the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from cbirbench.checking.cohort_check import CohortCheck
from cbirbench.checking.scan_facts import GridFacts, HUFacts, MaskFacts, ScanCheck
from cbirbench.plain_text import many
from cbirbench.report.scoreboard import DASH

if TYPE_CHECKING:
    from rich.console import Console

MOST_LINES = 30
"""So many errors, warnings or notes are printed; the others are in check.json."""

MOST_VALUES = 4
"""Values of a mask that are named one by one."""

_RIGHT = ("lowest HU", "1 %", "50 %", "99 %", "highest", ", ml", "with", "without")
_BARS = "▁▂▃▄▅▆▇█"
_BINS = 12
_ANY_WIDTH = 10_000


def print_cohort(cohort: CohortCheck, console: Console) -> None:
    """Print the tables, what is wrong or doubtful, and the counts."""
    for table in _scans_tables(cohort.scans, console):
        console.print(table)
    with_masks = [check for check in cohort.scans if check.mask is not None]
    if with_masks:
        console.print(_masks_table(with_masks, bars=console.encoding.lower().startswith("utf")))
    for heading, lines in (
        ("Errors", [(check, text) for check in cohort.scans for text in check.errors]),
        ("Warnings", [(check, text) for check in cohort.scans for text in check.warnings]),
        ("Notes", [(check, text) for check in cohort.scans for text in check.notes]),
    ):
        texts = [f"{check.scan.volume_id}: {text}" for check, text in lines]
        if heading == "Warnings":
            texts += cohort.warnings
        _print_lines(heading, texts, console)
    for line in summary(cohort):
        console.print(Text(line), highlight=False)


def summary(cohort: CohortCheck) -> list[str]:
    """How many scans there are, how many can be used, and what else lies beside them."""
    counts = cohort.counts()
    labelled = f", {counts['with_labels']} with labels of slices" if counts["with_labels"] else ""
    lines = [
        f"{many(counts['scans'], 'scan')} of {many(counts['patients'], 'patient')}, "
        f"{counts['with_mask']} with a mask{labelled}: {counts['readable']} readable, "
        f"{counts['unreadable']} not; {counts['with_warnings']} with warnings."
    ]
    lines += [f"Damaged: {path.name}: {why}" for path, why in cohort.damaged]
    if cohort.ignored:
        shown = ", ".join(path.name for path, _ in cohort.ignored[:3])
        more = ", ..." if len(cohort.ignored) > 3 else ""
        lines.append(f"Neither scan nor mask: {many(len(cohort.ignored), 'file')} ({shown}{more}).")
    return lines


def _scans_tables(checks: Sequence[ScanCheck], console: Console) -> list[Table]:
    """Grids and values of the scans, beside each other where the terminal is wide enough."""
    patients = any(check.scan.patient_id != check.scan.volume_id for check in checks)
    splits = any(check.scan.split for check in checks)
    grid = [
        _heads("scan", *["patient"] * patients, *["split"] * splits, "format", "shape", "mm", "axes", "found")
    ]
    values = [_heads("scan", "lowest HU", "1 %", "50 %", "99 %", "highest", "padding")]
    for check in checks:
        name, facts, hu = check.scan.volume_id, check.grid, check.hu
        cells = [name, *[check.scan.patient_id] * patients, *[check.scan.split] * splits, check.format]
        cells += [DASH] * 3 if facts is None else _grid_cells(facts)
        grid.append([*map(Text, cells), Text(_found(check))])
        values.append([Text(name), *map(Text, [DASH] * 6 if hu is None else _hu_cells(hu))])
    styles = [_style(check) for check in checks]
    *left, found = zip(*grid, strict=True)
    table = _table([*left, *list(zip(*values, strict=True))[1:], found], styles)
    unbounded = console.options.update(max_width=_ANY_WIDTH)
    if Measurement.get(console, unbounded, table).maximum <= console.width:
        return [table]
    return [_table([*left, found], styles), _table(list(zip(*values, strict=True)), styles)]


def _table(columns: Sequence[Sequence[Text]], styles: Sequence[str | None]) -> Table:
    """A table of columns that begin with their headings; nothing is cut off, all is text."""
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    for column in columns:
        table.add_column(
            column[0], overflow="fold", justify="right" if column[0].plain.endswith(_RIGHT) else "left"
        )
    for cells, style in zip(zip(*(column[1:] for column in columns), strict=True), styles, strict=True):
        table.add_row(*cells, style=style)
    return table


def _heads(*names: str) -> list[Text]:
    return [Text(name) for name in names]


def _grid_cells(grid: GridFacts) -> list[str]:
    slice_mm, *pixel_mm = (f"{mm:.3g}" for mm in grid.spacing_mm)
    return [
        "×".join(map(str, grid.shape)),
        f"{slice_mm}, {'×'.join(dict.fromkeys(pixel_mm))}",
        grid.orientation + ("" if grid.stated else "?"),
    ]


def _hu_cells(hu: HUFacts) -> list[str]:
    numbers = [hu.lowest, *hu.percentiles.values(), hu.highest]
    padding = "" if hu.padding is None else f"{hu.padding} ({hu.padding_share:.0%})"
    return [_minus(text) for text in (*map(str, numbers), padding)]


def _masks_table(checks: Sequence[ScanCheck], *, bars: bool) -> Table:
    low, high, width = _range([check.mask for check in checks if check.mask is not None])
    organs = {check.organ for check in checks}
    several = len(organs) > 1
    organ = "organ" if several else min(organs)
    names = ["mask of", "values: ml", *["organ"] * several, f"{organ}, ml", "with", "without"]
    names += ["HU (5 to 95 %)"]
    rows = [_heads(*names, *[_minus(f"{low} to {high}")] * bars)]
    for check in checks:
        mask = check.mask
        assert mask is not None
        spread = mask.percentiles
        cells = [
            check.scan.volume_id,
            _values(mask),
            *[check.organ] * several,
            f"{mask.organ_ml:.0f}",
            str(mask.slices_with),
            str(mask.slices_without),
            _minus(f"{spread[50]} ({spread[5]} to {spread[95]})") if spread else DASH,
        ]
        if bars:
            cells.append(_sparkline(mask.histogram.bins(low, high, width)) if spread else DASH)
        rows.append([Text(cell) for cell in cells])
    return _table(list(zip(*rows, strict=True)), [_style(check) for check in checks])


def _found(check: ScanCheck) -> str:
    if check.errors:
        return "error"
    return many(len(check.warnings), "warning") if check.warnings else "ok"


def _style(check: ScanCheck) -> str | None:
    if check.errors:
        return "red"
    return "yellow" if check.warnings else None


def _values(mask: MaskFacts) -> str:
    if len(mask.voxels) > MOST_VALUES:
        return f"{len(mask.voxels)} values, {min(mask.voxels)} to {max(mask.voxels)}"
    return ", ".join(f"{value}: {ml:.0f}" for value, ml in mask.ml.items()) or "0 alone"


def _range(masks: Sequence[MaskFacts]) -> tuple[int, int, int]:
    """HU range of all organs' histograms, in `_BINS` bins of whole tens: low, high, width."""
    spreads = [mask.percentiles for mask in masks if mask.percentiles]
    lowest = min((spread[1] for spread in spreads), default=0)
    highest = max((spread[99] for spread in spreads), default=100)
    low = lowest // 10 * 10
    width = max(-(-(highest + 1 - low) // (10 * _BINS)) * 10, 10)
    return low, low + _BINS * width, width


def _sparkline(counts: Sequence[int]) -> str:
    """A bar a bin, as high as its share of the fullest; nothing where there is nothing."""
    most, steps = max(counts), len(_BARS)
    return "".join(_BARS[min(count * steps // most, steps - 1)] if count else " " for count in counts)


def _print_lines(heading: str, lines: Sequence[str], console: Console) -> None:
    if not lines:
        return
    console.print(Text(f"{heading}:"), highlight=False)
    for line in lines[:MOST_LINES]:
        console.print(Text(f"  {line}"), highlight=False)
    if len(lines) > MOST_LINES:
        console.print(Text(f"  and {len(lines) - MOST_LINES} more, in check.json"), highlight=False)


def _minus(text: str) -> str:
    return text.replace("-", "−")
