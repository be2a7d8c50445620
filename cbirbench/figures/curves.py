"""Figures 6 and 7 of the paper: scores over the epochs of training, mean and band over runs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from cbirbench.errors import DataError
from cbirbench.figures.look import COLOURS, drawing, one_line

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

COLUMNS = ("extractor", "run", "epoch", "metric", "value")

MOST_MARKERS = 16
"""On a longer curve only every so many epochs have a marker."""

_LINES = ("-", "--", "-.", ":")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X")


def draw_curves(
    curves: pd.DataFrame, path: Path, *, title: str = "", headings: Mapping[str, str] | None = None
) -> None:
    """Draw one panel a metric, in order of appearance: each extractor's mean over runs at each epoch.

    The band around a mean is one sample standard deviation (n - 1) over runs to either side; where an epoch
    has a single run there is none. The legend says how many runs each extractor has. Values that are NaN are
    left out. Metrics may be given at different epochs.

    Args:
        curves: One row for each extractor, run, epoch and metric, with the columns `COLUMNS`; ``value`` is a
            fraction of 1.
        path: Where to write, as .png, .svg or .pdf.
        title: Stands above the figure.
        headings: What a metric is called above its panel; its name where it is not among them.

    Raises:
        DataError: A column is missing, a row comes twice, or no value is left to draw.
        UsageError: The path has another ending.
        MissingError: The file cannot be written.
    """
    from matplotlib.ticker import MaxNLocator

    defined = _defined(curves)
    metrics = list(defined["metric"].unique())
    extractors = list(defined["extractor"].unique())
    titles = {metric: (headings or {}).get(metric, one_line(metric)) for metric in metrics}
    labels = {name: f"{one_line(name)} ({_runs(defined, name)})" for name in extractors}

    rows = -(-len(metrics) // 3)
    columns = -(-len(metrics) // rows)
    first, last = float(defined["epoch"].min()), float(defined["epoch"].max())
    margin = 0.04 * (last - first) or 0.5
    legend = 0.4 + 0.19 * len(extractors)
    with drawing(path, max(3.3 * columns, 4.6), 2.8 * rows + legend, title) as figure:
        grid = figure.subplots(rows, columns, squeeze=False).ravel()
        banded = False
        for axes, metric in zip(grid, metrics, strict=False):
            of_metric = defined[defined["metric"] == metric]
            for position, name in enumerate(extractors):
                values = of_metric[of_metric["extractor"] == name]
                if values.empty:
                    continue
                banded |= _draw_one(axes, values, position, labels[name])
            axes.set_title(titles[metric])
            axes.set_xlim(first - margin, last + margin)  # the same for all, however sparse a metric is
            axes.xaxis.set_major_locator(MaxNLocator("auto", integer=True, min_n_ticks=1))
            axes.set_xlabel("Epoch")
            axes.set_ylabel("Percent")
            axes.grid(color="0.9", linewidth=0.6)
            axes.set_axisbelow(True)
        for axes in grid[len(metrics) :]:
            axes.set_axis_off()
        handles = {}
        for axes in grid[: len(metrics)]:
            lines, names = axes.get_legend_handles_labels()
            handles.update({name: line for line, name in zip(lines, names, strict=True)})
        figure.legend(
            [handles[label] for label in labels.values()],
            list(labels.values()),
            loc="outside lower center",
            title="Mean over runs; band: ± 1 sample standard deviation over runs" if banded else None,
            handlelength=4,
        )


def _defined(curves: pd.DataFrame) -> pd.DataFrame:
    """The rows that have a value, once the table is checked."""
    missing = [column for column in COLUMNS if column not in curves]
    if missing:
        raise DataError(
            f"Curves need the columns {', '.join(COLUMNS)}; {', '.join(missing)} is not there.",
            "Take curves.parquet of a run that evaluated during training.",
        )
    keys = ["extractor", "run", "epoch", "metric"]
    if curves.duplicated(keys).any():
        row = curves[curves.duplicated(keys)].iloc[0]
        twice = ", ".join(f"{key} {row[key]}" for key in keys)
        raise DataError(f"The curves hold two values for {twice}.", "Give each once.")
    defined = curves.dropna(subset=["value"])
    if defined.empty:
        raise DataError(
            "The curves hold no value to draw.", "Evaluate during training with --eval-every EPOCHS."
        )
    return defined


def _draw_one(axes: Axes, values: pd.DataFrame, position: int, label: str) -> bool:
    """Draw one extractor's curve on one metric; whether it has a band."""
    by_epoch = 100 * values.groupby("epoch")["value"].agg(["mean", "std"]).sort_index()
    epochs, mean = by_epoch.index.to_numpy(), by_epoch["mean"].to_numpy()
    spread = by_epoch["std"].to_numpy()
    colour = COLOURS[position % len(COLOURS)]
    axes.plot(
        epochs,
        mean,
        color=colour,
        linestyle=_LINES[position % len(_LINES)],
        marker=_MARKERS[position % len(_MARKERS)],
        markersize=4,
        markevery=-(-len(epochs) // MOST_MARKERS),
        linewidth=1.4,
        label=label,
    )
    # Where there is no deviation it is NaN, and nothing is drawn.
    ends = (epochs, mean - spread, mean + spread)
    if len(epochs) > 1:
        axes.fill_between(*ends, color=colour, alpha=0.18, linewidth=0)
    else:  # the area over one epoch is empty
        axes.vlines(*ends, color=colour, alpha=0.3, linewidth=5)
    return bool((spread >= 0).any())


def _runs(defined: pd.DataFrame, extractor: str) -> str:
    """``20 runs``; ``3 to 5 runs`` where some points have fewer than others."""
    own = defined[defined["extractor"] == extractor]
    counts = own.groupby(["metric", "epoch"])["run"].nunique()
    fewest, most = int(counts.min()), int(counts.max())
    if fewest < most:
        return f"{fewest} to {most} runs"
    return "1 run" if most == 1 else f"{most} runs"
